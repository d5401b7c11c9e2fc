"""Keys in the database: each opens what its role may do, and nothing else does."""

from __future__ import annotations

import datetime as dt
import logging
import re

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from api import keyring
from api.auth import OPEN_PATHS
from api.main import create_app
from control_room.clients.api import ApiClient
from ml.errors import Forbidden, ServiceDown, Unauthorized
from ml.records import USER_ROLES
from ml.settings import load_settings
from ml.store import api_keys

TOKEN = "the-console's-own-key"
PASSWORD = "correct horse battery"
ADMIN = {"X-API-Key": TOKEN}
NO_ID = {"key_id": None, "account_id": None}


@pytest.fixture(scope="module")
def locked(serve, make_settings):
    settings = make_settings(api_token=TOKEN)
    with serve(settings) as made:
        made.services.store.migrate()
        yield made


@pytest.fixture
def open_api(serve, make_settings):
    with serve(make_settings()) as made:
        made.services.store.migrate()
        yield made


def make(api, role="viewer", headers=None, **more):
    reply = api.post("/v1/keys", json={"name": f"a {role}", "role": role, **more}, headers=headers or ADMIN)
    assert reply.status_code == 201, reply.text
    return reply.json()


def with_key(made):
    return {"X-API-Key": made["secret"]}


def roles_of_routes():
    """The role that each route takes, by method and path; None where it says nothing."""
    found = {}
    for route in create_app(load_settings({})).routes:
        if isinstance(route, APIRoute):
            needed = [d.call.needed for d in route.dependant.dependencies if hasattr(d.call, "needed")]
            for method in route.methods:
                found[method, route.path] = needed[0] if needed else None
    return found


ROLES = roles_of_routes()


def test_every_route_says_which_role_it_takes():
    silent = {path for (_, path), role in ROLES.items() if role is None}
    assert silent == OPEN_PATHS
    assert len(ROLES) > 35


def test_what_changes_something_is_not_for_viewers():
    computes = {"/v1/explain", "/v1/differences", "/v1/predictions/{prediction_id}/replay"}  # and logs nothing
    computes |= {"/v1/exports/predictions"}  # a file of what may be read anyway
    own = {"/v1/me/password", "/v1/sessions/current"}
    free = computes | own
    assert {path for (method, path), role in ROLES.items() if method != "GET" and role == "viewer"} == free
    assert {role for (_, path), role in ROLES.items() if "/keys" in path} == {"admin"}
    assert {role for (_, path), role in ROLES.items() if "/accounts" in path or "/audit" in path} == {"admin"}
    assert {path for (_, path), role in ROLES.items() if role == "console"} == {"/v1/sessions", "/v1/sessions/identity"}
    assert {ROLES["POST", f"/v1/models/{what}"] for what in ("rollback", "{version}/promote")} == {"manager"}


def session_of(api, role):
    """What a person of this role sends who signs in now."""
    name = f"a.{role}"
    if name not in [account.name for account in api.services.accounts.all()]:
        api.services.accounts.create(name, role, "tests", PASSWORD)
    reply = api.post("/v1/sessions", json={"name": name, "password": PASSWORD}, headers=ADMIN)
    assert reply.status_code == 201, reply.text
    return {"X-API-Key": reply.json()["token"]}


@pytest.mark.parametrize("role", USER_ROLES)
@pytest.mark.parametrize("kind", ["key", "session"])
def test_each_role_is_let_in_where_it_may_and_nowhere_else(locked, role, kind):
    """Every route × every role, of keys and of people: 401 and 403 come before anything is looked at."""
    key = with_key(make(locked, role)) if kind == "key" else session_of(locked, role)
    for (method, path), needed in ROLES.items():
        if needed is None:
            continue
        if kind == "session" and path == "/v1/sessions/current":
            assert locked.http.request(method, path, headers=session_of(locked, role)).status_code == 204
            continue
        url = re.sub(r"\{(\w+)\}", lambda m: "9" if m[1] != "dag_id" else "retrain_sales_model", path)
        reply = locked.http.request(method, url, headers=key)
        may = needed in USER_ROLES and USER_ROLES.index(role) >= USER_ROLES.index(needed)
        assert (reply.status_code not in (401, 403)) == may, (method, path, reply.status_code)
        if not may:
            assert reply.json()["code"] == "forbidden"
            assert needed in reply.json()["detail"], (method, path)
        anonymous = locked.http.request(method, url)
        assert anonymous.status_code == 401, (method, path)


def test_the_secret_is_shown_once_and_only_its_hash_is_kept(locked, caplog):
    with caplog.at_level(logging.INFO):
        made = make(locked, "planner")
    secret = made["secret"]
    assert re.fullmatch(r"scr_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    assert made["key"]["key_id"] in secret
    assert secret not in caplog.text
    assert secret.rpartition("_")[2] not in locked.get("/v1/keys", headers=ADMIN).text
    with locked.services.store.begin() as connection:
        rows = connection.execute(sa.select(api_keys)).all()
    assert secret not in str(rows)


def test_who_one_is(locked):
    made = make(locked, "analyst")
    assert locked.get("/v1/me", headers=with_key(made)).json() == {
        "name": "a analyst",
        "role": "analyst",
        "key_id": made["key"]["key_id"],
        "account_id": None,
    }
    bearer = {"Authorization": f"Bearer {made['secret']}"}
    assert locked.get("/v1/me", headers=bearer).json()["role"] == "analyst"
    assert locked.get("/v1/me", headers=ADMIN).json() == NO_ID | {"name": "console", "role": "admin"}


def test_a_revoked_key_opens_nothing_from_that_moment(locked):
    made = make(locked, "viewer")
    assert locked.get("/v1/me", headers=with_key(made)).status_code == 200
    where = f"/v1/keys/{made['key']['key_id']}"
    revoked = locked.http.delete(where, headers=ADMIN).json()
    assert (revoked["revoked_by"], revoked["revoked_at"] is not None) == ("console", True)
    assert locked.get("/v1/me", headers=with_key(made)).status_code == 401
    again = locked.http.delete(where, headers=ADMIN)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert locked.http.delete("/v1/keys/000000000000", headers=ADMIN).status_code == 404


def test_a_key_ends(locked):
    made = make(locked, "viewer", days=30)
    ends = dt.datetime.fromisoformat(made["key"]["expires_at"])
    assert abs(ends - dt.datetime.now(dt.UTC) - dt.timedelta(days=30)) < dt.timedelta(minutes=1)
    assert locked.get("/v1/me", headers=with_key(made)).status_code == 200
    key_id = made["key"]["key_id"]
    with locked.services.store.begin() as connection:
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        connection.execute(api_keys.update().where(api_keys.c.key_id == key_id).values(expires_at=past))
    locked.services.keyring.forget(key_id)
    assert locked.get("/v1/me", headers=with_key(made)).status_code == 401


@pytest.mark.parametrize("spoil", [
    lambda secret: secret[:-1] + ("A" if secret[-1] != "A" else "B"),
    lambda secret: secret.replace("scr_", "SCR_"),
    lambda secret: secret + "A",
    lambda secret: "scr_" + "0" * 12 + secret[16:],
])  # fmt: skip
def test_almost_the_key_is_no_key(locked, spoil):
    made = make(locked, "admin")
    assert locked.get("/v1/me", headers={"X-API-Key": spoil(made["secret"])}).status_code == 401
    assert locked.get("/v1/me", headers=with_key(made)).status_code == 200


def test_the_last_use_is_noted(locked):
    made = make(locked, "viewer")
    assert made["key"]["last_used_at"] is None
    before = dt.datetime.now(dt.UTC)
    locked.get("/v1/me", headers=with_key(made))
    listed = {item["key_id"]: item for item in locked.get("/v1/keys", headers=ADMIN).json()["items"]}
    used = dt.datetime.fromisoformat(listed[made["key"]["key_id"]]["last_used_at"])
    assert before <= used <= dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("body", [
    {"name": "x", "role": "owner"},
    {"name": " ", "role": "viewer"},
    {"role": "viewer"},
    {"name": "x", "role": "viewer", "days": 0},
    {"name": "x", "role": "viewer", "days": "7"},
    {"name": "x", "role": "viewer", "secret": "mine"},
])  # fmt: skip
def test_a_wish_that_cannot_be_is_refused(locked, body):
    reply = locked.post("/v1/keys", json=body, headers=ADMIN)
    assert (reply.status_code, reply.json()["code"]) == (422, "input")


def test_an_open_api_takes_this_machine_for_an_admin_but_no_wrong_key(open_api):
    assert open_api.get("/v1/me").json() == NO_ID | {"name": "this machine", "role": "admin"}
    made = make(open_api, "viewer", headers={"X-Request-ID": "r"})
    assert open_api.get("/v1/me", headers=with_key(made)).json()["role"] == "viewer"
    assert open_api.post("/v1/keys", json={"name": "x", "role": "admin"}, headers=with_key(made)).status_code == 403
    assert open_api.get("/v1/me", headers={"X-API-Key": "wrong"}).status_code == 401


def test_while_the_database_is_away_known_keys_pass_and_others_are_told_to_wait(locked, monkeypatch):
    known, unknown = make(locked, "viewer"), make(locked, "viewer")
    assert locked.get("/v1/me", headers=with_key(known)).status_code == 200
    ring = locked.services.keyring

    def away(key_id):
        raise ServiceDown("database", "it was stopped")

    monkeypatch.setattr(ring.keys, "find", away)
    monkeypatch.setattr(keyring, "FRESH", -1.0)
    assert locked.get("/v1/me", headers=with_key(known)).status_code == 200
    reply = locked.get("/v1/me", headers=with_key(unknown))
    assert (reply.status_code, reply.json()["code"]) == (503, "service_down")
    assert reply.headers["Retry-After"]
    assert locked.get("/v1/me", headers=ADMIN).status_code == 200  # the console's own key asks nobody
    monkeypatch.setattr(keyring, "AWAY", -1.0)
    assert locked.get("/v1/me", headers=with_key(known)).status_code == 503


def test_the_consoles_client_makes_uses_and_revokes(locked):
    admin = ApiClient(locked.url, TOKEN)
    made = admin.make_key("a shop", "viewer", days=7)
    client = ApiClient(locked.url, made.secret)
    assert (client.me().name, client.me().role) == ("a shop", "viewer")
    with pytest.raises(Forbidden, match="takes the role admin"):
        client.keys()
    listed = admin.keys()
    assert made.key.key_id in [key.key_id for key in listed]
    assert admin.revoke_key(made.key.key_id).revoked_by == "console"
    with pytest.raises(Unauthorized):
        client.me()
