"""The advisor on real data, log and registry; Airflow is away in these tests."""

from __future__ import annotations

import datetime as dt
import shutil

import polars as pl
import pytest

from api import advising
from ml import jobs
from ml.records import ETL_DAG, Advice, Decision, ModelInfo, Promotion

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def asked(served) -> Advice:
    reply = served.get("/v1/advice")
    assert reply.status_code == 200, reply.text
    return Advice.model_validate(reply.json())


def test_without_anything_it_says_what_is_missing(bare):
    advice = asked(bare)
    assert (advice.verdict, advice.wanted) == ("blocked", True)
    assert [blocker.code for blocker in advice.blockers] == ["no_data", "airflow_away"]
    assert advice.unknown == ("airflow",)
    assert [reason.code for reason in advice.reasons] == ["no_champion"]


def test_a_champion_that_knows_all_data_has_nothing_to_learn(served):
    advice = asked(served)
    assert (advice.verdict, advice.wanted, advice.champion) == ("blocked", False, "1")
    assert "unchanged_data" in [blocker.code for blocker in advice.blockers]
    assert {reason.code: reason.weight for reason in advice.reasons}["new_rows"] == "none"
    assert (advice.past_retrains, advice.expected_gain) == (0, None)  # the first model has no gain


def test_a_week_of_new_sales_far_from_the_forecast_is_a_reason(trained, serve):
    with serve(trained) as api:
        api.ready()
        catalog = api.get("/v1/catalog").json()
        last = dt.date.fromisoformat(catalog["date_to"])
        days = [last + dt.timedelta(days=k) for k in range(15, 22)]  # other tests' rows are not of these days
        series = [(one["store"], one["product"]) for one in catalog["series"]]
        rows = [{"store": s, "product": p, "date": str(day)} for s, p in series for day in days]
        reply = api.post("/predict", params={"source": "advice"}, json={"instances": rows}).json()["predictions"]
        sold = pl.DataFrame(
            [{"store": r["store"], "product": r["product"], "date": r["date"], "sales": 3 * r["prediction"] + 5}
             for r in reply]
        ).with_columns(pl.col("date").str.to_date())  # fmt: skip
        api.services.store.upsert_actuals(sold)
        facts, unknown = advising.gather(api.services)
        assert unknown == ("airflow",)
        predicted = (sold["sales"] - 5) / 3
        wape = (sold["sales"] - predicted).sum() / sold["sales"].sum()
        assert facts.live is not None
        assert facts.expected is not None
        assert facts.live.wape == pytest.approx(wape)
        assert facts.live.days == 7
        assert facts.expected.wape < facts.live.wape
        advice = asked(api)
        assert {reason.code: reason.weight for reason in advice.reasons}["live_accuracy"] == "strong"
        assert advice.wanted


def test_new_data_is_counted_against_what_was_learned(trained, serve, new_database, tmp_path):
    """The demo's next week, in a copy of the lake and with its actuals elsewhere: other tests keep their data."""
    lake = tmp_path / "lake"
    shutil.copytree(trained.lake_url, lake)
    own = trained.model_copy(update={"lake": str(lake), "data_dir": tmp_path / "data"})
    with serve(own) as api:
        api.ready()
        before, _ = advising.gather(api.services)
        elsewhere = own.model_copy(update={"database_url": new_database()})
        context = jobs.Context(elsewhere, "etl-advice", {"source": "demo_next_week"})
        for name in jobs.STEPS[ETL_DAG]:
            jobs.step_of(ETL_DAG, name)(context)
        api.wait_for(lambda: asked(api).blockers[-1].code != "unchanged_data")
        after, _ = advising.gather(api.services)
        assert before.same_data
        assert not after.same_data
        assert after.new_periods == 7
        assert after.new_rows > 7
        assert after.trained_rows == pytest.approx(before.trained_rows, abs=50)


def test_importances_are_those_of_the_champion(served):
    found = advising.importances(served.services.champion.require())
    assert {"trend", "weekday", "promotion"} <= set(found)
    assert all(size >= 0 for size in found.values())
    assert max(found.values()) > 0


def test_past_gains_count_zero_where_the_champion_stayed():
    def model(version: str, verdict: str, day: int) -> ModelInfo:
        return ModelInfo(name="sales", version=version, aliases=(), created_at=NOW + dt.timedelta(days=day),
                         run_id="r", kind="xgboost", data_version="d", verdict=verdict)  # fmt: skip

    models = [model("1", "first", 0), model("2", "better", 1), model("3", "too_close", 2), model("4", "unchanged", 3)]
    decision = Decision(verdict="better", promote=True, needs_approval=False, gain=0.04, reason="better")
    row = Promotion(promotion_id=1, at=NOW, action="promote", version="2", previous="1", actor="a", reason="r",
                    decision=decision)  # fmt: skip
    assert advising.past_gains(models, [row]) == (0.0, 0.04)
