"""Moving the champion alias: verified, audited, and in force when the answer goes out."""

from __future__ import annotations

from typing import Literal

from api.services import Services
from ml import succession
from ml.errors import Conflict
from ml.records import Promotion


def move_champion(
    services: Services,
    version: str,
    *,
    action: Literal["promote", "rollback"],
    actor: str,
    reason: str,
    expected: tuple[str | None] | None = None,
) -> Promotion:
    """Promote or roll back to ``version``.

    ``expected`` holds what the caller takes for the champion now (None in it: that there is none); without it the
    champion is taken as it is found.

    Raises
    ------
    BundleDamaged
        The version does not load or does not agree with its golden rows: nothing is moved.
    Conflict
        It is champion already, another version is champion than expected, or the champion changed while this was
        asked.
    """
    registry, store = services.registry, services.store
    succession.settle(registry, store)
    last, alias = store.last_move(), registry.alias("champion")
    unaudited = alias.version if alias else None  # the alias counts only where there is no audit yet
    now = last.version if last else unaudited
    _refuse(version, now, last, (now,) if expected is None else expected)
    decision = registry.report(version).decision
    services.champion.get(version)
    promotion = succession.move_champion(
        registry, store, version, expected=now, actor=actor, reason=reason, decision=decision, action=action
    )
    services.champion.refresh()
    return promotion


def reject(services: Services, version: str, actor: str, reason: str) -> Promotion:
    """Note in the audit that a version was looked at and not wanted; raises Conflict for the champion, NotFound."""
    decision = services.registry.report(version).decision
    last = services.store.last_move()
    if last is not None and last.version == version:
        raise Conflict(f"Version {version} is the champion: roll back instead.", version=version)
    return services.store.promote(
        version,
        expected_previous=last.version if last else None,
        actor=actor,
        reason=reason,
        decision=decision,
        action="reject",
    )


def _refuse(version: str, now: str | None, last: Promotion | None, expected: tuple[str | None]) -> None:
    by = f" since {last.at:%Y-%m-%d %H:%M:%S} UTC (by {last.actor}: {last.reason})" if last else ""
    if now == version:
        raise Conflict(f"Version {version} is the champion already{by}.", version=version)
    if expected[0] != now:
        seen = "there was none" if expected[0] is None else f"it was version {expected[0]}"
        is_now = "there is none" if now is None else f"it is version {now}{by}"
        raise Conflict(
            f"You decided when, as for the champion, {seen}; now {is_now}: look again and decide anew.", champion=now
        )
