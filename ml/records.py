"""What the parts say to each other: the domain type, the JSON on the wire and what a page draws are the same class.

Standard library and pydantic only; importing this costs nothing. Sales are in units per period (day or week),
prices in the data's own currency, times in UTC.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

MODEL_NAME = "sales"
ETL_DAG = "process_etl_sales_data"
RETRAIN_DAG = "retrain_sales_model"
DEFAULT_STORE = "all"
DEFAULT_PRODUCT = "all"
LEVELS = (80, 95)
WHAT_IF = "what-if"  # source of answers to what somebody only tries out: nothing is judged by them

Role = Literal["date", "store", "product", "sales", "price", "promotion", "holiday"]
ROLES: tuple[Role, ...] = ("date", "store", "product", "sales", "price", "promotion", "holiday")
Frequency = Literal["D", "W"]


class Record(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


# Low and high. As plain items: tools that read JSON Schema know prefixItems less well.
Bounds = Annotated[
    tuple[float, float], WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2})
]

# ---------------------------------------------------------------- reading a file

Severity = Literal["info", "fix", "row", "reject"]
Verdict = Literal["OK", "FIX", "ROWS", "REJECT"]
Purpose = Literal["training", "predict", "attributes"]


class Finding(Record):
    """One thing the reader noticed.

    ``severity``: ``info`` nothing to do; ``fix`` repaired and shown; ``row`` this row is left out;
    ``reject`` the whole file is refused. ``row`` is the number a person sees in the file (header = 1), ``None`` for
    the file as a whole. ``count`` > 1 stands for that many like findings, of which this is the first.
    """

    code: str
    severity: Severity
    message: str
    hint: str = ""
    row: int | None = None
    column: str | None = None
    count: int = 1
    facts: dict[str, str | int | float] = Field(default_factory=dict)


class ReadOptions(Record):
    """How to read a file; ``None`` means detect."""

    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    date_order: Literal["ymd", "dmy", "mdy"] | None = None
    sheet: str | None = None


class ColumnMatch(Record):
    """One column of the file: what we take it for and how sure we are (0..1)."""

    source: str
    role: Role | Literal["regressor", "ignore"]
    confidence: float
    sample: tuple[str, ...] = ()


class Mapping(Record):
    """Which source column plays which role; ``regressors`` are known in advance and used by the model.

    In a table of attributes (purpose ``attributes``) the roles are its keys and ``regressors`` its attributes."""

    roles: dict[str, str] = Field(default_factory=dict, description="role -> source column")
    regressors: tuple[str, ...] = ()


class Preflight(Record):
    """What we saw in a file, before anything of it counts as data."""

    filename: str
    format: Literal["csv", "xlsx", "parquet", "unknown"]
    bytes: int
    sha256: str
    verdict: Verdict
    purpose: Purpose
    dialect: ReadOptions
    columns: tuple[ColumnMatch, ...] = ()
    mapping: Mapping = Mapping()
    findings: tuple[Finding, ...] = ()
    rows_total: int = 0
    rows_used: int = 0
    rows_rejected: int = 0
    frequency: Frequency | None = None
    date_from: dt.date | None = None
    date_to: dt.date | None = None
    stores: int = 0
    products: int = 0
    missing_days: int = 0
    preview: tuple[dict[str, Any], ...] = ()


UploadStatus = Literal["received", "accepted", "processed", "failed"]


class Upload(Record):
    upload_id: str
    filename: str
    bytes: int
    sha256: str
    status: UploadStatus
    purpose: Purpose
    created_at: dt.datetime
    accepted_at: dt.datetime | None = None
    processed_at: dt.datetime | None = None
    data_version: str | None = None
    duplicate_of: str | None = None
    options: ReadOptions = ReadOptions()
    mapping: Mapping | None = None
    preflight: Preflight


# ---------------------------------------------------------------- published data


class Encoding(Record):
    """How columns become numbers, saved with snapshot and model.

    ``categories``: column -> every value of the data, the code is the position; an unseen value has code -1.
    ``mean``/``scale``: column -> statistics of the standardised columns, of training rows only (scale is never 0).
    """

    categories: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    mean: dict[str, float] = Field(default_factory=dict)
    scale: dict[str, float] = Field(default_factory=dict)


class DataCheck(Record):
    """One thing that the checks of a data run noticed. An ``error`` stops publishing, unless the run is told not to."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    hint: str = ""
    facts: dict[str, str | int | float] = Field(default_factory=dict)


class FeatureDrift(Record):
    """How far one input, or the sales themselves, have moved.

    ``psi``: population stability index; ``distance``: Wasserstein distance in standard deviations of the reference, or
    for categories the share that would have to move (total variation), both without a unit. ``noise``: the index that
    chance alone reaches once in twenty times on so few store-weeks; ``level`` counts only what is beyond it.
    """

    feature: str
    kind: Literal["numeric", "category"]
    psi: float
    distance: float
    noise: float
    level: Literal["none", "moderate", "strong"]


class Drift(Record):
    """New data beside what the champion learned from, in the same weeks of the year where there are such.

    ``reference`` is None where nothing could be compared; ``note`` says why. Dates are inclusive.
    """

    version: str | None = None
    data_version: str | None = None
    reference: Literal["year_before", "recent"] | None = None
    reference_from: dt.date | None = None
    reference_to: dt.date | None = None
    date_from: dt.date | None = None
    date_to: dt.date | None = None
    rows_reference: int = 0
    rows: int = 0
    features: tuple[FeatureDrift, ...] = ()
    note: str = ""


class Snapshot(Record):
    """``data.json``: everything that is to be known about one published version of the data."""

    data_version: str
    created_at: dt.datetime
    frequency: Frequency
    horizon: int
    unit: str
    rows: int
    rows_train: int
    rows_test: int
    rows_rejected: int
    rows_filled: int
    stores: int
    products: int
    series: int
    date_from: dt.date
    date_to: dt.date
    split_date: dt.date
    country: str
    columns: dict[str, str]
    regressors: tuple[str, ...]
    static: tuple[str, ...] = ()  # attributes that never change, as <level>.<name>: nobody has to plan them
    derived: tuple[str, ...] = ()
    closed_when: dict[str, float] = Field(default_factory=dict)
    missing_days: Literal["zero", "unknown"]
    encoding: Encoding
    sources: tuple[str, ...]
    decisions: tuple[str, ...]
    files: dict[str, str]
    checks: tuple[DataCheck, ...] = ()
    drift: Drift | None = None


class DataDay(Record):
    """One date of the published data: rows there should be, rows whose sales are not known, units sold."""

    date: dt.date
    rows: int
    missing: int
    sold: float


class StoreDays(Record):
    """One store lately: its newest known day, days without any known row, share of rows that are not known."""

    store: str
    newest: dt.date | None
    silent_days: int
    missing: float


class Outlier(Record):
    """Sales far from what is ``usual`` for the series, in units."""

    date: dt.date
    store: str
    product: str
    sales: float
    usual: float


class DataHealth(Record):
    """The last weeks of the published data; ``importance``: input -> its share in the champion's forecasts.

    ``predictions``: how far what is predicted has moved; None where that could not be asked.
    """

    data_version: str
    days: tuple[DataDay, ...]
    stores: tuple[StoreDays, ...]
    outliers: tuple[Outlier, ...]
    importance: dict[str, float] = Field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    predictions: Drift | None = None


class SeriesInfo(Record):
    store: str
    product: str
    date_from: dt.date
    date_to: dt.date
    rows: int
    mean_sales: float
    last_price: float | None = Field(None, description="the last known one outside promotions")


class SalesPoint(Record):
    date: dt.date
    sales: float | None
    promotion: float | None = None
    price: float | None = None


# ---------------------------------------------------------------- evaluation and promotion


class Metrics(Record):
    """Accuracy on one set of rows. ``wape`` = sum|y-f|/sum y; ``bias`` = sum(f-y)/sum y; shares, not percent.

    ``coverage`` maps the interval level (80, 95) to the share of actuals inside it. ``pinball``: mean loss of the
    quantiles 2.5, 10, 50, 90 and 97.5 %, in units. Both on rows that the intervals had not seen.
    """

    rows: int
    wape: float
    bias: float
    rmse: float
    mae: float
    rmspe: float | None = None
    coverage: dict[str, float] = Field(default_factory=dict)
    pinball: float | None = None


class Fold(Record):
    origin: dt.date
    date_from: dt.date
    date_to: dt.date
    rows: int
    metrics: dict[str, Metrics]


class Segment(Record):
    """Error of each model in one segment (``by`` store, product, promotion, horizon)."""

    by: str
    value: str
    rows: int
    wape: dict[str, float]


class SumCoverage(Record):
    """How often the challenger's intervals of totals held what was sold, on folds that they had not seen.

    ``kind``: over what a total runs (``series``, ``store``, ``product``, ``all``) / how long (``period``, ``week``,
    which is four periods of weekly data, ``horizon``); ``sums``: how many there were.
    """

    kind: str
    sums: int
    coverage: dict[str, float]


class CalibrationBin(Record):
    """The challenger's forecasts of about one size: what was forecast and sold on average, in units, and the share of
    actuals inside the intervals, which had not seen these rows."""

    rows: int
    forecast: float
    actual: float
    coverage: dict[str, float]


class ErrorSpread(Record):
    """Forecast minus sales of one model so many weeks ahead: the 5, 25, 50, 75 and 95 % quantiles, in units."""

    model: str
    week: int
    quantiles: tuple[float, ...]


class Disagreement(Record):
    """One judged row on which challenger and champion lie far apart, in units."""

    date: dt.date
    store: str
    product: str
    actual: float
    challenger: float
    champion: float


class TuningTrial(Record):
    """One try of the search for parameters; ``error`` on the fold that it was judged on, a share."""

    number: int
    error: float
    params: dict[str, float | int | str]


ModelKind = Literal["xgboost", "linear", "seasonal_naive", "moving_average"]


class Choice(Record):
    """Which kind of model answers, and why.

    ``reason``: ``trees`` the boosted trees erred least; ``simpler`` a simpler model did; ``short`` there are too few
    rows to train anything but naive models. ``errors``: kind -> ``metric`` on the fold that chose, a share; empty where
    there was no row to judge on. ``periods``: days or weeks of history; ``rows``: what the trees could learn from.
    """

    kind: ModelKind
    reason: Literal["trees", "simpler", "short"]
    metric: str
    errors: dict[str, float] = Field(default_factory=dict)
    periods: int
    frequency: Frequency
    rows: int


class Evaluation(Record):
    """All models on the same rolling-origin rows. Model names: challenger, champion, seasonal_naive, …"""

    data_version: str
    folds: tuple[Fold, ...]
    overall: dict[str, Metrics]
    segments: tuple[Segment, ...] = ()
    weekly_gain: tuple[tuple[str, float], ...] = ()
    sums: tuple[SumCoverage, ...] = ()
    choice: Choice | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    spreads: tuple[ErrorSpread, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()


class Gate(Record):
    name: str
    passed: bool
    value: float | None
    bound: float | None
    note: str


DecisionVerdict = Literal["first", "better", "worse", "too_close", "unchanged"]


class Decision(Record):
    """What the gate says; ``promote`` is whether the alias may move under the policy."""

    verdict: DecisionVerdict
    promote: bool
    needs_approval: bool
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    days_to_tell: int | None = None
    gates: tuple[Gate, ...] = ()
    reason: str


class Recipe(Record):
    """How to train one model again: ``kind`` and every parameter. Two equal recipes on equal data are one model."""

    kind: ModelKind
    params: dict[str, float | int | str] = Field(default_factory=dict)
    blocks: tuple[int, ...] = (7, 28)
    seed: int = 7


class Manifest(Record):
    """The first file of a bundle; names every other file with its SHA-256."""

    format: int = 1
    model: str = MODEL_NAME
    created_at: dt.datetime
    data_version: str
    trained_until: dt.date
    frequency: Frequency
    horizon: int
    unit: str
    country: str
    recipe: Recipe
    features: tuple[str, ...]
    regressors: tuple[str, ...]
    static: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    closed_when: dict[str, float] = Field(default_factory=dict)
    encoding: Encoding
    files: dict[str, str]


class ModelInfo(Record):
    name: str
    version: str
    aliases: tuple[str, ...]
    created_at: dt.datetime
    run_id: str
    kind: str
    data_version: str
    trained_until: dt.date | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    params: dict[str, str] = Field(default_factory=dict)
    verdict: str | None = None
    retired_at: dt.datetime | None = None  # its files are no longer kept; its evidence is


class ModelReport(Record):
    """One registered model with the evidence it was judged on.

    ``trials``: how its parameters were searched; ``importance``: parameter -> its share in how the trials' errors vary
    (functional ANOVA), empty where there were too few.
    """

    model: ModelInfo
    evaluation: Evaluation | None
    decision: Decision | None
    trials: tuple[TuningTrial, ...] = ()
    importance: dict[str, float] = Field(default_factory=dict)


AdviceCode = Literal[
    "no_champion", "live_accuracy", "live_few", "drift", "data_changed", "new_rows", "age", "small_gains"
]
AdviceWeight = Literal["strong", "weak", "none", "against"]
BlockerCode = Literal[
    "no_data", "run_active", "paused", "airflow_away", "etl_failed", "checks_failed", "unchanged_data", "few_new_rows"
]


class AdviceReason(Record):
    """One fact that was weighed, with its numbers (shares, not percent); ``none``: it does not ask for retraining."""

    code: AdviceCode
    weight: AdviceWeight
    facts: dict[str, float | int | str] = Field(default_factory=dict)


class AdviceBlocker(Record):
    """What is in the way of a retraining now, or makes it pointless."""

    code: BlockerCode
    facts: dict[str, float | int | str] = Field(default_factory=dict)


class Advice(Record):
    """Retrain or wait. ``wanted``: what the reasons alone ask for, also when something is in the way.

    ``expected_gain``: mean reduction of WAPE by past retrainings, a share, 0 counted where the champion stayed; its
    95 % interval where there were two or more. ``unknown`` names what could not be asked.
    """

    verdict: Literal["retrain", "wait", "blocked"]
    wanted: bool
    reasons: tuple[AdviceReason, ...] = ()
    blockers: tuple[AdviceBlocker, ...] = ()
    champion: str | None = None
    expected_gain: float | None = None
    expected_gain_low: float | None = None
    expected_gain_high: float | None = None
    past_retrains: int = 0
    unknown: tuple[str, ...] = ()


class Promotion(Record):
    """One audit row: who moved the champion alias, from what to what, why; ``retire``: whose files were given up."""

    promotion_id: int
    at: dt.datetime
    action: Literal["promote", "rollback", "reject", "retire"]
    version: str
    previous: str | None
    actor: str
    reason: str
    decision: Decision | None = None


class Reign(Record):
    """One version's time as champion: from ``since`` until the next move (``until``; None: it still is).

    ``promotion_id`` is the audit row that made it champion, by ``actor`` for ``reason``; ``previous`` who was before.
    """

    promotion_id: int
    version: str
    since: dt.datetime
    until: dt.datetime | None
    action: Literal["promote", "rollback"]
    previous: str | None
    actor: str
    reason: str
    verdict: DecisionVerdict | None = None
    gain: float | None = None


class ChampionsPage(Record):
    """Champions, newest first."""

    items: tuple[Reign, ...]
    next_cursor: str | None


# ---------------------------------------------------------------- predictions


class ModelRef(Record):
    name: str
    version: str
    alias: str | None
    run_id: str


class Support(Record):
    """How much of the history looks like the asked row: ``similar_days`` of the series with the same promotion state
    and a price within 10 %, ``similar_sibling_days`` of the product in other stores (else of its store). ``level``:
    ``ok`` (≥ 14 of its own), ``thin`` (1–13, or ≥ 14 of siblings only), ``none`` (extrapolation). ``outside`` names the
    inputs beyond what was seen."""

    similar_days: int
    level: Literal["ok", "thin", "none"]
    similar_sibling_days: int = 0
    outside: tuple[str, ...] = ()


class PredictionInput(Record):
    """One row to predict. What is left out is filled with what is known (usual price, no promotion, calendar)."""

    date: dt.date
    store: str | None = None
    product: str | None = None
    price: float | None = None
    promotion: float | None = None
    holiday: int | None = None
    regressors: dict[str, float | str] = Field(default_factory=dict)


class Answer(Record):
    """One prediction, in ``unit`` (units/day or units/week), with intervals per level."""

    date: dt.date
    store: str
    product: str
    prediction: float
    unit: str
    interval: dict[str, Bounds]
    support: Support
    inputs: dict[str, Any]
    model: ModelRef
    data_version: str
    request_id: str
    created_at: dt.datetime
    warnings: tuple[str, ...] = ()


class Contribution(Record):
    """What one group of inputs adds to a forecast, in units. ``group``: ``level``, ``trend``, ``weekday``, ``season``,
    ``holiday``, ``price``, ``promotion``, ``series`` (this product and store), ``regressor:<name>``, ``closed``,
    ``other``."""

    group: str
    units: float


class Explanation(Record):
    """Why a forecast is what it is: ``base`` (the level of recent sales) plus all contributions is the prediction.

    ``sentence`` says it in short: ``usual``, ``raised``, ``lowered``, ``mixed`` or ``closed``, with its ``drivers``, up
    to three contributions worth a word.
    """

    date: dt.date
    store: str
    product: str
    prediction: float
    unit: str
    base: float
    contributions: tuple[Contribution, ...]
    sentence: Literal["usual", "raised", "lowered", "mixed", "closed"]
    drivers: tuple[Contribution, ...]
    model: ModelRef
    data_version: str


class ExplainedAnswer(Answer):
    """An answer with what :class:`Explanation` says beside it."""

    base: float
    contributions: tuple[Contribution, ...]
    sentence: Literal["usual", "raised", "lowered", "mixed", "closed"]
    drivers: tuple[Contribution, ...]


class RowError(Record):
    row: int
    field: str | None
    code: str
    message: str


class ExplainReply(Record):
    """One explanation or error per row, in the order of the rows."""

    explanations: tuple[Explanation | RowError, ...]


class HistoryItem(Record):
    prediction_id: int
    created_at: dt.datetime
    date: dt.date
    store: str
    product: str
    inputs: dict[str, Any]
    prediction: float
    unit: str
    interval: dict[str, Bounds]
    model_version: str
    data_version: str
    source: str
    request_id: str
    support: int
    actual: float | None = None
    error: float | None = None


class HistoryPage(Record):
    items: tuple[HistoryItem, ...]
    next_cursor: str | None


class AccuracyRow(Record):
    """Accuracy of logged predictions under one key; ``key`` is None for all of them together.

    ``sold`` and ``error`` (sum of absolute errors) in units; ``wape``, ``bias`` and ``coverage`` are shares. The naive
    forecast is known on ``naive_rows`` only: ``wape_beside_naive`` is the model's on exactly those; so with
    ``override_rows``, for which somebody gave another number in time. ``promoted``, ``holidays`` and ``unsupported``
    (no similar day in history) count rows.
    """

    key: str | None
    rows: int
    sold: float
    error: float
    wape: float | None
    bias: float | None
    rmse: float | None
    coverage: dict[str, float] = Field(default_factory=dict)
    naive_rows: int = 0
    naive_wape: float | None = None
    wape_beside_naive: float | None = None
    override_rows: int = 0
    override_wape: float | None = None
    wape_beside_override: float | None = None
    promoted: int = 0
    holidays: int = 0
    unsupported: int = 0


class Accuracy(Record):
    """Accuracy per key; ``total`` is None where nothing can be judged yet."""

    by: Literal["date", "horizon", "store", "product", "promotion"]
    items: tuple[AccuracyRow, ...]
    total: AccuracyRow | None


AlertKind = Literal["outside_band", "bias", "jump", "missing", "unseen"]


class Alert(Record):
    """Something out of the ordinary about one series, with the ``units`` at stake between two dates.

    ``outside_band``: newest sales beyond the 95 % interval; ``bias``: forecasts all err to one side; ``jump``: much
    more or less is expected than sold lately; ``missing``: its newest days are not known; ``unseen``: the champion has
    not learned its store or product.
    """

    kind: AlertKind
    store: str
    product: str
    date_from: dt.date
    date_to: dt.date
    units: float
    facts: dict[str, float | int | str] = Field(default_factory=dict)


class Alerts(Record):
    """Those with the most units first; ``counts``: kind -> how many there are (200 at most of each). ``unknown`` names
    the parts that could not be asked."""

    data_version: str
    items: tuple[Alert, ...]
    counts: dict[AlertKind, int] = Field(default_factory=dict)
    unknown: tuple[str, ...] = ()


class VersionWeek(Record):
    """What one version forecast for the days of one week (that begins on ``week``), beside what was sold.

    ``sold`` and ``error`` (sum of absolute errors) in units, ``wape`` a share.
    """

    version: str
    week: dt.date
    rows: int
    sold: float
    error: float
    wape: float | None


class Replay(Record):
    """A logged prediction made once more with the bundle and the history that gave it.

    ``then`` is what was answered, ``now`` what the same model says today; ``agrees`` when they differ by at most
    ``tolerance`` units. ``rows`` is how many rows of the same request were answered together with it.
    """

    prediction_id: int
    model_version: str
    data_version: str
    manifest_sha256: str
    then: float
    now: float
    difference: float
    tolerance: float
    agrees: bool
    rows: int
    unit: str
    interval_then: dict[str, Bounds]
    interval_now: dict[str, Bounds]
    seconds: float


class Retold(Record):
    """A logged prediction (``then``, by ``version``) beside what another version says (``now``) with the same inputs.

    ``learned``: the other version has learned from this very day, so that what it says is no forecast.
    """

    prediction_id: int
    created_at: dt.datetime
    date: dt.date
    store: str
    product: str
    unit: str
    version: str
    data_version: str
    then: float
    now: float
    interval_now: dict[str, Bounds]
    actual: float | None
    learned: bool


class Retellings(Record):
    """What ``version`` would have said. ``gone``: rows left out, because the data they were answered from is no longer
    kept; the WAPEs are shares, over the ``judged`` rows whose sales are known and not learned from."""

    version: str
    items: tuple[Retold, ...]
    gone: int
    judged: int
    wape_then: float | None
    wape_now: float | None


class Override(Record):
    """What the person plans for one day; ``store``/``product`` left out mean all of the request."""

    date: dt.date | None = None
    store: str | None = None
    product: str | None = None
    price: float | None = None
    promotion: float | None = None


class ForecastRequest(Record):
    stores: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    horizon: int | None = Field(None, ge=1, le=364)
    overrides: tuple[Override, ...] = ()
    model: str = "champion"


class Total(Record):
    """Sales added up over rows, with the interval of the sum (which is not the sum of the rows' intervals)."""

    date_from: dt.date
    date_to: dt.date
    prediction: float
    interval: dict[str, Bounds]


class ForecastReply(Record):
    """Every row, and totals over the chosen series: ``whole`` over all dates, ``by_date`` per date.

    A model trained before intervals of totals existed has none: then ``whole`` is null and ``by_date`` empty.
    """

    predictions: tuple[Answer, ...]
    total: float
    unit: str
    whole: Total | None = None
    by_date: tuple[Total, ...] = ()


class Variant(Record):
    """One way to plan the days of a scenario. ``days``: those with another price or promotion than usual."""

    name: str = Field(min_length=1, max_length=60)
    days: tuple[Override, ...] = Field((), max_length=364)


class ScenarioPlan(Record):
    """A what-if about one store and product over ``periods`` days or weeks from ``date_from``.

    The first of ``variants`` is what the others are compared with. ``unit_cost`` is what one unit costs,
    ``promotion_cost`` what a promoted day costs on top; ``discounted``: the promotion is a discount on ``price``.
    ``model_version`` answered when it was kept.
    """

    name: str = Field(min_length=1, max_length=100)
    store: str = Field(min_length=1, max_length=200)
    product: str = Field(min_length=1, max_length=200)
    date_from: dt.date
    periods: int = Field(ge=1, le=364)
    variants: tuple[Variant, ...] = Field(min_length=2, max_length=5)
    unit_cost: float | None = Field(None, ge=0, le=1e9)
    promotion_cost: float | None = Field(None, ge=0, le=1e12)
    discounted: bool = False
    model_version: str | None = Field(None, max_length=20)


class PlanDifference(Record):
    """What one variant of a plan sells beside the first, in units. ``interval`` is that of the difference, which is
    not the difference of the intervals; null where ``unsupported`` of the ``changed`` days are like none in history."""

    name: str
    units: float
    interval: dict[str, Bounds] | None
    changed: int
    unsupported: int


class PlanDifferences(Record):
    """Every variant but the first, under one model."""

    model: ModelRef
    data_version: str
    items: tuple[PlanDifference, ...]


class Scenario(Record):
    """A what-if that was kept; it is asked anew each time it is opened."""

    scenario_id: str
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime
    plan: ScenarioPlan


# ---------------------------------------------------------------- services and runs

PartState = Literal["ok", "degraded", "down", "absent"]


class PartHealth(Record):
    name: str
    state: PartState
    latency_ms: float | None = None
    checked_at: dt.datetime
    detail: str = ""


class Health(Record):
    status: Literal["ok", "degraded", "down"]
    version: str
    champion: ModelRef | None
    data_version: str | None
    data_until: dt.date | None
    parity: float | None = Field(None, description="largest difference on the golden rows, in units")
    parts: tuple[PartHealth, ...]


class TaskState(Record):
    task_id: str
    state: str | None
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    try_number: int = 0


class Progress(Record):
    """How far a long step is: trial or fold ``number`` of ``total``; ``share`` of the whole step, 0..1.

    ``ahead``: for a fold, the horizon block that is judged on it, in periods.
    """

    step: str
    unit: Literal["trial", "fold"]
    number: int
    total: int
    share: float
    ahead: int | None = None
    at: dt.datetime


class Run(Record):
    """One run of a DAG. ``progress`` is that of its running step, where it counts something."""

    dag_id: str
    run_id: str
    state: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    conf: dict[str, Any] = Field(default_factory=dict)
    tasks: tuple[TaskState, ...] = ()
    progress: Progress | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


class Pipeline(Record):
    """A DAG as Airflow knows it. ``schedule``: five cron fields, ``Asset`` (after new data), None: by hand only."""

    dag_id: str
    paused: bool
    schedule: str | None = None
    next_run_at: dt.datetime | None = None


# ---------------------------------------------------------------- jobs

JobKind = Literal["predict", "export"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class JobProgress(Record):
    """How far a job is, refused rows left out. Totals are None until its file has been read; ``share`` is 0..1."""

    rows_done: int = 0
    rows_total: int | None = None
    chunks_done: int = 0
    chunks_total: int | None = None
    share: float = 0.0


class Job(Record):
    """Long work, done in chunks.

    ``predict``: a large file, with the versions of model and data that were pinned when it came; ``rows_refused`` are
    rows of the file that are left out, listed with their reasons. ``export``: logged predictions written into a file,
    of no model and no version. ``error`` says why it has failed or what it waits for.
    """

    job_id: str
    kind: JobKind = "predict"
    state: JobState
    filename: str
    bytes: int
    sha256: str
    upload_id: str | None = None
    model: ModelRef | None = None
    data_version: str | None = None
    created_at: dt.datetime
    created_by: str
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    cancelling: bool = False
    progress: JobProgress = JobProgress()
    rows_refused: int | None = None
    error_code: str | None = None
    error: str | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


# ---------------------------------------------------------------- who may do what

UserRole = Literal["viewer", "planner", "analyst", "manager", "admin"]  # each may do what those before it may
USER_ROLES: tuple[UserRole, ...] = ("viewer", "planner", "analyst", "manager", "admin")


class ApiKey(Record):
    """A key of the API without its secret; ``key_id`` is the part of it that may be shown."""

    key_id: str
    name: str
    role: UserRole
    created_at: dt.datetime
    created_by: str
    expires_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = None
    revoked_by: str | None = None

    def valid(self, now: dt.datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class NewApiKey(Record):
    """A key that was made just now. ``secret`` is what is sent; it is shown this once and kept nowhere."""

    secret: str
    key: ApiKey


class Limits(Record):
    """What the API takes at most. ``requests_per_minute``: of one key; 0: no limit."""

    requests_per_minute: int
    upload_mb: int
    predict_rows: int
    predict_mb: int
    forecast_rows: int
    explain_rows: int
    history_rows: int


class Me(Record):
    """Who the API takes the caller for; ``key_id`` of a key, ``account_id`` of a person who has signed in.

    Both are None for this machine and for the console's own key.
    """

    name: str
    role: UserRole
    key_id: str | None = None
    account_id: str | None = None


# ---------------------------------------------------------------- people


class Account(Record):
    """A person. ``local``: with a password here; ``oidc``: name and role come from the identity provider."""

    account_id: str
    name: str
    kind: Literal["local", "oidc"]
    role: UserRole
    created_at: dt.datetime
    created_by: str
    changed_at: dt.datetime
    changed_by: str
    disabled_at: dt.datetime | None = None
    last_sign_in_at: dt.datetime | None = None


class NewAccount(Record):
    """An account that was made, or has a new password, just now. ``password``: one that was made for it, shown once."""

    account: Account
    password: str | None = None


class NewSession(Record):
    """What signing in gives. ``token`` is sent as a key is; it is kept nowhere."""

    token: str
    account: Account
    expires_at: dt.datetime


class Session(Record):
    """A session as it is now, with what its account may do now. Without use it ends at ``idle_at``."""

    session_id: str
    account_id: str
    name: str
    role: UserRole
    expires_at: dt.datetime
    idle_at: dt.datetime
    ended_at: dt.datetime | None = None

    def valid(self, now: dt.datetime) -> bool:
        return self.ended_at is None and now < min(self.expires_at, self.idle_at)


class AuditEntry(Record):
    """Who did what to what; ``action`` as ``account.created``, ``model.promote``."""

    entry_id: str
    at: dt.datetime
    actor: str
    action: str
    subject: str
    facts: dict[str, str] = Field(default_factory=dict)


class AuditPage(Record):
    items: tuple[AuditEntry, ...]
    next_cursor: str | None = None


# ---------------------------------------------------------------- what people judge


class NewJudgement(Record):
    """Units in the place of a forecast, and why; ``units`` null takes it back."""

    date: dt.date
    store: str = Field(min_length=1, max_length=200)
    product: str = Field(min_length=1, max_length=200)
    units: float | None = Field(None, ge=0, le=1e9)
    reason: str = Field(min_length=1, max_length=500)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.store, self.product, self.date.isoformat()


class Judgement(NewJudgement):
    override_id: int
    made_by: str
    made_at: dt.datetime


# ---------------------------------------------------------------- who is told

EventKind = Literal["model.promoted", "run.finished", "job.finished", "drift.detected", "data.accepted"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


class Event(Record):
    """Something that has happened. ``event_id`` follows from what it was, so that it can be noted only once."""

    event_id: str
    kind: EventKind
    at: dt.datetime
    data: dict[str, Any]
    traceparent: str = ""  # of the request that it happened for, where the event itself knows


class Webhook(Record):
    """An address that is told of events of some kinds."""

    webhook_id: str
    url: str
    events: tuple[EventKind, ...]
    created_by: str
    created_at: dt.datetime


class NewWebhook(Record):
    """A webhook that was made just now. ``secret`` proves what is sent to it; it is shown this once."""

    secret: str
    webhook: Webhook


class Delivery(Record):
    """One event on its way to one webhook: ``waiting``, ``delivered``, ``given up`` or ``dropped`` with the webhook."""

    event_id: str
    webhook_id: str
    kind: EventKind
    at: dt.datetime
    state: Literal["waiting", "delivered", "given up", "dropped"]
    attempts: int
    due_at: dt.datetime
    answer: str | None = None
    delivered_at: dt.datetime | None = None
