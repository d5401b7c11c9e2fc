"""MLflow: experiments, and the registry with its versions, aliases (champion, challenger), evidence and bundles."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ml import tracing
from ml.errors import NotFound, Retired, ServiceDown
from ml.records import MODEL_NAME, Decision, Evaluation, ModelInfo, ModelReport, TuningTrial

# A console or an API waits seconds for a registry, not MLflow's default of minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
# Multipart transfers would go to the object store's inner address, which outside clients can't reach.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

T = TypeVar("T")
RUN_TAG = "control_room.run_id"
EVALUATION, DECISION = "evaluation.json", "decision.json"
TRIALS, IMPORTANCE = "tuning.json", "importance.json"  # of the search for parameters
RETIRED = "retired"  # tag of a version whose files are no longer kept: when they went
INFO_TAGS = ("kind", "data_version", "trained_until", "verdict", "fingerprint")


@cache
def _say_the_trace() -> None:
    """MLflow's client says with every call which request it is for."""
    from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider
    from mlflow.tracking.request_header.registry import _request_header_provider_registry

    class Trace(RequestHeaderProvider):
        def in_context(self) -> bool:
            return tracing.current() is not None

        def request_headers(self) -> dict[str, str]:
            return tracing.headers()

    _request_header_provider_registry.register(Trace)


class Registry:
    """All of MLflow that we use. Every method raises ServiceDown when MLflow does not answer."""

    def __init__(self, url: str, name: str = MODEL_NAME) -> None:
        from mlflow.tracking import MlflowClient

        _say_the_trace()
        self.url, self.name = url, name
        self.client = MlflowClient(tracking_uri=url, registry_uri=url)

    def _call(self, ask: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException

        try:
            return ask()
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                raise NotFound(f"MLflow: {error.message}") from error
            # A missing alias is answered as an invalid parameter.
            if error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error.message).lower():
                raise NotFound(f"MLflow: {error.message}") from error
            silent = isinstance(error.__context__, OSError)  # requests' own: no answer at all, told with an address
            told = type(error.__context__).__name__ if silent else str(error.message)[:200]
            raise ServiceDown("mlflow", told) from error
        except OSError as error:
            raise ServiceDown("mlflow", type(error).__name__) from error

    def check(self) -> None:
        """Ask something small; raises ServiceDown."""
        self._call(lambda: self.client.search_experiments(max_results=1))

    # -- versions and aliases

    def versions(self) -> list[ModelInfo]:
        """All registered versions, newest first; empty before the first training."""
        try:
            aliases = self._aliases()
        except NotFound:
            return []
        infos = [_info(item, tuple(a for a, v in aliases.items() if v == str(item.version))) for item in self._all()]
        return sorted(infos, key=lambda info: int(info.version), reverse=True)

    def _all(self) -> Iterator[Any]:
        """Every version; MLflow hands them out in pages."""
        token = None
        while True:
            page = self._call(
                lambda t=token: self.client.search_model_versions(  # type: ignore[misc]
                    f"name='{self.name}'", max_results=200, page_token=t
                )
            )
            yield from page
            token = page.token
            if not token:
                return

    def _aliases(self) -> dict[str, str]:
        model = self._call(lambda: self.client.get_registered_model(self.name))
        return {alias: str(version) for alias, version in dict(model.aliases).items()}

    def version(self, version: str) -> ModelInfo:
        item = self._call(lambda: self.client.get_model_version(self.name, version))
        return _info(item, tuple(item.aliases or ()))

    def alias(self, alias: str) -> ModelInfo | None:
        """The version behind an alias, or None."""
        try:
            item = self._call(lambda: self.client.get_model_version_by_alias(self.name, alias))
        except NotFound:
            return None
        return _info(item, tuple(item.aliases or (alias,)))

    def set_alias(self, alias: str, version: str) -> None:
        self._call(lambda: self.client.set_registered_model_alias(self.name, alias, version))

    def drop_alias(self, alias: str) -> None:
        try:
            self._call(lambda: self.client.delete_registered_model_alias(self.name, alias))
        except NotFound:
            return

    def tag(self, version: str, **tags: str) -> None:
        for key, value in tags.items():
            self._call(lambda k=key, v=value: self.client.set_model_version_tag(self.name, version, k, v))  # type: ignore[misc]

    def fingerprint(self, version: str) -> str | None:
        """SHA-256 of the manifest of the bundle that was registered as this version."""
        item = self._call(lambda: self.client.get_model_version(self.name, version))
        return dict(item.tags or {}).get("fingerprint")

    def _tag_from_bundle(self, version: str, tags: dict[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            manifest = self.download(version, Path(folder) / "bundle") / "manifest.json"
            self.tag(version, **tags | {"fingerprint": hashlib.sha256(manifest.read_bytes()).hexdigest()})

    def report(self, version: str) -> ModelReport:
        """A version with the evaluation and the decision of its run."""
        info = self.version(version)
        names = (EVALUATION, DECISION, TRIALS, IMPORTANCE)
        evaluation, decision, trials, weights = self._artifacts_of(info.run_id, names)
        return ModelReport(
            model=info,
            evaluation=Evaluation.model_validate_json(evaluation) if evaluation else None,
            decision=Decision.model_validate_json(decision) if decision else None,
            trials=_trials(trials) if trials else (),
            importance=json.loads(weights) if weights else {},
        )

    def _artifacts_of(self, run_id: str, names: Sequence[str]) -> Iterator[str | None]:
        """The texts that a run has under these names."""
        there = {item.path for item in self._call(lambda: self.client.list_artifacts(run_id))}
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                yield self._text(run_id, name, folder) if name in there else None

    def _text(self, run_id: str, name: str, folder: str) -> str:
        return Path(self._call(lambda: self.client.download_artifacts(run_id, name, folder))).read_text()

    def download(self, version: str, folder: Path) -> Path:
        """Fetch the bundle of a version into ``folder`` (replaced whole); returns ``folder``.

        Raises
        ------
        Retired
            Its files are no longer kept.
        """
        import mlflow

        gone = self.version(version).retired_at
        if gone is not None:
            raise Retired(
                f"The files of version {version} are not kept since {gone:%Y-%m-%d %H:%M} UTC: choose a newer one.",
                version=version,
            )
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            source = self._call(lambda: self.client.get_model_version_download_uri(self.name, version))
            got = self._call(
                lambda: mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{source.rstrip('/')}/artifacts/bundle", dst_path=scratch, tracking_uri=self.url
                )
            )
            shutil.rmtree(folder, ignore_errors=True)
            Path(got).rename(folder)
        return folder

    def free(self, version: str) -> None:
        """Delete the files of a version and tag it; its run, metrics and evidence stay. Done again it does no harm."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        source = self._call(lambda: self.client.get_model_version_download_uri(self.name, version))
        place = get_artifact_repository(source, tracking_uri=self.url, registry_uri=self.url)
        self._call(place.delete_artifacts)
        self.tag(version, **{RETIRED: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")})

    # -- writing

    @contextmanager
    def run(self, experiment: str, run_id: str, *, finish: bool = False) -> Iterator[str]:
        """The MLflow run that belongs to a run of ours, made at its first use; a failure inside marks it failed.

        Several tasks (and retries of a task) share one MLflow run: it is found by its tag. ``finish`` ends it.
        """
        mlflow_run = self._find_or_make(experiment, run_id)
        try:
            yield mlflow_run
        except BaseException:
            self._call(lambda: self.client.set_terminated(mlflow_run, "FAILED"))
            raise
        if finish:
            self._call(lambda: self.client.set_terminated(mlflow_run, "FINISHED"))

    def _find_or_make(self, experiment: str, run_id: str) -> str:
        found = self._call(lambda: self.client.get_experiment_by_name(experiment))
        experiment_id = found.experiment_id if found else self._make_experiment(experiment)
        tag = f"tags.`{RUN_TAG}` = '{run_id}'"
        runs = self._call(lambda: self.client.search_runs([experiment_id], tag, max_results=1))
        if runs:
            mlflow_run = runs[0].info.run_id
            self._call(lambda: self.client.update_run(mlflow_run, status="RUNNING"))
            return mlflow_run
        made = self._call(lambda: self.client.create_run(experiment_id, tags={RUN_TAG: run_id}, run_name=run_id))
        return made.info.run_id

    def _make_experiment(self, experiment: str) -> str:
        try:
            return self._call(lambda: self.client.create_experiment(experiment, artifact_location=self._artifacts()))
        except ServiceDown:  # another task made it in between
            found = self._call(lambda: self.client.get_experiment_by_name(experiment))
            if found is None:
                raise
            return found.experiment_id

    def _artifacts(self) -> str | None:
        """Where artefacts go: a server decides itself; with a database file they lie beside it."""
        scheme, _, path = self.url.partition(":///")
        return str(Path(f"/{path.lstrip('/')}").parent / "artifacts") if scheme == "sqlite" else None

    def log(
        self,
        mlflow_run: str,
        *,
        params: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
        tags: dict[str, str] | None = None,
        texts: dict[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Log to a run; texts become artefacts. Parameters that a retry logs again are left as they are."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        known = self._call(lambda: self.client.get_run(mlflow_run)).data.params
        new = [Param(k, str(v)[:6000]) for k, v in (params or {}).items() if k not in known]
        measured = [Metric(k, float(v), now, step) for k, v in (metrics or {}).items() if v is not None]
        marked = [RunTag(k, v) for k, v in (tags or {}).items()]
        self._call(lambda: self.client.log_batch(mlflow_run, metrics=measured, params=new, tags=marked))
        for name, text in (texts or {}).items():
            self._call(lambda n=name, t=text: self.client.log_text(mlflow_run, t, n))  # type: ignore[misc]

    def register(self, mlflow_run: str, bundle: Path, tags: dict[str, str], example: Any) -> str:
        """Log a bundle as a model from code and register it; a retry finds the version that the run already made."""
        import mlflow

        done = self._call(
            lambda: self.client.search_model_versions(f"name='{self.name}' and run_id='{mlflow_run}'", max_results=1)
        )
        if done:
            version = str(done[0].version)
            if not self.fingerprint(version):  # killed between registering and tagging
                self._tag_from_bundle(version, tags)
            return version
        mlflow.set_tracking_uri(self.url)
        mlflow.set_registry_uri(self.url)
        signature = mlflow.models.infer_signature(example)
        with mlflow.start_run(run_id=mlflow_run):
            logged = self._call(
                lambda: mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("serving_model.py")),
                    artifacts={"bundle": str(bundle)},
                    registered_model_name=self.name,
                    signature=signature,
                    pip_requirements=["xgboost", "polars", "scikit-learn", "holidays", "pydantic"],
                )
            )
        version = str(logged.registered_model_version)
        self.tag(version, **tags)
        return version


def _trials(text: str) -> tuple[TuningTrial, ...]:
    """As they were logged: ``trial``, the metric by its name, then the parameters."""
    found = []
    for row in json.loads(text):
        (_, number), (_, error), *params = row.items()
        found.append(TuningTrial(number=number, error=error, params=dict(params)))
    return tuple(found)


def _info(item: Any, aliases: tuple[str, ...]) -> ModelInfo:
    tags = dict(item.tags or {})
    until = tags.get("trained_until")
    return ModelInfo(
        name=item.name,
        version=str(item.version),
        aliases=aliases,
        created_at=dt.datetime.fromtimestamp(item.creation_timestamp / 1000, dt.UTC),
        run_id=item.run_id or "",
        kind=tags.get("kind", "unknown"),
        data_version=tags.get("data_version", ""),
        trained_until=dt.date.fromisoformat(until) if until else None,
        metrics={k.removeprefix("metric."): float(v) for k, v in tags.items() if k.startswith("metric.")},
        params={k.removeprefix("param."): v for k, v in tags.items() if k.startswith("param.")},
        verdict=tags.get("verdict"),
        retired_at=dt.datetime.fromisoformat(tags[RETIRED]) if RETIRED in tags else None,
    )
