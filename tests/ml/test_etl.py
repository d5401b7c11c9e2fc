"""The data pipeline with attributes, against a real MLflow server and a lake in a folder; no database is needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml import demo, jobs
from ml.bundle import load_bundle
from ml.challenger import _data
from ml.context import Context
from ml.errors import FileRefused, InputError, NotFound
from ml.forecasting import Forecaster
from ml.lake import current_snapshot, load_attributes, load_sales
from ml.records import ETL_DAG, RETRAIN_DAG, Snapshot
from ml.registry import Registry
from ml.settings import Settings, load_settings, variable

FIRST, SECOND = demo.generate(dt.date(2026, 3, 1), days=2, stores=2, products=4)["store"].unique().sort().to_list()


@pytest.fixture
def settings(tmp_path: Path, mlflow_server: str) -> Settings:
    values = {"data_dir": tmp_path, "mlflow_url": mlflow_server, "demo_scale": 0.1, "backtest_folds": 1}
    return load_settings({variable(name): str(value) for name, value in values.items()})


@pytest.fixture
def etl(settings: Settings, request: Any) -> Callable[..., Snapshot]:
    """Runs the whole pipeline and returns what it published."""

    def run(**conf: Any) -> Snapshot:
        run.count += 1  # type: ignore[attr-defined]
        context = Context(settings, f"{request.node.name}-{run.count}", conf)  # type: ignore[attr-defined]
        for name in jobs.STEPS[ETL_DAG]:
            jobs.step_of(ETL_DAG, name)(context)
        found = current_snapshot(context.lake)
        assert found is not None
        return found

    run.count = 0  # type: ignore[attr-defined]
    return run


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, str]:
    """Attributes of the small demo chain: its stores, and its products but one, with a new one."""
    products = demo.generate(dt.date(2026, 3, 1), days=2, stores=2, products=4)["product"].unique().sort().to_list()
    files = {
        "stores": f"tienda;m2\n{FIRST};50\n{SECOND};150\n",
        "products": "sku,familia\n" + "".join(f"{n},{'ab'[i % 2]}\n" for i, n in enumerate(products[1:])) + "NEW,b\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: str(tmp_path / f"{name}.csv") for name in files}


def test_attributes_are_published_with_the_sales(etl, settings, tables):
    plain = etl(source="demo")
    assert plain.static == ()
    assert load_attributes(Context(settings, "x", {}).lake, plain) is None
    found = etl(source="demo", attributes=list(tables.values()))
    assert found.static == ("store.m2", "product.familia")
    assert found.data_version != plain.data_version
    assert found.rows == plain.rows
    assert found.encoding.categories["product.familia"] == ("a", "b")
    assert "store.m2" in found.encoding.mean
    assert not {"store.m2", "product.familia"} & {*found.regressors, *found.derived}
    assert any("attributes of 1 product keys that no sales have" in note for note in found.decisions)
    lake = Context(settings, "x", {}).lake
    sales = load_sales(lake, found)
    assert sales.group_by("store").agg(pl.col("store.m2").n_unique())["store.m2"].to_list() == [1, 1]
    described = pl.read_csv(tables["products"])["sku"].to_list()
    lacking = sales.filter(~pl.col("product").is_in(described))
    assert 0 < lacking.height == sales["product.familia"].null_count()
    counts = f"{lacking['product'].n_unique()} of {found.products} product keys have no attributes"
    assert counts in found.decisions
    assert load_attributes(lake, found).filter(pl.col("product") == "NEW").height == 1  # type: ignore[union-attr]
    # what was accepted once is used by every later run, unless it is told otherwise
    assert etl(source="demo").data_version == found.data_version
    assert etl(source="demo", attributes=["none"]).data_version == plain.data_version


def test_the_last_named_table_wins(etl, settings, tables, tmp_path):
    (tmp_path / "other.csv").write_text(f"store,m2\n{FIRST},7\n")
    first = etl(source="demo", attributes=[tables["stores"], str(tmp_path / "other.csv")])
    lake = Context(settings, "x", {}).lake
    sizes = dict(load_sales(lake, first).select("store", "store.m2").unique().iter_rows())
    assert sizes == {FIRST: 7.0, SECOND: 150.0}
    ids = [name.removeprefix("attributes/").removesuffix(".parquet") for name in lake.list("attributes/")]
    other = next(name for name in ids if lake.get_frame(f"attributes/{name}.parquet").height == 1)
    swapped = etl(source="demo", attributes=[other, tables["stores"]])
    assert dict(load_sales(lake, swapped).select("store", "store.m2").unique().iter_rows())[FIRST] == 50.0


def test_a_table_that_cannot_be_used_stops_the_run(etl, tmp_path):
    (tmp_path / "bad.csv").write_text("store,product\na,p\n")
    with pytest.raises(FileRefused, match=r"bad\.csv: Beside store and product no column"):
        etl(source="demo", attributes=[str(tmp_path / "bad.csv")])
    with pytest.raises(NotFound, match="There is no file nothing"):
        etl(source="demo", attributes=["nothing"])


def test_a_product_launched_in_the_test_part_has_a_code_of_its_own(etl, settings, tmp_path):
    days = [dt.date(2025, 11, 1) + dt.timedelta(days=i) for i in range(120)]
    rows = [
        f"{day},{product},{3 + i % 5},{price}"
        for i, day in enumerate(days)
        for product, price in (("p", 2.0), ("q", 4.0))
    ]
    rows += [f"{day},launched,6,50.0" for day in days[-10:]]
    (tmp_path / "sales.csv").write_text("date,product,sales,price\n" + "\n".join(rows) + "\n")
    found = etl(source=str(tmp_path / "sales.csv"))
    lake = Context(settings, "x", {}).lake
    train, test = (lake.get_frame(f"snapshots/{found.data_version}/{name}.parquet") for name in ("train", "test"))
    assert found.encoding.categories["product"] == ("launched", "p", "q")
    assert "launched" not in train["product"]
    assert test.filter(pl.col("product") == "launched")["product_code"].unique().to_list() == [0]
    assert found.encoding.mean["price"] == pytest.approx(3.0)  # of training rows: the launched one costs 50
    assert {name: found.encoding.categories[name] for name in ("store", "weekday")} == {
        "store": ("all",), "weekday": tuple("1234567")
    }  # fmt: skip
    assert train["weekday"].to_list() == train["date"].dt.weekday().cast(pl.String).to_list()


def test_a_model_uses_attributes_also_for_what_has_never_sold(etl, settings, tables, tmp_path, monkeypatch):
    registry = Registry(settings.mlflow, "sales-attributes")
    monkeypatch.setattr("ml.context.Registry", lambda url: registry)
    found = etl(source="demo", attributes=list(tables.values()))
    context = Context(settings, "train", {"trials": 0, "folds": 1, "window_days": 120})
    for name in ("snapshot", "tune", "backtest", "train"):
        jobs.step_of(RETRAIN_DAG, name)(context)
    data, _ = _data(context)
    assert data.columns.static == ("store.m2",)
    assert data.columns.static_text == ("product.familia",)
    bundle = load_bundle(registry.download(context.json("challenger.json")["version"], tmp_path / "bundle"))
    assert {"store.m2", "product.familia_code"} <= set(bundle.manifest.features)
    assert bundle.manifest.static == found.static

    served = Forecaster(bundle)
    assert served.check_golden() < 1e-6
    assert "store.m2" not in served.inputs
    day = served.origin + dt.timedelta(days=1)
    rows = pl.DataFrame({"date": [day] * 3, "store": [FIRST, SECOND, FIRST], "product": ["NEW", "NEW", "unheard"]})
    features = model_rows(served, rows)
    assert features["store.m2"].to_list() == [50.0, 150.0, 50.0]
    assert features["product.familia_code"].to_list() == [1.0, 1.0, None]
    assert served.forecast(rows)["prediction"].is_finite().all()

    newer = pl.DataFrame({"store": [FIRST, None], "product": [None, "unheard"], "store.m2": [60.0, None],
                          "product.familia": [None, "a"]})  # fmt: skip
    later = Forecaster(bundle, None, newer)
    features = model_rows(later, rows)
    assert features["store.m2"].to_list() == [60.0, 150.0, 60.0]
    assert features["product.familia_code"].to_list() == [None, None, 0.0]


@pytest.fixture
def sold(tmp_path: Path) -> Callable[..., str]:
    """A file of a small chain; the prices of its last week are multiplied."""

    def write(factor: float = 1, days: int = 120) -> str:
        rows = demo.generate(dt.date(2026, 3, 1), days=days, stores=2, products=6)
        dear = pl.when(pl.col("date") > dt.date(2026, 2, 22)).then(pl.col("price") * factor).otherwise(pl.col("price"))
        path = tmp_path / f"sold-{factor}-{days}.csv"
        rows.with_columns(dear.alias("price")).write_csv(path)
        return str(path)

    return write


def test_data_with_errors_is_not_published_unless_told(etl, settings, sold):
    first = etl(source=sold(), only_this=True)
    lake = Context(settings, "x", {}).lake
    with pytest.raises(InputError, match=r"not published.*two months ago.*publish_anyway"):
        etl(source=sold(100), only_this=True)
    assert current_snapshot(lake).data_version == first.data_version  # type: ignore[union-attr]
    assert [name for name in lake.list("runs/") if name.endswith("-2/checks.json")]
    found = etl(source=sold(100), only_this=True, publish_anyway=True)
    assert found.data_version != first.data_version
    assert {(c.code, c.severity) for c in found.checks} >= {("price_jump", "error")}
    assert found.drift is not None
    # what was accepted once is not asked again, run after run, for as long as the data shows it
    for _ in range(2):
        again = etl(source=sold(100), only_this=True)
        assert [(c.severity, c.facts["accepted"]) for c in again.checks if c.code == "price_jump"] == [("warning", 1)]


def test_half_of_the_history_does_not_go_by_mistake(etl, sold):
    etl(source=sold(), only_this=True)
    with pytest.raises(InputError, match=r"days of stores with \d+% of the units are no longer in the data"):
        etl(source=sold(days=60), only_this=True)


def test_a_correction_of_one_row_and_its_replay(etl, settings, sold, tmp_path):
    whole = etl(source=sold(), only_this=True)
    lake = Context(settings, "x", {}).lake
    rows = load_sales(lake, whole, ("sales", "price", "promotion"))
    one = rows.filter(pl.col("sales") > 0).row(100, named=True)
    uploads = [key.split("/")[1].removesuffix(".parquet") for key in lake.list("accepted/")]
    correction = pl.DataFrame([{**one, "sales": one["sales"] + 1}], schema=rows.schema)
    lake.put_frame("accepted/zz-correction.parquet", correction)
    corrected = etl(uploads=[*uploads, "zz-correction"])
    assert corrected.data_version != whole.data_version
    now = load_sales(lake, corrected, ("sales", "price", "promotion"))
    changed = now.filter(pl.Series(now["sales"] != rows["sales"]))
    assert changed.select("date", "store", "product").rows() == [(one["date"], one["store"], one["product"])]
    assert changed["sales"].to_list() == [one["sales"] + 1]
    assert any("1 rows were replaced by later uploads" in note for note in corrected.decisions)
    assert [(c.code, c.facts["days"]) for c in corrected.checks if c.code == "revised"] == [("revised", 1)]
    assert etl(uploads=[*uploads, "zz-correction"]).data_version == corrected.data_version
    assert etl(uploads=uploads).data_version == whole.data_version


def model_rows(forecaster: Forecaster, rows: pl.DataFrame) -> pl.DataFrame:
    """The model's own inputs for rows that one block answers, by name; missing ones null."""
    ((_, inputs),) = forecaster.inputs_of(rows).values()
    frame = pl.DataFrame(inputs.x, schema=list(forecaster.manifest.features))
    return frame.fill_nan(None)
