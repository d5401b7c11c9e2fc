import subprocess
import sys

import pytest

from api.main import create_app
from api.openapi import COMMITTED, as_text
from ml.settings import load_settings


@pytest.fixture(scope="module")
def app():
    return create_app(load_settings({}))


def test_the_committed_document_is_that_of_the_app(app):
    assert COMMITTED.read_text() == as_text(app), "run python -m api.openapi and look at what changed"


def test_every_reference_leads_somewhere(app):
    document = app.openapi()
    text = as_text(app)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(document["components"]["schemas"])
    assert '"#/$defs/' not in text


def test_every_operation_has_a_summary_and_says_how_it_fails(app):
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_the_given_routes_are_there(app):
    paths = app.openapi()["paths"]
    assert {"/health", "/predict", "/historical-predictions"} <= set(paths)
    assert app.openapi()["openapi"].startswith("3.1")


def test_importing_the_api_imports_no_airflow_and_no_streamlit():
    code = (
        "import sys, api.main; "
        "heavy = {'airflow', 'airflow_client', 'streamlit', 'mlflow'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=COMMITTED.parent)
    assert done.returncode == 0, done.stderr
