"""HTTP in front of ``ml``: forecasts, history, uploads, runs, models. A route is a few lines."""

import os

# Somebody waits for an answer: the API gives up on a silent MLflow sooner than a pipeline does (ml.registry), once and
# again within the patience of the console.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
# Read when XGBoost is loaded, which is later: its threads must not spin on a core that others need. With two cores,
# 1,000 rows at a time: 37 to 41 requests per second, p99 100 to 44 ms; a job of a million rows: a tenth less time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
