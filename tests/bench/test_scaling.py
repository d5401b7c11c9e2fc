"""bench.scaling on a small generated panel: a scheduler and two workers as compose starts them do the same work."""

from __future__ import annotations

import json
from pathlib import Path

from bench import scaling


def test_every_step_is_measured_at_both_places(tmp_path: Path, capsys):
    out = tmp_path / "scaling.json"
    scaling.main(["--rows", "12000", "--trees", "5", "--json", str(out)])
    found = json.loads(out.read_text())
    assert (found["data"], found["workers"]) == ("generated 12,000", 2)
    rows = {row["what"]: row for row in found["rows"]}
    assert tuple(rows) == scaling.STEPS
    for row in rows.values():
        assert min(row["local_seconds"], row["dask_seconds"]) > 0
        assert row["ratio"] == row["dask_seconds"] / row["local_seconds"]
        assert min(row["local_gb"], row["dask_gb"], row["worker_gb"]) > 0.05
    assert rows["features"]["difference"] == 0
    assert rows["judging"]["difference"] < 0.05  # other trees of the same kind
    assert rows["forecast"]["difference"] < 1e-6  # the same trees
    assert "worker_gb" in capsys.readouterr().out
