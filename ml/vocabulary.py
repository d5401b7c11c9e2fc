"""What people call the columns of a sales file, in Spanish and English.

Names are compared without case, accents, spaces, underscores or CamelCase. Within a role the order is the
preference: of ``unidades`` and ``ventas`` in one file, units are the target.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

EXACT, PART, WEAK = 0.98, 0.75, 0.55  # how sure a name alone makes us

_ROLES: dict[str, str] = {
    "date": "fecha date ds fecha_venta sale_date sales_date order_date fecha_pedido fecha_ticket transaction_date "
    "invoice_date fecha_factura fecha_hora date_time datetime timestamp week_end_date week_ending week_start "
    "fecha_semana calendar_date data datum",
    "store": "tienda store store_id id_tienda store_code cod_tienda store_nbr store_number tienda_id sucursal shop "
    "shop_id punto_venta pdv pos outlet outlet_id branch branch_id establecimiento establishment location location_id "
    "local centro almacen warehouse store_name nombre_tienda",
    "product": "producto product sku product_id id_producto product_code cod_producto producto_id item item_id "
    "articulo id_articulo cod_articulo item_nbr item_number item_code referencia ref ean upc gtin plu material "
    "article article_id product_name nombre_producto item_name",
    "sales": "units_sold unidades_vendidas quantity_sold cantidad_vendida qty_sold sold_units unit_sales sales_units "
    "ventas_unidades units unidades uds quantity cantidad qty cant piezas pieces sales_quantity sales_qty item_cnt_day "
    "vendidas vendidos sold ventas sales venta weekly_sales daily_sales ventas_diarias ventas_dia ventas_semana "
    "demand demanda y target kilos kg volume volumen",
    "price": "precio price unit_price precio_unitario sell_price selling_price sale_price precio_venta pvp item_price "
    "price_unit precio_unidad avg_price precio_medio precio_final",
    "promotion": "promocion promociones promo promos promotion promotions on_promotion en_promocion is_promo "
    "is_promotion has_promo hay_promocion oferta ofertas en_oferta on_sale tpr tpr_only rebaja discount descuento "
    "discount_pct descuento_pct deal",
    "holiday": "festivo festivos es_festivo holiday holidays is_holiday feriado es_feriado dia_festivo public_holiday "
    "bank_holiday festividad",
}
# Names that fit only when nothing better is there and the values agree.
_WEAK: dict[str, str] = {
    "date": "dia day periodo period semana week fecha_inicio",
    "product": "family familia category categoria department departamento dept seccion subcategoria",
    "sales": "valor value ventas_eur ventas_euros sales_eur sales_usd total_ventas total_venta total_sales "
    "ventas_netas net_sales ventas_brutas gross_sales",
}
# Known before the day comes, so the model may use them. The second group holds names, never numbers.
_REGRESSORS = (
    "open abierto abierta is_open tienda_abierta store_open closed cerrado cerrada is_closed school_holiday "
    "vacaciones_escolares school_holidays vacaciones feature featured display folleto flyer escaparate snap base_price "
    "precio_base list_price precio_tarifa precio_lista tarifa payday dia_de_pago campaign campana catalogue catalogo"
)
_REGRESSOR_NAMES = (
    "state_holiday event evento event_name event_type nombre_evento tipo_evento holiday_name holiday_type "
    "nombre_festivo promo_type tipo_promocion promotion_type"
)
_REGRESSOR_STARTS = ("snap", "event", "evento")
# Known only after the day: a model that used them would be right on paper and useless in the shop.
_REVENUE = (
    "revenue ingresos ingreso importe importe_total importe_ventas facturacion turnover spend gasto amount "
    "sales_amount total_amount total_sales_amount sales_value total monto sales_revenue gmv"
)
_AFTER = (
    "customers clientes customer_count visits visitas transactions transacciones tickets ticket hhs households "
    "footfall afluencia orders pedidos baskets margin margen profit beneficio returns devoluciones stock inventory "
    "inventario temperature temperatura rain lluvia weather"
)
_REVENUE_WORDS = frozenset(["revenue", "ingresos", "importe", "facturacion", "turnover", "spend", "amount", "monto"])
_AFTER_WORDS = frozenset(_AFTER.split()) - {"customer_count"}
_OTHERS = frozenset(
    ["fuel", "combustible", "competitor", "competencia", "competition", "cost", "coste", "costo", "lag", "rolling"]
)
_DERIVED: dict[str, str] = {
    "weekday": "dia_semana dia_de_la_semana dia_de_semana day_of_week weekday week_day dow nombre_dia day_name",
    "month": "mes month mes_numero month_number num_mes nombre_mes month_name",
    "year": "ano anio year ejercicio",
    "day": "dia_mes dia_del_mes day_of_month",
    "week": "semana_ano numero_semana num_semana week_number week_of_year weeknum iso_week semana_iso",
    "quarter": "trimestre quarter",
    "weekend": "fin_de_semana finde weekend is_weekend es_fin_de_semana",
}
_IDS = "id index indice row rownum row_number fila linea unnamed unnamed_0"
_COUNTS = frozenset(
    [
        "units",
        "unidades",
        "uds",
        "quantity",
        "cantidad",
        "qty",
        "cant",
        "piezas",
        "pieces",
        "vendidas",
        "vendidos",
        "sold",
        "cnt",
    ]
)
_FILLERS = frozenset(
    [
        "de",
        "del",
        "la",
        "el",
        "los",
        "las",
        "of",
        "the",
        "in",
        "en",
        "por",
        "per",
        "y",
        "e",
        "a",
        "al",
        "id",
        "cod",
        "codigo",
        "code",
        "num",
        "nbr",
        "no",
        "numero",
    ]
)


@dataclass(frozen=True)
class Meaning:
    """What a column name says: ``kind`` is a role, ``regressor``, ``revenue``, ``after``, a derived part of the
    date, ``id`` or ``unknown``; ``rank`` orders the names of one role, best first."""

    kind: str
    score: float
    rank: int = 0
    names: bool = False

    @property
    def derived(self) -> bool:
        return self.kind in _DERIVED


UNKNOWN = Meaning("unknown", 0.0)


def words(header: str) -> tuple[str, ...]:
    """Split a column name into plain lower-case words: ``DíaDeLaSemana`` -> ``dia de la semana``."""
    text = re.sub(r"(?<=[^\W\d_])(?=[A-ZÁÉÍÓÚÑ][a-záéíóúñ])|(?<=[a-záéíóúñ])(?=[A-ZÁÉÍÓÚÑ])", " ", header)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return tuple(re.findall(r"[^\W_]+", text.lower()))


def plain_name(header: str) -> str:
    """The snake_case form that every spelling of a name shares."""
    return "_".join(words(header))


def counts_things(header: str) -> bool:
    """Whether the name says that whole things are counted (units, unidades), not money or weight."""
    return bool(_COUNTS.intersection(words(header)))


def says_percent(header: str) -> bool:
    """Whether the name says that values are percentages or discounts."""
    hints = {"pct", "percent", "percentage", "porcentaje", "porciento", "descuento", "discount", "dto"}
    return "%" in header or bool(hints.intersection(words(header)))


@cache
def _exact_names() -> dict[str, Meaning]:
    table: dict[str, Meaning] = {}

    def enter(names: str, kind: str, score: float, *, text: bool = False) -> None:
        for rank, name in enumerate(names.split()):
            table.setdefault(name.replace("_", ""), Meaning(kind, score, rank, text))

    for kind, names in (*_ROLES.items(), *_DERIVED.items()):
        enter(names, kind, EXACT)
    enter(_REGRESSORS, "regressor", EXACT)
    enter(_REGRESSOR_NAMES, "regressor", EXACT, text=True)
    enter(_REVENUE, "revenue", EXACT)
    enter(_AFTER, "after", EXACT)
    enter(_IDS, "id", EXACT)
    for kind, names in _WEAK.items():
        for rank, name in enumerate(names.split()):
            table.setdefault(name.replace("_", ""), Meaning(kind, WEAK, 100 + rank))
    return table


@cache
def _part_names() -> tuple[tuple[frozenset[str], Meaning], ...]:
    """Role names as sets of words, longest first, for headers that say more than the bare name."""
    parts = []
    for kind, names in _ROLES.items():
        for rank, name in enumerate(names.split()):
            if len(name) > 2 and name not in ("data", "total", "local", "target", "ref", "centro", "material"):
                parts.append((frozenset(name.split("_")), Meaning(kind, PART, 50 + rank)))
    return tuple(sorted(parts, key=lambda part: (-len(part[0]), part[1].rank)))


def meaning_of(header: str) -> Meaning:
    """What a column name says, whatever its language, case, accents or separators.

    Examples
    --------
    >>> meaning_of("DíaDeLaSemana").kind, meaning_of("Unit Price").kind, meaning_of("clientes").kind
    ('weekday', 'price', 'after')
    """
    said = words(header)
    exact = _exact_names().get("".join(said))
    if exact is not None:
        return exact
    kept = tuple(word for word in said if word not in _FILLERS)
    exact = _exact_names().get("".join(kept)) if kept else None
    if exact is not None:
        return Meaning(exact.kind, exact.score - 0.05, exact.rank + 20, exact.names)
    return _by_words(kept)


def _by_words(said: tuple[str, ...]) -> Meaning:
    present = frozenset(said)
    if present & _REVENUE_WORDS:
        return Meaning("revenue", PART)
    if present & _AFTER_WORDS:
        return Meaning("after", PART)
    if present & _OTHERS:
        return UNKNOWN
    if said and said[0] in _REGRESSOR_STARTS:
        return Meaning("regressor", PART, names=said[0] != "snap")
    for name, meaning in _part_names():
        if name <= present:
            return meaning
    return UNKNOWN
