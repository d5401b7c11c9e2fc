"""Words, numbers and dates in the reader's form.

English sentences are the msgids; ``<language>/LC_MESSAGES/control_room.po`` holds the rest and is read as it is, so
that no compiled catalogue has to be kept. ``python -m control_room.i18n`` brings the catalogues up to date.
"""

from __future__ import annotations

import datetime as dt
import gettext as std_gettext
import io
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from babel import Locale, UnknownLocaleError, dates, numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

DOMAIN = "control_room"
LANGUAGES = {"en": "English", "es": "Español"}
DEFAULT = "en"
NOTHING = "–"


@dataclass(frozen=True)
class Reader:
    """Who reads: the language of the words, the locale of numbers and dates, the time zone of clocks."""

    language: str = DEFAULT
    locale: str = DEFAULT
    zone: str = "UTC"


_source: Callable[[], Reader] = Reader


def follow(source: Callable[[], Reader]) -> None:
    """Ask ``source`` for the reader from now on. The console gives the session's, tests give their own."""
    global _source
    _source = source


_override: ContextVar[Reader | None] = ContextVar("reader", default=None)


def reader() -> Reader:
    return _override.get() or _source()


@contextmanager
def speaking(to: Reader) -> Iterator[None]:
    """Speak to this reader, in threads that know of no session."""
    token = _override.set(to)
    try:
        yield
    finally:
        _override.reset(token)


def choose(browser: str | None, asked: str | None = None, zone: str | None = None) -> Reader:
    """The reader for a browser's locale such as ``es-MX`` and the language asked for in the frame, if any."""
    tag = (browser or DEFAULT).replace("-", "_")
    spoken = tag.split("_")[0].lower()
    language = asked if asked in LANGUAGES else spoken if spoken in LANGUAGES else DEFAULT
    return Reader(language, _known_locale(tag) if spoken == language else language, _known_zone(zone))


def _known_locale(tag: str) -> str:
    try:
        return str(Locale.parse(tag))
    except (UnknownLocaleError, ValueError):
        return tag.split("_")[0]


def _known_zone(zone: str | None) -> str:
    try:
        return zoneinfo.ZoneInfo(zone or "UTC").key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return "UTC"


def catalogue_path(language: str) -> Path:
    return Path(__file__).parent / language / "LC_MESSAGES" / f"{DOMAIN}.po"


@lru_cache
def translations(language: str) -> std_gettext.NullTranslations:
    """The catalogue of one language, read from its .po file; fuzzy entries are left out."""
    with catalogue_path(language).open("rb") as file:
        catalog = read_po(file, locale=language, domain=DOMAIN)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return std_gettext.GNUTranslations(compiled)


def gettext(message: str) -> str:
    # The empty msgid is the catalogue's header.
    return translations(reader().language).gettext(message) if message else ""


def ngettext(one: str, many: str, count: int) -> str:
    return translations(reader().language).ngettext(one, many, count)


def N_(message: str) -> str:
    """Mark a sentence for the catalogue; it is translated where it is shown."""
    return message


_ = gettext


# ---------------------------------------------------------------- numbers


def number(value: float | None, digits: int = 0) -> str:
    """A number with at most ``digits`` decimals, all of them shown."""
    if value is None or value != value:
        return NOTHING
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return numbers.format_decimal(value, pattern, locale=reader().locale)


def amount(value: float | None) -> str:
    """Units or money: a decimal only where it tells something."""
    return number(value, 0 if value is None or abs(value) >= 1000 else 1)


def signed_amount(value: float) -> str:
    """An amount with its sign; the typographic minus, as it stands within a sentence."""
    return f"{'+' if value >= 0 else '−'}{amount(abs(value))}"


def percent(share: float | None, digits: int = 1, signed: bool = False) -> str:
    """A share as percent: 0.123 is 12.3 %."""
    if share is None or share != share:
        return NOTHING
    own = Locale.parse(reader().locale).percent_formats[None].pattern
    text = own.replace("#,##0", "#,##0" + ("." + "0" * digits if digits else ""))
    return numbers.format_percent(share, f"+{text};-{text}" if signed else text, locale=reader().locale)


def decimal_mark() -> str:
    return numbers.get_decimal_symbol(reader().locale)


def group_mark() -> str:
    return numbers.get_group_symbol(reader().locale)


def size(count: int) -> str:
    """Bytes as kB or MB."""
    return f"{number(count / 1e6, 1)} MB" if count >= 1e6 else f"{number(count / 1e3, 1)} kB"


# ---------------------------------------------------------------- times


def day(value: dt.date | None) -> str:
    return NOTHING if value is None else dates.format_date(value, "medium", locale=reader().locale)


def weekday(value: dt.date) -> str:
    """The date with the name of its day, as ``Mon, Jan 5``."""
    return dates.format_skeleton("MMMEd", value, locale=reader().locale)


def moment(value: dt.datetime | None) -> str:
    """Day and time in the reader's zone, as ``today 6:42 PM`` or ``Jan 5, 2026 6:42 PM``."""
    if value is None:
        return NOTHING
    local = value.astimezone(_zone())
    time = dates.format_time(local, "short", locale=reader().locale)
    if local.date() == dt.datetime.now(_zone()).date():
        return gettext("today {time}").format(time=time)
    return f"{day(local.date())} {time}"


def stamp(value: dt.datetime | None) -> str:
    """Day and time in the reader's zone, for what is read on another day."""
    if value is None:
        return NOTHING
    local = value.astimezone(_zone())
    return f"{day(local.date())} {dates.format_time(local, 'short', locale=reader().locale)}"


def clock(value: dt.datetime) -> str:
    """Time with seconds in the reader's zone, with the day unless it is today."""
    local = value.astimezone(_zone())
    time = dates.format_time(local, "medium", locale=reader().locale)
    return time if local.date() == dt.datetime.now(_zone()).date() else f"{day(local.date())} {time}"


def ago(value: dt.datetime | None) -> str:
    """How long ago, as ``3 minutes ago``."""
    if value is None:
        return NOTHING
    delta = value - dt.datetime.now(dt.UTC)
    if abs(delta) < dt.timedelta(seconds=2):
        return gettext("just now")
    return dates.format_timedelta(delta, add_direction=True, threshold=1.1, locale=reader().locale)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def date_form() -> str:
    """The reader's order of a date, in the form that date fields take."""
    pattern = Locale.parse(reader().locale).date_formats["short"].pattern
    first = next((char for char in pattern if char in "dMy"), "y")
    return {"d": "DD/MM/YYYY", "M": "MM/DD/YYYY", "y": "YYYY/MM/DD"}[first]


def _zone() -> dt.tzinfo:
    return zoneinfo.ZoneInfo(reader().zone)
