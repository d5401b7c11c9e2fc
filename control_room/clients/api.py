"""The API as typed calls: records in, records out, errors as the types of ``ml.errors``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ml import tracing
from ml.errors import ControlRoomError, InputError, NotFound, ServiceDown, all_codes
from ml.records import (
    ETL_DAG,
    Account,
    Accuracy,
    Advice,
    Alerts,
    Answer,
    ApiKey,
    AuditPage,
    ChampionsPage,
    DataHealth,
    Delivery,
    EventKind,
    ExplainReply,
    Explanation,
    ForecastReply,
    ForecastRequest,
    Health,
    HistoryItem,
    HistoryPage,
    Job,
    JobKind,
    Judgement,
    Limits,
    Mapping,
    Me,
    ModelInfo,
    ModelReport,
    NewAccount,
    NewApiKey,
    NewJudgement,
    NewSession,
    NewWebhook,
    Pipeline,
    PlanDifferences,
    PredictionInput,
    Promotion,
    Purpose,
    ReadOptions,
    Replay,
    Retellings,
    RowError,
    Run,
    SalesPoint,
    Scenario,
    ScenarioPlan,
    SeriesInfo,
    Snapshot,
    Upload,
    UserRole,
    VersionWeek,
    Webhook,
)

R = TypeVar("R", bound=BaseModel)
FileFormat = Literal["csv", "xlsx"]
ResultFormat = Literal["csv", "xlsx", "parquet"]
CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
# Every page asks this first; the API itself waits a second for its parts.
HEALTH_SECONDS = 3.0
# A file is checked row by row before the answer comes: minutes for the largest ones.
FILE_SECONDS = 300.0
CONTENT_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}


class Catalog(BaseModel):
    """What can be asked for: the answer of ``GET /v1/catalog``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stores: tuple[str, ...]
    products: tuple[str, ...]
    series: tuple[SeriesInfo, ...]
    regressors: tuple[str, ...] = ()
    date_to: dt.date | None = None
    horizon: int = 28
    frequency: Literal["D", "W"] = "D"


class ApiClient:
    """Thin and typed. Every method raises ServiceDown when the API does not answer in time."""

    def __init__(self, url: str, token: str = "", read_seconds: float = READ_SECONDS) -> None:
        self.url = url.rstrip("/")
        self.needs_token = bool(token)
        self._read_seconds = read_seconds
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        if token:
            self._session.headers["X-API-Key"] = token

    # ---------------------------------------------------------------- state

    def health(self) -> Health:
        return _record(Health, self._json("GET", "/health", seconds=HEALTH_SECONDS))

    def snapshot(self) -> Snapshot:
        """The published data; raises NotFound while there is none."""
        return _record(Snapshot, self._json("GET", "/v1/snapshot"))

    def data_health(self) -> DataHealth:
        """Missing days, unusual sales and what inputs weigh; raises NoData while nothing is published."""
        return _record(DataHealth, self._json("GET", "/v1/data-health", seconds=30))

    def catalog(self) -> Catalog:
        return _record(Catalog, self._json("GET", "/v1/catalog"))

    def sales(
        self, store: str | None = None, product: str | None = None, since: dt.date | None = None
    ) -> tuple[SalesPoint, ...]:
        """Actual sales per period, summed over the selection."""
        query = _given({"store": store, "product": product, "from": since})
        return _list(SalesPoint, self._json("GET", "/v1/sales", params=query), "points")

    # ---------------------------------------------------------------- predictions

    def predict(
        self, rows: Sequence[PredictionInput], model: str = "champion", source: str = "console"
    ) -> tuple[Answer | RowError, ...]:
        """One answer or error per row, in the order of the rows."""
        body = {"instances": [prediction_body(row) for row in rows]}
        reply = self._json("POST", "/predict", params={"model": model, "source": source}, json=body, seconds=60)
        return _answers(reply)

    def explain(self, rows: list[PredictionInput], model: str = "champion") -> tuple[Explanation | RowError, ...]:
        """Why each row is forecast as it is, in the order of the rows."""
        body = {"instances": [prediction_body(row) for row in rows]}
        reply = self._json("POST", "/v1/explain", params={"model": model}, json=body)
        return _record(ExplainReply, reply).explanations

    def predict_file(self, data: bytes, format: str, model: str = "champion") -> tuple[Answer | RowError, ...]:
        """Predict the rows of a CSV, XLSX or Parquet file of at most 5,000 rows."""
        reply = self._json(
            "POST",
            "/predict",
            params={"model": model, "source": "file"},
            data=data,
            headers={"Content-Type": CONTENT_TYPES[format]},
            seconds=FILE_SECONDS,
        )
        return _answers(reply)

    def forecast(self, request: ForecastRequest) -> ForecastReply:
        body = request.model_dump(mode="json", exclude_none=True)
        return _record(ForecastReply, self._json("POST", "/v1/forecast", json=body, seconds=60))

    def history(self, filters: MappingType[str, Any], cursor: str | None = None, limit: int = 100) -> HistoryPage:
        query = _given({**filters, "cursor": cursor, "limit": limit})
        return _record(HistoryPage, self._json("GET", "/historical-predictions", params=query))

    def export_history(self, filters: MappingType[str, Any], limit: int) -> bytes:
        """The newest predictions that fit, as CSV."""
        return self._bytes("/v1/exports/predictions", _given({**filters, "limit": limit}))

    def prediction(self, prediction_id: int) -> HistoryItem:
        return _record(HistoryItem, self._json("GET", f"/v1/predictions/{prediction_id}"))

    def replay(self, prediction_id: int) -> Replay:
        """A logged prediction made again as it was made; raises Retired when model or data are no longer kept."""
        return _record(Replay, self._json("POST", f"/v1/predictions/{prediction_id}/replay", seconds=60))

    def retellings(
        self, version: str, filters: MappingType[str, Any], limit: int = 100, cursor: str | None = None
    ) -> Retellings:
        """What a version would have said to logged questions; raises Retired when it is no longer kept."""
        query = _given({**filters, "model": version, "limit": limit, "cursor": cursor})
        return _record(Retellings, self._json("GET", "/v1/retellings", params=query, seconds=120))

    # ---------------------------------------------------------------- jobs

    def make_job(self, data: bytes, format: ResultFormat, filename: str = "file", model: str = "champion") -> Job:
        """Predict a file of any number of rows; the same file for the same versions is the same job."""
        query = {"filename": filename, "model": model}
        headers = {"Content-Type": CONTENT_TYPES[format]}
        reply = self._json("POST", "/v1/jobs", params=query, data=data, headers=headers, seconds=FILE_SECONDS)
        return _record(Job, reply)

    def make_job_of_upload(self, upload_id: str, model: str = "champion") -> Job:
        return _record(Job, self._json("POST", "/v1/jobs", params={"upload_id": upload_id, "model": model}))

    def make_export(self, filters: MappingType[str, Any]) -> Job:
        """All logged predictions that fit, written into a file by a worker."""
        return _record(Job, self._json("POST", "/v1/exports/predictions", params=_given({**filters})))

    def jobs(self, limit: int = 100, kind: JobKind | None = None) -> tuple[Job, ...]:
        """Newest first."""
        return _list(Job, self._json("GET", "/v1/jobs", params=_given({"limit": limit, "kind": kind})), "items")

    def job(self, job_id: str) -> Job:
        return _record(Job, self._json("GET", f"/v1/jobs/{_part(job_id)}"))

    def cancel_job(self, job_id: str) -> Job:
        """One that is worked on ends after its present chunk; raises Conflict when it has ended."""
        return _record(Job, self._json("DELETE", f"/v1/jobs/{_part(job_id)}"))

    def job_result(self, job_id: str, format: ResultFormat = "csv") -> bytes:
        """Raises Conflict while the job isn't done."""
        return self._bytes(f"/v1/jobs/{_part(job_id)}/result", {"format": format})

    def job_rejected(self, job_id: str, format: FileFormat = "csv") -> bytes:
        """The rows left out, with reasons."""
        return self._bytes(f"/v1/jobs/{_part(job_id)}/rejected", {"format": format})

    def accuracy(self, by: str, filters: MappingType[str, Any]) -> Accuracy:
        """How right the logged predictions were, per key; ``filters``: from, to, store, product, version."""
        return _record(Accuracy, self._json("GET", "/v1/accuracy", params=_given({"by": by, **filters}), seconds=30))

    def alerts(self, limit: int = 20) -> Alerts:
        """What is out of the ordinary today; raises NoData while nothing is published."""
        return _record(Alerts, self._json("GET", "/v1/alerts", params={"limit": limit}, seconds=30))

    def accuracy_weeks(self, since: dt.date | None = None) -> tuple[VersionWeek, ...]:
        """Each version's error per week, oldest first."""
        reply = self._json("GET", "/v1/accuracy/weeks", params=_given({"from": since}), seconds=30)
        return _list(VersionWeek, reply, "items")

    # ---------------------------------------------------------------- scenarios

    def scenarios(self) -> tuple[Scenario, ...]:
        return _list(Scenario, self._json("GET", "/v1/scenarios"), "items")

    def scenario(self, scenario_id: str) -> Scenario:
        return _record(Scenario, self._json("GET", f"/v1/scenarios/{_part(scenario_id)}"))

    def keep_scenario(self, scenario_id: str, plan: ScenarioPlan) -> Scenario:
        """Under an id of ours: keeping it again replaces its plan."""
        body = plan.model_dump(mode="json", exclude_none=True)
        return _record(Scenario, self._json("PUT", f"/v1/scenarios/{_part(scenario_id)}", json=body))

    def differences(self, plan: ScenarioPlan, model: str = "champion") -> PlanDifferences:
        """What each variant sells beside the first, with the interval of the difference."""
        body = plan.model_dump(mode="json", exclude_none=True)
        return _record(PlanDifferences, self._json("POST", "/v1/differences", params={"model": model}, json=body))

    def delete_scenario(self, scenario_id: str) -> None:
        self._ask("DELETE", f"/v1/scenarios/{_part(scenario_id)}")

    # ---------------------------------------------------------------- uploads

    def uploads(self) -> tuple[Upload, ...]:
        return _list(Upload, self._json("GET", "/v1/uploads"), "items")

    def upload(self, upload_id: str) -> Upload:
        return _record(Upload, self._json("GET", f"/v1/uploads/{_part(upload_id)}"))

    def send(self, filename: str, data: bytes, purpose: Purpose | None = None) -> Upload:
        """Bring a file in; the answer holds what was seen in it. Without a purpose it is recognised."""
        query = _given({"filename": filename, "purpose": purpose})
        headers = {"Content-Type": "application/octet-stream"}
        reply = self._json("POST", "/v1/uploads", params=query, data=data, headers=headers, seconds=FILE_SECONDS)
        return _record(Upload, reply)

    def check(self, upload_id: str, options: ReadOptions, mapping: Mapping | None) -> Upload:
        """Read an upload again, as the person says it is to be read."""
        body = {"options": options.model_dump(), "mapping": mapping.model_dump() if mapping else None}
        path = f"/v1/uploads/{_part(upload_id)}/check"
        return _record(Upload, self._json("POST", path, json=body, seconds=FILE_SECONDS))

    def accept(self, upload_id: str) -> Upload:
        path = f"/v1/uploads/{_part(upload_id)}/accept"
        return _record(Upload, self._json("POST", path, seconds=FILE_SECONDS))

    def rejected(self, upload_id: str, format: FileFormat) -> bytes:
        return self._bytes(f"/v1/uploads/{_part(upload_id)}/rejected", {"format": format})

    def template(self, format: FileFormat) -> bytes:
        return self._bytes("/v1/template", {"format": format})

    # ---------------------------------------------------------------- runs and models

    def etl(self, conf: dict[str, Any], once: str = "") -> Run:
        """Start process_etl_sales_data; raises Conflict when it is running or paused.

        Asked again with the same ``once``, because the answer was lost, the same run is answered.
        """
        return self._start("/v1/etl", conf, once)

    def retrain(self, conf: dict[str, Any], once: str = "") -> Run:
        return self._start("/v1/retrain", conf, once)

    def _start(self, path: str, conf: dict[str, Any], once: str) -> Run:
        headers = {"Idempotency-Key": once} if once else {}
        return _record(Run, self._json("POST", path, json={"conf": conf}, headers=headers, seconds=30))

    def cancel_run(self, dag_id: str, run_id: str) -> Run:
        return _record(Run, self._json("DELETE", f"/v1/runs/{_part(dag_id)}/{_part(run_id)}", seconds=30))

    def pause(self, dag_id: str, paused: bool) -> Pipeline:
        """Or let it go on."""
        path = f"/v1/pipelines/{_part(dag_id)}/paused"
        return _record(Pipeline, self._json("PUT", path, json={"paused": paused}, seconds=30))

    def runs(self, dag_id: str) -> tuple[Run, ...]:
        return _list(Run, self._json("GET", f"/v1/runs/{_part(dag_id)}"), "items")

    def run(self, dag_id: str, run_id: str) -> Run:
        return _record(Run, self._json("GET", f"/v1/runs/{_part(dag_id)}/{_part(run_id)}"))

    def run_rejected(self, run_id: str, format: FileFormat) -> bytes:
        """The rows that an ETL run left out, with reasons."""
        return self._bytes(f"/v1/runs/{ETL_DAG}/{_part(run_id)}/rejected", {"format": format})

    def advice(self) -> Advice:
        """Retrain or wait, and why."""
        return _record(Advice, self._json("GET", "/v1/advice"))

    def models(self) -> tuple[ModelInfo, ...]:
        return _list(ModelInfo, self._json("GET", "/v1/models"), "items")

    def model(self, version: str) -> ModelReport:
        return _record(ModelReport, self._json("GET", f"/v1/models/{_part(version)}"))

    def promote(self, version: str, reason: str, actor: str, expected: str | None = None) -> Promotion:
        """``expected``: the champion that the person saw; raises Conflict when it is another by now."""
        path = f"/v1/models/{_part(version)}/promote"
        body = _given({"reason": reason, "actor": actor, "expected": expected})
        return _record(Promotion, self._json("POST", path, json=body, seconds=60))

    def reject(self, version: str, reason: str, actor: str) -> Promotion:
        """Note that a version is not wanted; raises Conflict for the champion."""
        path = f"/v1/models/{_part(version)}/reject"
        return _record(Promotion, self._json("POST", path, json={"reason": reason, "actor": actor}))

    def rollback(self, reason: str, actor: str, expected: str | None = None) -> Promotion:
        body = _given({"reason": reason, "actor": actor, "expected": expected})
        return _record(Promotion, self._json("POST", "/v1/models/rollback", json=body, seconds=60))

    def promotions(self) -> tuple[Promotion, ...]:
        return _list(Promotion, self._json("GET", "/v1/promotions"), "items")

    def champions(self, cursor: str | None = None, limit: int = 100) -> ChampionsPage:
        """Who was champion when, newest first."""
        query = _given({"cursor": cursor, "limit": limit})
        return _record(ChampionsPage, self._json("GET", "/v1/champions", params=query))

    # ---------------------------------------------------------------- access

    def limits(self) -> Limits:
        return _record(Limits, self._json("GET", "/v1/limits"))

    def me(self) -> Me:
        """Who the API takes this console for."""
        return _record(Me, self._json("GET", "/v1/me"))

    def keys(self) -> tuple[ApiKey, ...]:
        return _list(ApiKey, self._json("GET", "/v1/keys"), "items")

    def make_key(self, name: str, role: UserRole, days: int | None = None) -> NewApiKey:
        """The answer is the only place that ever holds its secret. ``days``: until it ends; None: it does not."""
        body = {"name": name, "role": role, "days": days}
        return _record(NewApiKey, self._json("POST", "/v1/keys", json=body))

    def revoke_key(self, key_id: str) -> ApiKey:
        """Raises Conflict when it was revoked before."""
        return _record(ApiKey, self._json("DELETE", f"/v1/keys/{_part(key_id)}"))

    # ---------------------------------------------------------------- people

    def sign_in(self, name: str, password: str, address: str = "") -> NewSession:
        """With the console's own key; raises SignInFailed and TooManySignIns."""
        body = {"name": name, "password": password, "address": address}
        return _record(NewSession, self._json("POST", "/v1/sessions", json=body))

    def sign_in_as(self, issuer: str, subject: str, name: str, role: UserRole, address: str = "") -> NewSession:
        """With the console's own key, for whom an identity provider has named; raises SignInFailed when disabled."""
        body = {"issuer": issuer, "subject": subject, "name": name, "role": role, "address": address}
        return _record(NewSession, self._json("POST", "/v1/sessions/identity", json=body))

    def sign_out(self) -> None:
        self._ask("DELETE", "/v1/sessions/current")

    def change_own_password(self, present: str, new: str) -> None:
        """Raises SignInFailed when the present one is another."""
        self._ask("PUT", "/v1/me/password", json={"present": present, "new": new})

    def accounts(self) -> tuple[Account, ...]:
        return _list(Account, self._json("GET", "/v1/accounts"), "items")

    def make_account(self, name: str, role: UserRole, password: str | None = None) -> NewAccount:
        """Without a password one is made; the answer is the only place that ever holds it."""
        body = _given({"name": name, "role": role, "password": password})
        return _record(NewAccount, self._json("POST", "/v1/accounts", json=body))

    def change_account(self, account_id: str, role: UserRole | None = None, disabled: bool | None = None) -> Account:
        """Raises Conflict when no administrator would be left."""
        body = {name: value for name, value in (("role", role), ("disabled", disabled)) if value is not None}
        return _record(Account, self._json("PATCH", f"/v1/accounts/{_part(account_id)}", json=body))

    def reset_password(self, account_id: str, password: str | None = None) -> NewAccount:
        path = f"/v1/accounts/{_part(account_id)}/password"
        return _record(NewAccount, self._json("PUT", path, json=_given({"password": password})))

    def audit(self, filters: MappingType[str, Any], cursor: str | None = None, limit: int = 100) -> AuditPage:
        """``filters``: ``actor, action, from, to``; newest first."""
        query = _given({**filters, "cursor": cursor, "limit": limit})
        return _record(AuditPage, self._json("GET", "/v1/audit", params=query))

    def audit_words(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Every actor and every action that occurs."""
        found = self._json("GET", "/v1/audit/words")
        return tuple(found["actors"]), tuple(found["actions"])

    # ---------------------------------------------------------------- webhooks

    def webhooks(self) -> tuple[Webhook, ...]:
        return _list(Webhook, self._json("GET", "/v1/webhooks"), "items")

    def make_webhook(self, url: str, events: Sequence[EventKind]) -> NewWebhook:
        """The answer is the only place that ever shows its secret."""
        return _record(NewWebhook, self._json("POST", "/v1/webhooks", json={"url": url, "events": list(events)}))

    def remove_webhook(self, webhook_id: str) -> None:
        self._ask("DELETE", f"/v1/webhooks/{_part(webhook_id)}")

    def deliveries(self, webhook_id: str) -> tuple[Delivery, ...]:
        return _list(Delivery, self._json("GET", f"/v1/webhooks/{_part(webhook_id)}/deliveries"), "items")

    def deliver_again(self, webhook_id: str, event_id: str) -> tuple[Delivery, ...]:
        path = f"/v1/webhooks/{_part(webhook_id)}/deliveries/{_part(event_id)}"
        return _list(Delivery, self._json("POST", path), "items")

    # ---------------------------------------------------------------- what people know better

    def put_actuals(self, rows: Sequence[MappingType[str, Any]]) -> int:
        """Rows of ``date, store, product, sales``; how many were new or other than what was known."""
        body = {"rows": [{**row, "date": str(row["date"])} for row in rows]}
        return int(self._json("PUT", "/v1/actuals", json=body)["changed"])

    def put_override(self, asked: NewJudgement) -> Judgement:
        return _record(Judgement, self._json("PUT", "/v1/overrides", json=asked.model_dump(mode="json")))

    def overrides(self, filters: MappingType[str, Any]) -> tuple[Judgement, ...]:
        """``filters``: ``from, to, store, product``; those that count now."""
        return _list(Judgement, self._json("GET", "/v1/overrides", params=_given(dict(filters))), "items")

    # ---------------------------------------------------------------- one request

    def _bytes(self, path: str, query: dict[str, Any]) -> bytes:
        return self._ask("GET", path, params=query, seconds=FILE_SECONDS).content

    def _json(self, method: str, path: str, **request: Any) -> Any:
        reply = self._ask(method, path, **request)
        try:
            return reply.json()
        except ValueError as error:
            raise _down("answered something that is not JSON", reply.headers.get("X-Request-ID")) from error

    def _ask(self, method: str, path: str, seconds: float | None = None, **request: Any) -> requests.Response:
        # Our own id goes along, so that also a call without an answer can be found in the API's log.
        trace = tracing.new()
        request_id = trace.request_id
        ids = {"X-Request-ID": request_id, tracing.HEADER: trace.traceparent}
        headers = {**request.pop("headers", {}), **ids}
        waits = (CONNECT_SECONDS, seconds or self._read_seconds)
        try:
            reply = self._session.request(method, self.url + path, headers=headers, timeout=waits, **request)
        except requests.Timeout as error:
            raise _down(f"no answer within {waits[1]:g} s", request_id) from error
        except requests.RequestException as error:
            raise _down(type(error).__name__, request_id) from error
        if reply.status_code >= 400:
            raise _problem(reply, request_id)
        return reply


def prediction_body(row: PredictionInput) -> dict[str, Any]:
    """One row as the API takes it: regressors beside the other fields, nothing that is not known."""
    fields = row.model_dump(mode="json", exclude_none=True, exclude={"regressors"})
    return {**fields, **row.regressors}


def _answers(reply: Any) -> tuple[Answer | RowError, ...]:
    try:
        return tuple(_answer(item) for item in reply["predictions"])
    except (KeyError, TypeError, ValidationError) as error:
        raise _down("answered something unexpected", None) from error


def _answer(item: dict[str, Any]) -> Answer | RowError:
    return RowError.model_validate(item["error"]) if "error" in item else Answer.model_validate(item)


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {key: _text(value) for key, value in query.items() if value not in (None, "")}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(text: str) -> str:
    """One part of a path, whatever is in it."""
    return requests.utils.quote(text, safe="")


def _list(record: type[R], reply: Any, key: str) -> tuple[R, ...]:
    try:
        return tuple(record.model_validate(item) for item in reply[key])
    except (KeyError, TypeError, ValidationError) as error:
        raise _down("answered something unexpected", None) from error


def _record(record: type[R], reply: Any) -> R:
    try:
        return record.model_validate(reply)
    except ValidationError as error:
        raise _down("answered something unexpected", None) from error


def _down(reason: str, request_id: str | None) -> ServiceDown:
    error = ServiceDown("api", reason)
    error.facts["request_id"] = request_id
    return error


def _problem(reply: requests.Response, request_id: str) -> ControlRoomError:
    """RFC 9457 as the error type it was on the other side."""
    try:
        body = reply.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or "code" not in body:
        if reply.status_code == 404:
            return NotFound("the API does not know this address")
        return _down(f"answered {reply.status_code}", request_id)
    error = _rebuilt(str(body["code"]), str(body.get("detail") or body.get("title") or ""))
    error.facts |= {
        "code": str(body["code"]),
        "status": reply.status_code,
        "request_id": body.get("request_id") or request_id,
        "errors": _row_errors(body.get("errors")),
    }
    return error


def _rebuilt(code: str, detail: str) -> ControlRoomError:
    kind = all_codes().get(code, ControlRoomError)
    if issubclass(kind, ServiceDown):
        service, _, reason = detail.partition(" does not answer: ")
        return kind(service.split(" ")[0] or "api", reason or detail)
    if issubclass(kind, InputError):
        return kind(detail)
    return kind(detail)


def _row_errors(items: Any) -> tuple[RowError, ...]:
    try:
        return tuple(TypeAdapter(list[RowError]).validate_python(items or []))
    except ValidationError:
        return ()
