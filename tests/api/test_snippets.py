"""What the console offers to copy is answered by the API as it is."""

from __future__ import annotations

import json

from control_room import snippets


def test_the_python_that_is_offered_runs(served, capsys):
    series = served.get("/v1/catalog").json()["series"][0]
    body = {"stores": [series["store"]], "products": [series["product"]], "horizon": 14}
    exec(snippets.python(served.url, "/v1/forecast", body, False), {})
    assert "predictions" in capsys.readouterr().out
    sent = json.loads(snippets.curl(served.url, "/v1/forecast", body, False).split("-d '", 1)[1].rstrip("'"))
    answers = served.post("/v1/forecast", json=sent).json()["predictions"]
    columns = {"date", "store", "product", "prediction", "unit"}  # those that the Power Query keeps
    assert len(answers) == 14
    assert columns <= set(answers[0])
    assert all(f'"{name}"' in snippets.power_query(served.url, "/v1/forecast", body, False) for name in columns)
