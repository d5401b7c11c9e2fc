from __future__ import annotations

import io
import os
from pathlib import Path

import polars as pl
import pytest

from ml.findings import FINDING_CODES, FINDING_HINTS
from ml.records import Mapping
from ml.sidetable import check_attributes, check_upload

STORES = b"Tienda;Tama\xc3\xb1o;Tipo\nA;1.200,5;calle\nB;300;centro\nC;90,25;calle\n"
KNOWN = pl.DataFrame({"store": ["A", "B", "Z"], "product": ["p", "p", "q"]})


def table(*rows: str) -> bytes:
    return ("\n".join(rows) + "\n").encode()


def test_a_spanish_table_of_stores():
    checked = check_attributes(STORES, "tiendas.csv")
    report = checked.preflight
    assert (report.purpose, report.verdict) == ("attributes", "FIX")
    assert report.mapping == Mapping(roles={"store": "Tienda"}, regressors=("Tamaño", "Tipo"))
    assert checked.frame.to_dict(as_series=False) == {
        "store": ["A", "B", "C"],
        "Tamaño": [1200.5, 300.0, 90.25],
        "Tipo": ["calle", "centro", "calle"],
    }
    assert (report.rows_total, report.rows_used, report.stores, report.products) == (3, 3, 3, 0)
    assert report.preview[1] == {"store": "B", "Tamaño": 300.0, "Tipo": "centro"}
    assert [(c.source, c.role) for c in report.columns] == [
        ("Tienda", "store"), ("Tamaño", "regressor"), ("Tipo", "regressor")
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["xlsx", "parquet"])
def test_other_formats(form):
    frame = pl.DataFrame(
        {"store": [1, 2, 3], "item": ["x", "y", "x"], "size": [1.5, None, 2.0], "kind": ["a", "b", "a"]}
    )
    target = io.BytesIO()
    frame.write_excel(target) if form == "xlsx" else frame.write_parquet(target)
    checked = check_upload(target.getvalue(), f"items.{form}")
    assert checked.preflight.purpose == "attributes"
    assert checked.frame["store"].to_list() == ["1", "2", "3"]
    assert checked.frame.rows()[1] == ("2", "y", None, "b")


def test_dates_become_years():
    checked = check_attributes(table("store,opened_on", "a,2020-01-01", "b,2021-07-02", "c,"), "a.csv")
    assert checked.frame["opened_on"].to_list() == [2020.0, pytest.approx(2021.498, abs=1e-3), None]


SALES = {
    "daily": ("date,store,product,sales", "2026-01-01,a,p,3", "2026-01-02,a,p,4"),
    "no_date": ("store,product,sales", "a,p,3", "b,p,4"),
    "no_store": ("date,sales", "2026-01-01,3", "2026-01-02,4"),
    "odd_names": ("day_of_sale_date,store,amounts", "2026-01-01,a,3", "2026-01-02,a,4", "2026-01-01,b,4"),
    "keys_only": ("store,product", "a,p", "b,q"),
    "neither": ("colour,weight", "red,3", "blue,4"),
}
ATTRIBUTES = {
    "sizes": ("store,size", "a,3", "b,4"),
    "opening": ("store_id,opening_date,volume_ml", "a,2020-01-01,3", "b,2021-01-01,4"),
    "weak_key": ("categoria,margen_objetivo", "food,3", "toys,4"),
    "product": ("SKU;Familia;Marca", "p1;food;x", "p2;toys;y"),
}


@pytest.mark.parametrize("name", [*SALES, *ATTRIBUTES])
def test_sales_and_attributes_are_told_apart(name):
    wanted = "training" if name in SALES else "attributes"
    assert check_upload(table(*{**SALES, **ATTRIBUTES}[name]), "a.csv").preflight.purpose == wanted


def test_what_a_person_says_counts():
    sizes = table(*ATTRIBUTES["sizes"])
    assert check_upload(sizes, "a.csv", purpose="training").preflight.verdict == "REJECT"
    assert check_upload(table(*SALES["no_date"]), "a.csv", purpose="attributes").preflight.purpose == "attributes"
    mapping = Mapping(roles={"product": "store"}, regressors=("size",))
    assert check_upload(sizes, "a.csv", purpose="attributes", mapping=mapping).frame.columns == ["product", "size"]


def test_the_plainer_name_is_the_key():
    rows = table("product,category,product_size", "p1,food,S", "p2,food,L", "p3,toys,S")
    assert check_attributes(rows, "a.csv").preflight.mapping == Mapping(
        roles={"product": "product"}, regressors=("category", "product_size")
    )


EXAMPLES: dict[str, tuple[str, bytes]] = {
    "attribute_none": ("reject", table("store,product", "a,p", "b,q")),
    "attribute_repeated": ("row", table("store,size,id", "a,1,1", "b,2,2", "a,1,3")),
    "attribute_conflict": ("row", table("store,size", "a,1", "b,2", "a,3")),
    "attribute_reserved": ("info", table("store,size,price", "A,1,3", "B,2,4")),
    "attribute_constant": ("info", table("store,size,chain", "A,1,x", "B,2,x")),
    "attribute_identifier": ("info", table("store,size,motto", "A,1,x", "B,2,y", "Z,2,z")),
    "attribute_unsold": ("info", table("store,size", "A,1", "B,2", "Z,2", "new,4", "newer,5")),
    "attribute_lacking": ("info", table("store,size", "A,1", "B,2")),
}


def test_every_code_has_an_example():
    assert set(EXAMPLES) == {code for code in FINDING_CODES if code.startswith("attribute_")}


@pytest.mark.parametrize("code", EXAMPLES)
def test_code(code):
    severity, data = EXAMPLES[code]
    checked = check_attributes(data, "a.csv", known=KNOWN)
    found = next(found for found in checked.preflight.findings if found.code == code)
    assert found.severity == severity
    said = FINDING_CODES[code].format(**{"row": found.row, "column": found.column, "count": found.count, **found.facts})
    assert (found.message, found.hint) == (said, FINDING_HINTS.get(code, ""))
    assert checked.frame.height + checked.rejected.height == checked.preflight.rows_total
    verdict = {"reject": "REJECT", "row": "ROWS"}.get(severity, "OK")
    assert checked.preflight.verdict == verdict


def test_rows_that_do_not_agree_all_go_and_copies_but_the_first():
    rows = table("store,size", "a,1", "b,2", "a,3", "b,2", ",4", "c,wide")
    checked = check_attributes(rows, "a.csv")
    assert checked.frame.rows() == [("b", "2"), ("c", "wide")]
    left = dict(checked.rejected.select("row", "code").iter_rows())
    assert left.items() >= {2: "attribute_conflict", 4: "attribute_conflict", 5: "attribute_repeated"}.items()
    assert left[6] == "store_empty"
    assert checked.rejected.filter(pl.col("row") == 2)["reason"][0].startswith("Several rows describe a")


def test_the_first_key_without_sales_is_named_with_its_row():
    checked = check_attributes(EXAMPLES["attribute_unsold"][1], "a.csv", known=KNOWN)
    (found,) = (f for f in checked.preflight.findings if f.code == "attribute_unsold")
    assert (found.row, found.column, found.count, found.facts["value"]) == (5, "store", 2, "new")


@pytest.mark.parametrize("data", [b"", b"\n", b"store\n", b"store,size\n", b"\x00\x01", b"PAR1xxxxPAR1", b"size\n3\n"])
def test_what_is_no_table_is_refused_with_a_reason(data):
    checked = check_attributes(data, "a.csv")
    assert checked.preflight.verdict == "REJECT"
    assert checked.preflight.findings[0].message
    assert checked.frame.height == 0


BENCH = os.environ.get("CONTROL_ROOM_BENCH_DATA", "")
REAL = {
    "rossmann/store": (1115, {"store": "store"}, "competition_distance"),
    "frat/product": (58, {"product": "product"}, "manufacturer"),
    "frat/store": (77, {"store": "store"}, "seg_value_name"),
    "m5/ids": (30490, {"store": "store", "product": "item"}, "dept"),
}


@pytest.mark.skipif(not BENCH, reason="NO DATA: set CONTROL_ROOM_BENCH_DATA to the folder of public retail data sets")
@pytest.mark.parametrize("name", REAL)
def test_real_tables(name):
    rows, roles, attribute = REAL[name]
    checked = check_upload((Path(BENCH) / f"{name}.parquet").read_bytes(), "a.parquet")
    assert (checked.preflight.purpose, checked.preflight.verdict) == ("attributes", "OK")
    assert (checked.frame.height, checked.preflight.mapping.roles) == (rows, roles)
    assert attribute in checked.preflight.mapping.regressors
