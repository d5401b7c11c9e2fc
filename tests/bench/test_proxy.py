"""The proxy that sees writes pass, on a small HTTP server and on PostgreSQL."""

from __future__ import annotations

import http.server
import threading

import psycopg2
import pytest
import requests

from bench.proxy import Proxy, Trap


@pytest.fixture
def server():
    """Keeps what is put into it."""
    kept: dict[str, bytes] = {}

    class Keeps(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            wanted = int(self.headers["Content-Length"])
            body = self.rfile.read(wanted)
            if len(body) == wanted:
                kept[self.path] = body
            self._answer(b"")

        def do_GET(self):
            self._answer(kept.get(self.path, b""))

        def _answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    proxy = Proxy(made.server_port, "http", "web")
    yield proxy, kept
    proxy.close()
    made.shutdown()
    made.server_close()


def put(proxy, path, body=b"x" * 300_000):
    return requests.put(f"http://127.0.0.1:{proxy.port}/{path}", data=body, timeout=10)


def test_writes_are_named_in_their_order_and_reads_are_not(server):
    proxy, kept = server
    proxy.trap = Trap()
    assert put(proxy, "a").status_code == put(proxy, "b?part=1").status_code == 200
    assert requests.get(f"http://127.0.0.1:{proxy.port}/a", timeout=10).content == kept["/a"]
    assert proxy.trap.names == ["web PUT /a", "web PUT /b"]
    assert proxy.trap.struck == 0


@pytest.mark.parametrize(("when", "there"), [("before", False), ("during", False), ("after", True)])
def test_it_strikes_at_an_exact_write(server, when, there):
    proxy, kept = server
    struck = []
    proxy.trap = Trap(lambda: struck.append(sorted(kept)), 1, when)
    put(proxy, "a")
    with pytest.raises(requests.ConnectionError):
        put(proxy, "b")
    put(proxy, "c")
    assert struck == [["/a", "/b"] if there else ["/a"]]
    assert ("/b" in kept) is there
    assert "/c" in kept


def test_a_store_that_is_cut_stays_cut(server):
    proxy, kept = server
    proxy.trap = Trap(number=1, when="during", wanted=lambda name: "/x" in name, every=True)
    put(proxy, "other")
    put(proxy, "x1")
    for name in ("x2", "x3"):
        with pytest.raises(requests.ConnectionError):
            put(proxy, name)
    assert (proxy.trap.struck, sorted(kept)) == (2, ["/other", "/x1"])


@pytest.mark.parametrize(("when", "rows"), [("before", 0), ("after", 1)])
def test_commits_of_postgresql(postgres, database_url, when, rows):
    proxy = Proxy(postgres.port, "sql", "db")
    direct = psycopg2.connect(database_url.replace("+psycopg2", ""))
    direct.autocommit = True
    direct.cursor().execute("CREATE TABLE t (x int)")
    through = psycopg2.connect(database_url.replace("+psycopg2", "").replace(f":{postgres.port}/", f":{proxy.port}/"))
    cursor = through.cursor()
    cursor.execute("SELECT 1")
    proxy.trap = Trap(number=1, when=when)
    through.commit()  # nothing was changed: not a write
    cursor.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg2.OperationalError):
        through.commit()
    assert proxy.trap.names == ["db INSERT INTO t", "db COMMIT"]
    counted = direct.cursor()
    counted.execute("SELECT count(*) FROM t")
    assert counted.fetchone() == (rows,)
    direct.close()
    proxy.close()
