from contextlib import closing
from http.client import HTTPConnection

import pytest

KEY = "a-long-test-key"
ROUTES = [
    "/docs",
    "/openapi.json",
    "/predict",
    "/historical-predictions",
    "/v1/uploads",
    "/v1/nowhere",
    "/",
    "/health/",
]
WITHOUT_KEY = [
    {},
    {"X-API-Key": "wrong"},
    {"X-API-Key": KEY + "x"},
    {"X-API-Key": KEY[:-1]},
    {"X-API-Key": ""},
    {"X-API-Key": "\u00e9"},
    {"Authorization": "Bearer"},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": KEY},
    {"Cookie": f"X-API-Key={KEY}"},
]
WITH_KEY = [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"}]


@pytest.fixture(scope="module")
def locked(serve, make_settings):
    with serve(make_settings(api_token=KEY)) as made:
        yield made


def as_bytes(headers):
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("headers", WITHOUT_KEY, ids=range(len(WITHOUT_KEY)))
def test_without_the_key_nothing_answers(locked, path, headers):
    reply = locked.get(path, headers=as_bytes(headers))
    assert reply.status_code == 401
    assert reply.json()["code"] == "unauthorized"
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_every_route_of_the_document_needs_the_key(locked):
    document = locked.get("/openapi.json", headers=WITH_KEY[0]).json()
    without = {
        path
        for path, operations in document["paths"].items()
        for method in operations
        if locked.http.request(method, path).status_code != 401
    }
    assert without == {"/health", "/livez", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"}


@pytest.mark.parametrize("headers", WITH_KEY, ids=range(len(WITH_KEY)))
def test_the_key_opens(locked, headers):
    assert locked.get("/openapi.json", headers=headers).status_code == 200


def test_with_a_key_any_host_name_may_be_used(locked):
    assert locked.get("/openapi.json", headers={**WITH_KEY[0], "Host": "forecast.example"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8800", "[::2]", ""])
def test_an_open_api_answers_to_local_names_only(bare, host):
    assert bare.get("/v1/uploads", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8800", "127.0.0.1:1", "[::1]:8800", "LOCALHOST"])
def test_local_names(bare, host):
    assert bare.get("/v1/uploads", headers={"Host": host}).status_code == 200


@pytest.fixture(scope="module")
def named(serve, make_settings):
    """With a key, and names of its own."""
    names = {"allowed_hosts": "sales.example, .shop.example", "api_shown_url": "https://api.example"}
    with serve(make_settings(api_token=KEY, **names)) as made:
        yield made


@pytest.mark.parametrize(
    "host", ["evil.example", "sales.example.evil", "shop.example", "[", "a b", "\u00e9", "@localhost:x"]
)
@pytest.mark.parametrize("path", ["/livez", "/predict", "/docs"])
def test_where_names_are_set_no_other_is_answered(named, host, path):
    reply = named.get(path, headers=as_bytes({**WITH_KEY[0], "Host": host}))
    assert reply.status_code in (400, 403)
    assert "traceresponse" in reply.headers or reply.status_code == 400


@pytest.mark.parametrize(
    "host", ["localhost:1", "127.0.0.1", "[::1]:8800", "Sales.Example:443", "a.shop.example", "api.example"]
)
def test_the_names_that_are_set(named, host):
    assert named.get("/openapi.json", headers={**WITH_KEY[0], "Host": host}).status_code == 200


def test_two_host_names_are_none(named):
    with closing(HTTPConnection(named.url.removeprefix("http://"))) as connection:
        connection.putrequest("GET", "/openapi.json", skip_host=True)
        for host in ("localhost", "evil.example"):
            connection.putheader("Host", host)
        connection.putheader("X-API-Key", KEY)
        connection.endheaders()
        assert connection.getresponse().status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_changes_nothing(bare, origin):
    reply = bare.post("/v1/retrain", headers={"Origin": origin, "Content-Type": "text/plain"})
    assert reply.status_code == 403


def test_a_page_of_our_own_origin_may(bare):
    assert bare.post("/v1/models/rollback", headers={"Origin": bare.url}).status_code == 422


@pytest.mark.parametrize("path", ["/livez", "/v1/nowhere", "/docs"])
def test_headers_of_every_answer(bare, path):
    reply = bare.get(path)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["X-Frame-Options"] == "DENY"
    assert len(reply.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<b>", "", "\u00e9"], ids=range(5))
def test_a_strange_request_id_is_replaced(bare, given):
    reply = bare.get("/livez", headers=as_bytes({"X-Request-ID": given}))
    assert reply.headers["X-Request-ID"] != given


def test_unknown_paths_and_methods_are_problems(bare):
    assert bare.get("/v1/nowhere").json()["code"] == "not_found"
    assert bare.http.delete("/predict").json()["code"] == "method_not_allowed"


def test_a_fault_of_ours_is_answered_like_every_other_error(bare, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(bare.services.board, "jobs", broken)
    reply = bare.get("/v1/jobs", headers={"X-Request-ID": "r-500"})
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"] == "r-500"
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret" not in reply.text
    assert bare.get("/livez").status_code == 200
