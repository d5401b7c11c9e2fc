"""The predict page: one day, the next days, the rows of a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from control_room import address, asked, charts, parts, session, snippets, tables
from control_room.clients.api import Catalog, ResultFormat, prediction_body
from control_room.i18n import (
    N_,
    amount,
    date_form,
    day,
    gettext,
    moment,
    ngettext,
    number,
    weekday,
)
from control_room.views import jobs
from control_room.views.choose import find, series_choice
from control_room.words import SUPPORT_LEVELS, WARNINGS, badge_help, explanation, state, total_interval, unit, word
from ml.errors import TooLarge
from ml.records import (
    Answer,
    Explanation,
    ForecastReply,
    ForecastRequest,
    Override,
    PredictionInput,
    RowError,
    SalesPoint,
    SeriesInfo,
)

DAYS_BACK = 60
# Beyond the tested horizon the API still answers, with a warning; a year is where it stops.
LAST_DAY = 364
WAYS = {"day": N_("One day"), "days": N_("The next days"), "file": N_("Rows of a file")}
FILE_ROWS = 5000


def lead() -> None:
    health = asked.health()
    catalog = asked.catalog()
    if health.value is None or health.stale:
        parts.lead(gettext("Predict"), gettext("No forecast can be asked now: the API does not answer."), "bad")
        return
    if health.value.champion is None:
        text = gettext("No model serves forecasts yet: train one first.")
        parts.lead(gettext("Predict"), text, "attention")
        return
    text = gettext("v{version} answers, with sales known up to {date}.").format(
        version=parts.plain(health.value.champion.version), date=day(health.value.data_until)
    )
    more = ""
    if catalog.value:
        more = gettext("It was tested up to {count} days ahead; later days are marked.").format(
            count=number(catalog.value.horizon * (7 if catalog.value.frequency == "W" else 1))
        )
    more = " ".join(filter(None, (more, asked.choice(health.value.champion.version))))
    parts.lead(gettext("Predict"), text, "good", more)


def way() -> str:
    """Which way of asking is open; kept in the address."""
    return address.segments(gettext("What to predict"), list(WAYS), "way", lambda code: gettext(WAYS[code]))


def _catalog() -> Catalog | None:
    seen = asked.catalog()
    catalog = parts.need(seen, "catalog")
    if catalog is not None and not catalog.series:
        parts.empty(gettext("There is nothing to predict yet."), "pages/upload.py", gettext("Load your sales"))
        return None
    return catalog


def _first_day(catalog: Catalog) -> dt.date:
    step = 7 if catalog.frequency == "W" else 1
    return (catalog.date_to or dt.datetime.now(dt.UTC).date()) + dt.timedelta(days=step)


def _since(catalog: Catalog) -> dt.date | None:
    return catalog.date_to - dt.timedelta(days=DAYS_BACK - 1) if catalog.date_to else None


# ---------------------------------------------------------------- one day


def one_day() -> None:
    catalog = _catalog()
    if catalog is None:
        return
    grid = st.grid(3, min_column_width=260, gap="large")
    with grid.cell():
        row = _day_question(catalog)
        if st.button(gettext("Predict"), type="primary", icon=":material/online_prediction:", key="ask-day"):
            st.session_state["day-answer"] = None
            replies = parts.attempt(lambda: session.services().api.predict([row]), "predict")
            if replies:
                st.session_state["day-answer"] = (row, replies[0])
                st.session_state["day-why"] = parts.attempt(lambda: session.services().api.explain([row]), "explain")
                session.forget("api", "history")
    with grid.cell(column_span=2):
        _day_answer(catalog, row)


def _day_question(catalog: Catalog) -> PredictionInput:
    store, product = series_choice(catalog, stacked=True)
    info = find(catalog, store, product)
    first = _first_day(catalog)
    date = st.date_input(
        gettext("Day"),
        value=first,
        max_value=first + dt.timedelta(days=LAST_DAY - 1),
        format=date_form(),
        key="date",
        bind="query-params",
    )
    past = asked.sales(store, product, _since(catalog)).value or ()
    return PredictionInput(
        date=date,
        store=store,
        product=product,
        price=_price(info),
        promotion=_promotion(past, f"{store}-{product}"),
        holiday=_holiday(),
        regressors=_regressors(catalog),
    )


def _price(info: SeriesInfo | None) -> float | None:
    """The price, prefilled with the last known one; not asked where the data has no prices."""
    if info is None or info.last_price is None:
        return None
    return st.number_input(
        gettext("Price"),
        min_value=0.01,
        value=float(info.last_price),
        step=0.1,
        key=f"price-{info.store}-{info.product}",
        help=gettext("Filled in with the last known price outside promotions."),
    )


def _promotion(past: Sequence[SalesPoint], key: str) -> float | None:
    """A switch, or a discount share where the data has shares; not asked where it has no promotions."""
    seen = {point.promotion for point in past if point.promotion is not None}
    if not seen:
        return None
    if seen <= {0.0, 1.0}:
        return float(st.toggle(gettext("On promotion"), key=f"promotion-{key}"))
    return st.number_input(
        gettext("Discount share (0 none, 0.2 is 20 %)"), min_value=0.0, max_value=1.0, step=0.05, key=f"promotion-{key}"
    )


def _holiday() -> int | None:
    names = {"": gettext("as in the calendar"), "1": gettext("yes"), "0": gettext("no")}
    chosen = st.selectbox(gettext("Public holiday"), list(names), format_func=names.__getitem__, key="holiday")
    return int(chosen) if chosen else None


def _regressors(catalog: Catalog) -> dict[str, float | str]:
    values: dict[str, float | str] = {}
    for name in catalog.regressors:
        text = st.text_input(name, key=f"regressor-{name}", placeholder=gettext("as last known"))
        if text:
            values[name] = _number_or_text(text)
    return values


def _number_or_text(text: str) -> float | str:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return text


def _day_answer(catalog: Catalog, asked_now: PredictionInput) -> None:
    kept: tuple[PredictionInput, Answer | RowError] | None = st.session_state.get("day-answer")
    if kept is None:
        st.caption(gettext("Choose a day and press Predict: the answer comes here, with how sure it is."))
        _only_past(catalog, str(asked_now.store), str(asked_now.product))
        return
    row, answer = kept
    if row != asked_now:
        st.info(gettext("The settings have changed since. Press Predict to ask again."), icon=":material/update:")
    if isinstance(answer, RowError):
        st.error(f"{parts.plain(answer.field or '')} {parts.plain(answer.message)}", icon=":material/error:")
        return
    actual = asked.sales(answer.store, answer.product, _since(catalog))
    _answer_card(row, answer, actual.value or ())
    _why(st.session_state.get("day-why"))
    parts.chart(charts.forecast_chart(actual.value or (), [answer], dark=session.dark()), "day-chart")
    parts.source(actual, "GET /v1/sales")
    _snippets("/predict", prediction_body(row))


def _only_past(catalog: Catalog, store: str, product: str) -> None:
    """What sold lately, while nothing has been asked."""
    actual = asked.sales(store, product, _since(catalog))
    if actual.value:
        parts.chart(charts.forecast_chart(actual.value, [], dark=session.dark()), "past-chart")
        parts.source(actual, "GET /v1/sales")


def _answer_card(row: PredictionInput, answer: Answer, actual: Sequence[SalesPoint]) -> None:
    with st.container(border=True):
        asked_for = f"{answer.store} · {answer.product} · {weekday(answer.date)}"
        st.metric(asked_for, f"{amount(answer.prediction)} {unit(answer.unit)}")
        for level, sentence in (
            ("80", gettext("In 8 of 10 such days between **{low}** and **{high}**.")),
            ("95", gettext("In 19 of 20 between **{low}** and **{high}**.")),
        ):
            if level in answer.interval:
                low, high = answer.interval[level]
                st.markdown(sentence.format(low=amount(low), high=amount(high)))
        parts.badge(state(SUPPORT_LEVELS, answer.support.level), help=badge_help(answer.support))
        st.caption(badge_help(answer.support))
        _comparison(answer, actual)
        _challenger(row, answer)
        for code in answer.warnings:
            st.warning(parts.plain(word(WARNINGS, code)), icon=":material/warning:")
        st.caption(_origin(answer))


def _why(replies: Sequence[Explanation | RowError] | None) -> None:
    """What the forecast is made of; a model that is gone meanwhile leaves it out."""
    told = next(iter(replies or ()), None)
    if not isinstance(told, Explanation):
        return
    st.markdown(parts.plain(explanation(told)))
    parts.chart(charts.waterfall_chart(told, dark=session.dark()), "why")
    with st.expander(gettext("What the forecast is made of"), icon=":material/stacked_bar_chart:"):
        frame = tables.contributions(told)
        st.dataframe(tables.rounded(frame), hide_index=True, column_config=_columns(frame))


def _comparison(answer: Answer, actual: Sequence[SalesPoint]) -> None:
    """What sold on the same weekday before, and a year before."""
    sold = {point.date: point.sales for point in actual}
    before = [answer.date - dt.timedelta(days=7 * weeks) for weeks in range(1, 9)]
    last = next((date for date in before if sold.get(date) is not None), None)
    if last is not None:
        text = gettext("For comparison: on {date} it sold {sales}.")
        st.markdown(text.format(date=weekday(last), sales=amount(sold[last])))
    year = answer.date - dt.timedelta(days=364)  # the same weekday
    then = asked.sales(answer.store, answer.product, year).value or ()
    of_then = next((point.sales for point in then if point.date == year and point.sales is not None), None)
    if of_then is not None:
        text = gettext("A year before, on {date}, it sold {sales}.")
        st.markdown(text.format(date=day(year), sales=amount(of_then)))


def _challenger(row: PredictionInput, answer: Answer) -> None:
    """What the challenger says to the same question; it is only tried out, so that nobody is judged by it."""
    models = asked.models().value or ()
    rival = next((m.version for m in models if "challenger" in m.aliases and "champion" not in m.aliases), None)
    if rival is None or rival == answer.model.version:
        return
    reply = next(iter(asked.what_if((row,), "challenger", rival, answer.data_version).value or ()), None)
    if isinstance(reply, Answer):
        text = gettext("Challenger v{version} says **{units}** ({low} to {high} in 8 of 10).")
        low, high = (amount(bound) for bound in reply.interval["80"])
        facts = {"version": parts.plain(rival), "units": amount(reply.prediction), "low": low, "high": high}
        st.markdown(":material/compare_arrows: " + text.format(**facts))


def _origin(answer: Answer) -> str:
    text = gettext("Model {name} v{version} · data {data} · asked {time} · request {id}")
    return text.format(
        name=parts.plain(answer.model.name),
        version=parts.plain(answer.model.version),
        data=parts.plain(answer.data_version[:12]),
        time=moment(answer.created_at),
        id=parts.plain(answer.request_id),
    )


def _snippets(path: str, body: dict[str, Any]) -> None:
    url, with_key = session.api_address(), session.services().api.needs_token
    with st.expander(gettext("The same from a program"), icon=":material/code:"):
        st.code(snippets.curl(url, path, body, with_key), language="bash")
        st.code(snippets.python(url, path, body, with_key), language="python")


# ---------------------------------------------------------------- the next days


def next_days() -> None:
    catalog = _catalog()
    if catalog is None:
        return
    store, product = series_choice(catalog)
    horizon = st.slider(
        gettext("Weeks ahead") if catalog.frequency == "W" else gettext("Days ahead"),
        min_value=1,
        max_value=max(2, catalog.horizon),
        value=catalog.horizon,
        key="horizon",
        bind="query-params",
    )
    overrides = _plan(catalog, store, product, horizon)
    request = ForecastRequest(stores=(store,), products=(product,), horizon=horizon, overrides=tuple(overrides))
    if st.button(gettext("Forecast"), type="primary", icon=":material/trending_up:", key="ask-days"):
        reply = parts.attempt(lambda: session.services().api.forecast(request), "forecast")
        st.session_state["days-answer"] = reply and (request, reply)
        session.forget("api", "history")
    kept = st.session_state.get("days-answer")
    if kept is None:
        st.caption(gettext("Press Forecast: the coming days come here as a chart and a table."))
        _only_past(catalog, store, product)
        return
    _days_answer(catalog, *kept)


def _plan(catalog: Catalog, store: str, product: str, horizon: int) -> list[Override]:
    """Price and promotion per day, prefilled with what is known; changed days become the plan."""
    info = find(catalog, store, product)
    has_price = info is not None and info.last_price is not None
    past = asked.sales(store, product, _since(catalog)).value or ()
    has_promotion = any(point.promotion is not None for point in past)
    if not has_price and not has_promotion:
        return []
    step = dt.timedelta(days=7 if catalog.frequency == "W" else 1)
    days = [_first_day(catalog) + index * step for index in range(horizon)]
    frame = pd.DataFrame({"date": days})
    if has_price:
        frame["price"] = float(info.last_price)  # type: ignore[union-attr,arg-type]
    if has_promotion:
        frame["promotion"] = 0.0
    with st.expander(gettext("Plan prices and promotions by day"), icon=":material/edit_calendar:"):
        edited = st.data_editor(
            frame,
            hide_index=True,
            disabled=["date"],
            key=f"plan-{store}-{product}-{horizon}",
            height=280,
            column_config={
                "date": st.column_config.DateColumn(gettext("Day"), format=date_form()),
                "price": st.column_config.NumberColumn(gettext("Price"), min_value=0.01, required=True),
                "promotion": st.column_config.NumberColumn(
                    gettext("Promotion"), min_value=0.0, max_value=1.0, step=0.05, required=True,
                    help=gettext("0 none, 1 full, or the discount share."),
                ),
            },
        )  # fmt: skip
    return _changed(frame, edited)


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> list[Override]:
    changed = [name for name in ("price", "promotion") if name in before]
    rows = after[(after[changed] != before[changed]).any(axis=1)]
    return [
        Override(date=row["date"], price=_value(row, "price"), promotion=_value(row, "promotion"))
        for row in rows.to_dict("records")
    ]


def _value(row: dict[Any, Any], name: str) -> float | None:
    return float(row[name]) if name in row else None


def _days_answer(catalog: Catalog, request: ForecastRequest, reply: ForecastReply) -> None:
    answers = reply.predictions
    store, product = request.stores[0], request.products[0]
    text = gettext("{store} · {product}: **{total} {unit}** expected from {start} to {end}.")
    st.markdown(
        text.format(
            store=parts.plain(store),
            product=parts.plain(product),
            total=amount(reply.total),
            unit=unit(reply.unit.split("/")[0]),
            start=day(answers[0].date),
            end=day(answers[-1].date),
        )
    )
    if reply.whole is not None:
        st.markdown(total_interval(reply.whole))
    actual = asked.sales(store, product, _since(catalog))
    parts.chart(charts.forecast_chart(actual.value or (), answers, dark=session.dark()), "days-chart")
    parts.source(actual, "GET /v1/sales, POST /v1/forecast")
    _doubtful(answers)
    frame = tables.answers(answers)
    st.dataframe(tables.rounded(frame), hide_index=True, height=320, column_config=_columns(frame))
    parts.downloads(lambda: frame, "forecast", _cover(answers, f"{store} / {product}"), "forecast")
    _snippets("/v1/forecast", request.model_dump(mode="json", exclude_none=True))


def _doubtful(answers: Sequence[Answer]) -> None:
    count = sum(answer.support.level == "none" for answer in answers)
    if count:
        text = ngettext(
            "{count} day has no similar day in history: it is an extrapolation.",
            "{count} days have no similar day in history: they are extrapolations.",
            count,
        )
        st.warning(text.format(count=number(count)), icon=":material/warning:")


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    config: dict[str, Any] = {gettext("Date"): st.column_config.DateColumn(format=date_form())}
    for name in frame.select_dtypes("number").columns:
        config[name] = st.column_config.NumberColumn(format="localized")
    return config


def _cover(answers: Sequence[Answer], filters: str) -> dict[str, object]:
    return {
        gettext("What"): gettext("Sales forecast"),
        gettext("Filters"): filters,
        gettext("Model"): ", ".join(sorted({f"{answer.model.name} v{answer.model.version}" for answer in answers})),
        gettext("Data version"): ", ".join(sorted({answer.data_version for answer in answers})),
    }


# ---------------------------------------------------------------- a file


def a_file() -> None:
    st.markdown(
        gettext(
            "Columns: date, and store, product, price, promotion, holiday as far as you know them. More than {rows} "
            "rows are worked on in the background."
        ).format(rows=number(FILE_ROWS))
    )
    jobs.followed()
    file = st.file_uploader(
        gettext("A file with the rows to predict: CSV, XLSX or Parquet"), type=["csv", "xlsx", "parquet"], key="rows"
    )
    if file is not None:
        _ask_file(file)
    _paste()
    jobs.recent("predict")


def files_of_others() -> None:
    """For who may read what others had predicted."""
    jobs.followed()
    jobs.recent("predict")


def _paste() -> None:
    """Rows copied from a spreadsheet, with their headings."""
    with st.expander(gettext("Or paste a table"), icon=":material/content_paste:"):
        text = st.text_area(
            gettext("Rows with their headings, as copied from a spreadsheet"), key="pasted", height=160,
            placeholder="date\tstore\tproduct\tpromotion", max_chars=500_000,
        )  # fmt: skip
        if st.button(gettext("Predict the rows"), key="ask-pasted", icon=":material/online_prediction:"):
            replies = parts.attempt(lambda: session.services().api.predict_file(text.encode(), "csv"), "pasted")
            st.session_state["pasted-answer"] = None if replies is None else (text, replies)
        kept = st.session_state.get("pasted-answer")
        if kept and kept[0] == text:
            _file_answer(gettext("pasted table"), kept[1], "pasted")


def _ask_file(file: UploadedFile) -> None:
    if st.button(gettext("Predict the rows"), type="primary", icon=":material/online_prediction:", key="ask-file"):
        replies = parts.attempt(lambda: _asked_file(file), "file")
        st.session_state["file-answer"] = None if replies is None else (file.file_id, replies)
        if st.query_params.get("job"):
            st.rerun()
    kept = st.session_state.get("file-answer")
    if kept and kept[0] == file.file_id:
        _file_answer(file.name, kept[1])


def _asked_file(file: UploadedFile) -> Sequence[Answer | RowError] | None:
    """Answers now, or for more rows than are answered at once a job in the address."""
    st.query_params.pop("job", None)
    form = file.name.rsplit(".", 1)[-1].lower()
    with st.spinner(gettext("Predicting …")):
        try:
            return session.services().api.predict_file(file.getvalue(), form)
        except TooLarge:
            jobs.begin(file.getvalue(), cast(ResultFormat, form), file.name)
            return None


def _file_answer(name: str, replies: Sequence[Answer | RowError], key: str = "file") -> None:
    answers = [reply for reply in replies if isinstance(reply, Answer)]
    wrong = [reply for reply in replies if isinstance(reply, RowError)]
    text = gettext("{good} of {all} rows were predicted.").format(good=number(len(answers)), all=number(len(replies)))
    (st.warning if wrong else st.success)(text)
    if wrong:
        st.dataframe(tables.row_errors(wrong), hide_index=True, height=200)
    if answers:
        _doubtful(answers)
        frame = tables.answers(answers)
        st.dataframe(tables.rounded(frame), hide_index=True, height=360, column_config=_columns(frame))
        parts.downloads(lambda: frame, "predictions", _cover(answers, name), key)
