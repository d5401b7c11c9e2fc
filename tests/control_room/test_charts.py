"""Charts say what the records say, in light and dark, and in words."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

import pytest

from control_room import charts
from ml import records as r

DAY = dt.timedelta(days=1)
START = dt.date(2026, 1, 1)
SALES = [r.SalesPoint(date=START + DAY * i, sales=float(i)) for i in range(10)]
SALES[4] = r.SalesPoint(date=START + DAY * 4, sales=None)


def answer(day: dt.date, point: float = 10.0) -> r.Answer:
    return r.Answer(
        date=day, store="S", product="P", prediction=point, unit="units/day",
        interval={"80": (point - 2, point + 3), "95": (point - 4, point + 6)},
        support=r.Support(similar_days=3, level="thin"), inputs={},
        model=r.ModelRef(name="sales", version="7", alias="champion", run_id="x"), data_version="d", request_id="q",
        created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )  # fmt: skip


ANSWERS = [answer(START + DAY * (10 + i), 10.0 + i) for i in range(5)]


def metrics(wape: float) -> r.Metrics:
    return r.Metrics(rows=10, wape=wape, bias=0, rmse=1, mae=1)


EVALUATION = r.Evaluation(
    data_version="d",
    folds=(
        r.Fold(origin=START, date_from=START + DAY, date_to=START + DAY * 28, rows=10,
               metrics={"challenger": metrics(0.2), "champion": metrics(0.25), "seasonal_naive": metrics(0.3)}),
    ),
    overall={"challenger": metrics(0.2), "champion": metrics(0.25), "seasonal_naive": metrics(0.3)},
    segments=(r.Segment(by="promotion", value="yes", rows=9, wape={"challenger": 0.1, "champion": 0.2}),),
    weekly_gain=(("2026-01-05", 0.1), ("2026-01-12", -0.05)),
)  # fmt: skip


def trace(chart: charts.Chart, name: str):
    return next(item for item in chart.figure.data if item.name == name)


@pytest.fixture(autouse=True)
def _english(speak):
    speak("en")


def test_the_band_is_the_interval():
    chart = charts.forecast_chart(SALES, ANSWERS)
    band = trace(chart, "80 % interval")
    assert list(band.y) == [a.interval["80"][1] for a in ANSWERS] + [a.interval["80"][0] for a in ANSWERS][::-1]
    assert list(trace(chart, "Forecast").y) == [a.prediction for a in ANSWERS]


def test_an_unknown_day_is_a_gap_not_a_zero():
    assert trace(charts.forecast_chart(SALES, []), "Actual sales").y[4] is None


def test_a_single_answer_shows_its_interval_as_a_bar():
    bars = trace(charts.forecast_chart(SALES, ANSWERS[:1]), "Forecast").error_y
    assert (bars.array[0], bars.arrayminus[0]) == (3, 2)


def test_champion_changes_within_the_days_are_marked():
    moves = [
        r.Promotion(promotion_id=n, at=dt.datetime(2026, month, 3, tzinfo=dt.UTC), action="promote", version=str(n),
                    previous=None, actor="a", reason="b")
        for n, month in ((6, 1), (7, 1), (8, 6))
    ]  # fmt: skip
    chart = charts.forecast_chart(SALES, ANSWERS, promotions=moves)
    assert [note.text for note in chart.figure.layout.annotations] == ["v7"]


def test_the_words_say_the_numbers():
    assert charts.forecast_chart(SALES, ANSWERS).alt == (
        "Actual sales Jan 1, 2026 to Jan 10, 2026: between 0.0 and 9.0. "
        "Forecast Jan 11, 2026 to Jan 15, 2026: between 10.0 and 14.0 units/day."
    )
    assert charts.forecast_chart([], []).alt == "No data in this chart."
    assert charts.weekly_gain_chart(EVALUATION).alt == "The challenger's error was smaller in 1 of 2 weeks."
    assert "Challenger 20.0%, Champion 25.0%" in charts.fold_chart(EVALUATION).alt


def test_gain_and_loss_differ_by_more_than_colour():
    bars = charts.weekly_gain_chart(EVALUATION).figure.data[0]
    assert list(bars.marker.pattern.shape) == ["", "/"]
    assert list(bars.text) == ["+10%", "-5%"]


def test_models_differ_by_symbol():
    dots = [item for item in charts.fold_chart(EVALUATION).figure.data if item.mode == "markers"]
    assert len({item.marker.symbol for item in dots}) == len(dots) == 3


def test_segments_are_named_in_words(speak):
    assert list(charts.segment_chart(EVALUATION.segments).figure.data[-1].y) == ["on promotion"]
    speak("es")
    assert list(charts.segment_chart(EVALUATION.segments).figure.data[-1].y) == ["en promoción"]


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_is_transparent_and_serialisable(dark):
    found = [
        charts.forecast_chart(SALES, ANSWERS, dark=dark),
        charts.weekly_gain_chart(EVALUATION, dark=dark),
        charts.fold_chart(EVALUATION, dark=dark),
        charts.segment_chart(EVALUATION.segments, dark=dark),
    ]
    for chart in found:
        layout = json.loads(chart.figure.to_json())["layout"]
        assert layout["paper_bgcolor"] == "rgba(0,0,0,0)"
        assert chart.alt


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("look", "paper"), [(charts.LIGHT, "#ffffff"), (charts.DARK, "#0f181a")])
def test_lines_stand_out_from_the_paper(look, paper):
    """WCAG 2.2, 1.4.11: graphics need a contrast of 3 : 1."""
    for colour in (look.actual, look.model, look.rival, look.muted):
        light, dark = sorted((_luminance(colour), _luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_charts_do_not_know_streamlit():
    code = "import sys, control_room.charts; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("measure", "lines"), [("wape", 2), ("rmse", 1), ("80", 1)])
def test_accuracy_says_its_extremes_in_words(speak, measure, lines):
    speak("en")
    rows = [
        r.AccuracyRow(
            key=f"2026-01-0{day}", rows=9, sold=10.0, error=1.0, wape=0.1 * day, bias=0.0, rmse=1.5 * day,
            coverage={"80": 0.1 * day}, naive_wape=None if day == 2 else 0.4,
        )
        for day in (1, 2, 3)
    ]  # fmt: skip
    drawn = charts.accuracy_chart(rows, measure, "Measure", dark=True)
    assert len(drawn.figure.data) == lines
    low, high = {"rmse": ("1.5", "4.5")}.get(measure, ("10.0%", "30.0%"))
    assert drawn.alt == f"Measure: lowest {low} on Jan 1, 2026, highest {high} on Jan 3, 2026."


def test_of_many_segments_those_with_the_most_missed_are_drawn(speak):
    speak("en")
    rows = tuple(
        r.AccuracyRow(key=f"P{n:02}", rows=1, sold=1.0, error=float(n), wape=0.1, bias=0.0, rmse=1.0) for n in range(30)
    )
    drawn = charts.accuracy_dots(r.Accuracy(by="product", items=rows, total=None))
    names = set(drawn.figure.data[0].y)
    assert len(names) == charts.MOST_DOTS
    assert {"P29", "P10"} <= names
    assert "P09" not in names


def test_runs_say_how_they_ended_not_by_colour_alone(speak):
    speak("en")
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    runs = [
        r.Run(dag_id="d", run_id=str(n), state=state, started_at=begin, ended_at=begin + dt.timedelta(minutes=n))
        for n, state in ((3, "failed"), (2, "success"), (1, "success"))
    ]
    runs.insert(0, r.Run(dag_id="d", run_id="4", state="running", started_at=begin, ended_at=None))
    good, failed = charts.runs_chart(runs).figure.data
    assert (list(good.y), list(failed.y), list(failed.x)) == ([1, 2], [3], [2])
    assert failed.marker.pattern.shape == "/"
    assert charts.runs_chart(runs).alt == "3 runs have ended, 1 of them failed."


def test_missing_rows_and_drift_say_the_same_in_words(speak):
    speak("en")
    days = [r.DataDay(date=START + DAY * n, rows=10, missing=n % 2, sold=1.0) for n in range(4)]
    drawn = charts.missing_chart(days)
    assert list(drawn.figure.data[0].y) == [0, 1, 0, 1]
    assert drawn.alt == "Rows are missing on 2 of 4 days."
    features = [
        r.FeatureDrift(feature=name, kind="numeric", psi=0.3, distance=0.42, noise=0.1, level=level)
        for name, level in (("price", "strong"), ("sales", "none"))
    ]
    drawn = charts.drift_chart(features, {"price": 0.3}, dark=True)
    assert len({trace.marker.symbol for trace in drawn.figure.data}) == 3
    assert drawn.alt.startswith("Price: strong drift, effect 0.42, importance 30.0%. Sales: within chance")


def reign(version: str, since: int, until: int | None) -> r.Reign:
    times = [dt.datetime.combine(START + DAY * n, dt.time(), dt.UTC) for n in (since, until or 0)]
    return r.Reign(
        promotion_id=since + 100, version=version, since=times[0], until=times[1] if until else None, action="promote",
        previous=None, actor="a", reason="b",
    )  # fmt: skip


def test_each_time_as_champion_is_shaded_and_named_where_there_is_room():
    reigns = [reign("5", -20, -10), reign("6", -10, 3), reign("7", 3, None)]
    weeks = [r.VersionWeek(version="6", week=START, rows=9, sold=10.0, error=2.5, wape=0.25)]
    chart = charts.reign_chart(SALES, reigns, weeks)
    shades = [shape for shape in chart.figure.layout.shapes if shape.type == "rect"]
    assert [(shape.x0, shape.x1) for shape in shades] == [(START, START + DAY * 3), (START + DAY * 3, START + DAY * 9)]
    assert [note.text for note in chart.figure.layout.annotations] == ["v6", "v7"]
    assert list(trace(chart, "Error of v6").y) == [0.25]
    assert "v7 since Jan 4, 2026." in chart.alt
    assert "between 25.0% and 25.0%" in chart.alt


def test_what_did_not_move_the_champion_is_no_mark():
    at = dt.datetime.combine(START + DAY * 2, dt.time(), dt.UTC)
    moves = [
        r.Promotion(promotion_id=n, at=at, action=action, version=str(n), previous=None, actor="a", reason="b")
        for n, action in enumerate(("promote", "reject", "retire"), 1)
    ]
    chart = charts.forecast_chart(SALES, ANSWERS, promotions=moves)
    assert [note.text for note in chart.figure.layout.annotations] == ["v1"]


def trials(count: int) -> list[r.TuningTrial]:
    params = [{"depth": 3 + n, "loss": ("a", "b")[n % 2], "bins": 64} for n in range(count)]
    return [r.TuningTrial(number=n, error=0.3 - n / 100, params=params[n]) for n in range(count)]


def test_trials_run_through_what_varied_to_their_errors():
    chart = charts.trials_chart(trials(4))
    axes = {axis.label: axis for axis in chart.figure.data[0].dimensions}
    assert list(axes) == ["depth", "loss", "Error"]
    assert (list(axes["loss"].values), list(axes["loss"].ticktext)) == ([0, 1, 0, 1], ["a", "b"])
    assert list(axes["Error"].values) == pytest.approx([0.3, 0.29, 0.28, 0.27])
    assert "4 trials; the best one was number 3 with an error of 27.0%." in chart.alt


def test_what_mattered_most_comes_first():
    chart = charts.importance_chart({"a": 0.1, "b": 0.9})
    assert list(chart.figure.data[0].y) == ["b", "a"]
    assert chart.alt == "b 90.0%, a 10.0%"


def test_forecasts_stand_beside_sales_and_errors_beside_zero():
    bins = [r.CalibrationBin(rows=9, forecast=f, actual=f + 1, coverage={"80": 0.8}) for f in (2.0, 20.0)]
    chart = charts.calibration_chart(bins, dark=True)
    assert list(trace(chart, "sold on average").y) == [3, 21]
    assert "largest 20.0, sold 21.0" in chart.alt
    spread = charts.spread_chart([r.ErrorSpread(model="champion", week=2, quantiles=(-9.0, -2.0, 0.0, 3.0, 8.0))])
    box = trace(spread, "Champion")
    assert (box.lowerfence[0], box.q1[0], box.median[0], box.q3[0], box.upperfence[0]) == (-9, -2, 0, 3, 8)
    assert "between -9.0 and 8.0 units" in spread.alt


def test_the_waterfall_goes_from_the_usual_level_to_the_forecast():
    moves = {"promotion": 5.0, "price": 0.01, "weekday": -2.0}
    told = r.Explanation(
        date=START, store="S", product="P", prediction=13.01, unit="units/day", base=10.0,
        contributions=tuple(r.Contribution(group=g, units=u) for g, u in moves.items()), sentence="mixed", drivers=(),
        model=r.ModelRef(name="sales", version="7", alias=None, run_id="x"), data_version="d",
    )  # fmt: skip
    chart = charts.waterfall_chart(told)
    bars = chart.figure.data[0]
    assert list(bars.y) == ["Usual level", "promotion", "day of the week", "Forecast"]
    assert (list(bars.x), list(bars.measure)) == (
        [10.0, 5.0, -2.0, 13.01], ["absolute", "relative", "relative", "total"]
    )  # fmt: skip
    assert chart.alt == "From 10.0 usual to 13.0: promotion +5.0, day of the week −2.0."
