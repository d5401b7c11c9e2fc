"""The MLflow model as code: MLflow runs this file to get the model, so the registry holds no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class SalesModel(PythonModel):
    """``predict(frame with date, store, product and inputs)`` -> frame with prediction and intervals, in units."""

    def load_context(self, context: Any) -> None:
        from ml.bundle import load_bundle
        from ml.forecasting import Forecaster

        self.forecaster = Forecaster(load_bundle(Path(context.artifacts["bundle"])))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        rows = pl.from_pandas(model_input).with_columns(pl.col("date").cast(pl.Date))
        found = self.forecaster.forecast(rows)
        return found.select("prediction", "low_80", "high_80", "low_95", "high_95").to_pandas()


set_model(SalesModel())
