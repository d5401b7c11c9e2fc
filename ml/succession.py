"""The steps of ``retrain_sales_model`` around the models: which data, who becomes champion, whether it serves.

They import no model code: a task that only moves an alias should start in a second.

The audit in PostgreSQL is the truth about the champion, MLflow's alias follows it. A promotion writes its row, moves
the alias and commits, all under one lock: a process killed before the commit has changed nothing but, at worst, the
alias, and :func:`settle` puts that back at the start of the next step, promotion or API.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Literal

from ml.context import Context, Json, log
from ml.errors import Conflict, ControlRoomError, ServiceDown
from ml.lake import require_snapshot
from ml.promotion import Rules, decide
from ml.records import RETRAIN_DAG, Decision, Evaluation, ModelInfo, Promotion, Recipe
from ml.registry import DECISION, Registry
from ml.retirement import retire_old
from ml.settings import Settings
from ml.store import Store

CONFIRM_SECONDS = 90
RULES = ("min_gain", "confidence", "max_segment_loss", "coverage_band")  # what a run may set; the DAG has a Param each
JUDGED_AGAIN = 3  # how often a challenger that others overtook is put before the gate anew
REPAIR = "repair"  # stands as actor in the audit where a champion was found that no row explains


def snapshot(c: Context) -> Json:
    """Fix which data this run uses: the published snapshot of now, whatever is published meanwhile."""
    found = require_snapshot(c.lake, c.conf.get("data_version"))
    c.put("snapshot.json", {"data_version": found.data_version})
    facts = {"data_version": found.data_version, "rows": found.rows, "date_to": str(found.date_to)}
    champion = c.registry.alias("champion")
    unchanged = champion is not None and champion.data_version == found.data_version
    c.logged(RETRAIN_DAG, facts, params=facts | {"seed": seed_of(c), "trials": trials_of(c)})
    return facts | {"unchanged": unchanged}


def decide_promotion(c: Context) -> Json:
    """Put the evidence before the gate."""
    rows, champion = c.frame("backtest.parquet"), c.json("champion.json")
    decision = decide(
        rows,
        Evaluation.model_validate(c.json("evaluation.json")),
        same_data=champion["data_version"] == c.json("snapshot.json")["data_version"],
        challenger=Recipe.model_validate(c.json("recipe.json")),
        foreign=champion["known"] if champion["version"] else None,
        policy=c.option("policy", c.settings.promotion_policy),
        rules=rules_of(c),
    )
    version = c.json("challenger.json")["version"]
    c.put("decision.json", json.loads(decision.model_dump_json()))
    c.registry.tag(version, verdict=decision.verdict)
    log.info("%s", decision.reason)
    facts = {"verdict": decision.verdict, "promote": decision.promote, "reason": decision.reason}
    gain = {"gain": decision.gain} if decision.gain is not None else {}
    texts = {DECISION: decision.model_dump_json(indent=1)}
    return c.logged(RETRAIN_DAG, facts, metrics=gain, tags={"verdict": decision.verdict}, texts=texts)


def promote(c: Context) -> Json:
    """Move the champion alias if the gate says so, under the database's lock and with one audit row.

    When somebody else has moved the champion since the decision, the challenger is judged again, against that one.
    """
    version = c.json("challenger.json")["version"]
    decision, previous = _decided(c)
    for _ in range(JUDGED_AGAIN):
        if not decision.promote:
            break
        try:
            return _promoted(c, version, previous, decision)
        except Conflict as error:
            if "champion" not in error.facts:
                raise
            log.info("%s", error)
        decision, previous = _judged_again(c)
    if decision.promote:
        return _promoted(c, version, previous, decision)
    waiting = "; a manager can promote it in the console" if decision.needs_approval else ""
    facts = {"promoted": None, "champion": previous, "note": decision.reason + waiting}
    return c.logged(RETRAIN_DAG, facts, finish=True)


def _decided(c: Context) -> tuple[Decision, str | None]:
    """What the gate said, and against which champion."""
    return Decision.model_validate(c.json("decision.json")), c.json("champion.json")["version"]


def _judged_again(c: Context) -> tuple[Decision, str | None]:
    from ml.challenger import backtest_models  # seconds of imports, and it is rare that somebody was faster

    backtest_models(c)
    decide_promotion(c)
    return _decided(c)


def _promoted(c: Context, version: str, previous: str | None, decision: Decision) -> Json:
    if c.store is None:
        c.registry.set_alias("champion", version)
        drop_challenger(c.registry, version)
        champion: str | None = version
    else:
        move_champion(
            c.registry, c.store, version, expected=previous, actor=RETRAIN_DAG, reason=decision.reason,
            decision=decision, once=True,
        )  # fmt: skip
        champion = c.store.champion()
    return c.logged(RETRAIN_DAG, {"promoted": version, "champion": champion, "note": decision.reason}, finish=True)


def move_champion(
    registry: Registry,
    store: Store,
    version: str,
    *,
    expected: str | None,
    actor: str,
    reason: str,
    decision: Decision | None = None,
    action: Literal["promote", "rollback"] = "promote",
    once: bool = False,
) -> Promotion:
    """Make ``version`` champion if the champion still is ``expected``: one audit row, then the alias, as one step.

    ``once``: a version that was promoted before is left as it is (see :meth:`ml.store.Store.promote`).

    Raises
    ------
    Conflict
        Somebody else has moved the champion, or the version is retired; nothing is changed.
    """
    moved = store.promote(
        version,
        expected_previous=expected,
        actor=actor,
        reason=reason,
        decision=decision,
        action=action,
        move=lambda: registry.set_alias("champion", version),
        once=once,
    )
    drop_challenger(registry, version)
    return moved


def drop_challenger(registry: Registry, version: str) -> None:
    """A champion is no challenger any more; the challenger of another run stays one."""
    challenger = registry.alias("challenger")
    if challenger is not None and challenger.version == version:
        registry.drop_alias("challenger")


def settle(registry: Registry, store: Store) -> str | None:
    """Bring MLflow's alias and the audit to one word, as a killed process may have left them; returns what was done.

    The audit is the truth: an alias that says otherwise is moved back. Where there is no audit yet, a champion whose
    bundle was recorded is entered with the decision of its run, as the promotion that made it would have done.
    """
    last = store.last_move()
    if last is None:
        return _entered(registry, store)
    moved = store.settle(lambda: _version(registry), lambda version: registry.set_alias("champion", version))
    if moved is None:
        return None
    was = "was missing" if moved[0] is None else f"was at version {moved[0]}, which no row of the audit made champion"
    return f"The alias of the champion {was}: it is at version {moved[1]} again, as the audit says."


def _version(registry: Registry) -> str | None:
    found = registry.alias("champion")
    return None if found is None else found.version


def _entered(registry: Registry, store: Store) -> str | None:
    found = registry.alias("champion")
    if found is None or store.bundle_sha256(found.version) is None:
        return None
    reason = "found as champion without a row of the audit; its promotion was interrupted"
    decision = registry.report(found.version).decision
    store.promote(found.version, expected_previous=None, actor=REPAIR, reason=reason, decision=decision)
    return f"Version {found.version} is champion without a row of the audit: entered."


def settle_quietly(c: Context) -> None:
    """As :func:`settle`, at the start of a step; what is away is the step's own trouble, or none of it."""
    try:
        done = settle(c.registry, c.store) if c.store else None
    except ControlRoomError as error:
        log.warning("Whether alias and audit agree cannot be seen now: %s", error)
        return
    if done:
        log.warning("%s", done)


def confirm(c: Context) -> Json:
    """Wait until the API serves the champion and its golden rows agree; then give up models that nothing needs."""
    champion = c.registry.alias("champion")
    if champion is None:
        return {"confirmed": False, "note": "There is no champion."}
    return {**_confirmed(c.settings, champion), "retired": _retired(c)}


def _retired(c: Context) -> list[str]:
    """The versions whose files were given up now; a service that is away leaves that to the next run."""
    if c.store is None:
        return []
    try:
        return retire_old(c.registry, c.store, c.settings.keep_models, actor=RETRAIN_DAG)
    except ServiceDown as error:
        log.warning("Old models are kept until the next run: %s", error)
        return []


def _confirmed(settings: Settings, champion: ModelInfo) -> Json:
    import requests

    end = time.monotonic() + CONFIRM_SECONDS
    seen = "nothing"
    reached = False
    while time.monotonic() < end:
        try:
            health = requests.get(f"{settings.api}/health", timeout=5).json()
            reached = True
            served = health.get("champion") or {}
            seen = str(served.get("version"))
            if seen == champion.version:
                return {"confirmed": True, "version": seen, "parity": health.get("parity")}
        except (requests.RequestException, ValueError) as error:
            seen = type(error).__name__
            if not reached and end - time.monotonic() < CONFIRM_SECONDS - 10:
                return {"confirmed": False, "note": f"The API does not answer ({seen}); it will load it at its start."}
        time.sleep(1)
    raise ServiceDown("api", f"serves version {seen} instead of {champion.version} after {CONFIRM_SECONDS} s")


def seed_of(c: Context) -> int:
    """Another run is another throw: the seed follows from the run's id unless it is given."""
    given = c.conf.get("seed")
    return int(given) if given is not None else int(hashlib.sha256(c.run_id.encode()).hexdigest()[:6], 16)


def trials_of(c: Context) -> int:
    return int(c.option("trials", c.settings.tuning_trials))


def rules_of(c: Context) -> Rules:
    """The gate's bounds, those of this run before the usual ones."""
    asked: Json = {name: float(c.conf[name]) for name in RULES if c.conf.get(name) is not None}
    return Rules(**asked)
