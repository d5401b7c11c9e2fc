"""People: what their session opens, when it ends, and that guessing is slow and told of."""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading

import pytest
import sqlalchemy as sa

from ml import accounts as module
from ml.accounts import accounts, failures, sessions
from ml.audit import Audit, AuditFilter, audit_log
from ml.records import Promotion

TOKEN = "the-console's-own-key"
CONSOLE = {"X-API-Key": TOKEN}
PASSWORD = "correct horse battery"
OTHER = "staple table window"


@pytest.fixture(scope="module")
def api(serve, make_settings):
    with serve(make_settings(api_token=TOKEN)) as made:
        made.services.store.migrate()
        made.services.accounts.create("root", "admin", "tests", PASSWORD)
        yield made


@pytest.fixture(autouse=True)
def _no_failures(api):
    yield
    with api.services.store.begin() as connection:
        connection.execute(failures.delete())


def account(api, name, role="planner", password=PASSWORD):
    reply = api.post("/v1/accounts", json={"name": name, "role": role, "password": password}, headers=CONSOLE)
    assert reply.status_code == 201, reply.text
    return reply.json()["account"]


def attempt(api, name, password=PASSWORD, address="10.0.0.1"):
    return api.post("/v1/sessions", json={"name": name, "password": password, "address": address}, headers=CONSOLE)


def signed_in(api, name, password=PASSWORD):
    reply = attempt(api, name, password)
    assert reply.status_code == 201, reply.text
    return {"X-API-Key": reply.json()["token"]}


def actions(api, **wanted):
    return [entry.action for entry in api.services.audit.page(AuditFilter(**wanted)).items]


def test_a_person_acts_with_their_own_name_and_role(api):
    made = account(api, "Ana", "planner")
    headers = signed_in(api, "ana")  # case does not tell names apart
    me = api.get("/v1/me", headers=headers).json()
    assert me == {"name": "Ana", "role": "planner", "key_id": None, "account_id": made["account_id"]}
    refused = api.get("/v1/keys", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "you have the role planner" in refused.json()["detail"]
    kept = api.http.put("/v1/scenarios/s-1", headers=headers, json={"name": "x", "store": "S", "product": "P"})
    assert kept.status_code != 403


def test_the_role_is_read_at_each_use(api):
    made = account(api, "bea", "viewer")
    headers = signed_in(api, "bea")
    assert api.get("/v1/me", headers=headers).json()["role"] == "viewer"
    where = f"/v1/accounts/{made['account_id']}"
    changed = api.http.patch(where, json={"role": "analyst"}, headers=CONSOLE)
    assert changed.json()["role"] == "analyst"
    assert api.get("/v1/me", headers=headers).json()["role"] == "analyst"


def test_what_is_kept_is_no_password_and_no_token(api, caplog):
    with caplog.at_level(logging.DEBUG):
        account(api, "carla")
        token = signed_in(api, "carla")["X-API-Key"]
        attempt(api, "carla", OTHER)
    assert re.fullmatch(r"scs_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token)
    with api.services.store.begin() as connection:
        rows = str([connection.execute(sa.select(t)).all() for t in (accounts, sessions, failures, audit_log)])
    for secret in (PASSWORD, OTHER, token, token.rpartition("_")[2]):
        assert secret not in rows
        assert secret not in caplog.text
    assert "$argon2id$" in rows
    listed = api.get("/v1/accounts", headers=CONSOLE).text
    assert "argon2" not in listed


@pytest.mark.parametrize("end", ["sign out", "disable", "reset", "expire", "idle"])
def test_a_session_ends(api, end):
    name = f"d.{end.replace(' ', '')}"
    made = account(api, name)
    headers = signed_in(api, name)
    assert api.get("/v1/me", headers=headers).status_code == 200
    where, past = f"/v1/accounts/{made['account_id']}", dt.datetime.now(dt.UTC) - dt.timedelta(hours=3)
    if end == "sign out":
        assert api.http.delete("/v1/sessions/current", headers=headers).status_code == 204
    elif end == "disable":
        assert api.http.patch(where, json={"disabled": True}, headers=CONSOLE).json()["disabled_at"]
        assert attempt(api, name).status_code == 401
    elif end == "reset":
        made = api.http.put(f"{where}/password", headers=CONSOLE).json()
        assert attempt(api, name).status_code == 401
        assert attempt(api, name, made["password"]).status_code == 201
    else:
        column = "expires_at" if end == "expire" else "last_used_at"
        mine = sessions.c.account_id == made["account_id"]
        with api.services.store.begin() as connection:
            connection.execute(sessions.update().where(mine).values({column: past}))
        api.services.sessions.forget_all()
    assert api.get("/v1/me", headers=headers).status_code == 401


def test_what_is_wrong_is_not_said(api):
    known = account(api, "eva")
    gone = account(api, "eva.gone")
    api.http.patch(f"/v1/accounts/{gone['account_id']}", json={"disabled": True}, headers=CONSOLE)
    assert known
    replies = [attempt(api, "eva", OTHER), attempt(api, "nobody", PASSWORD), attempt(api, "eva.gone", PASSWORD)]
    texts = {(r.status_code, r.json()["code"], r.json()["title"], r.json()["detail"]) for r in replies}
    assert texts == {(401, "sign_in_failed", "Name or password is not right", "Name or password is not right")}


def test_an_unknown_name_costs_as_much_work_as_a_known_one(api, monkeypatch):
    account(api, "fe")
    verified = []
    real = module._HASHER

    class Counting:
        def verify(self, known, password):
            verified.append(known)
            return real.verify(known, password)

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(module, "_HASHER", Counting())
    for name in ("fe", "nobody at all"):
        assert attempt(api, name, OTHER).status_code == 401
    assert [known.rpartition("$")[0].rpartition("$")[0] for known in verified] == ["$argon2id$v=19$m=65536,t=3,p=4"] * 2


def test_guessing_is_stopped_and_told_of_once(api):
    account(api, "gala")
    codes = [attempt(api, "gala", f"wrong password {n}", f"10.1.0.{n}").status_code for n in range(13)]
    assert codes == [401] * module.PER_NAME + [429] * 3
    blocked = attempt(api, "gala")  # not even the right one is tried
    assert (blocked.status_code, blocked.json()["code"]) == (429, "too_many_sign_ins")
    assert 0 < int(blocked.headers["Retry-After"]) <= 15 * 60
    refused = [e for e in api.services.audit.page(AuditFilter(action="session.refused")).items if e.subject == "gala"]
    assert len(refused) == 1
    with api.services.store.begin() as connection:
        later = failures.c.at - dt.timedelta(minutes=16)
        connection.execute(failures.update().values(at=later))
    assert attempt(api, "gala").status_code == 201


def test_an_address_that_tries_many_names_is_stopped(api, monkeypatch):
    monkeypatch.setattr(module, "PER_ADDRESS", 3)
    codes = [attempt(api, f"name{n}", OTHER, "10.9.9.9").status_code for n in range(5)]
    assert codes == [401] * 3 + [429] * 2
    assert attempt(api, "root", address="10.9.9.8").status_code == 201


def test_many_at_once_do_not_outrun_the_count(api, monkeypatch):
    monkeypatch.setattr(module, "PER_NAME", 4)
    tried = []
    real = module._right

    def counting(password, known):
        tried.append(1)
        return real(password, known)

    monkeypatch.setattr(module, "_right", counting)
    threads = [threading.Thread(target=attempt, args=(api, "hilda", OTHER)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) <= 4


def test_only_the_console_signs_people_in(api):
    headers = signed_in(api, "root")
    made = api.post("/v1/keys", json={"name": "a program", "role": "admin"}, headers=CONSOLE).json()
    body = {"issuer": "https://id.example", "subject": "1", "name": "eve", "role": "admin"}
    for sent in (headers, {"X-API-Key": made["secret"]}):
        assert api.post("/v1/sessions", json={"name": "root", "password": PASSWORD}, headers=sent).status_code == 403
        assert api.post("/v1/sessions/identity", json=body, headers=sent).status_code == 403


def test_without_a_key_of_the_console_nobody_signs_in(serve, make_settings):
    with serve(make_settings()) as open_api:
        open_api.services.store.migrate()
        assert open_api.post("/v1/sessions", json={"name": "root", "password": PASSWORD}).status_code == 403


def test_the_own_password(api):
    account(api, "ines")
    headers, elsewhere = signed_in(api, "ines"), signed_in(api, "ines")

    def change(present, new):
        return api.http.put("/v1/me/password", json={"present": present, "new": new}, headers=headers)

    wrong = change(OTHER, "another good one")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "sign_in_failed")
    assert change(PASSWORD, "short").status_code == 422
    assert change(PASSWORD, "my-name-is-INES").status_code == 422
    assert change(PASSWORD, OTHER).status_code == 204
    assert api.get("/v1/me", headers=headers).status_code == 200
    assert api.get("/v1/me", headers=elsewhere).status_code == 401
    assert attempt(api, "ines", OTHER).status_code == 201
    assert api.http.put("/v1/me/password", json={"present": PASSWORD, "new": OTHER}, headers=CONSOLE).status_code == 409


def test_secrets_are_not_kept_for_a_second_asking(api):
    made = account(api, "julia")
    headers = CONSOLE | {"Idempotency-Key": "k1"}
    for method, path in (("POST", "/v1/sessions"), ("PUT", f"/v1/accounts/{made['account_id']}/password")):
        assert api.http.request(method, path, json={}, headers=headers).status_code == 422


def test_the_last_administrator_stays(serve, make_settings):
    with serve(make_settings(api_token=TOKEN)) as alone:
        alone.services.store.migrate()
        first = account(alone, "only", "admin")
        where = f"/v1/accounts/{first['account_id']}"
        for change in ({"role": "viewer"}, {"disabled": True}):
            refused = alone.http.patch(where, json=change, headers=CONSOLE)
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        account(alone, "second", "admin")
        assert alone.http.patch(where, json={"role": "viewer"}, headers=CONSOLE).status_code == 200


@pytest.mark.parametrize("body", [
    {"name": "", "role": "viewer"},
    {"name": "two words", "role": "viewer"},
    {"name": "x" * 101, "role": "viewer"},
    {"name": "kim", "role": "owner"},
    {"name": "kim", "role": "viewer", "password": "tiny"},
    {"name": "kim", "role": "viewer", "password": "kim kim kim kim"},
    {"name": "root", "role": "viewer"},
    {"name": "ROOT", "role": "viewer"},
])  # fmt: skip
def test_an_account_that_cannot_be_is_refused(api, body):
    reply = api.post("/v1/accounts", json=body, headers=CONSOLE)
    assert reply.status_code == (409 if body["name"].lower() == "root" else 422)
    assert str(body.get("password", "nothing")) not in reply.text


# ---------------------------------------------------------------- people of an identity provider


def vouch(api, **changes):
    body = {"issuer": "https://id.example", "subject": "u-1", "name": "lola@shop.example", "role": "planner"}
    return api.post("/v1/sessions/identity", json=body | changes, headers=CONSOLE)


def test_the_provider_says_name_and_role(api):
    first = vouch(api).json()["account"]
    assert (first["kind"], first["role"], first["name"]) == ("oidc", "planner", "lola@shop.example")
    again = vouch(api, role="manager", name="lola.new@shop.example").json()
    assert again["account"]["account_id"] == first["account_id"]
    me = api.get("/v1/me", headers={"X-API-Key": again["token"]}).json()
    assert (me["name"], me["role"]) == ("lola.new@shop.example", "manager")
    where = f"/v1/accounts/{first['account_id']}"
    assert api.http.patch(where, json={"role": "viewer"}, headers=CONSOLE).status_code == 409
    assert api.http.put(f"{where}/password", headers=CONSOLE).status_code == 409
    assert attempt(api, "lola.new@shop.example", PASSWORD).status_code == 401
    assert vouch(api, subject="u-2", name="root").status_code == 409  # no taking over of a local name
    api.http.patch(where, json={"disabled": True}, headers=CONSOLE)
    assert vouch(api).status_code == 401


# ---------------------------------------------------------------- the audit


def test_every_change_is_in_the_audit_with_the_person(api):
    headers = signed_in(api, "root")
    made = api.post("/v1/accounts", json={"name": "mia", "role": "viewer"}, headers=headers).json()
    assert len(made["password"]) >= module.SHORTEST
    where = f"/v1/accounts/{made['account']['account_id']}"
    for change in ({"role": "planner"}, {"disabled": True}, {"disabled": False}):
        assert api.http.patch(where, json=change, headers=headers).status_code == 200
    api.http.put(f"{where}/password", headers=headers)
    key = api.post("/v1/keys", json={"name": "till", "role": "viewer"}, headers=headers).json()["key"]
    api.http.delete(f"/v1/keys/{key['key_id']}", headers=headers)
    page = api.get("/v1/audit", params={"actor": "root", "limit": 7}, headers=headers).json()
    assert [(e["action"], e["subject"]) for e in reversed(page["items"])] == [
        ("account.created", "mia"),
        ("account.role", "mia"),
        ("account.disabled", "mia"),
        ("account.enabled", "mia"),
        ("account.password_reset", "mia"),
        ("key.created", "till"),
        ("key.revoked", "till"),
    ]
    assert made["password"] not in str(page)
    assert api.services.audit.broken() is None


def test_the_audit_is_read_in_pages_with_the_moves_of_the_champion(api):
    moved = api.services.store.promote("1", expected_previous=None, actor="nora", reason="first")
    assert isinstance(moved, Promotion)
    for n in range(3):
        account(api, f"p.{n}")
    seen, cursor = [], None
    while True:
        params = {"limit": 4, "cursor": cursor} if cursor else {"limit": 4}
        page = api.get("/v1/audit", params=params, headers=CONSOLE).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    whole = api.get("/v1/audit", params={"limit": 1000}, headers=CONSOLE).json()["items"]
    assert seen == whole
    assert len({entry["entry_id"] for entry in seen}) == len(seen)
    assert [e["at"] for e in seen] == sorted((e["at"] for e in seen), reverse=True)
    (move,) = api.get("/v1/audit", params={"action": "model.promote"}, headers=CONSOLE).json()["items"]
    assert (move["actor"], move["subject"], move["facts"]) == ("nora", "1", {"reason": "first"})
    today = dt.datetime.now(dt.UTC).date()
    tomorrow = str(today + dt.timedelta(days=1))
    assert api.get("/v1/audit", params={"from": tomorrow}, headers=CONSOLE).json()["items"] == []
    assert api.get("/v1/audit", params={"to": str(today)}, headers=CONSOLE).json()["items"]
    words = api.get("/v1/audit/words", headers=CONSOLE).json()
    assert "nora" in words["actors"]
    assert "model.promote" in words["actions"]
    assert api.get("/v1/audit", params={"cursor": "bm9uZQ"}, headers=CONSOLE).status_code == 422


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"])
def test_the_audit_is_never_changed(api, statement):
    with pytest.raises(sa.exc.DatabaseError, match="never changed"), api.services.store.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_tampered_audit_is_found(store):
    people = module.Accounts(store)
    for name in ("one", "two", "three"):
        people.create(name, "viewer", "tests")
    second = int(Audit(store).page().items[1].entry_id[1:])
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit_log DISABLE TRIGGER audit_log_final"))
        connection.execute(sa.text("UPDATE audit_log SET actor = 'x' WHERE audit_id = :i"), {"i": second})
    assert Audit(store).broken() == second
