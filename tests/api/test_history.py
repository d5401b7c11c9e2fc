import csv
import datetime as dt
import io
import json

import polars as pl
import pytest

from ml.records import ForecastReply, HistoryItem, HistoryPage


def page(served, **query):
    return HistoryPage.model_validate(served.get("/historical-predictions", params=query).json())


def test_pages_are_stable_while_predictions_arrive(served, many):
    served.post("/predict", params={"source": "paging"}, json={"instances": many[:90]})
    seen, cursor = [], None
    while True:
        found = page(served, source="paging", limit=20, **({"cursor": cursor} if cursor else {}))
        seen += [item.prediction_id for item in found.items]
        if (cursor := found.next_cursor) is None:
            break
        served.post("/predict", params={"source": "paging"}, json={"instances": many[:7]})
    assert len(seen) == len(set(seen)) == 90
    assert seen == sorted(seen, reverse=True)


def test_filters(served, many):
    served.post("/predict", params={"source": "filters"}, json={"instances": many[:56]})
    store, product, date = (many[3][name] for name in ("store", "product", "date"))
    assert {i.date for i in page(served, source="filters", **{"from": date, "to": date}).items} == {
        dt.date.fromisoformat(date)
    }
    chosen = page(served, source="filters", store=store, product=product).items
    assert len(chosen) == 28
    assert {(i.store, i.product) for i in chosen} == {(store, product)}
    assert len(page(served, source="filters", version="1").items) == 56
    assert page(served, source="filters", version="7").items == ()


def test_the_actual_comes_with_the_error(served, row):
    served.post("/predict", params={"source": "actual"}, json=row)
    (item,) = page(served, source="actual").items
    assert (item.actual, item.error) == (None, None)
    sold = pl.DataFrame([{name: row[name] for name in ("store", "product", "date")} | {"sales": 10.0}])
    served.services.store.upsert_actuals(sold.with_columns(pl.col("date").str.to_date()))
    item = HistoryItem.model_validate(served.get(f"/v1/predictions/{item.prediction_id}").json())
    assert item.actual == 10.0
    assert item.error == pytest.approx(item.prediction - 10.0)
    assert page(served, source="actual", has_actual="true").items == (item,)
    assert page(served, source="actual", has_actual="false").items == ()


def test_one_that_is_not_there(served):
    assert served.get("/v1/predictions/123456789").status_code == 404


# ---------------------------------------------------------------- forecast and data


def forecast(served, **asked):
    reply = served.post("/v1/forecast", json=asked)
    assert reply.status_code == 200, reply.text
    return ForecastReply.model_validate(reply.json())


def test_a_forecast_is_what_predict_answers_and_is_logged(served, row):
    made = forecast(served, stores=[row["store"]], products=[row["product"]], horizon=5)
    assert len(made.predictions) == 5
    assert made.total == pytest.approx(sum(a.prediction for a in made.predictions))
    third = made.predictions[2]
    assert str(third.date) == row["date"]
    asked = {"store": third.store, "product": third.product, "date": str(third.date), "price": third.inputs["price"]}
    alone = served.post("/predict", json=asked).json()
    assert alone["prediction"] == pytest.approx(third.prediction, abs=1e-6)
    items = page(served, source="forecast", store=row["store"], product=row["product"], limit=5).items
    assert {item.request_id for item in items} == {third.request_id}


def test_everything_is_forecast_when_nothing_is_chosen(served):
    catalog = served.get("/v1/catalog").json()
    made = forecast(served)
    assert len(made.predictions) <= len(catalog["series"]) * catalog["horizon"]
    assert len({a.date for a in made.predictions}) == catalog["horizon"]


def test_totals_carry_the_intervals_of_the_sums(served):
    made = forecast(served, horizon=7)
    assert made.whole.prediction == pytest.approx(made.total)
    assert (made.whole.date_from, made.whole.date_to) == (made.by_date[0].date_from, made.by_date[-1].date_to)
    assert sum(day.prediction for day in made.by_date) == pytest.approx(made.total)
    assert [day.date_from for day in made.by_date] == sorted({a.date for a in made.predictions})
    low, high = made.whole.interval["95"]
    assert sum(a.interval["95"][0] for a in made.predictions) < low < made.total < high
    assert high < sum(a.interval["95"][1] for a in made.predictions)
    (narrow_low, narrow_high) = made.whole.interval["80"]
    assert low <= narrow_low <= made.total <= narrow_high <= high


def test_a_single_answer_is_its_own_total(served, row):
    made = forecast(served, stores=[row["store"]], products=[row["product"]], horizon=1)
    assert made.whole.interval == made.predictions[0].interval == made.by_date[0].interval


def test_overrides_reach_the_rows_they_mean(served, row):
    one = {"stores": [row["store"]], "products": [row["product"]], "horizon": 5}
    made = forecast(served, **one, overrides=[{"price": 2.0}, {"date": row["date"], "price": 1.0, "promotion": 1}])
    assert [(a.inputs["price"], a.inputs["promotion"]) for a in made.predictions] == [
        (2.0, 0.0),
        (2.0, 0.0),
        (1.0, 1.0),
        (2.0, 0.0),
        (2.0, 0.0),
    ]
    other = forecast(served, **one, overrides=[{"store": "somewhere else", "promotion": 1}])
    assert all(a.inputs["promotion"] == 0 for a in other.predictions)


def test_what_cannot_be_forecast_is_said(served):
    unknown = served.post("/v1/forecast", json={"stores": ["nowhere"]})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "stores")


def test_actual_sales_are_those_of_the_snapshot(served, row):
    known = served.services.published.require().scan().collect()
    mine = known.filter(pl.col("store") == row["store"], pl.col("product") == row["product"])
    day = mine["date"].max()
    query = {"store": row["store"], "product": row["product"], "from": str(day), "to": str(day)}
    (point,) = served.get("/v1/sales", params=query).json()["points"]
    (expected,) = mine.filter(pl.col("date") == day).to_dicts()
    assert (point["sales"], point["price"]) == (expected["sales"], expected["price"])
    total = served.get("/v1/sales", params={"from": str(day)}).json()["points"][0]["sales"]
    assert total == pytest.approx(known.filter(pl.col("date") == day)["sales"].sum())


def test_the_catalogue_names_what_the_data_has(served):
    catalog, snapshot = served.get("/v1/catalog").json(), served.get("/v1/snapshot").json()
    assert len(catalog["stores"]) == snapshot["stores"]
    assert len(catalog["products"]) == snapshot["products"]
    assert len(catalog["series"]) == snapshot["series"]
    assert catalog["date_to"] == snapshot["date_to"]
    assert (catalog["horizon"], catalog["frequency"]) == (28, "D")


def test_without_data_it_is_said_what_to_do(bare):
    assert bare.get("/v1/catalog").json()["code"] == "no_data"
    assert bare.get("/v1/sales").json()["code"] == "no_data"
    assert bare.get("/v1/snapshot").status_code == 404
    assert bare.get("/historical-predictions").json() == {"items": [], "next_cursor": None}
    for path in ("/predict", "/v1/forecast"):
        reply = bare.post(path, json={})
        assert (reply.status_code, reply.json()["code"]) == (503, "no_champion")
        assert reply.headers["Retry-After"]


def test_all_that_fit_as_one_file_sent_in_pieces(served, many, monkeypatch):
    monkeypatch.setattr("api.exporting.TOGETHER", 7)
    monkeypatch.setattr("ml.store.STREAMED", 11)
    served.post("/predict", params={"source": "exported"}, json={"instances": many[:30]})
    reply = served.get("/v1/exports/predictions", params={"source": "exported"})
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    items = page(served, source="exported", limit=100).items
    assert [int(row["prediction_id"]) for row in rows] == [item.prediction_id for item in items]
    assert [float(row["low_80"]) for row in rows] == [item.interval["80"][0] for item in items]
    assert json.loads(rows[0]["inputs"]) == items[0].inputs
    assert len(served.get("/v1/exports/predictions", params={"source": "exported", "limit": 3}).text.splitlines()) == 4
    assert served.get("/v1/exports/predictions", params={"source": "nobody"}).text.count("\n") == 1
