"""The MLflow server in one process: ``python -m deploy.mlflow_server PORT ARTIFACTS``.

``mlflow server`` is a parent that imports everything, then runs uvicorn in a child that imports everything again.
Serving its application ourselves halves memory (450 to 230 MB) and start time. The database is named by
``MLFLOW_BACKEND_STORE_URI``.
"""

from __future__ import annotations

import os
import sys
import uuid

import uvicorn
from mlflow import server
from mlflow.environment_variables import _MLFLOW_IN_JOB_EXECUTOR, _MLFLOW_SERVER_BOOT_ID, _MLFLOW_SGI_NAME
from mlflow.server.handlers import initialize_backend_stores

ARTIFACT_ROOT = "mlflow-artifacts:/"  # clients read and write artifacts through the server


def main(port: int, artifacts: str) -> None:
    """Serve on 127.0.0.1 until told to stop."""
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ |= {
        server.BACKEND_STORE_URI_ENV_VAR: database,
        server.REGISTRY_STORE_URI_ENV_VAR: database,
        server.ARTIFACT_ROOT_ENV_VAR: ARTIFACT_ROOT,
        server.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        server.SERVE_ARTIFACTS_ENV_VAR: "true",
        _MLFLOW_SERVER_BOOT_ID.name: uuid.uuid4().hex,
        _MLFLOW_IN_JOB_EXECUTOR.name: "false",
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }
    initialize_backend_stores(database, database, ARTIFACT_ROOT)
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
