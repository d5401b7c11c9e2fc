"""HTTP in front of ``ml``: forecasts, history, uploads, runs, models. A route is a few lines."""

import os

# Somebody waits for an answer: the API gives up on a silent MLflow sooner than a pipeline does (ml.registry), once and
# again within the patience of the console.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")

__version__ = "0.1.0"
