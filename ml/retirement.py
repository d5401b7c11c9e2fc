"""Giving up the files of old models: what is kept, and in which order the others go.

Kept are the newest versions, every version with an alias, the champion and the one before it, and every version that
has answered something in the log of predictions, so that each of its answers can be replayed.

The audit row is written first; from then on the version cannot be promoted. Then the files go, then the version is
tagged. A run that was killed between is finished by the next: the row is there, the tag is not.
"""

from __future__ import annotations

from ml.errors import Conflict
from ml.records import ModelInfo
from ml.registry import Registry
from ml.store import Store


def retire_old(registry: Registry, store: Store, keep: int, *, actor: str) -> list[str]:
    """Give up the files of every version that nothing needs; returns these versions, oldest first.

    ``keep`` is how many of the newest versions stay in any case. Raises ServiceDown; what was begun is finished the
    next time.
    """
    present = [info for info in registry.versions() if info.retired_at is None]
    begun = store.retired_versions()
    going = [info.version for info in present if info.version in begun]
    going += _unneeded([info for info in present if info.version not in begun], store, keep)
    done = []
    for version in sorted(going, key=int):
        try:
            store.retire(version, actor=actor, reason=f"not among the newest {keep}, no alias, no prediction names it")
        except Conflict:  # it became champion since we looked
            continue
        registry.free(version)
        done.append(version)
    return done


def _unneeded(present: list[ModelInfo], store: Store, keep: int) -> list[str]:
    """Of versions, newest first, those that may go."""
    ruling = {store.champion(), _before(store)}
    old = [info.version for info in present[keep:] if not info.aliases and info.version not in ruling]
    named = store.named_by_predictions(old)
    return [version for version in old if version not in named]


def _before(store: Store) -> str | None:
    """Where a rollback would go."""
    try:
        return store.rollback_target()
    except Conflict:
        return None
