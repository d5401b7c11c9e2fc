"""The children's commands and environments, without starting them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import probes
from deploy.databases import open_databases
from deploy.keys import load_keys
from deploy.services import ROOT, Installation
from ml.errors import SettingsError
from ml.settings import PREFIX, Settings, load_settings, variable

PYTHONS = ("mlflow", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "api", "worker", "console")


@pytest.fixture
def installation(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", lake=str(tmp_path / "lake"))
    settings.data_dir.mkdir()
    keys = load_keys(settings.data_dir)
    yield Installation(settings, keys, open_databases(settings, keys, say=print))
    note = settings.data_dir / "postgres-location"  # root moves the cluster out of pytest's closed folder
    if note.exists():
        folder = Path(note.read_text().strip())
        (folder / "data-folder").unlink()
        folder.rmdir()


@pytest.fixture
def specs(installation):
    return {spec.name: spec for spec in installation.specs()}


def test_every_part_is_there_and_waits_only_for_parts_that_are(specs):
    assert set(specs) == {"postgres", "airflow-migrate", *PYTHONS}
    assert all(name in specs for spec in specs.values() for name in spec.after)


def test_no_secret_is_in_a_command_line(specs, installation):
    secrets = installation.keys.model_dump().values()
    lines = [part for spec in specs.values() for part in spec.command]
    assert not [secret for secret in secrets if any(secret in line for line in lines)]


def test_everything_listens_on_this_machine_only(specs):
    assert "listen_addresses=127.0.0.1" in specs["postgres"].command
    assert "--server.address=127.0.0.1" in specs["console"].command
    assert specs["airflow-api-server"].env["AIRFLOW__API__HOST"] == "127.0.0.1"
    api = specs["api"].command
    assert api[api.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize("name", PYTHONS)
def test_children_get_every_setting_and_can_read_them(specs, installation, name):
    env = {key: value for key, value in specs[name].env.items() if key.startswith(PREFIX)}
    settings = load_settings(env)
    assert settings.database_url == installation.databases.url("app")
    assert settings.airflow_password == installation.keys.airflow_admin
    assert Path(settings.lake_url).is_absolute()
    assert settings.data_dir == installation.settings.data_dir
    unchanged = {"country", "horizon_days", "demo_scale", "api_port", "promotion_policy"}
    assert {key: getattr(settings, key) for key in unchanged} == {
        key: getattr(installation.settings, key) for key in unchanged
    }


def test_what_the_shell_says_about_other_installations_does_not_reach_them(monkeypatch, installation):
    for key in ("AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(key, "elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    specs = {spec.name: spec for spec in installation.specs()}
    assert not [spec.name for spec in specs.values() if "elsewhere" in spec.env.values()]
    assert specs["airflow-scheduler"].env["AIRFLOW__CORE__DAGS_FOLDER"] == str(ROOT / "dags")
    assert specs["api"].env["HTTPS_PROXY"] == "kept"
    assert "127.0.0.1" in specs["api"].env["NO_PROXY"]


def test_a_worker_is_ready_once_it_has_said_so_since_its_start(specs, installation):
    worker, alive = specs["worker"], probes.alive_file(installation.data)
    check = [sys.executable, "deploy/entrypoints/healthy.py", str(installation.data), "worker"]
    alive.parent.mkdir()
    alive.touch()
    assert worker.ready()
    assert subprocess.run(check, cwd=ROOT, env=worker.env).returncode == 0
    worker.prepare()
    assert not worker.ready()
    alive.touch()
    os.utime(alive, (0, 0))
    assert not worker.ready()
    assert subprocess.run(check, cwd=ROOT, env=worker.env).returncode == 1


def test_nothing_reports_home(specs):
    for name in PYTHONS:
        assert specs[name].env["DO_NOT_TRACK"] == "true"
        assert specs[name].env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "--browser.gatherUsageStats=false" in specs["console"].command


def test_tables_are_brought_up_to_date_once_per_version(installation):
    data = installation.data
    (data / "airflow-version").write_text("0.1")
    (data / "mlflow-version").write_text("0.1")
    jobs = {spec.name: spec for spec in installation.specs() if spec.ready is None}
    assert set(jobs) == {"airflow-migrate", "mlflow-migrate"}
    for job in jobs.values():
        job.once_ready()
    assert not [spec.name for spec in installation.specs() if spec.ready is None]


def test_a_given_server_takes_the_place_of_the_embedded_one(database_url, tmp_path):
    """The role `app` may not make databases here: the error says which are needed."""
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    databases = open_databases(settings, load_keys(tmp_path))
    assert databases.url("app") == database_url
    assert databases.url("airflow") == f"{database_url}_airflow"
    with pytest.raises(SettingsError, match=r"permission denied.*_airflow and .*_mlflow must exist"):
        databases.specs()


def test_the_databases_are_made_on_a_given_server_that_allows_it(postgres, new_database, tmp_path):
    name = new_database().rpartition("/")[2]
    url = f"postgresql+psycopg2://postgres:{postgres.password}@127.0.0.1:{postgres.port}/{name}"
    databases = open_databases(Settings(data_dir=tmp_path, database_url=url), load_keys(tmp_path))
    assert databases.specs() == []
    assert databases.specs() == []


def test_another_database_than_postgresql_is_refused(tmp_path):
    settings = Settings(data_dir=tmp_path, database_url="sqlite:///sales.db")
    with pytest.raises(SettingsError, match="must begin with postgresql://"):
        open_databases(settings, load_keys(tmp_path))


def test_where_people_sign_in_the_api_always_has_a_key(installation):
    name = variable("api_token")
    assert name not in installation.environment()
    people = replace(installation, settings=installation.settings.model_copy(update={"sign_in": "accounts"}))
    assert people.environment()[name] == installation.keys.console
    own = replace(people, settings=people.settings.model_copy(update={"api_token": "my own"}))
    assert own.environment()[name] == "my own"


def test_the_console_is_served_behind_its_gate(specs):
    assert "control_room/server.py" in specs["console"].command
    assert "--server.address=127.0.0.1" in specs["console"].command
