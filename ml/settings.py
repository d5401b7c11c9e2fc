"""All settings, in one frozen type that refuses unknown keys.

A setting is a field: its name, default and description. The environment variable is ``CONTROL_ROOM_`` plus the
name in capitals. A test proves that README, ``.env.example`` and this class agree.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import SettingsError

PREFIX = "CONTROL_ROOM_"
ROLES = "(viewer|planner|analyst|manager|admin)"
CRON = r"\S+ \S+ \S+ \S+ \S+"  # Airflow itself says what is wrong within the five fields


class Settings(BaseModel):
    """Everything that can be set from outside; build it with :func:`load_settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Literal["local", "server"] = Field(
        "local", description="`local`: one person on this machine; `server`: refuses to start without secrets."
    )
    data_dir: Path = Field(Path(".control-room"), description="Folder that keeps everything in local mode.")
    api_port: int = Field(8800, ge=1, le=65535, description="Port of the API.")
    console_port: int = Field(8501, ge=1, le=65535, description="Port of the console (Streamlit).")
    mlflow_port: int = Field(5000, ge=1, le=65535, description="Port of the MLflow server.")
    airflow_port: int = Field(8080, ge=1, le=65535, description="Port of Airflow's API server.")
    postgres_port: int = Field(5442, ge=1, le=65535, description="Port of the embedded PostgreSQL.")
    database_url: str = Field(
        "", description="SQLAlchemy URL of the application's database; empty: the embedded PostgreSQL of local mode."
    )
    lake: str = Field("", description="`s3://bucket/prefix` or a folder; empty: `lake` in the data folder.")
    api_url: str = Field("", description="Where the console finds the API; empty: 127.0.0.1 and the API port.")
    api_shown_url: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+)?$",
        description="Address of the API as other programs reach it, shown on the pages and answered to; empty: as the "
        "console finds it.",
    )
    mlflow_url: str = Field("", description="MLflow tracking URL; empty: 127.0.0.1 and the MLflow port.")
    airflow_url: str = Field("", description="Airflow URL; empty: 127.0.0.1 and the Airflow port.")
    airflow_user: str = Field("admin", description="Airflow user that starts the runs.")
    airflow_password: str = Field("", description="Password of that user; local mode makes one.")
    api_token: str = Field("", description="Key that every API call must send (X-API-Key or Bearer); empty: open.")
    sign_in: Literal["none", "accounts", "oidc"] = Field(
        "none",
        description="Who may open the console: `none` everybody on this machine, as an administrator; `accounts` "
        "people with a password here; `oidc` people of an identity provider. Server mode refuses `none`.",
    )
    session_hours: float = Field(12, gt=0, le=720, description="Hours after which a person has to sign in again.")
    session_idle_minutes: int = Field(120, ge=5, description="Minutes without use after which a session ends.")
    console_url: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+)?$",
        description="Address of the console as browsers see it, as `https://sales.example`; only this one is answered "
        "then, and cookies are for https only. `oidc` needs it.",
    )
    oidc_metadata_url: str = Field(
        "",
        description="The identity provider's `…/.well-known/openid-configuration`; `…/oauth2callback` of the "
        "console is to be registered there.",
    )
    oidc_client_id: str = Field("", description="The console's client id at the identity provider.")
    oidc_client_secret: str = Field("", description="The console's secret at the identity provider.")
    oidc_role_claim: str = Field("roles", description="Claim that holds a person's role or groups.")
    oidc_roles: str = Field(
        "",
        pattern=rf"^([^,]+={ROLES}(,[^,]+={ROLES})*)?$",
        description="What the claim's values mean, as `sales-admins=admin,buyers=planner`; the highest counts. Empty: "
        "they are roles.",
    )
    oidc_unknown: Literal["refuse", "viewer"] = Field(
        "refuse", description="Who has none of these values is refused, or reads as a viewer."
    )
    rate_limit: int = Field(
        6000, ge=0, description="Requests per minute that a key made with `/v1/keys` may send; 0: no limit."
    )
    allowed_hosts: str = Field(
        "",
        description="Names that API and console may be called by beside local ones, as `sales.example,.shop.example`; "
        "`*`: any; empty: the console by local ones, the API with a key by any.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Lines of the logs: `json` objects, `text`, or `auto`: text at a terminal, else json."
    )
    country: str = Field(
        "ES", min_length=2, max_length=2, description="Two-letter country whose public holidays are used."
    )
    horizon_days: int = Field(28, ge=7, le=364, description="Days ahead that models are trained and judged for.")
    horizon_weeks: int = Field(8, ge=1, le=52, description="Weeks ahead, for weekly data.")
    missing_days: Literal["auto", "zero", "unknown"] = Field(
        "auto", description="Days without a row: `zero` nothing sold, `unknown` not recorded, `auto` detected."
    )
    tuning_trials: int = Field(10, ge=0, le=1000, description="Optuna trials of a retraining (0: keep known good).")
    tuning_seconds: int = Field(900, ge=1, description="No trial starts after so many seconds of tuning.")
    backtest_folds: int = Field(3, ge=1, le=12, description="Rolling-origin folds that a model is judged on.")
    promotion_policy: Literal["auto", "approval"] = Field(
        "auto", description="`auto`: a better challenger is promoted; `approval`: a manager decides in the console."
    )
    etl_schedule: str = Field(
        "manual",
        pattern=f"^(manual|{CRON})$",
        description="When process_etl_sales_data runs: `manual`, or five cron fields (UTC), as `30 3 * * *`.",
    )
    retrain_schedule: str = Field(
        "manual",
        pattern=f"^(manual|on_new_data|{CRON})$",
        description="When retrain_sales_model runs: `manual`, `on_new_data` (after each ETL that has published), or "
        "five cron fields.",
    )
    dask: str = Field(
        "",
        pattern=r"^((tcp|tls|ws|wss)://\S+)?$",
        description="Scheduler of a Dask cluster that does the heavy work, as `tcp://host:8786`; empty: this machine.",
    )
    keep_snapshots: int = Field(
        10, ge=2, description="How many of the newest snapshots are kept, beside those that kept models learned from."
    )
    keep_runs_days: int = Field(30, ge=1, description="Days that what a run handed from step to step is kept.")
    keep_uploads_days: int = Field(
        0, ge=0, description="Days that files are kept as received (what counts of them stays); 0: for ever."
    )
    keep_models: int = Field(
        10,
        ge=1,
        description="Newest models whose files are kept, beside the champion, the one before and all that "
        "predictions name.",
    )
    upload_limit_mb: int = Field(512, ge=1, description="Largest file that may be uploaded, in megabytes.")
    demo: bool = Field(True, description="Load the demo chain and train a champion at the first start.")
    demo_scale: float = Field(1.0, gt=0, le=1, description="Share of the demo's stores and products (tests use less).")
    bench_data: Path | None = Field(None, description="Folder with public retail data sets, for benchmarks only.")

    @property
    def lake_url(self) -> str:
        return self.lake or str(self.data_dir / "lake")

    @property
    def api(self) -> str:
        return (self.api_url or f"http://127.0.0.1:{self.api_port}").rstrip("/")

    @property
    def api_shown(self) -> str:
        return self.api_shown_url or self.api

    @property
    def mlflow(self) -> str:
        return (self.mlflow_url or f"http://127.0.0.1:{self.mlflow_port}").rstrip("/")

    @property
    def airflow(self) -> str:
        return (self.airflow_url or f"http://127.0.0.1:{self.airflow_port}").rstrip("/")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    SettingsError
        An unknown ``CONTROL_ROOM_`` variable (with the nearest known name), a value of the wrong type, or server
        mode without its secrets.
    """
    environ = os.environ if environ is None else environ
    names = {variable(name): name for name in Settings.model_fields}
    values: dict[str, str] = {}
    for key, value in environ.items():
        if not key.startswith(PREFIX) or value == "":
            continue
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            raise SettingsError(f"{key} is not a setting." + (f" Did you mean {near[0]}?" if near else ""), key=key)
        values[names[key]] = value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"{variable(str(first['loc'][0]))}: {first['msg']}", key=str(first["loc"][0])) from error
    _refuse_insecure(settings)
    return settings


def _refuse_insecure(settings: Settings) -> None:
    if settings.sign_in == "oidc":
        _refuse_missing(settings, "console_url", "oidc_metadata_url", "oidc_client_id", "oidc_client_secret")
    if settings.environment == "local":
        return
    if settings.sign_in == "none":
        raise SettingsError(
            f"{variable('sign_in')} must be accounts or oidc in server mode: without it everybody who reaches the "
            "console is an administrator.",
            key="sign_in",
        )
    for name in ("api_token", "airflow_password", "database_url"):
        value = getattr(settings, name)
        if not value or "change-me" in value:
            raise SettingsError(f"{variable(name)} must be set to a value of your own in server mode.", key=name)


def _refuse_missing(settings: Settings, *names: str) -> None:
    for name in names:
        if not getattr(settings, name):
            raise SettingsError(
                f"{variable(name)} must be set where {variable('sign_in')} is {settings.sign_in}.", key=name
            )
