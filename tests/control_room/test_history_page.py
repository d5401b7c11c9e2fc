"""History: one prediction by its link, numbers by hand, what another version would have said."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room import session
from control_room.tables import history
from ml.records import JobProgress, Judgement

both = pytest.mark.parametrize("language", ["en", "es"])


@both
def test_a_prediction_is_opened_by_its_link_with_its_lineage(console, said, language):
    app = console("history", language, prediction="4990")
    assert not app.exception
    text = said(app).replace("\\", "")
    assert {"en": "Prediction 4990", "es": "Predicción 4990"}[language] in text
    assert "=cmd|'x'.csv" in text  # the file in the data
    assert {"en": "by run etl-1", "es": "de la ejecución etl-1"}[language] in text
    assert {"en": "v7, trained", "es": "v7, entrenada"}[language] in text


def test_a_link_to_no_prediction_says_so(console):
    assert any("does not exist" in error.value for error in console("history", prediction="12").error)
    assert not console("history", prediction="x").error


@pytest.mark.parametrize(("number", "words"), [("4990", "as it did then"), ("4991", "has changed since")])
def test_it_can_be_made_again(console, number, words):
    app = console("history", prediction=number)
    app.button(key="replay").click().run()
    assert any(words in box.value for box in (*app.success, *app.warning))


def keep(app, number, units, reason):
    app.number_input(key=f"override-units-{number}").set_value(units)
    app.text_input(key=f"override-reason-{number}").set_value(reason)
    return next(b for b in app.button if b.label == "Keep this number").click().run()


def test_a_number_by_hand_needs_a_reason_and_can_be_taken_back(console, world, said):
    app = keep(console("history", prediction="4990"), 4990, 70.0, " ")
    assert any("Say why" in box.value for box in app.warning)
    assert world.overrides == []
    app = keep(app, 4990, 70.0, "the fair is in town")
    assert ("api", "put_override 70.0 the fair is in town") in world.calls
    assert "**70.0** units/day, by me" in said(app).replace("\\", "")
    app.text_input(key="override-reason-4990").set_value("it was moved")
    next(b for b in app.button if b.label == "Take it back").click().run()
    assert ("api", "put_override None it was moved") in world.calls


def test_viewers_give_no_number(console, world):
    world.role = "viewer"
    app = console("history", prediction="4990")
    assert not [b for b in app.button if b.label == "Keep this number"]
    assert app.button(key="replay")


def test_numbers_by_hand_stand_beside_the_predictions(console):
    console()
    items = session.services().api.history({}).items
    given = Judgement(
        date=items[3].date, store=items[3].store, product=items[3].product, units=5, reason="r", override_id=1,
        made_by="me", made_at=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    assert list(history(items, {given.key: given})["override"].dropna()) == [5.0]


@both
def test_another_version_is_asked_when_told_to_and_judged_without_hindsight(console, world, said, speak, language):
    speak(language)  # the names of choices are asked for outside of the session, too
    app = console("history", language, in_store="S02", retell="6")
    assert not any(what.startswith("retellings") for _, what in world.calls)
    app.button(key="retell-now").click().run()
    assert not app.exception
    assert ("api", "retellings 6 {'store': 'S02'} 100") in world.calls
    words = {"en": "would have erred by **19.0%**", "es": "habría errado un **19,0 %**"}[language]
    assert words in said(app).replace("\xa0", " ")
    table = next(frame.value for frame in app.dataframe if "v6" in frame.value.columns[5])
    assert (table.iloc[:, 8] != "").sum() == 20
    app.selectbox(key="in_store").set_value("S03").run()
    assert not [frame for frame in app.dataframe if len(frame.value.columns) == 10]


def test_versions_that_are_away_are_not_blamed_on_the_page(console, world):
    app = console("history")
    world.down = {"api"}
    app.button(key="retell-now").click().run()
    assert not app.exception
    assert app.error


def test_every_filter_is_in_the_address(console, world):
    query = {"made_from": "2026-01-05", "made_to": "2026-01-06", "supported": "no", "outside": "95"}
    console("history", **query)
    asked = next(what for _, what in world.calls if what.startswith("history {'made_from'"))
    for part in ("datetime.date(2026, 1, 5)", "datetime.date(2026, 1, 6)", "'supported': False", "'outside': '95'"):
        assert part in asked


def test_all_rows_that_fit_are_asked_for_with_the_filters(console, world):
    app = console("history", in_store="S02")
    assert not any("export" in what for _, what in world.calls)
    app.button(key="history-all").click().run()
    assert not app.exception
    assert ("api", "make_export {'store': 'S02'}") in world.calls
    assert app.query_params["job"] == "export1"


@pytest.mark.parametrize(
    ("language", "begun", "counted"),
    [
        ("en", "30,000 of 120,000 rows", "120,000 predictions"),
        ("es", "30.000 de 120.000 filas", "120.000 predicciones"),
    ],
)
def test_all_rows_that_fit_are_written_in_the_background(console, world, said, language, begun, counted):
    world.add_export("export1", "running")
    app = console("history", language, job="export1")
    assert [bar.proto.text for bar in app.get("progress")] == [begun]
    assert app.button(key="cancel-job")

    progress = JobProgress(rows_done=120_000, rows_total=120_000, chunks_done=4, chunks_total=4, share=1.0)
    world.add_export("export2", "done", progress=progress)
    app = console("history", language, job="export2")
    assert counted in said(app)
    offered = [button.label.split()[-1] for button in app.download_button if button.key.startswith("get-")]
    assert offered == ["CSV", "XLSX", "PARQUET"]
    assert not app.exception


def test_an_export_of_nothing_says_so(console, world, said):
    world.add_export("export1", "done", progress=JobProgress(rows_total=0, share=1.0))
    app = console("history", job="export1")
    assert "No prediction fits these filters" in said(app)
    assert not app.exception


def test_exports_of_before_are_listed_apart_from_files(console, world):
    world.add_job("job1", "done")
    world.add_export("export1", "done")
    (listed,) = [frame.value for frame in console("history").dataframe if "Open" in frame.value]
    assert listed["Open"].tolist() == ["history?job=export1"]
    (listed,) = [frame.value for frame in console("predict", way="file").dataframe if "Open" in frame.value]
    assert listed["Open"].tolist() == ["predict?way=file&job=job1"]


def test_who_may_only_look_is_not_shown_cancel(console, world):
    world.role = "viewer"
    world.add_export("export1", "running")
    app = console("history", job="export1")
    assert not app.exception
    assert {"history-all", "cancel-job"} & {button.key for button in app.button} == {"history-all"}
