"""Run the console in a browser against the fakes: ``python tests/control_room/look.py PORT [state]``.

For looking at the pages; states: full, empty, down, airflow-down, running, slow.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from streamlit.web import bootstrap

HERE = Path(__file__).resolve().parent


def main(port: str, state: str = "full") -> None:
    spec = importlib.util.spec_from_file_location("fakes", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    fakes = importlib.util.module_from_spec(spec)
    sys.modules["fakes"] = fakes
    spec.loader.exec_module(fakes)
    world = fakes.World(empty=state == "empty")
    if state != "empty":
        world.full()
    if state == "down":
        world.down = {"api", "airflow", "mlflow"}
    if state == "slow":
        world.delay = 0.5
    if state == "airflow-down":
        world.down = {"airflow"}
    if state == "running":
        world.runs["retrain_sales_model"].insert(
            0, fakes.run("retrain_sales_model", "re-3", "running", fakes.MINUTE, fakes.RETRAIN_TASKS)
        )
    fakes.session.connect = lambda: fakes.services(world)
    bootstrap.load_config_options({"server_port": int(port), "server_address": "127.0.0.1", "server_headless": True})
    bootstrap.run(str(fakes.HOME), False, [], {})


if __name__ == "__main__":
    main(*sys.argv[1:])
