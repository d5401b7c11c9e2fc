"""The steps of ``retrain_sales_model`` around the models: which data, who becomes champion, whether it serves.

They import no model code: a task that only moves an alias should start in a second.
"""

from __future__ import annotations

import hashlib
import json
import time

from ml.context import Context, Json, log
from ml.errors import ServiceDown
from ml.lake import require_snapshot
from ml.promotion import decide
from ml.records import RETRAIN_DAG, Decision, Evaluation, ModelInfo, Recipe
from ml.registry import DECISION
from ml.settings import Settings

CONFIRM_SECONDS = 90


def snapshot(c: Context) -> Json:
    """Fix which data this run uses: the published snapshot of now, whatever is published meanwhile."""
    found = require_snapshot(c.lake, c.conf.get("data_version"))
    c.put("snapshot.json", {"data_version": found.data_version})
    facts = {"data_version": found.data_version, "rows": found.rows, "date_to": str(found.date_to)}
    return c.logged(RETRAIN_DAG, facts, params=facts | {"seed": seed_of(c), "trials": trials_of(c)})


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
    """Move the champion alias if the gate says so, under the database's lock and with one audit row."""
    decision = Decision.model_validate(c.json("decision.json"))
    version, previous = c.json("challenger.json")["version"], c.json("champion.json")["version"]
    if not decision.promote:
        waiting = "; a manager can promote it in the console" if decision.needs_approval else ""
        return c.logged(
            RETRAIN_DAG, {"promoted": None, "champion": previous, "note": decision.reason + waiting}, finish=True
        )

    def move() -> None:
        c.registry.set_alias("champion", version)

    if c.store is None:
        move()
    else:
        reason = decision.reason
        c.store.promote(
            version, expected_previous=previous, actor=RETRAIN_DAG, reason=reason, decision=decision, move=move
        )
    c.registry.drop_alias("challenger")
    return c.logged(RETRAIN_DAG, {"promoted": version, "champion": version, "note": decision.reason}, finish=True)


def confirm(c: Context) -> Json:
    """Wait until the API serves the champion and its golden rows agree."""
    champion = c.registry.alias("champion")
    if champion is None:
        return {"confirmed": False, "note": "There is no champion."}
    return _confirmed(c.settings, champion)


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
