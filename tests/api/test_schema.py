"""openapi.json thrown at the running API by schemathesis: what it allows, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "100"))  # per operation; nightly 1000
CONFIG = Path(__file__).with_name("schemathesis.toml")


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
