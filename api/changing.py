"""Moving the champion alias: verified, audited, and in force when the answer goes out."""

from __future__ import annotations

from typing import Literal

from api.services import Services
from ml.errors import Conflict
from ml.records import Promotion


def move_champion(
    services: Services, version: str, *, action: Literal["promote", "rollback"], actor: str, reason: str
) -> Promotion:
    """Promote or roll back to ``version``.

    Raises
    ------
    BundleDamaged
        The version does not load or does not agree with its golden rows: nothing is moved.
    Conflict
        It is champion already, or the champion changed while this was asked.
    """
    registry, store = services.registry, services.store
    before = registry.alias("champion")
    if before is not None and before.version == version:
        raise Conflict(f"Version {version} is the champion already.", version=version)
    # The audit says what the champion was; MLflow's alias only where there is no audit yet.
    expected = store.champion() or (before.version if before else None)
    decision = registry.report(version).decision
    services.champion.get(version)
    promotion = store.promote(
        version,
        expected_previous=expected,
        actor=actor,
        reason=reason,
        decision=decision,
        action=action,
        move=lambda: registry.set_alias("champion", version),
    )
    challenger = registry.alias("challenger")
    if challenger is not None and challenger.version == version:
        registry.drop_alias("challenger")
    services.champion.refresh()
    return promotion
