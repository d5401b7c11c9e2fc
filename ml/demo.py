"""A fictional retail chain whose sales look real and whose truth is known.

Every number is a function of (seed, calendar day, store, product): nothing is drawn from a running stream. So the
same arguments give the same bits, any two calls agree on the days they share, and :func:`next_week` continues what
:func:`generate` began. Arrays have the axes (day, store, product).

A store has no row on the days it is closed (most stores on Sundays and public holidays, all on 1 January and
25 December) and none for a product that is not listed; a listed product that sold nothing has a row with 0.
``price`` is the shelf price before any discount; ``promotion`` is the discount share.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from ml.calendar import public_holidays
from ml.errors import InputError

DAYS = 913
STORES = 8
PRODUCTS = 40

WEEK = np.array([0.92, 0.90, 0.94, 1.00, 1.18, 1.36, 0.84])  # Monday first
YEAR = 365.25
PROMOTION_SLOT = 35  # at most one promotion per product in so many days
PRICE_SLOT = 77  # days that a price holds
STOCKOUT_SLOT = 60
DISCOUNTS = np.array([0.10, 0.15, 0.20, 0.25, 0.30, 0.40])
EDITION_RAMP = 42  # days until a new product has found its buyers
EDITION_FADE = 28

# First part of every random key: draws for different things never share numbers.
STORE, PRODUCT, AFFINITY, NOISE, PROMOTION, PRICE, STOCKOUT = range(1, 8)


class Category(NamedTuple):
    """What products of one kind have in common; ``sales`` units/day in a mean store, ``peak`` day of the year."""

    code: str
    sales: float
    price: float
    season: float
    peak: int
    week: float
    christmas: float
    elasticity: float
    intermittent: bool
    names: tuple[str, ...]


# fmt: off
CATEGORIES = (
    Category("BAK", 46, 1.9, 0.06, 20, 0.7, 0.10, -0.9, False,
             ("Country bread", "Croissant", "Baguette", "Muffin", "Rye bread")),
    Category("BEV", 38, 1.6, 0.32, 200, 1.1, 0.20, -1.6, False,
             ("Mineral water", "Orange juice", "Cola", "Iced tea", "Craft beer")),
    Category("GRD", 0.4, 14.0, 0.55, 130, 1.5, -0.30, -1.2, True,
             ("Potting soil", "Charcoal", "Garden hose", "Sunshade", "Plant pot")),
    Category("SWT", 22, 3.4, 0.22, 350, 0.9, 0.90, -1.8, False,
             ("Dark chocolate", "Biscuits", "Nougat", "Marzipan", "Gummy bears")),
    Category("DAI", 34, 2.2, 0.05, 30, 0.6, 0.05, -0.8, False,
             ("Whole milk", "Natural yoghurt", "Sheep cheese", "Butter", "Kefir")),
    Category("ICE", 17, 4.1, 0.85, 205, 1.3, -0.10, -2.0, False,
             ("Vanilla tub", "Lemon sorbet", "Fruit lolly", "Chocolate cone", "Almond bar")),
    Category("HOM", 9, 6.5, 0.04, 90, 0.8, 0.00, -2.3, False,
             ("Detergent", "Dish soap", "Kitchen roll", "Batteries", "Light bulb")),
    Category("FRU", 28, 2.8, 0.18, 160, 0.9, 0.25, -1.3, False,
             ("Bananas", "Oranges", "Apples", "Grapes", "Strawberries")),
)
STORE_NAMES = ("Madrid Centro", "Sevilla Triana", "Barcelona Eixample", "Bilbao Abando",
               "Valencia Puerto", "Zaragoza Delicias", "Málaga Playa", "Valladolid Norte")
# fmt: on


def generate(
    until: dt.date,
    *,
    seed: int = 7,
    days: int = DAYS,
    stores: int = STORES,
    products: int = PRODUCTS,
    country: str = "ES",
) -> pl.DataFrame:
    """Give the last ``days`` days of the chain's daily sales up to ``until``.

    Two calls that differ only in ``until`` and ``days`` agree bit for bit on the days they share.

    Parameters
    ----------
    until : date
        Last day, included.
    seed : int
        Another seed is another chain.
    days : int
        Length of the window; the default is two and a half years.
    stores, products : int
        Size of the chain. Every tenth product place is taken by editions that are launched, sold for about a year
        and replaced, so more names than ``products`` can appear over a window, never at one time.
    country : str
        Two-letter country whose public holidays shape demand and opening days.

    Returns
    -------
    polars.DataFrame
        A SalesFrame (``date, store, product, sales, price, promotion, holiday``), sorted by store, product, date;
        sales are whole units per day.

    Raises
    ------
    InputError
        A size below 1, or an unknown country.

    Examples
    --------
    >>> generate(dt.date(2026, 3, 4), days=2, stores=1, products=2)["sales"].dtype
    Float64
    """
    chain = _Chain(seed, stores, products, country, _window(until, days, stores, products))
    sold = _draw(chain)
    rows = np.nonzero(chain.listed)
    day, store, product = rows
    frame = pl.DataFrame(
        {
            "date": chain.dates.gather(day),
            "store": pl.Series(_store_names(stores)).gather(store),
            "product": pl.Series(chain.labels).gather(chain.label_index[day, product]),
            "sales": sold[rows],
            "price": chain.price[rows],
            "promotion": chain.promotion[rows],
            "holiday": chain.holiday[day].astype(np.int8),
        }
    )
    return frame.sort("store", "product", "date")


def next_week(
    after: dt.date, *, seed: int = 7, stores: int = STORES, products: int = PRODUCTS, country: str = "ES"
) -> pl.DataFrame:
    """Give the seven days that follow ``after``, of the same chain that :func:`generate` shows.

    Examples
    --------
    >>> week = next_week(dt.date(2026, 3, 1), stores=1, products=1)
    >>> week["date"].min()
    datetime.date(2026, 3, 2)
    """
    return generate(after + dt.timedelta(days=7), seed=seed, days=7, stores=stores, products=products, country=country)


def truth(until: dt.date, *, seed: int = 7, days: int = DAYS, products: int = PRODUCTS) -> pl.DataFrame:
    """Give the effects the chain was made with, to check what a model or a what-if says.

    Returns
    -------
    polars.DataFrame
        One row per product name of the window: ``product``, ``category``, ``intermittent``, ``elasticity`` (relative
        change of sales per relative change of ``price``) and ``promotion_effect`` (expected sales are multiplied by
        ``exp(promotion_effect × promotion)``).

    Examples
    --------
    >>> bool((truth(dt.date(2026, 3, 4), days=30)["elasticity"] < 0).all())
    True
    """
    chain = _Chain(seed, 1, products, "ES", _window(until, days, 1, products))
    goods = chain.goods
    place = [int(np.nonzero((chain.label_index == i).any(axis=0))[0][0]) for i in range(len(chain.labels))]
    frame = pl.DataFrame(
        {
            "product": chain.labels,
            "category": [_category(i).code for i in place],
            "intermittent": goods.intermittent[place],
            "elasticity": goods.elasticity[place],
            "promotion_effect": goods.promotion_effect[place],
        }
    )
    return frame.sort("product")


def scaled(scale: float) -> tuple[int, int]:
    """Give the numbers of stores and products for a share (0..1] of the demo's size, at least 2 and 4.

    Examples
    --------
    >>> scaled(0.25)
    (2, 10)
    """
    return max(2, round(STORES * scale)), max(4, round(PRODUCTS * scale))


def _window(until: dt.date, days: int, stores: int, products: int) -> np.ndarray:
    """Days as ordinals, one more than asked: what sells on the eve of a closed day depends on the next."""
    for name, value in {"days": days, "stores": stores, "products": products}.items():
        if value < 1:
            raise InputError(f"The demo needs {name} of at least 1, not {value}.", field=name)
    last = until.toordinal()
    return np.arange(last - days + 1, last + 2)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _category(place: int) -> Category:
    return CATEGORIES[place % len(CATEGORIES)]


def _numbered(name: str, turn: int) -> str:
    return f"{name} {turn + 1}" if turn else name


def _store_names(stores: int) -> list[str]:
    return [_numbered(STORE_NAMES[i % len(STORE_NAMES)], i // len(STORE_NAMES)) for i in range(stores)]


def _product_names(products: int) -> list[str]:
    names = []
    for place in range(products):
        category, number = _category(place), place // len(CATEGORIES)
        noun = category.names[number % len(category.names)]
        names.append(f"{category.code}-{number + 1:02d} {_numbered(noun, number // len(category.names))}")
    return names


@dataclass(frozen=True)
class _Goods:
    """What does not change about the products (axis: product)."""

    sales: np.ndarray
    price: np.ndarray
    elasticity: np.ndarray
    promotion_effect: np.ndarray
    promotion_chance: np.ndarray
    intermittent: np.ndarray
    dispersion: np.ndarray
    phase: np.ndarray
    edition_days: np.ndarray
    edition_life: np.ndarray
    is_edition: np.ndarray


def _goods(seed: int, products: int) -> _Goods:
    """Draw the products; a smaller assortment is the beginning of a larger one."""
    u = _rng(seed, PRODUCT).random((products, 9)).T
    kinds = [_category(i) for i in range(products)]
    intermittent = np.array([kind.intermittent for kind in kinds])
    return _Goods(
        sales=np.array([kind.sales for kind in kinds]) * np.exp(1.0 * (u[0] - 0.5)),
        price=np.array([kind.price for kind in kinds]) * np.exp(1.0 * (u[1] - 0.5)),
        elasticity=np.array([kind.elasticity for kind in kinds]) * (0.75 + 0.5 * u[2]),
        promotion_effect=1.5 + 2.0 * u[3],
        promotion_chance=0.15 + 0.45 * u[4],
        intermittent=intermittent,
        dispersion=np.where(intermittent, 0.8, 6 + 14 * u[5]),  # variance = mean + mean² / dispersion
        phase=u[6],
        edition_days=(500 + 300 * u[7]).astype(int),  # > 366: the year tells two editions apart; < DAYS: one is seen
        edition_life=0.6 + 0.25 * u[8],
        is_edition=np.arange(products) % 10 == 3,
    )


@dataclass(frozen=True)
class _Chain:
    """Everything about the chain over the days of ``ordinals`` (the last one is only looked at, not sold)."""

    seed: int
    stores: int
    products: int
    country: str
    ordinals: np.ndarray

    @cached_property
    def goods(self) -> _Goods:
        return _goods(self.seed, self.products)

    @property
    def sold_days(self) -> np.ndarray:
        return self.ordinals[:-1]

    @cached_property
    def all_dates(self) -> pl.Series:
        epoch = dt.date(1970, 1, 1).toordinal()
        return pl.Series((self.ordinals - epoch).astype(np.int32)).cast(pl.Date)

    @property
    def dates(self) -> pl.Series:
        return self.all_dates.head(len(self.sold_days))

    @cached_property
    def _holidays(self) -> np.ndarray:
        years = range(self.all_dates[0].year, self.all_dates[-1].year + 1)
        days = [day.toordinal() for day in public_holidays(years, self.country)]
        return np.isin(self.ordinals, days)

    @property
    def holiday(self) -> np.ndarray:
        return self._holidays[:-1]

    @cached_property
    def _open(self) -> np.ndarray:
        """(days + 1, stores): even stores, in city centres and at the sea, open on Sundays and most holidays."""
        sunday = (self.ordinals - 1) % 7 == 6
        never = self.all_dates.dt.strftime("%m-%d").is_in(["01-01", "12-25"]).to_numpy()
        always = np.arange(self.stores) % 2 == 0
        return ~never[:, None] & (always[None, :] | ~(sunday | self._holidays)[:, None])

    @property
    def eve(self) -> np.ndarray:
        """(days, stores): closed tomorrow."""
        return ~self._open[1:]

    @cached_property
    def edition(self) -> tuple[np.ndarray, np.ndarray]:
        """(days, products): the first day of the edition, and days since then."""
        goods = self.goods
        offset = (goods.phase * goods.edition_days).astype(int)
        number = (self.sold_days[:, None] - offset) // goods.edition_days
        first = number * goods.edition_days + offset
        return first, self.sold_days[:, None] - first

    @cached_property
    def life(self) -> np.ndarray:
        """(days, products): 0 not listed, below 1 just launched or running out, else 1."""
        _, age = self.edition
        left = (self.goods.edition_life * self.goods.edition_days).astype(int) - age
        ramp = np.clip((age + 7) / EDITION_RAMP, 0, 1) * np.clip(0.25 + left / EDITION_FADE, 0, 1)
        return np.where(self.goods.is_edition, np.where(left > 0, ramp, 0.0), 1.0)

    @cached_property
    def listed(self) -> np.ndarray:
        return self._open[:-1, :, None] & (self.life > 0)[:, None, :]

    @cached_property
    def _labels(self) -> tuple[list[str], np.ndarray]:
        names = _product_names(self.products)
        first, _ = self.edition
        index = np.tile(np.arange(self.products), (len(self.sold_days), 1))
        labels = list(names)
        for place in np.nonzero(self.goods.is_edition)[0]:
            for start in np.unique(first[self.life[:, place] > 0, place]):
                index[first[:, place] == start, place] = len(labels)
                labels.append(f"{names[place]} {dt.date.fromordinal(int(start)).year}")
        used = np.unique(index[self.life > 0])
        return [labels[i] for i in used], np.searchsorted(used, index).clip(0, len(used) - 1)

    @property
    def labels(self) -> list[str]:
        return self._labels[0]

    @property
    def label_index(self) -> np.ndarray:
        return np.where(self.life > 0, self._labels[1], -1)

    @cached_property
    def price(self) -> np.ndarray:
        """Shelf prices that end in 9; stores belong to one of two price zones and have their own level."""
        slot, _ = self._slots(PRICE_SLOT)
        draws = np.stack([_rng(self.seed, PRICE, k).random((self.products, 2)) for k in _span(slot)])
        step = 0.84 + 0.34 * draws[slot - slot.min(), np.arange(self.products)]
        zone = np.arange(self.stores) % 2
        exact = self.usual_price * step[:, :, zone].transpose(0, 2, 1)
        return np.maximum(np.round(np.round(exact, 1) - 0.01, 2), 0.09)

    @cached_property
    def usual_price(self) -> np.ndarray:
        """(stores, products), before rounding: the price at which the elasticity has no effect."""
        level = 0.96 + 0.08 * _rng(self.seed, STORE, 1).random(self.stores)
        return self.goods.price * level[:, None]

    @cached_property
    def promotion(self) -> np.ndarray:
        """Discount share: 3 to 14 days at a time, in some of the stores."""
        slot, day = self._slots(PROMOTION_SLOT)
        draws = np.stack([_rng(self.seed, PROMOTION, k).random((4, self.products)) for k in _span(slot)])
        taken = np.stack([_rng(self.seed, PROMOTION, k, 1).random((self.stores, self.products)) for k in _span(slot)])
        at = (slot - slot.min(), np.arange(self.products))
        happens, start, length, depth = (draws[:, i][at] for i in range(4))
        begin = (start * (PROMOTION_SLOT - 14)).astype(int)
        runs = (happens < self.goods.promotion_chance) & (day >= begin) & (day < begin + 3 + (length * 12).astype(int))
        share = np.where(runs, DISCOUNTS[(depth * len(DISCOUNTS)).astype(int)], 0.0)
        return share[:, None, :] * (taken[at[0], :, at[1]].transpose(0, 2, 1) < 0.6)

    @cached_property
    def stockout(self) -> np.ndarray:
        """Now and then the shelf is empty for one to three days."""
        slot, day = self._slots(STOCKOUT_SLOT)
        shape = (3, self.stores, self.products)
        draws = np.stack([_rng(self.seed, STOCKOUT, k).random(shape) for k in _span(slot)])
        happens, start, length = draws[slot - slot.min(), :, :, np.arange(self.products)].transpose(2, 0, 3, 1)
        since = day[:, None, :] - (start * (STOCKOUT_SLOT - 3)).astype(int)
        return (happens < 0.05) & (since >= 0) & (since < 1 + (length * 3).astype(int))

    def _slots(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(days, products): number of the slot and day in it; products change at different times."""
        shifted = self.sold_days[:, None] + (self.goods.phase * length).astype(int)
        return shifted // length, shifted % length


def _span(slot: np.ndarray) -> range:
    return range(int(slot.min()), int(slot.max()) + 1)


def _season(chain: _Chain) -> np.ndarray:
    """(days, products): week, year, and the weeks before Christmas."""
    kinds = [_category(i) for i in range(chain.products)]
    weekday = (chain.sold_days - 1) % 7
    week = WEEK[weekday][:, None] ** np.array([kind.week for kind in kinds])
    of_year = chain.dates.dt.ordinal_day().to_numpy()[:, None]
    angle = 2 * np.pi * (of_year - np.array([kind.peak for kind in kinds])) / YEAR
    year = np.exp(np.array([kind.season for kind in kinds]) * np.cos(angle))
    before = np.clip((of_year - 340) / 18, 0, 1) * (of_year <= 358)  # from 6 December, ends on the 24th
    return week * year * (1 + before * np.array([kind.christmas for kind in kinds]))


def _trend(chain: _Chain) -> np.ndarray:
    """(days, stores, products): slow waves of three to six years, so that no one grows for ever."""
    draws = _rng(chain.seed, STORE).random((chain.stores, 4))
    size = 0.6 + 0.9 * draws[:, 0]
    store = np.exp(0.15 * np.sin(_wave(chain, 3 + 3 * draws[:, 1], draws[:, 2])))
    product = np.exp(0.20 * np.sin(_wave(chain, 4 - chain.goods.phase, 7 * chain.goods.phase)))
    affinity = np.exp(0.5 * (_affinity(chain) - 0.5))
    return (size * store)[:, :, None] * product[:, None, :] * affinity


def _wave(chain: _Chain, years: np.ndarray, start: np.ndarray) -> np.ndarray:
    return 2 * np.pi * (chain.sold_days[:, None] / (YEAR * years) + start)


def _affinity(chain: _Chain) -> np.ndarray:
    return np.stack([_rng(chain.seed, AFFINITY, s).random(chain.products) for s in range(chain.stores)])


def _expected(chain: _Chain) -> np.ndarray:
    """Mean units per day, before noise."""
    goods = chain.goods
    eve = np.where(chain.eve, 1.12, 1.0)
    # On a holiday people go to the shops at the sea (every fourth store) and stay away from those in town.
    at_sea = np.where(np.arange(chain.stores) % 4 == 0, 1.25, 0.75)
    holiday = np.where(chain.holiday[:, None], at_sea, 1.0)
    base = goods.sales * _season(chain) * chain.life
    wanted = base[:, None, :] * _trend(chain) * (eve * holiday)[:, :, None]
    wanted *= (chain.price / chain.usual_price) ** goods.elasticity
    wanted *= np.exp(goods.promotion_effect * chain.promotion)
    return wanted * ~chain.stockout * chain.listed


def _draw(chain: _Chain) -> np.ndarray:
    """Units sold: negative binomial around the mean, and rarely a bulk purchase."""
    mean = _expected(chain)
    sold = np.empty_like(mean)
    shape = np.broadcast_to(chain.goods.dispersion, mean.shape[1:])
    for i, day in enumerate(chain.sold_days):
        rng = _rng(chain.seed, NOISE, int(day))
        bulk = rng.random(mean.shape[1:]) < 0.0004
        times = np.where(bulk, 3 + 3 * rng.random(mean.shape[1:]), 1.0)
        sold[i] = rng.poisson(mean[i] * times * rng.standard_gamma(shape) / shape)
    return sold
