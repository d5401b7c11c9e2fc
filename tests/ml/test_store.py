import datetime as dt
import json
import threading
import time

import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import ml.audit
import ml.scenarios
from ml import store as module
from ml.accounts import accounts, failures, sessions
from ml.copying import BULK_ROWS, TYPES, Logged
from ml.errors import BundleDamaged, Conflict, InputError, NotFound, ServiceDown
from ml.idempotency import requests
from ml.overrides import overrides
from ml.records import WHAT_IF, Answer, Decision, Gate, ModelRef, Preflight, ReadOptions, Support, Upload
from ml.store import HEAD, VERSION_TABLE, HistoryFilter, Store
from ml.webhooks import deliveries

EARLIER = [name for name in TYPES if name != "batch"]  # columns of the log before it had two parts
NOW = dt.datetime(2026, 1, 4, 10, 42, 11, 123456, tzinfo=dt.UTC)


def answer(day=1, store="S01", product="P001", prediction=21.5, **changes):
    values = {
        "date": dt.date(2026, 1, day),
        "store": store,
        "product": product,
        "prediction": prediction,
        "unit": "units/day",
        "interval": {"80": (16.0, 27.9), "95": (12.8, 32.5)},
        "support": Support(similar_days=28, level="ok"),
        "inputs": {"price": 9.99, "promotion": 1, "note": 'a "quoted", text'},
        "model": ModelRef(name="sales", version="8", alias="champion", run_id="r1"),
        "data_version": "d1",
        "request_id": "q1",
        "created_at": NOW,
    }
    return Answer(**(values | changes))


def logged(count, source="api", **changes):
    return [Logged(answer(day=i % 28 + 1, prediction=float(i), **changes), source) for i in range(count)]


def upload(upload_id="u1", sha256="aa", **changes):
    preflight = Preflight(
        filename="x.csv",
        format="csv",
        bytes=3,
        sha256=sha256,
        verdict="OK",
        purpose="training",
        dialect=ReadOptions(),
        preview=({"date": "2026-01-01", "bad": "nul\x00here"},),
    )
    values = {
        "upload_id": upload_id,
        "filename": "x.csv",
        "bytes": 3,
        "sha256": sha256,
        "status": "received",
        "purpose": "training",
        "created_at": NOW,
        "preflight": preflight,
    }
    return Upload(**(values | changes))


# ---------------------------------------------------------------- schema


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, module.metadata) == []
    others = {
        table.name for table in (requests, overrides, deliveries, accounts, sessions, failures, ml.audit.audit_log)
    }
    assert others <= set(module.metadata.tables)  # what other modules define is among them


def test_head_is_the_newest_revision():
    folder = module.Path(module.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_what_was_logged_before_the_leaner_log_is_there_after_it(database_url):
    store = Store(database_url)
    with store.begin() as connection:
        module.upgrade(connection, "0007")
        values = ", ".join(f"('{NOW}', '2026-01-05', 'S01', 'P001', '{{\"price\": 2.5, \"note\": null}}', {n}, 1, 2,"
            f" 0, 3, 'units/day', '8', NULL, 'r', 'd', 'api', 'old', 28, '{words}')"
            for n, words in enumerate(("[]", '["past_date"]', '["closed", "said \\"x\\""]')))  # fmt: skip
        connection.exec_driver_sql(f"INSERT INTO predictions ({', '.join(EARLIER)}) VALUES {values}")
    store.migrate()
    items = store.history().items
    assert [item.prediction for item in items] == [2.0, 1.0, 0.0]
    assert all(item.inputs == {"price": 2.5, "note": None} and item.support == 28 for item in items)
    column = module.predictions.c
    with store.engine.connect() as connection:
        found = connection.scalars(sa.select(column.warnings).order_by(column.prediction_id)).all()
    assert found == [None, ["past_date"], ["closed", 'said "x"']]
    store.close()


def test_the_log_is_parted_and_put_together_again_without_losing_a_row(database_url):
    store = Store(database_url)
    with store.begin() as connection:
        module.upgrade(connection, "0011")
        values = ", ".join(f"('{NOW}', '2026-01-05', 'S01', 'P001', '{{}}', {n}, 1, 2, 0, 3, 'units/day', '8', NULL,"
            f" 'r', 'd', 'job', 'old', 28, NULL)" for n in range(3))  # fmt: skip
        connection.exec_driver_sql(f"INSERT INTO predictions ({', '.join(EARLIER)}) VALUES {values}")
    store.migrate()
    before = {item.prediction_id for item in store.history().items}
    assert len(before) == 3
    assert {item.prediction_id for item in store.history().items} == before
    store.log_predictions(logged(BULK_ROWS) + logged(1))
    store.log_predictions(logged(2))
    after = store.history(limit=1000).items
    assert len({item.prediction_id for item in after}) == len(after) == 3 + BULK_ROWS + 3
    assert min(item.prediction_id for item in after[:-3]) > max(before)
    with store.engine.connect() as connection:
        parts = [connection.scalar(sa.text(f"SELECT count(*) FROM predictions_{part}")) for part in ("single", "bulk")]
    assert parts == [5, BULK_ROWS + 1]
    assert {item.prediction_id for item in _at(store, "0011")} == {item.prediction_id for item in after}
    store.migrate()
    assert {item.prediction_id for item in store.history(limit=1000).items} == {item.prediction_id for item in after}
    store.log_predictions(logged(1))
    assert store.newest_prediction() > after[0].prediction_id
    store.close()


def _at(store, revision):
    """The log's rows as an earlier version of this program has them."""
    with store.begin() as connection:
        connection.execute(sa.text("SET LOCAL search_path = public, audit"))
        command.downgrade(module._alembic(connection), revision)
        return connection.execute(sa.text("SELECT prediction_id FROM predictions")).all()


def test_six_processes_may_migrate_at_once_and_again_is_fast(database_url):
    stores = [Store(database_url) for _ in range(6)]
    errors = []

    def migrate(store):
        try:
            store.migrate()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=migrate, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    begin = time.perf_counter()
    stores[0].migrate()
    assert time.perf_counter() - begin < 0.1
    for store in stores:
        store.close()


def test_a_database_that_is_away_is_named_without_its_address():
    store = Store("postgresql://someone:secret-word@127.0.0.1:9/nothing")
    with pytest.raises(ServiceDown) as caught:
        store.check()
    assert caught.value.service == "database"
    assert "secret-word" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_connections_that_the_server_closed_are_replaced_unnoticed(store):
    store.log_predictions(logged(1))
    with store.engine.connect() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
    other = sa.create_engine(store.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with other.connect() as connection:
        query = sa.text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :name")
        assert connection.scalar(query, {"name": name}) > 0
    other.dispose()
    time.sleep(0.2)
    store.log_predictions(logged(1))
    assert len(store.history().items) == 2


# ---------------------------------------------------------------- predictions


@pytest.mark.parametrize("count", [1, 50, 51, 700])
def test_what_is_logged_comes_back_whichever_way_it_was_written(store, count):
    store.log_predictions(logged(count, warnings=("beyond the horizon", 'said "x"')))
    page = store.history(limit=1000)
    assert page.next_cursor is None
    assert [item.prediction for item in page.items] == [float(i) for i in reversed(range(count))]
    item = page.items[-1]
    assert item.created_at == NOW
    assert item.inputs == {"price": 9.99, "promotion": 1, "note": 'a "quoted", text'}
    assert item.interval == {"80": (16.0, 27.9), "95": (12.8, 32.5)}
    assert (item.model_version, item.source, item.support) == ("8", "api", 28)
    with store.engine.connect() as connection:
        warnings = connection.scalars(sa.select(module.predictions.c.warnings)).all()
    assert warnings == [["beyond the horizon", 'said "x"']] * count


def test_a_batch_is_logged_whole_or_not_at_all(store):
    rows = [*logged(60), Logged(answer(unit="bad\x00unit"), "api")]
    with pytest.raises(Exception, match=r"NUL|0x00"):
        store.log_predictions(rows)
    assert store.history().items == ()


def test_an_answer_without_intervals_or_alias(store):
    model = ModelRef(name="sales", version="8", alias=None, run_id="")
    store.log_predictions([Logged(answer(interval={}, model=model, store=""), "api")] * 51)
    item = store.history(limit=1).items[0]
    assert (item.interval, item.store) == ({}, "")


def test_pages_go_through_both_parts_of_the_log(store):
    """Rows that came alone and with many others, by series and by version, are found in the order of their making."""
    for version, products in (("8", ("P1", "P2")), ("9", ("P2", "P3")), ("8", ("P3", "P1"))):
        model = ModelRef(name="sales", version=version, alias=None, run_id="r")
        store.log_predictions([Logged(answer(product=p, model=model), "api") for p in products])
        many = [answer(product=products[k % 2], day=k % 28 + 1, model=model) for k in range(BULK_ROWS)]
        store.log_predictions([Logged(one, "forecast") for one in many])
    everything = store.history(limit=1000).items
    assert len(everything) == 3 * (2 + BULK_ROWS)
    assert {item.source for item in everything} == {"api", "forecast"}
    chosen = [
        HistoryFilter(),
        HistoryFilter(store="S01", product="P3"),
        HistoryFilter(store="S01", product="P3", version="9"),
        HistoryFilter(product="P2"),
        HistoryFilter(version="9"),
        HistoryFilter(version="8", source="api"),
        HistoryFilter(version="7"),
        HistoryFilter(from_date=dt.date(2026, 1, 3), to_date=dt.date(2026, 1, 4), has_actual=False),
    ]
    for wanted in chosen:
        expected = [item for item in everything if _fits(item, wanted)]
        seen, cursor = [], None
        while True:
            page = store.history(wanted, limit=97, cursor=cursor)
            seen += page.items
            if (cursor := page.next_cursor) is None:
                break
        assert seen == expected, wanted
        assert list(store.history_rows(wanted, limit=10_000)) == expected
        newest = store.newest_prediction()
        rows, first = store.history_extent(wanted, newest)
        assert rows == len(expected)
        assert store.history_frame(wanted, first, newest)["prediction_id"].to_list() == [
            item.prediction_id for item in expected
        ]
    assert store.named_by_predictions(["7", "8", "9"]) == {"8", "9"}


def _fits(item, wanted):
    between = (wanted.from_date or item.date) <= item.date <= (wanted.to_date or item.date)
    pairs = ((wanted.store, item.store), (wanted.product, item.product), (wanted.source, item.source))
    same = all(value in (None, found) for value, found in (*pairs, (wanted.version, item.model_version)))
    return between and same


def test_pages_are_stable_while_rows_arrive(store):
    store.log_predictions(logged(100))
    seen, cursor, first = [], None, True
    while first or cursor:
        page = store.history(limit=7, cursor=cursor)
        seen += [item.prediction_id for item in page.items]
        cursor, first = page.next_cursor, False
        store.log_predictions(logged(5))
    assert len(seen) == len(set(seen)) == 100
    assert seen == sorted(seen, reverse=True)


def test_filters(store):
    store.log_predictions(logged(28))
    store.log_predictions(logged(3, source="console", store="S02", product="P002"))
    store.upsert_actuals(frame([("S01", "P001", 5, 10.0)]))

    def days(**wanted):
        return sorted(item.date.day for item in store.history(HistoryFilter(**wanted)).items)

    assert days(from_date=dt.date(2026, 1, 26)) == [26, 27, 28]
    assert days(to_date=dt.date(2026, 1, 1)) == [1, 1]
    assert days(store="S02") == days(product="P002") == days(source="console") == [1, 2, 3]
    assert days(version="9") == []
    assert days(has_actual=True) == [5]
    assert len(days(has_actual=False)) == 30


def test_further_filters(store):
    early, none = NOW - dt.timedelta(days=2), Support(similar_days=0, level="none")
    store.log_predictions([Logged(answer(day=1, created_at=early), "api"), Logged(answer(day=2, support=none), "api")])
    store.log_predictions([Logged(answer(day=3, created_at=NOW.replace(hour=23, minute=59)), "api")])
    store.upsert_actuals(frame([("S01", "P001", 1, 10.0), ("S01", "P001", 2, 30.0), ("S01", "P001", 3, 20.0)]))

    def days(**wanted):
        return sorted(item.date.day for item in store.history(HistoryFilter(**wanted)).items)

    assert days(made_from=NOW.date()) == [2, 3]
    assert days(made_to=NOW.date()) == [1, 2, 3]
    assert days(made_to=early.date()) == [1]
    assert (days(supported=False), days(supported=True)) == ([2], [1, 3])
    assert (days(outside="80"), days(outside="95")) == ([1, 2], [1])


@pytest.mark.parametrize(
    "cursor", ["", "x", "AAAA", "cDE=x", "é", "cA", "p1", "LTE", "cDk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"]
)
def test_a_cursor_that_is_not_ours_is_refused(store, cursor):
    with pytest.raises(InputError) as caught:
        store.history(cursor=cursor)
    assert caught.value.field == "cursor"


def test_one_prediction_with_its_error(store):
    store.log_predictions([Logged(answer(day=5, prediction=12.0), "api")])
    (item,) = store.history().items
    assert (item.actual, item.error) == (None, None)
    store.upsert_actuals(frame([("S01", "P001", 5, 10.0)]))
    item = store.prediction(item.prediction_id)
    assert (item.actual, item.error) == (10.0, 2.0)
    with pytest.raises(NotFound, match="999"):
        store.prediction(999)


def frame(rows, **more):
    return pl.DataFrame(
        [{"store": s, "product": p, "date": dt.date(2026, 1, d), "sales": v} | more for s, p, d, v in rows]
    )


def test_actuals_are_corrected_not_doubled(store):
    rows = [("S01", "P001", 1, 1.0), ("S01", "P001", 2, None), ("S01", "P001", 3, 3.0), ("S01", "P001", 3, 4.0)]
    assert store.upsert_actuals(frame(rows), data_version="d1") == 2
    assert store.upsert_actuals(frame(rows), data_version="d1") == 0
    assert store.upsert_actuals(frame([("S01", "P001", 1, 9.0)], data_version="d2")) == 1
    with store.engine.connect() as connection:
        found = connection.execute(sa.select(module.actuals).order_by(module.actuals.c.date)).all()
    assert [(row.date.day, row.sales, row.data_version) for row in found] == [(1, 9.0, "d2"), (3, 4.0, "d1")]


# ---------------------------------------------------------------- uploads and bundles


def test_uploads_come_back_and_equal_content_is_recognised(store):
    first = store.add_upload(upload())
    assert first.duplicate_of is None
    again = store.add_upload(upload("u2"))
    assert (again.upload_id, again.duplicate_of) == ("u1", "u1")
    assert store.add_upload(upload("u3", purpose="predict")).duplicate_of is None
    assert store.upload("u1").preflight.preview[0]["bad"] == "nul\ufffdhere"
    assert [u.upload_id for u in store.uploads(purpose="predict")] == ["u3"]
    with pytest.raises(NotFound):
        store.upload("u2")
    with pytest.raises(NotFound):
        store.save_upload(upload("u9", "bb"))


def test_uploads_move_through_their_statuses(store):
    store.add_upload(upload("u1", "aa"))
    store.add_upload(upload("u2", "bb"))
    store.set_upload_status(["u1", "u2"], "accepted")
    store.set_upload_status(["u1"], "processed", "d7")
    done = store.upload("u1")
    assert (done.status, done.data_version) == ("processed", "d7")
    assert done.accepted_at is not None
    assert done.processed_at >= done.accepted_at
    assert [u.upload_id for u in store.uploads(status="accepted")] == ["u2"]


def test_a_version_keeps_its_manifest(store):
    store.record_bundle("1", "a" * 64)
    store.record_bundle("1", "a" * 64)
    with pytest.raises(BundleDamaged, match="version 1"):
        store.record_bundle("1", "b" * 64)
    with pytest.raises(BundleDamaged, match="no manifest was recorded"):
        store.require_bundle("2", "a" * 64)
    assert store.bundle_sha256("1") == "a" * 64


# ---------------------------------------------------------------- promotions

DECISION = Decision(
    verdict="better",
    promote=True,
    needs_approval=False,
    gain=0.1,
    gates=(Gate(name="baseline", passed=True, value=1e-7, bound=1.0, note="é"),),
    reason="beats",
)


def promote(store, version, expected, **changes):
    arguments = {"expected_previous": expected, "actor": "ana", "reason": "better", "decision": DECISION}
    return store.promote(version, **(arguments | changes))


def test_promotions_are_chained_and_rollback_walks_back(store):
    assert store.champion() is None
    assert promote(store, "1", None).previous is None
    promote(store, "2", "1")
    promote(store, "9", "2", action="reject", move=lambda: pytest.fail("a rejected version moves nothing"))
    promote(store, "3", "2")
    assert store.rollback_target() == "2"
    promote(store, "2", "3", action="rollback")
    assert store.rollback_target() == "1"
    promote(store, "1", "2", action="rollback")
    with pytest.raises(Conflict, match="no earlier champion"):
        store.rollback_target()
    assert store.champion() == "1"
    actions = [(p.action, p.version, p.previous) for p in reversed(store.promotions())]
    assert actions == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("reject", "9", "2"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("rollback", "1", "2"),
    ]
    assert store.promotions()[0].decision == DECISION
    assert store.broken_promotion() is None


def test_nothing_is_recorded_when_the_alias_cannot_be_moved(store):
    def away():
        raise ServiceDown("mlflow")

    with pytest.raises(ServiceDown):
        promote(store, "1", None, move=away)
    assert store.promotions() == []
    promote(store, "1", None)


def test_a_retried_promotion_leaves_one_row_and_moves_again(store):
    moves = []
    first = promote(store, "1", None, move=lambda: moves.append("1"))
    again = promote(store, "1", None, move=lambda: moves.append("1"))
    assert first == again
    assert moves == ["1", "1"]
    assert len(store.promotions()) == 1


def test_a_decision_against_an_older_champion_is_refused(store):
    promote(store, "1", None)
    promote(store, "2", "1")
    with pytest.raises(Conflict, match="champion is version 2"):
        promote(store, "3", "1", move=lambda: pytest.fail("must not move"))


def test_twenty_racing_promotions_leave_one_winner_and_a_valid_chain(store):
    promote(store, "0", None)
    alias, results, start = ["0"], [], threading.Barrier(20)

    def race(version):
        start.wait()
        try:
            results.append(promote(store, version, "0", move=lambda: alias.append(version)).version)
        except Conflict:
            results.append(None)

    threads = [threading.Thread(target=race, args=(str(i + 1),)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [version for version in results if version]
    assert len(results) == 20
    assert len(winners) == 1
    assert alias == ["0", winners[0]]
    assert store.champion() == winners[0]
    assert len(store.promotions()) == 2
    assert store.broken_promotion() is None


@pytest.mark.parametrize(
    "statement", ["UPDATE promotions SET actor = 'x'", "DELETE FROM promotions", "TRUNCATE promotions"]
)
def test_audit_rows_cannot_be_changed(store, statement):
    promote(store, "1", None)
    with pytest.raises(sa.exc.DatabaseError, match="never changed"), store.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_tampered_audit_is_found(store):
    for version, previous in (("1", None), ("2", "1"), ("3", "2")):
        promote(store, version, previous)
    second = store.promotions()[1].promotion_id
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE promotions DISABLE TRIGGER promotions_final"))
        changed = json.dumps(json.loads(DECISION.model_dump_json()) | {"gain": 0.9})
        connection.execute(
            sa.text("UPDATE promotions SET decision = CAST(:d AS jsonb) WHERE promotion_id = :i"),
            {"d": changed, "i": second},
        )
    assert store.broken_promotion() == second


def test_a_late_retry_does_not_undo_what_was_decided_after_it(store):
    promote(store, "1", None)
    promote(store, "2", "1", once=True)
    promote(store, "1", "2", action="rollback")
    moves = []
    late = promote(store, "2", "1", once=True, move=lambda: moves.append("2"))
    assert (late.version, late.action, moves) == ("2", "promote", [])
    assert store.champion() == "1"
    assert len(store.promotions()) == 3


def test_the_alias_is_put_back_to_what_the_audit_says(store):
    alias = ["1"]
    assert store.settle(lambda: alias[-1], alias.append) is None  # no audit: nothing to compare with
    promote(store, "1", None)
    assert store.settle(lambda: alias[-1], alias.append) is None
    alias.append("2")
    assert store.settle(lambda: alias[-1], alias.append) == ("2", "1")
    assert alias[-1] == "1"


def test_an_alias_on_its_way_is_left_alone(store, database_url):
    promote(store, "1", None)
    other, seen = Store(database_url), []

    def while_moving():
        seen.append(other.settle(lambda: "2", lambda version: pytest.fail("must not move")))

    promote(store, "2", "1", move=while_moving)
    other.close()
    assert seen == [None]


def test_a_retired_version_is_never_champion_again(store):
    promote(store, "1", None)
    promote(store, "2", "1")
    with pytest.raises(Conflict, match="Version 2 is the champion"):
        store.retire("2", actor="ana", reason="old")
    gone = store.retire("1", actor="ana", reason="old")
    assert store.retire("1", actor="ben", reason="again") == gone
    assert store.retired_versions() == {"1"}
    with pytest.raises(Conflict, match=r"version 1 were given up .* \(old\)"):
        promote(store, "1", "2", action="rollback", move=lambda: pytest.fail("must not move"))
    assert store.champion() == "2"
    assert store.broken_promotion() is None


def test_reigns_follow_each_other_without_a_gap(store):
    assert store.champions().items == ()
    promote(store, "1", None, reason="first one")
    promote(store, "9", "1", action="reject")
    promote(store, "2", "1")
    store.retire("9", actor="ana", reason="old")
    promote(store, "1", "2", action="rollback", actor="ben", reason="worse", decision=None)
    newest, middle, first = store.champions().items
    assert [reign.version for reign in (first, middle, newest)] == ["1", "2", "1"]
    assert (first.until, middle.until, newest.until) == (middle.since, newest.since, None)
    assert (first.actor, first.reason, first.previous, first.verdict, first.gain) == (
        "ana", "first one", None, "better", 0.1,
    )  # fmt: skip
    assert (newest.action, newest.actor, newest.verdict) == ("rollback", "ben", None)
    page = store.champions(limit=2)
    rest = store.champions(limit=2, cursor=page.next_cursor)
    assert (*page.items, *rest.items) == (newest, middle, first)
    assert rest.next_cursor is None


def test_versions_that_predictions_name(store):
    for version in ("3", "5"):
        model = ModelRef(name="sales", version=version, alias=None, run_id="r")
        store.log_predictions(logged(2, model=model))
    assert store.named_by_predictions(["1", "3", "4", "5"]) == {"3", "5"}
    assert store.named_by_predictions([]) == frozenset()


def test_rows_of_one_request_are_found_together(store):
    store.log_predictions(logged(2, request_id="before"))
    store.log_predictions(logged(3, request_id="mine"))
    store.log_predictions(logged(2, request_id="after"))
    mine = [item.prediction_id for item in store.history().items if item.request_id == "mine"]
    found = store.prediction_context(mine[1])
    assert [item.prediction_id for item in found] == sorted(mine)
    with pytest.raises(NotFound):
        store.prediction_context(10**9)


def test_live_errors_take_the_last_prediction_made_before_the_day_was_known(store):
    late, far = {"warnings": ("past_date",)}, {"warnings": ("beyond_horizon",)}
    other = {"model": ModelRef(name="sales", version="9", alias=None, run_id="r1")}
    made = [(4, 90.0, {}), (4, 12.0, {}), (4, 11.0, late), (5, 5.0, {}), (5, 9.0, far), (5, 50.0, other), (6, 1.0, {})]
    store.log_predictions([Logged(answer(day=day, prediction=value, **more), "api") for day, value, more in made])
    store.log_predictions([Logged(answer(day=4, prediction=77.0), WHAT_IF)])  # tried out, not meant
    first, second = dt.date(2026, 1, 4), dt.date(2026, 1, 5)
    assert store.live_errors("8", first).is_empty()
    store.upsert_actuals(frame([("S01", "P001", 4, 10.0), ("S01", "P001", 5, 8.0)]))
    assert store.live_errors("8", first).rows() == [(first, 2.0, 10.0, 1), (second, 3.0, 8.0, 1)]
    assert store.live_errors("8", second).rows() == [(second, 3.0, 8.0, 1)]


def test_a_database_without_its_tables_is_not_ready_rather_than_broken(new_database):
    fresh = Store(new_database())
    for ask in (fresh.history, lambda: fresh.log_predictions([Logged(answer(), "api")])):
        with pytest.raises(ServiceDown, match="still being made"):
            ask()
    fresh.migrate()
    assert fresh.history().items == ()
    fresh.close()
