"""A plan's variants beside its first, with the intervals of the differences."""

from __future__ import annotations

from api.loading import Loaded
from api.planning import variant_rows
from ml.differences import difference
from ml.errors import NotEnoughData
from ml.records import PlanDifference, PlanDifferences, ScenarioPlan


def compared(loaded: Loaded, plan: ScenarioPlan) -> PlanDifferences:
    """Raises InputError for what cannot be planned, NotEnoughData for a model without intervals of totals."""
    sums = loaded.forecaster.bundle.sums
    if sums is None:
        raise NotEnoughData("This model has no intervals of totals: run retrain_sales_model once.")
    forecasts = [loaded.forecaster.forecast(variant_rows(loaded, plan, variant)) for variant in plan.variants]
    found = [difference(sums, forecasts[0], rows) for rows in forecasts[1:]]
    return PlanDifferences(
        model=loaded.ref,
        data_version=loaded.data_version,
        items=tuple(
            PlanDifference(
                name=variant.name, units=one.units, interval=one.interval, changed=one.changed,
                unsupported=one.unsupported,
            )
            for variant, one in zip(plan.variants[1:], found, strict=True)
        ),
    )  # fmt: skip
