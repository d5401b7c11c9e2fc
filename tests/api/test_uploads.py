import hashlib
import io

import polars as pl
import pytest

from ml.records import Upload

LINES = [f"2026-01-{day:02d},S01,P001,{day % 7 + 3},9.95" for day in range(1, 29)]
GOOD = ("date,store,product,sales,price\n" + "\n".join(LINES) + "\n").encode()
SOME_BAD = GOOD + b"2026-01-29,S01,P001,many,9.95\n2026-01-30,S01,P001,-4,9.95\n"
HEADER_ONLY = b"date,store,product,sales\n"


def send(api, data, name="sales.csv", purpose="training"):
    return api.post("/v1/uploads", params={"filename": name, "purpose": purpose}, content=data)


def sent(api, data, **how):
    reply = send(api, data, **how)
    assert reply.status_code == 201, reply.text
    return Upload.model_validate(reply.json())


def test_a_file_is_kept_as_it_came_and_checked(bare):
    made = sent(bare, GOOD, name="ventas de enero.csv")
    assert made.status == "received"
    assert made.preflight.verdict == "OK"
    assert made.preflight.rows_used == 28
    assert (made.bytes, made.sha256) == (len(GOOD), hashlib.sha256(GOOD).hexdigest())
    assert bare.services.lake.get(f"raw/{made.upload_id}/{made.filename}") == GOOD
    assert Upload.model_validate(bare.get(f"/v1/uploads/{made.upload_id}").json()) == made
    assert made.upload_id in [item["upload_id"] for item in bare.get("/v1/uploads").json()["items"]]


def test_the_same_file_is_recognised(bare):
    data = GOOD.replace(b"P001", b"P002")
    first = sent(bare, data)
    again = send(bare, data, name="another name.csv")
    assert again.status_code == 200
    assert again.json()["upload_id"] == again.json()["duplicate_of"] == first.upload_id
    assert send(bare, data, purpose="predict").status_code == 201


def test_accepting_makes_its_rows_count_once(bare):
    made = sent(bare, SOME_BAD)
    assert made.preflight.verdict == "ROWS"
    first, second = (bare.post(f"/v1/uploads/{made.upload_id}/accept").json() for _ in range(2))
    assert first == second
    assert first["status"] == "accepted"
    assert first["accepted_at"]
    used = bare.services.lake.get_frame(f"accepted/{made.upload_id}.parquet")
    left = bare.services.lake.get_frame(f"rejected/{made.upload_id}.parquet")
    assert used.height + left.height == made.preflight.rows_total == 30
    assert used["sales"].sum() == sum(day % 7 + 3 for day in range(1, 29))
    assert left["row"].to_list() == [30, 31]
    check = bare.post(f"/v1/uploads/{made.upload_id}/check", json={})
    assert check.status_code == 409


@pytest.mark.parametrize("format", ["csv", "xlsx"])
def test_rows_left_out_can_be_fetched_with_their_reasons(bare, format):
    made = bare.post("/v1/uploads", params={"filename": "x.csv"}, content=SOME_BAD).json()
    reply = bare.get(f"/v1/uploads/{made['upload_id']}/rejected", params={"format": format})
    assert "attachment" in reply.headers["Content-Disposition"]
    read = pl.read_csv if format == "csv" else pl.read_excel
    frame = read(io.BytesIO(reply.content))
    assert frame["row"].cast(pl.Int64).to_list() == [30, 31]
    assert all(frame["reason"])


def test_a_refused_file_cannot_be_accepted(bare):
    made = sent(bare, HEADER_ONLY)
    assert made.preflight.verdict == "REJECT"
    reply = bare.post(f"/v1/uploads/{made.upload_id}/accept")
    first = next(finding for finding in made.preflight.findings if finding.severity == "reject")
    assert reply.status_code == 409
    assert first.message in reply.json()["detail"]


def test_a_file_without_a_usable_row_cannot_be_accepted(bare):
    made = sent(bare, b"date,store,product,sales\n2026-01-05,S01,P001,-4\n2026-01-06,S01,P001,many\n")
    assert (made.preflight.verdict, made.preflight.rows_used) == ("ROWS", 0)
    reply = bare.post(f"/v1/uploads/{made.upload_id}/accept")
    assert reply.status_code == 409
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json()["code"] == "conflict"
    assert "None of the 2 rows of the file can be used" in reply.json()["detail"]
    assert bare.get(f"/v1/uploads/{made.upload_id}").json()["status"] == "received"
    assert not bare.services.lake.exists(f"accepted/{made.upload_id}.parquet")


STORES = b"tienda;m2;tipo\nS01;120,5;calle\nS02;300;centro\nS03;90;calle\n"


def test_a_table_of_attributes_is_recognised_and_accepted(bare):
    made = Upload.model_validate(bare.post("/v1/uploads", params={"filename": "t.csv"}, content=STORES).json())
    assert (made.purpose, made.preflight.purpose, made.preflight.verdict) == ("attributes", "attributes", "FIX")
    assert made.preflight.mapping.regressors == ("m2", "tipo")
    again = bare.post("/v1/uploads", params={"filename": "t.csv"}, content=STORES)
    assert (again.status_code, again.json()["duplicate_of"]) == (200, made.upload_id)
    mapping = {"roles": {"store": "tienda"}, "regressors": ["m2"]}
    checked = bare.post(f"/v1/uploads/{made.upload_id}/check", json={"mapping": mapping})
    assert checked.json()["preflight"]["mapping"]["regressors"] == ["m2"]
    assert bare.post(f"/v1/uploads/{made.upload_id}/accept").json()["status"] == "accepted"
    used = bare.services.lake.get_frame(f"attributes/{made.upload_id}.parquet")
    assert used.to_dict(as_series=False) == {"store": ["S01", "S02", "S03"], "m2": [120.5, 300.0, 90.0]}
    assert not bare.services.lake.exists(f"accepted/{made.upload_id}.parquet")


def test_the_purpose_that_was_given_counts(bare):
    data = STORES.replace(b"S01", b"S11")
    as_sales = sent(bare, data)
    assert (as_sales.purpose, as_sales.preflight.verdict) == ("training", "REJECT")
    assert sent(bare, data, purpose="attributes").preflight.verdict == "FIX"


def test_attributes_are_compared_with_the_sales_there_are(served):
    known = served.get("/v1/catalog").json()["stores"]
    data = f"store,m2\n{known[0]},120\nnowhere,90\n".encode()
    found = sent(served, data, purpose="attributes").preflight.findings
    said = {f.code: (f.count, f.facts["value"]) for f in found if f.code in ("attribute_unsold", "attribute_lacking")}
    assert said == {"attribute_unsold": (1, "nowhere"), "attribute_lacking": (len(known) - 1, sorted(known)[1])}


def test_a_file_to_predict_needs_no_acceptance(bare):
    made = sent(bare, b"date,store,product\n2026-02-01,S01,P001\n", purpose="predict")
    assert made.preflight.verdict == "OK"
    assert bare.post(f"/v1/uploads/{made.upload_id}/accept").status_code == 409


def test_a_person_may_say_how_to_read_it(bare):
    data = GOOD.replace(b"sales,price", b"units,value").replace(b"S01", b"S09")
    made = sent(bare, data)
    mapping = {"roles": {"date": "date", "store": "store", "sales": "value"}, "regressors": ["units"]}
    reply = bare.post(f"/v1/uploads/{made.upload_id}/check", json={"options": {"separator": ","}, "mapping": mapping})
    changed = Upload.model_validate(reply.json())
    assert changed.mapping.roles["sales"] == "value"
    assert changed.options.separator == ","
    assert changed.preflight.mapping.regressors == ("units",)
    bare.post(f"/v1/uploads/{made.upload_id}/accept")
    used = bare.services.lake.get_frame(f"accepted/{made.upload_id}.parquet")
    assert set(used["sales"]) == {9.95}
    assert "units" in used.columns


def test_a_file_over_the_limit_is_cut_off(bare):
    assert send(bare, b"x" * 3_000_000).status_code == 413


def test_a_form_is_not_a_file(bare):
    reply = bare.post("/v1/uploads", params={"filename": "x.csv"}, files={"file": ("x.csv", GOOD)})
    assert reply.status_code == 422
    assert "--data-binary" in reply.json()["detail"]


NAMES = [
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "/etc/shadow",
    "a\x00b.csv",
    "CON",
    ".",
    "..",
    "a/../b.csv",
    "x" * 255,
    "\u202egnp.csv",
    "<img src=x>.csv",
    "$(reboot).csv",
    "%2e%2e%2fx",
    "\ud83d\ude00.csv".encode("utf-16", "surrogatepass").decode("utf-16"),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_file_name_leaves_its_folder(bare, name):
    data = GOOD.replace(b"S01", f"N{NAMES.index(name)}".encode())
    reply = send(bare, data, name=name)
    assert reply.status_code == 201, reply.text
    made = Upload.model_validate(reply.json())
    assert not set(made.filename) & set("/\\<>$\x00")
    (key,) = bare.services.lake.list(f"raw/{made.upload_id}/")
    assert key == f"raw/{made.upload_id}/{made.filename}"


@pytest.mark.parametrize("query", [{}, {"filename": ""}, {"filename": "x" * 256}, {"filename": "x", "purpose": "fun"}])
def test_parameters_of_an_upload(bare, query):
    assert bare.post("/v1/uploads", params=query, content=GOOD).status_code == 422


def test_an_upload_that_is_not_there(bare):
    for method, path in (("GET", ""), ("POST", "/accept"), ("GET", "/rejected")):
        assert bare.http.request(method, f"/v1/uploads/{'0' * 32}{path}").status_code == 404


@pytest.mark.parametrize("format", ["csv", "xlsx"])
def test_the_template_is_a_file_that_passes(bare, format):
    data = bare.get("/v1/template", params={"format": format}).content
    seen = send(bare, data, name=f"template.{format}").json()["preflight"]
    assert seen["verdict"] == "OK", seen["findings"]
    assert set(seen["mapping"]["roles"]) == {"date", "store", "product", "sales", "price", "promotion", "holiday"}
