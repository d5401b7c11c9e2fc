"""A sales file as a planner has it: from an old till, with everything that such files bring along."""

from __future__ import annotations

import datetime as dt
import math
import random

FIRST, DAYS = dt.date(2025, 6, 1), 420
STORES, ARTICLES = ("Centro", "Muelle"), ("Café 250 g", "Té verde", "Chocolate")
LAST = FIRST + dt.timedelta(days=DAYS - 1)
TITLE = "Informe de ventas;;;;;\r\nImpreso el 12/08/2026;;;;;\r\n"
HEADER = "Día venta;Sucursal;Artículo;PVP;Camp.;Cant.\r\n"


def messy_csv() -> bytes:
    """Two shops and three articles for 420 days.

    A title above the header, semicolons, decimal commas, thousands points, days first, Windows' own characters, names
    of columns that nobody can be sure of, a cell that says n/d, one row twice and a total below.
    """
    rows = [_row(day, store, article) for day in range(DAYS) for store in range(2) for article in range(3)]
    rows[100] = rows[100].rpartition(";")[0] + ";n/d"
    rows.insert(200, rows[200])
    return (TITLE + HEADER + "\r\n".join(rows) + "\r\nTOTAL;;;;;1.234.567,89\r\n").encode("cp1252")


def _row(day: int, store: int, article: int) -> str:
    chance = random.Random(day * 10 + store * 3 + article)
    date = FIRST + dt.timedelta(days=day)
    promoted = chance.random() < 0.1
    price = (4.95, 3.2, 1.85)[article] * (0.8 if promoted else 1.0)
    week = 1.5 if date.weekday() >= 5 else 1.0
    season = 1.0 + 0.2 * math.sin(2 * math.pi * day / 365)
    usual = (60.0, 900.0, 220.0)[article] * (1.0, 1.4)[store]
    sold = usual * week * season * (1.6 if promoted else 1.0) * chance.uniform(0.9, 1.1)
    cells = (f"{date:%d/%m/%Y}", STORES[store], ARTICLES[article], _spanish(price), "NS"[promoted], _spanish(sold))
    return ";".join(cells)


def _spanish(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))
