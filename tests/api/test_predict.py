import datetime as dt
import io
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from ml.records import Answer, RowError

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"


def predict(served, body, status=200, **query):
    reply = served.post("/predict", json=body, params=query)
    assert reply.status_code == status, reply.text
    return reply.json()


def logged(served, request_id):
    items = served.get("/historical-predictions", params={"limit": 1000}).json()["items"]
    return [item for item in items if item["request_id"] == request_id]


# ---------------------------------------------------------------- answers


def test_one_row_is_answered_and_in_the_history(served, row):
    reply = served.post("/predict", json=row, headers={"X-Request-ID": "one-row"})
    answer = Answer.model_validate(reply.json())
    assert reply.headers["X-Request-ID"] == answer.request_id == "one-row"
    assert (answer.store, answer.product, str(answer.date)) == (row["store"], row["product"], row["date"])
    assert answer.inputs == {"price": 1.5, "promotion": 1.0, "holiday": answer.inputs["holiday"]}
    assert answer.model.version == "1"
    assert answer.model.alias == "champion"
    low, high = answer.interval["80"]
    wide_low, wide_high = answer.interval["95"]
    assert 0 <= wide_low <= low <= answer.prediction <= high <= wide_high
    (item,) = logged(served, "one-row")
    assert item["prediction"] == answer.prediction
    assert item["interval"] == reply.json()["interval"]
    assert item["inputs"] == reply.json()["inputs"]
    assert (item["source"], item["model_version"], item["data_version"]) == ("api", "1", answer.data_version)


def test_v1_is_the_same_route(served, row):
    assert served.post("/v1/predict", json=row).json()["prediction"] == predict(served, row)["prediction"]


def test_a_batch_gives_the_same_answers_in_order(served, many):
    answers = predict(served, {"instances": many[:200]})["predictions"]
    asked = [(row["store"], row["product"], row["date"]) for row in many[:200]]
    assert [(a["store"], a["product"], a["date"]) for a in answers] == asked
    for index in (0, 1, 28, 77, 199):
        alone = predict(served, many[index])
        assert alone["prediction"] == pytest.approx(answers[index]["prediction"], abs=1e-6)
        assert alone["interval"]["95"] == pytest.approx(answers[index]["interval"]["95"], abs=1e-6)


def test_requests_at_the_same_moment_get_their_own_answers(served, many):
    rows = many[:48]
    alone = [predict(served, row)["prediction"] for row in rows]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda row: predict(served, row), rows))
    assert [a["date"] for a in together] == [r["date"] for r in rows]
    assert [a["prediction"] for a in together] == pytest.approx(alone, abs=1e-6)
    assert len({a["request_id"] for a in together}) == len(rows)


def test_good_rows_are_answered_beside_bad_ones(served, row):
    bad = {**row, "price": -1}
    worse = {**row, "date": "tomorrow"}
    answers = predict(served, {"instances": [bad, row, worse, 7, row]})["predictions"]
    errors = {i: RowError.model_validate(a["error"]) for i, a in enumerate(answers) if "error" in a}
    assert sorted(errors) == [0, 2, 3]
    assert (errors[0].row, errors[0].field, errors[0].code) == (1, "price", "out_of_range")
    assert (errors[2].row, errors[2].field, errors[2].code) == (3, "date", "not_a_date")
    assert (errors[3].row, errors[3].field, errors[3].code) == (4, None, "not_an_object")
    assert answers[1]["prediction"] == answers[4]["prediction"] > 0


def test_only_bad_rows_still_answer_row_by_row(served, row):
    answers = predict(served, {"instances": [{**row, "date": None}] * 3})["predictions"]
    assert [a["error"]["field"] for a in answers] == ["date"] * 3


def test_spanish_names(served, row):
    expected = predict(served, {**row, "holiday": 0})["prediction"]
    spanish = {"tienda": row["store"], "producto": row["product"], "fecha": row["date"], "precio": 1.5}
    for promotion in ({"promociones": 1}, {"promocion": True}, {"promoción": 1.0}):
        assert predict(served, {**spanish, **promotion, "festivo": False})["prediction"] == pytest.approx(expected)


def test_what_is_left_out_is_filled_with_what_is_known(served, row):
    bare = {name: row[name] for name in ("store", "product", "date")}
    answer = predict(served, bare)
    assert answer["inputs"]["price"] > 0
    assert answer["inputs"]["promotion"] == 0
    assert predict(served, {**bare, "price": None, "promotion": None})["prediction"] == answer["prediction"]


def test_an_unknown_store_is_answered_with_a_warning(served, row):
    answer = predict(served, {"store": "Bilbao Norte", "product": row["product"], "date": row["date"]})
    assert "new_series" in answer["warnings"]
    assert answer["support"]["similar_days"] == 0
    assert answer["support"]["similar_sibling_days"] > 0
    assert answer["prediction"] > 0


def test_a_product_must_be_named_when_there_are_several(served, row):
    problem = predict(served, {"date": row["date"], "store": row["store"]}, 422)
    assert [e["field"] for e in problem["errors"]] == ["product"]


def test_dates_beyond_the_horizon_are_flagged_and_then_refused(served, row):
    date = dt.date.fromisoformat(row["date"])
    near = predict(served, {**row, "date": str(date + dt.timedelta(days=40))})
    assert "beyond_horizon" in near["warnings"]
    assert predict(served, {**row, "date": str(date + dt.timedelta(days=200))})["prediction"] > 0
    too_far = predict(served, {**row, "date": "2099-01-01"}, 422)
    assert too_far["errors"][0]["code"] == "too_far_ahead"


def test_the_last_date_that_is_not_refused_is_answered(served, row):
    loaded = served.services.champion.require()
    assert predict(served, {**row, "date": str(loaded.last_date)})["prediction"] > 0


def test_a_past_date_is_flagged(served, row):
    past = str(dt.date.fromisoformat(row["date"]) - dt.timedelta(days=30))
    assert "past_date" in predict(served, {**row, "date": past})["warnings"]


def test_the_source_stands_in_the_history(served, row):
    made = predict(served, row, source="what-if.page")
    assert logged(served, made["request_id"])[0]["source"] == "what-if.page"


# ---------------------------------------------------------------- other models


def test_another_model_answers_when_asked(served, row):
    expected = predict(served, row)["prediction"]
    challenger = predict(served, row, model="challenger")
    assert challenger["model"]["version"] == "2"
    assert challenger["model"]["alias"] == "challenger"
    assert predict(served, row, model="2")["model"]["alias"] is None
    assert predict(served, row, model="1")["model"]["version"] == "1"
    assert challenger["prediction"] == pytest.approx(expected)


def test_a_model_that_is_not_there(served, row):
    assert predict(served, row, 404, model="99")["code"] == "not_found"


@pytest.mark.parametrize("name", ["latest", "1.0", "../1", "0", "-1", ""])
def test_a_model_name_that_cannot_be(served, row, name):
    assert predict(served, row, 422, model=name)["errors"][0]["field"] == "model"


# ---------------------------------------------------------------- files


def as_csv(rows):
    return pl.DataFrame(rows).write_csv().encode(), "text/csv; charset=utf-8"


def as_xlsx(rows):
    buffer = io.BytesIO()
    pl.DataFrame(rows).with_columns(pl.col("date").str.to_date()).write_excel(buffer)
    return buffer.getvalue(), XLSX


def as_parquet(rows):
    buffer = io.BytesIO()
    pl.DataFrame(rows).with_columns(pl.col("date").str.to_date()).write_parquet(buffer)
    return buffer.getvalue(), PARQUET


def send(served, data, kind, status=200):
    reply = served.post("/predict", content=data, headers={"Content-Type": kind})
    assert reply.status_code == status, reply.text
    return reply.json()


@pytest.mark.parametrize("write", [as_csv, as_xlsx, as_parquet])
def test_a_file_is_answered_like_json(served, many, write):
    expected = predict(served, {"instances": many[:100]})["predictions"]
    answers = send(served, *write(many[:100]))["predictions"]
    assert [a["date"] for a in answers] == [a["date"] for a in expected]
    assert [a["prediction"] for a in answers] == pytest.approx([a["prediction"] for a in expected], abs=1e-6)


def test_rows_of_a_file_that_cannot_be_used_are_named_in_their_place(served, row):
    good = f"{row['date']},{row['store']},{row['product']},1.5"
    text = f"fecha,tienda,producto,precio\n{good}\nsomeday,{row['store']},{row['product']},1.5\n{good}\n"
    answers = send(served, text.encode(), "text/csv")["predictions"]
    assert [("error" in a) for a in answers] == [False, True, False]
    assert answers[1]["error"]["row"] == 3
    assert answers[1]["error"]["field"] == "fecha"


NO_FILES = [
    (b"", "text/csv"),
    (b"a,b\n1,2\n", "text/csv"),
    (b"PK\x03\x04 not a workbook", XLSX),
    (b"PAR1 not parquet PAR1", PARQUET),
    (bytes(1000), "text/csv"),
]


@pytest.mark.parametrize(("data", "kind"), NO_FILES, ids=range(len(NO_FILES)))
def test_a_file_that_is_none_is_refused_with_its_reason(served, data, kind):
    problem = send(served, data, kind, 422)
    assert problem["errors"]
    assert all(error["message"] for error in problem["errors"])


def test_a_file_with_too_many_rows(served, row):
    line = f"{row['date']},{row['store']},{row['product']}\n"
    data = ("date,store,product\n" + line * 5001).encode()
    assert send(served, data, "text/csv", 413)["code"] == "too_large"


def test_another_content_type_is_refused(served):
    assert "Content-Type" in send(served, b"<row/>", "application/xml", 422)["detail"]
