"""Every page, in both languages, in four states: normal, empty, service down, slow."""

from __future__ import annotations

import datetime as dt

import pytest

from control_room import session
from ml.errors import InputError
from ml.records import ETL_DAG, RETRAIN_DAG, Choice, DataCheck, Progress, Scenario, ScenarioPlan, Variant

ALL = (
    "",
    "upload",
    "predict",
    "history",
    "experiments",
    "retrain",
    "access",
    "whatif",
    "accuracy",
    "pipelines",
    "data_health",
)
LANGUAGES = ("en", "es")
both = pytest.mark.parametrize("language", LANGUAGES)
every = pytest.mark.parametrize("page", ALL)


def lead(app) -> str:
    """The sentence a page opens with: the first markdown of its main part."""
    return str(app.main.markdown[0].value)


OPENINGS = {
    "": ("Forecasts are served by v7", "Los pronósticos los da la v7"),
    "upload": ("The data in use has 48,000 rows", "Los datos en uso tienen 48.000 filas"),
    "predict": ("v7 answers, with sales known", "Responde la v7"),
    "history": ("The newest prediction was asked", "La última predicción se pidió"),
    "experiments": ("too close to call", "demasiado igualado para decidir"),
    "retrain": ("No retraining is running", "No hay ningún reentrenamiento en marcha"),
    "data_health": ("Drifted beyond chance: Price, Promotion.", "Han derivado más de lo que hace el azar: Precio"),
    "pipelines": ("the last runs ended well: ETL", "las últimas ejecuciones terminaron bien: ETL"),
    "accuracy": ("Predictions erred by 18.0%", "Las predicciones erraron un 18,0"),
    "whatif": ("v7 answers what-ifs", "La v7 responde a los escenarios"),
    "access": ("; 1 key of a program is valid.", "; es válida 1 clave de programa."),
}
EMPTY_OPENINGS = {
    "": ("No model serves forecasts yet", "Aún no hay ningún modelo que dé pronósticos"),
    "upload": ("There is no sales data yet", "Aún no hay datos de ventas"),
    "predict": ("train one first", "entrene uno primero"),
    "history": ("No prediction has been asked yet", "Aún no se ha pedido ninguna predicción"),
    "experiments": ("No model has been trained yet", "Aún no se ha entrenado ningún modelo"),
    "retrain": ("There is no data to learn from yet", "Aún no hay datos de los que aprender"),
    "data_health": ("There is no sales data yet", "Aún no hay datos de ventas"),
    "pipelines": ("No pipeline has run yet", "Aún no se ha ejecutado ningún proceso"),
    "accuracy": ("No prediction can be compared", "Aún no se puede comparar ninguna predicción"),
    "whatif": ("train one first", "entrene uno primero"),
    "access": ("no key for a program is valid now", "no hay ninguna clave de programa válida"),
}
DOWN_OPENINGS = {
    "": ("The API does not answer", "La API no responde"),
    "upload": ("It cannot be said now which data", "Ahora no se puede decir qué datos"),
    "predict": ("No forecast can be asked now", "Ahora no se pueden pedir pronósticos"),
    "history": ("The predictions cannot be read now", "Las predicciones no se pueden leer ahora"),
    "experiments": ("It cannot be said now how", "Ahora no se puede decir cómo"),
    "retrain": ("No run can be started now", "Ahora no se puede iniciar ninguna ejecución"),
    "data_health": ("how the data is", "cómo están los datos"),
    "pipelines": ("how the pipelines are", "cómo están los procesos"),
    "accuracy": ("how right the predictions were", "cuánto acertaron las predicciones"),
    "whatif": ("No what-if can be asked now", "Ahora no se puede probar ningún escenario"),
    "access": ("so no program can call it now", "ningún programa puede llamarla"),
}


# Something of each page that the services told before they went away.
KNOWN = {
    "": "17.9%",
    "upload": "ventas-2026.csv",
    "predict": "S03",
    "history": "Page 1",
    "experiments": "+0.8%",
    "access": "Cash registers",
    "whatif": "S03",
    "accuracy": "25.0%",
    "pipelines": "48003",
    "data_health": "S02",
}


def opens_with(app, openings: dict[str, tuple[str, str]], page: str, language: str) -> bool:
    return openings[page][LANGUAGES.index(language)] in lead(app)


@both
@every
def test_normal(console, page, language):
    app = console(page, language)
    assert not app.exception
    assert not app.error
    assert opens_with(app, OPENINGS, page, language)


@both
@every
def test_empty(console, world, page, language):
    world.empty, world.uploads, world.runs, world.promotions, world.keys = True, {}, {}, [], []
    app = console(page, language)
    assert not app.exception
    assert opens_with(app, EMPTY_OPENINGS, page, language)


@both
@every
def test_every_service_down_from_the_start(console, world, page, language):
    world.down = {"api", "airflow", "mlflow"}
    app = console(page, language)
    assert not app.exception
    if page:  # the home page's own sentence says it
        assert any(("does not answer" in w.value) or ("no responde" in w.value) for w in app.warning)
    found = app.main.markdown
    assert any(DOWN_OPENINGS[page][LANGUAGES.index(language)] in str(item.value) for item in found)


@every
def test_down_keeps_what_was_known(console, world, page, said):
    app = console(page)
    before = said(app)
    world.down = {"api", "airflow", "mlflow"}
    session.forget()
    app.run()
    assert not app.exception
    after = said(app)
    assert "Last known state" in after
    known = KNOWN.get(page, "Retraining")
    everything = after + str(
        [frame.value.to_dict() for frame in app.dataframe] + [t.value.to_dict() for t in app.table]
    )
    assert known in everything or known in str(app.selectbox[0].value)
    assert len(after) > 0.6 * len(before)


@every
def test_slow(console, world, page):
    world.delay = 0.15
    app = console(page)
    assert not app.exception
    # Nothing is asked twice for one view of a page, so it waits as seldom as it can.
    assert len(world.calls) == len(set(world.calls))


@every
def test_a_silent_service_is_waited_for_once(console, world, page):
    world.down = {"api"}
    console(page)
    assert sum(service == "api" for service, _ in world.calls) <= 2


def test_the_language_can_be_switched_and_stays_in_the_address(console):
    app = console("retrain", "en")
    app.segmented_control(key="lang").set_value("es").run()
    assert opens_with(app, OPENINGS, "retrain", "es")
    assert app.query_params["lang"] in ("es", ["es"])


def test_language_from_the_address(console):
    assert opens_with(console("history", "en", lang="es"), OPENINGS, "history", "es")


def test_a_page_is_framed_when_it_is_the_first_thing_asked_for(new_server):
    app = new_server("history", in_store="S02")
    assert app.segmented_control(key="lang")
    assert "The newest prediction" in lead(app)
    assert app.selectbox(key="in_store").value == "S02"


def test_the_first_thing_asked_for_may_be_in_another_language_than_the_browser(new_server):
    assert opens_with(new_server("history", "en", lang="es"), OPENINGS, "history", "es")


def test_retry_asks_again(console, world):
    world.down = {"api"}
    app = console("history")
    world.down = set()
    next(b for b in app.button if b.key == "retry-history").click().run()
    assert not app.error
    assert "The newest prediction" in lead(app)


# ---------------------------------------------------------------- home


def test_first_steps_lead_through(console, world, said):
    world.empty, world.uploads, world.promotions = True, {}, []
    app = console()
    assert "1. Load your sales" in said(app)
    assert [link.label for link in app.page_link if "Do this now" in link.label]


def test_airflow_down_is_said_with_its_consequence(console, world, said):
    world.down = {"airflow"}
    text = said(console())
    assert "Not answering: Airflow" in text
    assert "No run can be started or followed; forecasts go on." in text


# ---------------------------------------------------------------- upload


def test_a_file_is_sent_once_and_shown(console, world, said):
    app = console("upload")
    app.file_uploader(key="file").upload("mayo.csv", b"date,sales\n2026-01-01,3\n", "text/csv").run()
    app.run()
    assert [call for call in world.calls if call[1] == "send"] == [("api", "send")]
    assert app.query_params["upload"] in ("new", ["new"])
    assert "mayo" in said(app)


def test_what_was_seen_in_the_file(console, said):
    text = said(console("upload", upload="u1"))
    assert "The file can be used without the rows listed below." in text
    assert "row 12, column “ventas”, and 2 more like it" in text
    assert "1,201" in text


def test_text_of_a_file_stays_text(console):
    shown = " ".join(str(m.value) for m in console("upload", upload="u1").markdown)
    assert "![x](http" not in shown
    assert r"\=1\+1 \!\[x\]" in shown or r"=1\+1 \!\[x\]" in shown


def test_attributes_are_sent_as_what_the_person_says_they_are(console, world, said):
    app = console("upload")
    app.selectbox(key="purpose").set_value("attributes")
    app.file_uploader(key="file").upload("tiendas.csv", b"tienda;m2\nS01;120\n", "text/csv").run()
    assert not app.exception
    assert world.uploads["new"].purpose == "attributes"
    assert "Attributes" in [metric.label for metric in app.metric]
    assert app.button(key="accept").label == "Accept these attributes"
    boxes = [box.label.split(" · ")[0] for box in app.selectbox]
    assert "Store" in boxes
    assert not {"Date", "Sales", "Price"} & set(boxes)
    chosen = next(box for box in app.multiselect if box.label == "Attributes used by the model")
    assert chosen.value == ["m2", "tipo"]
    next(b for b in app.button if b.label == "Read it again").click().run()
    assert world.uploads["new"].mapping.roles == {"store": "tienda"}


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_table_of_stores_counts_stores_and_has_no_days(console, world, language):
    app = console("upload")
    app.selectbox(key="purpose").set_value("attributes")
    app.file_uploader(key="file").upload("tiendas.csv", b"tienda;m2\nS01;120\n", "text/csv").run()
    app = console("upload", upload="new", language=language)
    seen = world.uploads["new"].preflight
    assert (seen.stores, seen.products, seen.date_from) == (3, 0, None)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown[{"en": "Stores", "es": "Tiendas"}[language]] == "3"
    assert not any("×" in label for label in shown)
    days = next(frame.value for frame in app.dataframe if len(frame.value.columns) == 8).iloc[:, 4]
    assert "–" in set(days)
    assert not any("del –" in text or "– to" in text for text in days)


def test_what_a_file_needs_depends_on_what_it_holds(console, world):
    app = console("upload")
    for holds, wanted in (("training", "Needed: date and sales."), ("attributes", "Needed: store or product,")):
        app.selectbox(key="purpose").set_value(holds).run()
        assert [text.value for text in app.caption if text.value.startswith("Needed")] == [
            next(text.value for text in app.caption if text.value.startswith(wanted))
        ]


def test_a_file_without_a_usable_row_is_not_accepted(console, world):
    seen = world.uploads["u1"].preflight.model_copy(update={"rows_used": 0})
    world.uploads["u1"] = world.uploads["u1"].model_copy(update={"preflight": seen})
    assert console("upload", upload="u1").button(key="accept").disabled


def test_read_again_sends_options_and_mapping(console, world):
    app = console("upload", upload="u1")
    box = next(s for s in app.selectbox if s.label == "Decimal mark")
    box.set_value(".")
    next(b for b in app.button if b.label == "Read it again").click().run()
    assert world.uploads["u1"].options.decimal == "."
    assert world.uploads["u1"].mapping.roles["sales"] == "ventas"


def test_accept_then_etl(console, world):
    app = console("upload", upload="u1")
    app.button(key="accept").click().run()
    assert world.uploads["u1"].status == "accepted"
    app.button(key="start-etl").click().run()
    assert f"{ETL_DAG}-next" in app.query_params["run"]
    assert app.button(key="start-etl").disabled
    assert sum(call[1].startswith("start") for call in world.calls) == 1


def test_a_refused_file_cannot_be_accepted(console, world):
    seen = world.uploads["u1"].preflight.model_copy(update={"verdict": "REJECT"})
    world.uploads["u1"] = world.uploads["u1"].model_copy(update={"preflight": seen})
    assert console("upload", upload="u1").button(key="accept").disabled


# ---------------------------------------------------------------- predict


def test_one_day(console, world, said):
    app = console("predict")
    app.button(key="ask-day").click().run()
    text = said(app)
    assert "units/day" in text
    assert "In 8 of 10 such days between" in text
    assert "well supported" in text
    assert "28 similar days" in text
    assert any("curl -X POST" in block.value for block in app.code)


def test_changed_settings_are_not_passed_off_as_the_answer(console):
    app = console("predict")
    app.button(key="ask-day").click().run()
    app.toggle[0].set_value(True).run()
    assert any("settings have changed" in info.value for info in app.info)


def test_next_days(console, said):
    app = console("predict", way="days")
    app.button(key="ask-days").click().run()
    assert "expected from" in said(app)
    assert "In 8 of 10 such totals between" in said(app)
    assert len(app.dataframe[-1].value) == 28


def test_rows_of_a_file(console, said):
    app = console("predict", way="file")
    app.file_uploader(key="rows").upload("rows.csv", b"date\n2026-01-01\n", "text/csv").run()
    app.button(key="ask-file").click().run()
    text = said(app)
    assert "2 of 3 rows were predicted." in text
    assert "1 day has no similar day in history" in text


def test_a_file_of_many_rows_becomes_a_job_that_the_address_keeps(console, world, said):
    app = console("predict", way="file")
    app.file_uploader(key="rows").upload("large.csv", b"date\n" + b"2026-01-01\n" * 5001, "text/csv").run()
    app.button(key="ask-file").click().run()
    assert app.query_params["job"] in ("job1", ["job1"])
    assert "**large" in said(app)
    again = console("predict", way="file", job="job1")  # after a reload of the page
    assert "**large" in said(again)
    assert "waits for the worker" in said(again)


def test_a_job_shows_how_far_it_is_and_can_be_cancelled(console, world, said):
    world.add_job("job2", "running")
    app = console("predict", way="file", job="job2")
    assert [bar.proto.text for bar in app.get("progress")] == ["30,000 of 120,000 rows"]
    app.button(key="cancel-job").click().run()
    assert ("api", "cancel_job") in world.calls
    assert "cancelled" in said(app)


def test_a_viewer_sees_a_job_and_cannot_cancel_it(console, world, said):
    world.role = "viewer"
    world.add_job("job2", "running")
    app = console("predict", way="file", job="job2")
    assert [bar.proto.text for bar in app.get("progress")] == ["30,000 of 120,000 rows"]
    assert "cancel-job" not in {button.key for button in app.button}


def test_a_finished_job_has_its_result_and_what_was_left_out(console, world, said):
    world.add_job("job3", "done", rows_refused=4, filename="=1+1.csv")
    app = console("predict", way="file", job="job3")
    assert "4 rows could not be used" in said(app)
    assert "30,000 rows were predicted by v7" in said(app)
    names = {download.proto.label for download in app.get("download_button")}
    assert {"Download CSV", "Download XLSX", "Download PARQUET", "Rows left out (CSV)"} <= names
    listed = next(f.value for f in app.dataframe if "State" in f.value.columns)
    assert list(listed["File"]) == ["'=1+1.csv"]


def test_a_job_that_failed_says_why_and_one_that_is_not_there_too(console, world, said):
    world.add_job("job4", "failed", error="none of its rows can be used")
    assert "none of its rows can be used" in said(console("predict", way="file", job="job4"))
    assert "There is no job with this id" in said(console("predict", way="file", job="gone"))


def test_a_refused_question_says_why(console, world):
    world.problem = InputError("price: must be above 0", field="price")
    world.problem.facts["request_id"] = "req-42"
    app = console("predict")
    app.button(key="ask-day").click().run()
    assert "req-42" in app.error[0].value
    assert "must be above 0" in app.error[0].value


# ---------------------------------------------------------------- history


def test_pages_by_cursor(console):
    app = console("history")
    app.button(key="older").click().run()
    assert app.query_params["cursor"] in ("60", ["60"])
    app.button(key="newer").click().run()
    assert "cursor" not in app.query_params


def test_another_filter_starts_from_the_newest(console):
    app = console("history")
    app.button(key="older").click().run()
    app.selectbox(key="in_store").set_value("S01").run()
    assert "cursor" not in app.query_params


# ---------------------------------------------------------------- experiments


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("better", "Challenger v8 is better than champion v7"),
        ("worse", "Challenger v8 is worse than champion v7"),
        ("too_close", "too close to call"),
        ("unchanged", "The data has not changed since champion v7"),
    ],
)
def test_the_verdict_comes_first(console, world, verdict, words):
    world.verdict = verdict
    assert words in lead(console("experiments"))


@pytest.mark.parametrize(
    ("language", "wanted"), [("en", "one product in one store"), ("es", "un producto en una tienda")]
)
def test_totals_are_judged_beside_the_models(console, world, language, wanted):
    app = console("experiments", language=language)
    table = next(t.value for t in app.table if wanted in t.value.to_string())
    assert len(table) == 12
    assert "95" in table.columns[-1]
    assert table.iloc[0, -2].startswith("81")


SIMPLE = Choice(
    kind="seasonal_naive", reason="short", metric="wape", errors={"seasonal_naive": 0.21}, periods=14, frequency="D",
    rows=0,
)  # fmt: skip


@pytest.mark.parametrize("page", ["experiments", "predict", "retrain"])
@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        ("en", "Seasonal naive answers: 14 days of history is too little to train a model that learns (WAPE 21.0%)"),
        ("es", "Responde un modelo sencillo (Referencia estacional): con 14 días de historia no se puede entrenar"),
    ],
)
def test_that_a_simple_model_answers_is_said(console, world, page, language, wanted):
    world.choice = SIMPLE
    app = console(page, language=language)
    assert any(wanted in text.value for text in (*app.info, *app.caption, *app.markdown))


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_choices_of_a_retraining_fit_their_fields(console, world, language):
    """At 1280 px such a field shows about 22 letters."""
    app = console("retrain", language=language)
    field = next(b for b in app.selectbox if set(b.options) & {"price and promotion", "precio y promoción"})
    assert max(len(option) for option in field.options) <= 22


def test_promotion_needs_a_name_and_a_reason(console, world):
    app = console("experiments")
    assert app.button(key="promote").disabled
    app.text_input(key="promote-actor").set_value("Ana")
    app.text_area(key="promote-reason").set_value("fits the season").run()
    app.button(key="promote").click().run()
    assert world.champion == "8"
    assert world.promotions[-1].reason == "fits the season"
    assert "Challenger v8" in lead(app)


def test_roll_back(console, world):
    app = console("experiments")
    app.text_input(key="rollback-actor").set_value("Ana")
    app.text_area(key="rollback-reason").set_value("complaints").run()
    app.button(key="rollback").click().run()
    assert (world.champion, world.promotions[-1].action) == ("6", "rollback")


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "series with 12% of the units are no longer"), ("es", "de las unidades ya no están en los datos")],
)
def test_what_the_checks_of_the_data_noticed_is_shown_after_the_run(console, world, language, words):
    facts = {"count": 3, "share": 0.12}
    world.checks = (DataCheck(code="series_gone", severity="warning", message="m", facts=facts),)
    app = console("upload", language=language, run="etl-1")
    assert any(words in block.value.replace("\\", "") for block in app.markdown)


# ---------------------------------------------------------------- retrain


def start(app):
    next(b for b in app.button if b.label == "Start retraining").click().run()
    return app


def test_start_sends_the_dags_parameters_and_follows(console, world):
    app = console("retrain")
    app.number_input[0].set_value(4)
    start(app)
    conf = next(what for service, what in world.calls if what.startswith("start"))
    assert conf == (
        f"start {RETRAIN_DAG} {{'trials': 4, 'tune_seconds': 900, 'folds': 3, 'window_days': None, 'policy': None, "
        "'metric': 'wape', 'monotone': 'auto'}"
    )
    assert "run" in app.query_params
    assert next(b for b in app.button if b.label == "Start retraining").disabled
    assert "is running" in lead(app)


def test_the_rules_of_promotion_go_with_the_run_as_shares(console, world):
    app = console("retrain")
    for label, percent in (("Least gain, %", 2.5), ("Confidence, %", 99.0)):
        next(field for field in app.number_input if field.label == label).set_value(percent)
    start(app)
    conf = next(what for service, what in world.calls if what.startswith("start"))
    assert conf.endswith("'min_gain': 0.025, 'confidence': 0.99}")
    labels = {field.label for field in console("retrain", language="es").number_input}
    assert {"Ganancia mínima, %", "Confianza, %", "Pérdida máxima de un segmento, %"} <= labels


@pytest.mark.parametrize(
    ("unit", "told_by", "language", "text"),
    [
        ("trial", "tune", "en", "trial 3 of 10"),
        ("fold", "backtest", "en", "past block 3 of 10, up to 14 periods ahead"),
        ("fold", "backtest", "es", "bloque pasado 3 de 10, hasta 14 periodos por delante"),
        ("trial", "snapshot", "en", ""),
    ],
)
def test_the_running_step_says_how_far_it_is(console, world, unit, told_by, language, text):
    step = {"trial": "tune", "fold": "backtest"}[unit]
    run = world.runs[RETRAIN_DAG][0]
    tasks = tuple(
        task.model_copy(update={"state": "running" if task.task_id == step else "success"}) for task in run.tasks
    )
    world.runs[RETRAIN_DAG][0] = run.model_copy(update={"state": "running", "ended_at": None, "tasks": tasks})
    world.progress = Progress(
        step=told_by, unit=unit, number=3, total=10, share=0.2, ahead=14, at=dt.datetime.now(dt.UTC)
    )
    shown = [bar.proto.text for bar in console("retrain", language=language).get("progress")]
    assert [line for line in shown if "10" in line] == ([text] if text else [])


def test_a_run_started_elsewhere_is_followed_not_doubled(console, world):
    app = console("retrain")
    from_elsewhere = world.runs[RETRAIN_DAG][0].model_copy(
        update={"run_id": "other", "state": "running", "ended_at": None}
    )
    world.runs[RETRAIN_DAG].insert(0, from_elsewhere)
    start(app)
    assert app.query_params["run"] in ("other", ["other"])
    assert sum(run.active for run in world.runs[RETRAIN_DAG]) == 1


def test_a_run_that_had_nothing_to_do_says_so(console, world):
    run = world.runs[RETRAIN_DAG][0]
    skipped = tuple(task.model_copy(update={"state": "skipped"}) for task in run.tasks)
    world.runs[RETRAIN_DAG][0] = run.model_copy(update={"tasks": skipped})
    app = console("retrain")
    assert any("learned from this very data" in info.value for info in app.info)
    assert not app.success


def test_cancel(console, world):
    app = start(console("retrain"))
    app.button(key=f"cancel-{RETRAIN_DAG}").click().run()
    assert world.runs[RETRAIN_DAG][0].state == "failed"
    assert any("Nothing has changed" in error.value for error in app.error)


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("planner", False), ("analyst", True)])
def test_who_may_not_start_a_run_cannot_cancel_it(console, world, role, may):
    goes_on = world.runs[RETRAIN_DAG][0].model_copy(update={"run_id": "now", "state": "running", "ended_at": None})
    world.runs[RETRAIN_DAG].insert(0, goes_on)
    world.role = role
    app = console("retrain", run="now")
    assert (f"cancel-{RETRAIN_DAG}" in {button.key for button in app.button}) == may


def test_the_log_of_a_failed_task_is_shown(console):
    app = console("retrain", run="re-1")
    assert any("ValueError: not enough history" in block.value for block in app.code)


def test_a_paused_dag_is_said_and_can_be_unpaused(console, world):
    world.paused = True
    app = console("retrain")
    assert "paused" in lead(app)
    assert next(b for b in app.button if b.label == "Start retraining").disabled
    app.button(key=f"unpause-{RETRAIN_DAG}").click().run()
    assert not world.paused
    assert "can be started" in lead(app)


def test_errors_of_the_checks_can_be_overruled(console, world):
    app = console("retrain")
    next(c for c in app.checkbox if c.label == "Publish even if the checks find errors").check()
    next(b for b in app.button if b.label == "Start the ETL").click().run()
    assert ("api", f"start {ETL_DAG} {{'source': 'uploads', 'publish_anyway': True}}") in world.calls


def test_etl_by_hand(console, world):
    app = console("retrain")
    next(s for s in app.selectbox if s.label == "Take the data from").set_value("demo_next_week")
    next(b for b in app.button if b.label == "Start the ETL").click().run()
    assert ("api", f"start {ETL_DAG} {{'source': 'demo_next_week'}}") in world.calls


# ---------------------------------------------------------------- API and access


def test_a_key_is_shown_once(console, world, said):
    app = console("access")
    app.text_input(key="key-name").set_value(" Cash registers ")
    app.selectbox(key="key-role").set_value("planner")
    app.selectbox(key="key-days").set_value(90)
    next(b for b in app.button if b.label == "Make a key").click().run()
    assert ("api", "make_key Cash registers planner 90") in world.calls
    assert [block.value for block in app.code].count("scr_bbbbbbbbbbbb_the-secret") == 1
    app.button(key="key-copied").click().run()
    assert "the-secret" not in said(app) + "".join(block.value for block in app.code)
    assert "; 2 keys of programs are valid." in lead(app)


def test_a_key_needs_a_name(console, world):
    app = console("access")
    next(b for b in app.button if b.label == "Make a key").click().run()
    assert "Give the key the name" in app.error[0].value
    assert not any("make_key" in what for _, what in world.calls)


def test_only_valid_keys_can_be_revoked_and_only_after_a_yes(console, world):
    app = console("access")
    box = app.selectbox(key="revoke-key")
    assert box.options == ["=Cash registers · 0a1b2c3d4e5f"]
    assert not any("revoke" in what for _, what in world.calls)
    app.button(key="revoke-now").click().run()
    assert ("api", "revoke_key 0a1b2c3d4e5f") in world.calls
    assert not [s for s in app.selectbox if s.key == "revoke-key"]
    assert "no key for a program is valid now" in lead(app)


@pytest.mark.parametrize(("language", "wanted"), [("en", "with the role manager"), ("es", "con el rol responsable")])
def test_keys_are_for_administrators(console, world, language, wanted):
    world.role = "manager"
    app = console("access", language)
    assert not app.exception
    assert wanted in lead(app)
    assert not [s for s in app.selectbox if s.key in ("revoke-key", "key-role")]
    assert not any(what == "keys" for _, what in world.calls)


def test_the_question_can_be_copied_for_excel_and_the_choice_is_in_the_address(console):
    app = console("access")
    app.segmented_control(key="snippet").set_value("excel").run()
    assert any("Web.Contents" in block.value and "S03" in block.value for block in app.code)
    assert app.query_params["snippet"] in ("excel", ["excel"])


def test_the_audit_is_filtered_from_the_address(console, world):
    world.promotions.append(
        world.promotions[1].model_copy(
            update={"promotion_id": 3, "at": dt.datetime.now(dt.UTC), "action": "rollback", "actor": "Ana"}
        )
    )
    everything = console("access").dataframe[-1].value
    assert list(everything["Who"]) == ["Ana", "retrain_sales_model", "retrain_sales_model"]
    assert list(console("access", move="rollback").dataframe[-1].value["Who"]) == ["Ana"]
    assert list(console("access", moved_by="retrain_sales_model").dataframe[-1].value["Version"]) == ["v7", "v6"]


# ---------------------------------------------------------------- what-if


def fill(app, scenario, **values):
    """Fill every day of one scenario and compare."""
    for name, value in values.items():
        app.number_input(key=f"whatif-fill-{scenario}-{name}").set_value(value)
    app.button(key=f"whatif-fill-{scenario}-now").click().run()
    return app.button(key="compare").click().run()


def totals(app):
    """The table of totals, which has one row per scenario and model."""
    return next(frame.value for frame in app.dataframe if {"Profit", "Beneficio"} & set(frame.value.columns))


def test_scenarios_are_compared_under_both_models_in_one_question_each(console, world):
    app = fill(console("whatif", unit_cost="2", scenarios="2"), 1, promotion=0.2)
    assert [what for _, what in world.calls if what.startswith("predict")] == [
        "predict 42 rows champion what-if",
        "predict 42 rows challenger what-if",
    ]
    found = totals(app)
    assert list(found["Scenario"]) == ["Baseline", "Scenario A", "Scenario B"] * 2
    units = found["Units"].iloc[0]
    assert found["Units"].iloc[1] == pytest.approx(1.2 * units, rel=1e-3)
    assert found["Profit"].iloc[0] == pytest.approx(units * (9.99 - 2), rel=1e-3)
    assert found["± profit"].iloc[1] == pytest.approx(0.2 * units * (9.99 - 2), rel=1e-3)
    assert found["± units"].iloc[2] == 0
    assert "“Scenario A” would earn" in lead(app)
    assert "(+20.0%)" in lead(app)


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        ("en", "In 8 of 10 such cases the difference lies between +260.0 and +300.0 units."),
        ("es", "En 8 de 10 casos así la diferencia está entre +260,0 y +300,0 unidades."),
    ],
)
def test_the_difference_has_a_range_of_its_own(console, world, language, wanted, said):
    app = fill(console("whatif", language, unit_cost="2"), 1, promotion=0.2)
    assert wanted in said(app)
    assert [what for _, what in world.calls if what.startswith("differences")] == ["differences 2 7", "differences 2 8"]
    low, high = (totals(app).iloc[:, index] for index in (4, 5))
    assert low.iloc[0] != low.iloc[0]  # the baseline has none
    assert (low.iloc[1], high.iloc[1]) == (260, 300)


def test_beyond_history_the_range_is_not_known(console, said):
    app = fill(console("whatif", unit_cost="2"), 1, price=4.0)
    assert "How sure the difference is cannot be said" in said(app)
    assert "± low 80 %" not in totals(app).columns


@pytest.mark.parametrize(
    ("language", "wanted"),
    [("en", "14 planned days lie beyond what history shows"), ("es", "14 días planificados quedan fuera de lo que")],
)
def test_days_beyond_history_are_counted(console, language, wanted, said):
    app = fill(console("whatif", language, unit_cost="2"), 1, price=4.0)
    assert wanted in said(app)
    assert list(totals(app).iloc[:, -1]) == [0, 14] * 2


def test_edits_of_single_days_count_and_another_plan_has_to_be_asked_again(console, world):
    app = console("whatif", unit_cost="2")
    key = next(frame.key for frame in app.data_editor if ", 1)" in str(frame.key))
    app.session_state[key] = {"edited_rows": {3: {"promotion": 1.0}}, "added_rows": [], "deleted_rows": []}
    app.button(key="compare").click().run()
    assert 0 < totals(app)["± units"].iloc[1] < 160
    asked_before = len([what for _, what in world.calls if what.startswith("predict")])
    app.slider(key="periods").set_value(7).run()
    assert any("The plan has changed since" in info.value for info in app.info)
    assert len([what for _, what in world.calls if what.startswith("predict")]) == asked_before


def test_a_scenario_is_kept_opened_by_its_link_and_deleted(console, world):
    app = fill(console("whatif", unit_cost="2"), 1, promotion=0.5)
    before = lead(app)
    app.text_input(key="whatif-name-A").set_value("Half price")
    app.text_input(key="whatif-name").set_value("Black Friday").run()
    app.button(key="save-new").click().run()
    (scenario_id,) = world.scenarios
    assert app.query_params["scenario"] in (scenario_id, [scenario_id])
    kept = world.scenarios[scenario_id].plan
    assert (kept.name, kept.variants[1].name, len(kept.variants[1].days)) == ("Black Friday", "Half price", 14)
    assert kept.variants[0].days == ()

    opened = console("whatif", scenario=scenario_id)
    assert not opened.exception
    assert lead(opened) == before.replace("Scenario A", "Half price")
    assert opened.number_input(key="unit_cost").value == 2
    world.champion = "6"
    session.forget()
    anew = console("whatif", scenario=scenario_id)
    assert any("kept when v7 answered; these are the numbers of v6" in info.value for info in anew.info)
    opened.button(key="delete-now").click().run()
    assert not world.scenarios
    assert "scenario" not in opened.query_params


def test_a_link_to_what_is_gone_says_so(console):
    app = console("whatif", scenario="no-such-scenario")
    assert not app.exception
    assert "does not exist" in app.error[0].value


def test_viewers_compare_keep_and_delete_nothing(console, world):
    world.scenarios["s1234567"] = console_scenario()
    world.role = "viewer"
    app = console("whatif")
    keys = {button.key for button in app.button}
    assert not keys & {"compare", "save", "save-new", "delete-now"}
    assert "open" in keys


def console_scenario():
    day = dt.datetime.now(dt.UTC)
    variants = (Variant(name="Baseline"), Variant(name="A"))
    plan = ScenarioPlan(name="=1+1", store="S01", product="P001", date_from=day.date(), periods=3, variants=variants)
    return Scenario(scenario_id="s1234567", created_at=day, created_by="me", updated_at=day, plan=plan)


# ---------------------------------------------------------------- accuracy


def test_the_value_added_to_naive_is_told(console):
    app = console("accuracy")
    assert next(m.value for m in app.metric if m.label == "Added to naive") == "+7.0%"
    (table,) = [t.value for t in app.table if "Taken off the step before" in t.value.columns]
    assert list(table["Step"]) == ["Seasonal naive", "Predictions", "Manual override"]
    assert list(table["Taken off the step before"]) == ["–", "+7.0%", "-1.0%"]
    assert list(table["Rows"])[-1] == "8"


def test_worst_days_come_first_with_what_was_special(console):
    frame = next(f.value for f in console("accuracy", in_store="S01").dataframe if "Special" in f.value.columns)
    missed = [float(value) for value in frame["Units missed"]]
    assert missed == sorted(missed, reverse=True)
    assert list(frame["Special"])[:2] == ["many promotions", "–"]
    assert frame["Rows in History"].iloc[0].startswith("history?from=")
    assert "in_store=S01" in frame["Rows in History"].iloc[0]


def test_filters_of_the_accuracy_come_from_the_address(console, world):
    console("accuracy", since="2026-01-05", in_product="P002", by_version="6", segment="promotion")
    asked = [what for _, what in world.calls if what.startswith("accuracy")]
    wanted = "{'from': datetime.date(2026, 1, 5), 'product': 'P002', 'version': '6'}"
    assert asked == [f"accuracy date {wanted}", f"accuracy promotion {wanted}"]


@pytest.mark.parametrize(("language", "wanted"), [("en", "week 2"), ("es", "semana 2")])
def test_segments_are_named(console, language, wanted):
    assert any(wanted in f.value.to_string() for f in console("accuracy", language).dataframe)


# ---------------------------------------------------------------- pipelines


def test_rows_and_data_of_a_run_come_from_mlflow(console, said):
    app = console("pipelines")
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Rows in"], shown["Rows left out"], shown["Rows out"]) == ("48,003", "3", "48,012")
    assert "d7f3a1c09b52" in said(app)
    assert "Rows left out, with reasons (CSV)" in said(app)


def test_a_run_of_the_other_pipeline_is_opened_by_its_link_with_the_log_of_what_failed(console):
    app = console("pipelines", dag=RETRAIN_DAG, run="re-1")
    assert app.selectbox(key="step").value == "backtest"
    assert any("ValueError: not enough history" in block.value for block in app.code)
    assert list(app.dataframe[0].value["State"]) == ["done", "failed"]


@pytest.mark.parametrize(("language", "wanted"), [("en", "paused in Airflow: ETL"), ("es", "en pausa en Airflow: ETL")])
def test_a_pipeline_can_be_paused_and_that_is_said(console, world, language, wanted):
    app = console("pipelines", language)
    app.button(key=f"pause-{ETL_DAG}").click().run()
    assert world.paused
    assert wanted in lead(app)
    app.button(key=f"pause-{ETL_DAG}").click().run()
    assert not world.paused


def test_who_may_start_no_run_may_pause_none(console, world):
    world.role = "planner"
    keys = {button.key for button in console("pipelines").button}
    assert f"pause-{ETL_DAG}" in keys
    assert f"pause-{RETRAIN_DAG}" not in keys


def test_a_failed_last_run_is_said_first(console, world):
    world.runs[RETRAIN_DAG].reverse()
    assert "the last run failed: Retraining" in lead(console("pipelines"))


# ---------------------------------------------------------------- data health


def table_with(app, column):
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_drift_stands_beside_importance_and_goes_to_retrain(console, world, said):
    app = console("data_health")
    drift = table_with(app, "Importance")
    assert list(drift["Input"]) == ["Sales", "Price", "Promotion"]
    assert list(drift["Drift"]) == ["within chance", "strong drift", "moderate drift"]
    link = next(link for link in app.page_link if link.label == "Send as evidence to Retrain")
    assert "evidence=d7f3a1c09b52" in str(link.proto)
    sent = console("retrain", evidence="d7f3a1c09b52")
    assert list(table_with(sent, "Importance")["Input"]) == ["Sales", "Price", "Promotion"]
    assert "Evidence from Data health: drift" in said(sent)
    assert "The data has changed since it was sent" in said(console("retrain", evidence="older"))


def test_nothing_wrong_is_said_too(console, world, said):
    world.drift, world.gaps = None, False
    app = console("data_health")
    text = said(app)
    for wanted in ("No row is missing.", "far from usual", "No drift was measured", "found nothing to say"):
        assert wanted in text
    assert "check_circle" in lead(app)


def test_gaps_and_unusual_sales_are_counted_and_filtered_from_the_address(console):
    app = console("data_health")
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Lately missing"], shown["Unusual sales"]) == ("0.9%", "4")
    assert list(table_with(app, "Days without any row")["Days without any row"]) == [0, 2, 0]
    assert set(table_with(console("data_health", odd_in="S02"), "Usual")["Store"]) == {"S02"}


@pytest.mark.parametrize(
    ("language", "words"), [("en", "series with 12% of the units are no longer"), ("es", "de las unidades ya no están")]
)
def test_what_the_checks_noticed_stays_visible(console, world, language, words):
    facts = {"count": 3, "share": 0.12}
    world.checks = (DataCheck(code="series_gone", severity="warning", message="m", facts=facts),)
    assert any(words in block.value.replace("\\", "") for block in console("data_health", language).markdown)
