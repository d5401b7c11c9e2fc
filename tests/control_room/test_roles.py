"""Every page × every role: what a role may not do is not on the page, and the API refuses the same."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.routing import APIRoute
from streamlit.testing.v1 import AppTest

from api.main import create_app
from control_room import session
from ml import records as r
from ml.errors import Unauthorized
from ml.records import ETL_DAG, RETRAIN_DAG, USER_ROLES
from ml.settings import Settings, load_settings

PAGES = (
    "", "upload", "predict", "history", "experiments", "retrain", "access", "whatif", "accuracy", "pipelines",
    "data_health",
)  # fmt: skip
# What can be pressed or filled in: page, its key or label -> the route behind it.
ACTS: dict[tuple[str, str], tuple[str, str]] = {
    ("upload", "purpose"): ("POST", "/v1/uploads"),
    ("upload", "accept"): ("POST", "/v1/uploads/{upload_id}/accept"),
    ("upload", "Read it again"): ("POST", "/v1/uploads/{upload_id}/check"),
    ("upload", "start-etl"): ("POST", "/v1/etl"),
    ("predict", "ask-day"): ("POST", "/predict"),
    ("experiments", "promote"): ("POST", "/v1/models/{version}/promote"),
    ("experiments", "rollback"): ("POST", "/v1/models/rollback"),
    ("retrain", "Start retraining"): ("POST", "/v1/retrain"),
    ("retrain", "Start the ETL"): ("POST", "/v1/etl"),
    ("retrain", f"cancel-{RETRAIN_DAG}"): ("DELETE", "/v1/runs/retrain_sales_model/{run_id}"),
    ("whatif", "compare"): ("POST", "/predict"),
    ("whatif", "delete-now"): ("DELETE", "/v1/scenarios/{scenario_id}"),
    ("pipelines", f"pause-{ETL_DAG}"): ("PUT", "/v1/pipelines/process_etl_sales_data/paused"),
    ("pipelines", f"pause-{RETRAIN_DAG}"): ("PUT", "/v1/pipelines/retrain_sales_model/paused"),
    ("access", "Make a key"): ("POST", "/v1/keys"),
    ("access", "revoke-now"): ("DELETE", "/v1/keys/{key_id}"),
    ("access", "Make an account"): ("POST", "/v1/accounts"),
    ("access", "disable-account"): ("PATCH", "/v1/accounts/{account_id}"),
    ("access", "reset-password"): ("PUT", "/v1/accounts/{account_id}/password"),
    ("access", "Change it"): ("PUT", "/v1/me/password"),
    ("access", "audit-older"): ("GET", "/v1/audit"),
}
OPENED = {"upload": {"upload": "u1"}, "retrain": {"run": "now"}}
Person = Callable[..., None]


def roles_of_routes() -> dict[tuple[str, str], r.UserRole]:
    found: dict[tuple[str, str], r.UserRole] = {}
    for route in create_app(load_settings({})).routes:
        if isinstance(route, APIRoute):
            needed = [d.call.needed for d in route.dependant.dependencies if hasattr(d.call, "needed")]
            found |= {(method, route.path): needed[0] for method in route.methods if needed}
    return found


NEEDED = roles_of_routes()


def may(role: r.UserRole, needed: r.UserRole) -> bool:
    return USER_ROLES.index(role) >= USER_ROLES.index(needed)


@pytest.fixture
def person(world: Any, console: Any, monkeypatch: pytest.MonkeyPatch) -> Person:
    """Signs somebody in: ``person("viewer")``."""
    fakes = session.connect()
    people = dataclasses.replace(fakes, settings=Settings(sign_in="accounts", api_token="t"))
    monkeypatch.setattr(session, "connect", lambda: people)
    monkeypatch.setattr(session, "connect_as", lambda settings, token: fakes.api)

    def sign_in(role: r.UserRole, token: str = "scs_000000000000_x") -> None:
        world.role, world.account_id = role, "a1"
        monkeypatch.setattr(session, "token", lambda: token)

    return sign_in


@pytest.fixture
def busy(world: Any) -> Any:
    """Something to do on every page: a file to decide on, one that waits, a run, a kept scenario."""
    world.uploads["u3"] = world.uploads["u1"].model_copy(update={"upload_id": "u3", "status": "accepted"})
    goes_on = world.runs[RETRAIN_DAG][0].model_copy(update={"run_id": "now", "state": "running", "ended_at": None})
    world.runs[RETRAIN_DAG].insert(0, goes_on)
    plan = r.ScenarioPlan(
        name="Half price", store="S01", product="P001", date_from=dt.date(2026, 1, 5), periods=7,
        variants=(r.Variant(name="baseline"), r.Variant(name="half")),
    )  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    world.scenarios["s1"] = r.Scenario(scenario_id="s1", plan=plan, created_by="me", created_at=now, updated_at=now)
    return world


def offered(app: AppTest) -> set[str]:
    """Keys and labels of everything that a person can press or fill in."""
    widgets = [*app.button, *app.text_input, *app.selectbox]
    return {str(widget.key) for widget in widgets} | {str(widget.label) for widget in widgets}


@pytest.mark.parametrize("role", USER_ROLES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_offers_what_the_role_may_do_and_nothing_else(console, person, busy, page, role):
    person(role)
    app = console(page, **OPENED.get(page, {}))
    assert not app.exception
    assert not app.error
    names = offered(app)
    for (where, act), route in ACTS.items():
        if where == page:
            assert (act in names) == may(role, NEEDED[route]), (act, role, NEEDED[route])


@pytest.mark.parametrize("role", USER_ROLES)
def test_no_page_asks_the_api_for_what_it_would_refuse(console, person, busy, role):
    person(role)
    for page in PAGES:
        console(page, **OPENED.get(page, {}))
    asked = {what.split(" ")[0] for service, what in busy.calls if service == "api"}
    routes = {
        "keys": ("GET", "/v1/keys"), "accounts": ("GET", "/v1/accounts"), "audit": ("GET", "/v1/audit"),
        "audit_words": ("GET", "/v1/audit/words"), "forecast": ("POST", "/v1/forecast"),
        "predict": ("POST", "/predict"),
    }  # fmt: skip
    assert {what for what in asked & set(routes) if not may(role, NEEDED[routes[what]])} == set()


@pytest.mark.parametrize(
    ("language", "wanted"), [("en", "This page is for the role planner"), ("es", "Esta página es para el rol")]
)
def test_a_page_of_no_use_says_so_when_it_is_opened_by_its_address(console, person, said, language, wanted):
    person("viewer")
    assert wanted in said(console("predict", language))


# ---------------------------------------------------------------- who reads


@pytest.mark.parametrize(
    ("language", "role", "out"), [("en", "manager", "Sign out"), ("es", "responsable", "Cerrar sesión")]
)
def test_the_frame_shows_who_reads_and_the_way_out(console, person, said, language, role, out):
    person("manager")
    app = console("", language)
    assert f"**Ana** · {role}" in said(app)
    assert any(f">{out}</a>" in str(item.proto.body) for item in app.get("html"))


@pytest.mark.parametrize(("language", "wanted"), [("en", "Local mode: no sign-in"), ("es", "Modo local: sin inicio")])
def test_local_mode_says_that_there_is_no_sign_in(console, said, language, wanted):
    assert wanted in said(console("", language))


@pytest.mark.parametrize(("language", "wanted"), [("en", "Your session has ended"), ("es", "Su sesión ha terminado")])
def test_a_session_that_has_ended_shows_nothing_but_the_way_in(console, world, person, said, language, wanted):
    person("admin")
    world.me_problem = Unauthorized()
    for page in ("", "history", "access"):
        app = console(page, language)
        assert not app.exception
        assert wanted in said(app)
        assert not app.dataframe
    assert {what for _, what in world.calls} == {"me"}


def test_while_it_cannot_be_said_who_reads_nothing_known_is_shown(console, world, person, said):
    """What an administrator has seen is in the process; a stranger must not get it while the API is away."""
    person("admin")
    console("access")
    person("viewer", token="scs_111111111111_y")
    world.down = {"api"}
    session.forget()
    app = console("access")
    assert "It cannot be checked now who you are" in said(app)
    assert not app.dataframe


def test_who_is_known_goes_on_while_the_api_is_away(console, world, person):
    person("admin")
    console("access")
    world.down = {"api"}
    session.forget()
    assert "Cash registers" in str([frame.value for frame in console("access").dataframe])


def test_answers_are_not_shown_to_another_role(console, world, person):
    person("planner")
    console("history")
    before = len(world.calls)
    person("viewer", token="scs_111111111111_y")
    console("history")
    assert any(what.startswith("history") for _, what in world.calls[before:])


# ---------------------------------------------------------------- people


def test_a_password_is_shown_once(console, world, person, said):
    person("admin")
    app = console("access")
    app.text_input(key="account-name").set_value(" ben ")
    app.selectbox(key="account-role").set_value("manager")
    next(b for b in app.button if b.label == "Make an account").click().run()
    assert ("api", "make_account ben manager") in world.calls
    assert [block.value for block in app.code].count("made-password") == 1
    app.button(key="password-copied").click().run()
    assert "made-password" not in said(app) + "".join(block.value for block in app.code)


def test_a_role_is_given_and_an_account_disabled(console, world, person):
    person("admin")
    app = console("access")
    app.selectbox(key="account").set_value("a2").run()
    app.selectbox(key="role-of-a2").set_value("analyst").run()
    app.button(key="give-role").click().run()
    assert ("api", "change_account a2 analyst None") in world.calls
    app.button(key="disable-account").click().run()
    assert ("api", "change_account a2 None True") in world.calls


def test_the_own_password_is_changed(console, world, person, said):
    person("viewer")
    app = console("access")
    for key, text in (("present", "the old one here"), ("new", "a new one 12345"), ("again", "another one")):
        app.text_input(key=f"password-{key}").set_value(text)
    next(b for b in app.button if b.label == "Change it").click().run()
    assert any("typed in two different ways" in error.value for error in app.error)
    app.text_input(key="password-again").set_value("a new one 12345")
    next(b for b in app.button if b.label == "Change it").click().run()
    assert ("api", "change_own_password") in world.calls
    assert "Your password is changed" in said(app)


def test_the_audit_is_turned_and_filtered(console, world, person):
    person("admin")
    app = console("access")
    frame = next(f.value for f in app.dataframe if "Number" in f.value.columns)
    assert list(frame["What"]) == ["signed in", "account made"]
    app.button(key="audit-older").click().run()
    assert app.query_params["after"] in ("older", ["older"])
    app.selectbox(key="by").set_value("root").run()
    assert "after" not in app.query_params
    assert ("api", "audit {'actor': 'root'} None") in world.calls
