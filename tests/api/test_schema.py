"""openapi.json thrown at the running API by schemathesis: what it allows, and what it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml.bundle import MANIFEST, sha256
from ml.store import Store

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "100"))  # per operation; nightly 1000
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def alone(serve, trained, served, new_database, tmp_path_factory):
    """An API with a champion, whose database and lake nobody else uses: everything is tried on it."""
    folder = tmp_path_factory.mktemp("schema")
    shutil.copytree(served.services.settings.data_dir / "api", folder / "data" / "api")
    shutil.copytree(trained.lake_url, folder / "lake")
    store = Store(url := new_database())
    store.migrate()
    manifest = folder / "data" / "api" / "bundles" / "1" / MANIFEST
    store.record_bundle("1", sha256(manifest.read_bytes()))
    store.close()
    changed = {"data_dir": folder / "data", "lake": str(folder / "lake"), "database_url": url}
    with serve(trained.model_copy(update=changed)) as api:
        yield api.ready()


@pytest.mark.timeout(1500)
def test_no_request_breaks_the_api_or_the_document(alone):
    options = ["--max-examples", str(EXAMPLES), "--seed", "7", "--continue-on-failure", "--request-timeout", "60"]
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    done = subprocess.run([*command, f"{alone.url}/openapi.json", *options], capture_output=True, text=True)
    if report := os.environ.get("SCHEMA_REPORT"):
        Path(report).write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    operations = sum(map(len, alone.get("/openapi.json").json()["paths"].values()))
    assert f"Tested: {operations}" in done.stdout, done.stdout[-3000:]
    assert alone.get("/readyz").status_code == 200
