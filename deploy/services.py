"""The children of the local mode: what each is started with, after whom, and how it is known to be ready."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from deploy import probes
from deploy.databases import Databases
from deploy.keys import Keys, write_private
from deploy.supervisor import Spec
from ml.settings import Settings, variable

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent  # not resolved: python in a virtual environment is a link out of it
HOST = "127.0.0.1"

# variables of the person's shell that would turn a child towards another installation, or slow its imports
FOREIGN = ("AIRFLOW", "MLFLOW_", "STREAMLIT_", "PYTHONDONTWRITEBYTECODE")

PRIVATE = {
    "DO_NOT_TRACK": "true",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
}

# with the defaults tasks stall for 5 s at random; a one-second task is done in 1.3 to 1.6 s with these
AIRFLOW_PACE = {
    "CORE__PARALLELISM": "4",
    "API__WORKERS": "1",
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    # a task outlives a busy or restarting API server: by default it fails after 5 s, or after 5 tries
    "WORKERS__EXECUTION_API_TIMEOUT": "30",
    "WORKERS__EXECUTION_API_RETRIES": "12",
    "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "5",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "WORKERS__MAX_FAILED_HEARTBEATS": "60",
}


@dataclass(frozen=True)
class Installation:
    """One data folder with its settings (all paths absolute), keys and databases."""

    settings: Settings
    keys: Keys
    databases: Databases

    @property
    def data(self) -> Path:
        return self.settings.data_dir

    @property
    def airflow_password(self) -> str:
        return self.settings.airflow_password or self.keys.airflow_admin

    @property
    def api_token(self) -> str:
        """Where people sign in the API must know the console from others on this machine, so there is always one."""
        made = "" if self.settings.sign_in == "none" else self.keys.console
        return self.settings.api_token or made

    @property
    def password_file(self) -> Path:
        return self.data / "airflow" / "passwords.json"

    def addresses(self) -> list[tuple[str, str]]:
        """What a person opens, and where."""
        return [
            ("Console", f"http://{HOST}:{self.settings.console_port}"),
            ("API", f"{self.settings.api}/docs"),
            (
                "Airflow",
                f"{self.settings.airflow}  user {self.settings.airflow_user}, password in {self.password_file}",
            ),
            ("MLflow", self.settings.mlflow),
            ("Logs", str(self.data / "logs")),
        ]

    def specs(self) -> list[Spec]:
        """Every child, in the order a person would name them."""
        first = self.databases.specs()
        stores = tuple(spec.name for spec in first)
        return [
            *first,
            *self._mlflow(stores),
            *self._airflow(stores),
            self._api(stores),
            self._worker(stores),
            self._console(),
        ]

    # -- environment

    def environment(self) -> dict[str, str]:
        """What every Python child gets: the caller's environment, cleaned, with every setting spelled out."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        return {
            **mine,
            **PRIVATE,
            **self._settings_as_variables(),
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "NO_PROXY": _with_local(os.environ.get("NO_PROXY", "")),
            "no_proxy": _with_local(os.environ.get("no_proxy", "")),
            "MLFLOW_TRACKING_URI": self.settings.mlflow,
            "PYTHONUNBUFFERED": "1",
        }

    def _settings_as_variables(self) -> dict[str, str]:
        known = self.settings.model_copy(
            update={
                "database_url": self.databases.url("app"),
                "lake": self.settings.lake_url,
                "airflow_password": self.airflow_password,
                "api_token": self.api_token,
                "api_url": self.settings.api,
                "mlflow_url": self.settings.mlflow,
                "airflow_url": self.settings.airflow,
            }
        )
        values = known.model_dump(mode="json")
        return {variable(name): str(value) for name, value in values.items() if value not in (None, "")}

    # -- MLflow

    def _mlflow(self, stores: tuple[str, ...]) -> list[Spec]:
        env = {
            **self.environment(),
            "MLFLOW_BACKEND_STORE_URI": self.databases.url("mlflow"),  # not as an argument: `ps` shows those
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        tables = Tables(self.data, "mlflow", "mlflow")
        upgrade = (str(BIN / "mlflow"), "db", "upgrade", self.databases.url("mlflow"))
        # the server makes its tables itself when there are none, but does not bring old ones up to date
        jobs = tables.job(upgrade, env, self.data, stores) if tables.made_by else []
        artifacts = str(self.data / "mlflow-artifacts")
        command = (sys.executable, "-m", "deploy.mlflow_server", str(self.settings.mlflow_port), artifacts)
        ready = probes.answers(f"{self.settings.mlflow}/health")
        after = (*stores, *(job.name for job in jobs))
        return [*jobs, Spec("mlflow", command, env, ROOT, ready, after, once_ready=tables.remember)]

    # -- Airflow

    def _airflow(self, stores: tuple[str, ...]) -> list[Spec]:
        home = self.data / "airflow"
        env = {**self.environment(), **self._airflow_environment(home)}
        run = str(BIN / "airflow")
        jobs = Tables(self.data, "airflow", "apache-airflow").job((run, "db", "migrate"), env, home, stores)
        after = (*stores, *(spec.name for spec in jobs))
        url = self.settings.airflow

        scheduler, processor = (probes.AirflowPart(url, part) for part in ("scheduler", "dag_processor"))
        parts = (
            (("api-server", "--workers", "1"), probes.answers(f"{url}/api/v2/version"), self._airflow_home),
            (("scheduler", "--skip-serve-logs"), scheduler, scheduler.begin),
            (("dag-processor",), processor, processor.begin),
        )
        return [
            *jobs,
            *(
                Spec(f"airflow-{words[0]}", (run, *words), env, home, ready, after, prepare=prepare)
                for words, ready, prepare in parts
            ),
        ]

    def _airflow_home(self) -> None:
        write_private(self.password_file, json.dumps({self.settings.airflow_user: self.airflow_password}))

    def _airflow_environment(self, home: Path) -> dict[str, str]:
        given = {
            **AIRFLOW_PACE,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.settings.airflow}/execution/",
            "CORE__FERNET_KEY": self.keys.airflow_fernet,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.settings.airflow_user}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.password_file),
            "DATABASE__SQL_ALCHEMY_CONN": self.databases.url("airflow"),
            "API__HOST": HOST,
            "API__PORT": str(self.settings.airflow_port),
            "API__SECRET_KEY": self.keys.airflow_api,
            "API_AUTH__JWT_SECRET": self.keys.airflow_jwt,
            "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        }
        return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{key}": value for key, value in given.items()}}

    # -- ours

    def _api(self, after: tuple[str, ...]) -> Spec:
        at = ("--host", HOST, "--port", str(self.settings.api_port))
        command = (sys.executable, "-m", "api", *at)
        ready = probes.answers(f"{self.settings.api}/livez")
        return Spec("api", command, self.environment(), ROOT, ready, after, shows="WARNING")

    def _worker(self, after: tuple[str, ...]) -> Spec:
        command, alive = (sys.executable, "-m", "api.worker"), probes.alive_file(self.data)
        forget = partial(alive.unlink, missing_ok=True)  # a killed one's last word is no sign of life
        ready = probes.beats(self.data)
        # it ends after the chunk it is at
        return Spec(
            "worker", command, self.environment(), ROOT, ready, after, prepare=forget, stop_seconds=15, shows="WARNING"
        )

    def _console(self) -> Spec:
        options = {
            "server.address": HOST,
            "server.port": str(self.settings.console_port),
            "server.headless": "true",
            "server.fileWatcherType": "none",
            "server.maxUploadSize": str(self.settings.upload_limit_mb),
            "browser.gatherUsageStats": "false",
        }
        flags = tuple(f"--{name}={value}" for name, value in options.items())
        command = (str(BIN / "streamlit"), "run", "control_room/server.py", *flags)
        ready = probes.answers(f"http://{HOST}:{self.settings.console_port}/_stcore/health")
        return Spec("console", command, self.environment(), ROOT, ready, shows="WARNING")


@dataclass(frozen=True)
class Tables:
    """Which version of ``package`` last brought its tables up to date; noted, so that a start need not ask again."""

    data: Path
    part: str
    package: str

    @property
    def _note(self) -> Path:
        return self.data / f"{self.part}-version"

    @property
    def made_by(self) -> str:
        return self._note.read_text().strip() if self._note.exists() else ""

    def job(self, command: tuple[str, ...], env: Mapping[str, str], cwd: Path, after: tuple[str, ...]) -> list[Spec]:
        """The job that brings them up to date; none when this version has done it."""
        if self.made_by == version(self.package):
            return []
        return [Spec(f"{self.part}-migrate", command, env, cwd, after=after, once_ready=self.remember)]

    def remember(self) -> None:
        self._note.write_text(f"{version(self.package)}\n")


def _with_local(value: str) -> str:
    return ",".join(part for part in (value, HOST, "localhost") if part)
