"""Records to plotly figures, in one style for light and dark. Nothing of Streamlit is known here.

What is meant never hangs on colour alone: lines differ in dash, points in symbol, bars in sign and label. Each chart
brings a sentence that says the same in words.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from control_room.i18n import (
    amount,
    day,
    decimal_mark,
    duration,
    gettext,
    group_mark,
    moment,
    number,
    percent,
    reader,
    signed_amount,
    weekday,
)
from control_room.outcomes import Outcome, unsupported
from control_room.words import (
    DRIFT_LEVELS,
    INPUT_NAMES,
    MODEL_NAMES,
    RUN_STATES,
    driver,
    segment,
    segment_name,
    span,
    state,
    unit,
    word,
)
from ml.records import (
    Accuracy,
    AccuracyRow,
    Answer,
    CalibrationBin,
    DataDay,
    ErrorSpread,
    Evaluation,
    Explanation,
    FeatureDrift,
    Promotion,
    Reign,
    Run,
    SalesPoint,
    Segment,
    TuningTrial,
    VersionWeek,
)


@dataclass(frozen=True)
class Chart:
    """A figure and what it says in words."""

    figure: go.Figure
    alt: str


@dataclass(frozen=True)
class Look:
    """Colours of one theme: ``actual`` what really sold, ``model`` what we forecast, ``rival`` the other model."""

    actual: str
    model: str
    rival: str
    wide_band: str
    narrow_band: str
    line: str
    muted: str
    text: str
    more: tuple[str, str] = ("#7d5ba6", "#6f8f2f")  # for a fourth and a fifth line


LIGHT = Look(
    "#33474c", "#0b6b67", "#c2621b", "rgba(11,107,103,.12)", "rgba(11,107,103,.22)", "#dfe7e5", "#849496", "#16282c"
)
DARK = Look(
    "#c9d6d4",
    "#4cc3b2",
    "#f0a35e",
    "rgba(76,195,178,.14)",
    "rgba(76,195,178,.26)",
    "#25363a",
    "#8da0a0",
    "#e6eeec",
    ("#b79ae0", "#b4cf6d"),
)
SYMBOLS = {
    "challenger": "diamond",
    "champion": "circle",
    "seasonal_naive": "x-thin-open",
    "moving_average": "line-ns-open",
    "linear": "triangle-up-open",
    "model": "circle",
}


def look(dark: bool) -> Look:
    return DARK if dark else LIGHT


# ---------------------------------------------------------------- sales and forecast


def forecast_chart(
    actual: Sequence[SalesPoint],
    answers: Sequence[Answer],
    *,
    dark: bool = False,
    promotions: Sequence[Promotion] = (),
) -> Chart:
    """What sold, what the model expects next and how sure it is; champion changes as dotted lines."""
    colours = look(dark)
    figure = _figure(colours, height=340)
    _add_bands(figure, answers, colours)
    _add_actual(figure, actual, colours)
    _add_forecast(figure, answers, colours)
    for change in _changes_within(promotions, actual, answers):
        _mark(figure, change.at.date(), f"v{change.version}", colours)
    figure.update_xaxes(tickformat=_tick_days())
    figure.update_yaxes(rangemode="tozero", title=unit(answers[0].unit) if answers else None)
    return Chart(figure, _forecast_alt(actual, answers))


def _add_bands(figure: go.Figure, answers: Sequence[Answer], colours: Look) -> None:
    for level, fill in (("95", colours.wide_band), ("80", colours.narrow_band)):
        rows = [answer for answer in answers if level in answer.interval]
        if len(rows) < 2:  # one day has no width; it gets a bar
            continue
        days = [answer.date for answer in rows]
        low, high = ([answer.interval[level][end] for answer in rows] for end in (0, 1))
        figure.add_scatter(
            x=days + days[::-1],
            y=high + low[::-1],
            mode="lines",
            fill="toself",
            fillcolor=fill,
            line={"width": 0},
            hoverinfo="skip",
            name=gettext("{level} % interval").format(level=level),
        )


def _add_actual(figure: go.Figure, actual: Sequence[SalesPoint], colours: Look) -> None:
    if not actual:
        return
    sold = gettext("sold")
    figure.add_scatter(
        x=[point.date for point in actual],
        y=[point.sales for point in actual],
        mode="lines",
        line={"color": colours.actual, "width": 1.8},
        name=gettext("Actual sales"),
        customdata=[_line(point.date, sold, amount(point.sales)) for point in actual],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _add_forecast(figure: go.Figure, answers: Sequence[Answer], colours: Look) -> None:
    if not answers:
        return
    figure.add_scatter(
        x=[answer.date for answer in answers],
        y=[answer.prediction for answer in answers],
        mode="lines+markers",
        line={"color": colours.model, "width": 2.2, "dash": "dot"},
        marker={"size": 5},
        name=gettext("Forecast"),
        error_y=_error_bars(answers, colours),
        customdata=[_hover(answer) for answer in answers],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _error_bars(answers: Sequence[Answer], colours: Look) -> dict[str, object] | None:
    """A band of one day has no width: a single answer gets a bar with its 80 % interval."""
    if len(answers) != 1 or "80" not in answers[0].interval:
        return None
    low, high = answers[0].interval["80"]
    point = answers[0].prediction
    return {"array": [high - point], "arrayminus": [point - low], "color": colours.model, "thickness": 2, "width": 6}


def _hover(answer: Answer) -> str:
    lines = [_line(answer.date, gettext("forecast"), amount(answer.prediction))]
    lines += [f"{level} %: {amount(low)} – {amount(high)}" for level, (low, high) in answer.interval.items()]
    return "<br>".join(lines)


def _line(at: dt.date, what: str, value: str) -> str:
    return f"{weekday(at)}<br>{what} <b>{value}</b>"


def _changes_within(
    promotions: Sequence[Promotion], actual: Sequence[SalesPoint], answers: Sequence[Answer]
) -> list[Promotion]:
    days = [point.date for point in actual] + [answer.date for answer in answers]
    # Several on one day are one line, with the last one's name.
    moves = [change for change in promotions if change.action in ("promote", "rollback")]
    last = {change.at.date(): change for change in sorted(moves, key=lambda change: change.at)}
    return [change for at, change in last.items() if days and min(days) <= at <= max(days)]


def _mark(figure: go.Figure, at: dt.date, text: str, colours: Look) -> None:
    figure.add_shape(
        type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": colours.muted, "dash": "dot", "width": 1}
    )
    figure.add_annotation(
        x=at, y=1, yref="paper", text=text, showarrow=False, yanchor="bottom", font={"size": 11, "color": colours.muted}
    )


def _forecast_alt(actual: Sequence[SalesPoint], answers: Sequence[Answer]) -> str:
    parts = []
    known = [point.sales for point in actual if point.sales is not None]
    if known:
        parts.append(
            gettext("Actual sales {span}: between {low} and {high}.").format(
                span=span(actual[0].date, actual[-1].date), low=amount(min(known)), high=amount(max(known))
            )
        )
    if answers:
        values = [answer.prediction for answer in answers]
        parts.append(
            gettext("Forecast {span}: between {low} and {high} {unit}.").format(
                span=span(answers[0].date, answers[-1].date),
                low=amount(min(values)),
                high=amount(max(values)),
                unit=unit(answers[0].unit),
            )
        )
    return " ".join(parts) or gettext("No data in this chart.")


SMALL_STEP = 0.05  # units; a step that no one would see is left out


def waterfall_chart(told: Explanation, *, dark: bool = False) -> Chart:
    """From the usual level to the forecast, a step for each thing that moves it."""
    colours = look(dark)
    steps = [item for item in told.contributions if abs(item.units) >= SMALL_STEP]
    names = [gettext("Usual level"), *(driver(item.group) for item in steps), gettext("Forecast")]
    values = [told.base, *(item.units for item in steps), told.prediction]
    figure = _figure(colours, height=90 + 26 * len(names))
    figure.add_waterfall(
        x=values,
        y=names,
        orientation="h",
        measure=["absolute", *("relative" for _ in steps), "total"],
        text=[amount(told.base), *(signed_amount(item.units) for item in steps), amount(told.prediction)],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": colours.model}},
        decreasing={"marker": {"color": colours.rival}},
        totals={"marker": {"color": colours.muted}},
        connector={"line": {"color": colours.line, "width": 1}},
        hoverinfo="skip",
    )
    figure.update_layout(showlegend=False, margin={"b": 8, "r": 48})
    figure.update_xaxes(title=unit(told.unit), rangemode="tozero")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    told_steps = [f"{name} {signed_amount(item.units)}" for name, item in zip(names[1:-1], steps, strict=True)]
    text = gettext("From {base} usual to {forecast}: {steps}.")
    steps_said = ", ".join(told_steps) or gettext("nothing moves it")
    facts = {"base": amount(told.base), "forecast": amount(told.prediction), "steps": steps_said}
    return Chart(figure, text.format(**facts))


# ---------------------------------------------------------------- champions

LEAST_NAMED = 0.03  # of the width: a shorter time as champion has no room for its name
VERSION_POINTS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star")


def reign_chart(
    actual: Sequence[SalesPoint], reigns: Sequence[Reign], weeks: Sequence[VersionWeek], *, dark: bool = False
) -> Chart:
    """Above what sold and who was champion when, below the error of what each version forecast, week by week."""
    colours = look(dark)
    figure = _figure(colours, height=430)
    _add_actual(figure, actual, colours)
    days = [point.date for point in actual] or [item.week for item in weeks]
    if days:
        _add_reigns(figure, reigns, min(days), max(days), colours)
    _add_weeks(figure, weeks, colours)
    figure.update_layout(
        yaxis={"domain": [0.46, 1], "rangemode": "tozero", "title": gettext("Sold")},
        yaxis2={"domain": [0, 0.36], "rangemode": "tozero", "tickformat": ".0%", "title": gettext("Error (WAPE)"),
                "gridcolor": colours.line, "zeroline": False, "automargin": True},
        xaxis={"tickformat": _tick_days(), "anchor": "y2"},
    )  # fmt: skip
    return Chart(figure, _reign_alt(reigns, weeks))


def _add_reigns(figure: go.Figure, reigns: Sequence[Reign], first: dt.date, last: dt.date, colours: Look) -> None:
    """Shades by turns, with the version's name where there is room."""
    for index, reign in enumerate(sorted(reigns, key=lambda reign: reign.since)):
        start = max(reign.since.date(), first)
        end = min(reign.until.date() if reign.until else last, last)
        if end < first or start > last:
            continue
        figure.add_shape(
            type="rect", x0=start, x1=end, y0=0.46, y1=1, yref="paper", line={"width": 0}, layer="below",
            fillcolor=colours.wide_band if index % 2 else "rgba(0,0,0,0)",
        )  # fmt: skip
        if reign.since.date() >= first:
            figure.add_shape(
                type="line", x0=start, x1=start, y0=0, y1=1, yref="paper",
                line={"color": colours.muted, "dash": "dot", "width": 1},
            )  # fmt: skip
        if (end - start).days >= LEAST_NAMED * (last - first).days:
            figure.add_annotation(
                x=start, y=1, yref="paper", text=f"v{reign.version}", showarrow=False, yanchor="bottom",
                xanchor="left", font={"size": 11, "color": colours.muted},
            )  # fmt: skip


def _add_weeks(figure: go.Figure, weeks: Sequence[VersionWeek], colours: Look) -> None:
    inks = (colours.model, colours.rival, *colours.more, colours.muted)
    for index, version in enumerate(dict.fromkeys(item.version for item in weeks)):
        mine = [item for item in weeks if item.version == version]
        figure.add_scatter(
            x=[item.week + dt.timedelta(days=3) for item in mine],
            y=[item.wape for item in mine],
            yaxis="y2",
            mode="lines+markers",
            name=gettext("Error of v{version}").format(version=version),
            line={"color": inks[index % len(inks)], "width": 1.8, "dash": DASHES[index % len(DASHES)]},
            marker={"size": 7, "symbol": VERSION_POINTS[index % len(VERSION_POINTS)]},
            customdata=[
                _line(item.week, f"v{item.version}", f"{percent(item.wape)} ({number(item.rows)})") for item in mine
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )


def _reign_alt(reigns: Sequence[Reign], weeks: Sequence[VersionWeek]) -> str:
    told = [
        gettext("v{version} since {date}.").format(version=reign.version, date=day(reign.since.date()))
        for reign in sorted(reigns, key=lambda reign: reign.since)
    ]
    known = [item.wape for item in weeks if item.wape is not None]
    if known:
        text = gettext("Error per week between {low} and {high}.")
        told.append(text.format(low=percent(min(known)), high=percent(max(known))))
    return " ".join(told) or gettext("No data in this chart.")


# ---------------------------------------------------------------- what if

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
POINTS = ("circle", "diamond", "square", "triangle-up", "x")


def what_if_chart(outcomes: Sequence[Outcome], *, dark: bool = False) -> Chart:
    """Units per day of the baseline and each scenario; days beyond what history shows are hatched."""
    colours = look(dark)
    figure = _figure(colours, height=340)
    inks = (colours.actual, colours.model, colours.rival, *colours.more)
    _add_hatched(figure, sorted({a.date for one in outcomes for a in one.answers if unsupported(a)}), colours)
    for index, one in enumerate(outcomes):
        figure.add_scatter(
            x=[answer.date for answer in one.answers],
            y=[answer.prediction for answer in one.answers],
            mode="lines+markers",
            name=one.name,
            line={"color": inks[index], "width": 2.2, "dash": DASHES[index]},
            marker={"size": 6, "symbol": POINTS[index]},
            customdata=[_line(answer.date, one.name, amount(answer.prediction)) for answer in one.answers],
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False}, bargap=0)
    figure.update_xaxes(tickformat=_tick_days())
    figure.update_yaxes(rangemode="tozero", selector={"visible": None})
    figure.update_layout(yaxis_title=unit(outcomes[0].answers[0].unit))
    totals = gettext("{name}: {units} in total.")
    return Chart(figure, " ".join(totals.format(name=one.name, units=amount(one.units)) for one in outcomes))


def _add_hatched(figure: go.Figure, days: Sequence[dt.date], colours: Look) -> None:
    if not days:
        return
    hatch = {"shape": "/", "fgcolor": colours.muted, "bgcolor": "rgba(0,0,0,0)", "size": 6, "solidity": 0.25}
    figure.add_bar(
        x=list(days),
        y=[1] * len(days),
        yaxis="y2",
        name=gettext("beyond history"),
        marker={"color": "rgba(0,0,0,0)", "line": {"width": 0}, "pattern": hatch},
        opacity=0.45,
        hoverinfo="skip",
    )


# ---------------------------------------------------------------- champion against challenger


def weekly_gain_chart(evaluation: Evaluation, *, dark: bool = False) -> Chart:
    """Week by week: how much smaller (up) or larger (down) the challenger's error was on the same rows."""
    colours = look(dark)
    figure = _figure(colours, height=260)
    weeks = [dt.date.fromisoformat(week) for week, _ in evaluation.weekly_gain]
    gains = [gain for _, gain in evaluation.weekly_gain]
    figure.add_bar(
        x=weeks,
        y=gains,
        marker={
            "color": [colours.model if gain >= 0 else colours.rival for gain in gains],
            "pattern": {"shape": ["" if gain >= 0 else "/" for gain in gains]},
        },
        text=[percent(gain, 0, signed=True) for gain in gains],
        textposition="outside",
        cliponaxis=False,
        hovertext=[f"{day(week)}: {percent(gain, signed=True)}" for week, gain in zip(weeks, gains, strict=True)],
        hoverinfo="text",
    )
    figure.update_layout(showlegend=False, margin={"b": 8})
    figure.update_xaxes(tickvals=weeks, tickformat=_tick_days())
    figure.update_yaxes(tickformat="+.0%", zeroline=True, zerolinecolor=colours.muted, zerolinewidth=1)
    better = sum(1 for gain in gains if gain > 0)
    alt = gettext("The challenger's error was smaller in {better} of {weeks} weeks.")
    return Chart(figure, alt.format(better=better, weeks=len(gains)))


def fold_chart(evaluation: Evaluation, *, dark: bool = False) -> Chart:
    """WAPE of every model in each block of past weeks; further left is better."""
    names = [span(fold.date_from, fold.date_to) for fold in evaluation.folds]
    values = {
        model: [fold.metrics[model].wape if model in fold.metrics else None for fold in evaluation.folds]
        for model in evaluation.overall
    }
    return _dots(names, values, dark)


def segment_chart(segments: Sequence[Segment], *, dark: bool = False) -> Chart:
    """WAPE of every model in each segment; further left is better."""
    models = list(dict.fromkeys(model for item in segments for model in item.wape))
    values = {model: [item.wape.get(model) for item in segments] for model in models}
    return _dots([segment(item) for item in segments], values, dark)


def _dots(names: list[str], values: dict[str, list[float | None]], dark: bool) -> Chart:
    colours = look(dark)
    figure = _figure(colours, height=max(200, 110 + 34 * len(names)), two_columns=True)
    _add_spans(figure, names, values, colours)
    for model, shares in values.items():
        figure.add_scatter(
            x=shares,
            y=names,
            mode="markers",
            name=word(MODEL_NAMES, model),
            marker={"symbol": SYMBOLS.get(model, "square"), "size": 11, "color": _model_colour(model, colours)}
            | ({"line": {"width": 2, "color": colours.muted}} if model not in ("challenger", "champion") else {}),
            customdata=[f"{word(MODEL_NAMES, model)}: {percent(share)}" for share in shares],
            hovertemplate="%{y}<br><b>%{customdata}</b><extra></extra>",
        )
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return Chart(figure, _dots_alt(names, values))


def _add_spans(figure: go.Figure, names: list[str], values: dict[str, list[float | None]], colours: Look) -> None:
    """A thin line between champion and challenger makes the difference a length."""
    for index, name in enumerate(names):
        pair = [values.get(model, [None] * len(names))[index] for model in ("champion", "challenger")]
        if None not in pair:
            figure.add_scatter(
                x=pair, y=[name, name], mode="lines", line={"color": colours.muted, "width": 2}, showlegend=False,
                hoverinfo="skip",
            )  # fmt: skip


def _model_colour(model: str, colours: Look) -> str:
    return {"challenger": colours.rival, "champion": colours.model, "model": colours.model}.get(model, colours.muted)


def _dots_alt(names: list[str], values: dict[str, list[float | None]]) -> str:
    parts = []
    for index, name in enumerate(names[:6]):
        shares = ", ".join(f"{word(MODEL_NAMES, model)} {percent(row[index])}" for model, row in values.items())
        parts.append(f"{name}: {shares}.")
    return " ".join(parts) or gettext("No data in this chart.")


# ---------------------------------------------------------------- behind the verdict


def calibration_chart(bins: Sequence[CalibrationBin], *, dark: bool = False) -> Chart:
    """Forecast beside what sold, by size of the forecast; on the line both are the same."""
    colours = look(dark)
    figure = _figure(colours, height=300)
    held = gettext("In the 80 % interval")
    most = max([item.forecast for item in bins] + [item.actual for item in bins])
    figure.add_scatter(
        x=[0, most], y=[0, most], mode="lines", name=gettext("as forecast"), hoverinfo="skip",
        line={"color": colours.muted, "dash": "dot", "width": 1.5},
    )  # fmt: skip
    figure.add_scatter(
        x=[item.forecast for item in bins],
        y=[item.actual for item in bins],
        mode="markers+lines",
        name=gettext("sold on average"),
        line={"color": colours.model, "width": 1.5},
        marker={"size": 9, "symbol": "diamond"},
        customdata=[
            f"{amount(item.forecast)} → {amount(item.actual)}<br>{held} {percent(item.coverage.get('80'))}"
            for item in bins
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_xaxes(title=gettext("Forecast, units"), rangemode="tozero")
    figure.update_yaxes(title=gettext("Sold, units"), rangemode="tozero")
    figure.update_layout(margin={"b": 84})
    first, last = bins[0], bins[-1]
    text = gettext("Smallest forecasts {low} on average, sold {low_sold}; largest {high}, sold {high_sold}.")
    facts = {"low": first.forecast, "low_sold": first.actual, "high": last.forecast, "high_sold": last.actual}
    return Chart(figure, text.format(**{name: amount(value) for name, value in facts.items()}))


def spread_chart(spreads: Sequence[ErrorSpread], *, dark: bool = False) -> Chart:
    """Forecast minus sales by week ahead: the middle half as a box, nine of ten as whiskers."""
    colours = look(dark)
    figure = _figure(colours, height=300)
    for model in dict.fromkeys(item.model for item in spreads):
        mine = [item for item in spreads if item.model == model]
        low, first, middle, third, high = zip(*(item.quantiles for item in mine), strict=True)
        figure.add_box(
            x=[gettext("week {number}").format(number=item.week) for item in mine],
            q1=first,
            median=middle,
            q3=third,
            lowerfence=low,
            upperfence=high,
            name=word(MODEL_NAMES, model),
            line={"color": _model_colour(model, colours), "width": 1.5},
            fillcolor="rgba(0,0,0,0)",
        )
    figure.add_hline(y=0, line={"color": colours.muted, "dash": "dot", "width": 1})
    figure.update_layout(boxmode="group", yaxis_title=gettext("Forecast minus sold, units"))
    text = gettext("{model}, week {number}: nine of ten errors between {low} and {high} units.")
    told = [
        text.format(
            model=word(MODEL_NAMES, item.model), number=item.week, low=amount(item.quantiles[0]),
            high=amount(item.quantiles[-1]),
        )
        for item in spreads
    ]  # fmt: skip
    return Chart(figure, " ".join(told))


def importance_chart(importance: Mapping[str, float], *, dark: bool = False) -> Chart:
    """The share of each parameter in how the trials' errors vary, largest first."""
    colours = look(dark)
    ordered = sorted(importance.items(), key=lambda item: -item[1])
    figure = _figure(colours, height=max(180, 60 + 26 * len(ordered)))
    figure.add_bar(
        x=[share for _, share in ordered],
        y=[name for name, _ in ordered],
        orientation="h",
        marker={"color": colours.model},
        text=[percent(share, 0) for _, share in ordered],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure.update_layout(showlegend=False, margin={"b": 8, "r": 40})
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return Chart(figure, ", ".join(f"{name} {percent(share)}" for name, share in ordered))


def trials_chart(trials: Sequence[TuningTrial], *, dark: bool = False) -> Chart:
    """Every trial as a line through its parameters to its error; parameters that never varied are left out."""
    colours = look(dark)
    figure = _figure(colours, height=340)
    names = [name for name in trials[0].params if len({trial.params.get(name) for trial in trials}) > 1]
    axes = [_axis(name, [trial.params.get(name) for trial in trials]) for name in names]
    errors = [trial.error for trial in trials]
    axes.append({"label": gettext("Error"), "values": errors, "tickformat": ".1%"})
    figure.add_parcoords(
        dimensions=axes,
        line={"color": errors, "colorscale": [[0, colours.model], [1, colours.rival]], "showscale": False},
        labelfont={"size": 11}, tickfont={"size": 10}, rangefont={"size": 10},
    )  # fmt: skip
    figure.update_layout(margin={"l": 104, "r": 56, "t": 56, "b": 36})
    best = min(trials, key=lambda trial: trial.error)
    text = gettext("{count} trials; the best one was number {number} with an error of {error}.")
    return Chart(figure, text.format(count=number(len(trials)), number=number(best.number), error=percent(best.error)))


def _axis(name: str, values: Sequence[float | int | str | None]) -> dict[str, object]:
    """One axis; words get places of their own."""
    if all(isinstance(value, int | float) for value in values):
        return {"label": name, "values": values, "tickformat": ".3~g"}
    words = sorted({str(value) for value in values})
    places = [words.index(str(value)) for value in values]
    return {"label": name, "values": places, "tickvals": list(range(len(words))), "ticktext": words}


# ---------------------------------------------------------------- accuracy

MOST_DOTS = 20
TARGETS = {"80": 0.8, "95": 0.95, "bias": 0.0}


def accuracy_chart(rows: Sequence[AccuracyRow], measure: str, title: str, *, dark: bool = False) -> Chart:
    """One measure per predicted day; of the error also that of seasonal naive, of the others where they should be."""
    colours = look(dark)
    figure = _figure(colours, height=300)
    days = [dt.date.fromisoformat(str(row.key)) for row in rows]
    mine = [row.coverage.get(measure) if measure in ("80", "95") else getattr(row, measure) for row in rows]
    form = amount if measure == "rmse" else percent
    _add_measure(figure, "model", days, mine, form, colours)
    if measure == "wape":
        _add_measure(figure, "seasonal_naive", days, [row.naive_wape for row in rows], form, colours)
    if measure in TARGETS:
        figure.add_hline(y=TARGETS[measure], line={"color": colours.muted, "dash": "dot", "width": 1})
    figure.update_xaxes(tickformat=_tick_days())
    figure.update_yaxes(title=title, tickformat=None if measure == "rmse" else ".0%")
    known = [(value, date) for value, date in zip(mine, days, strict=True) if value is not None]
    if not known:
        return Chart(figure, gettext("No data in this chart."))
    (low, low_day), (high, high_day) = min(known), max(known)
    text = gettext("{title}: lowest {low} on {low_day}, highest {high} on {high_day}.")
    facts = {"low": form(low), "low_day": day(low_day), "high": form(high), "high_day": day(high_day)}
    return Chart(figure, text.format(title=title, **facts))


def _add_measure(
    figure: go.Figure,
    model: str,
    days: Sequence[dt.date],
    values: Sequence[float | None],
    form: Callable[[float | None], str],
    colours: Look,
) -> None:
    name = word(MODEL_NAMES, model)
    figure.add_scatter(
        x=list(days),
        y=list(values),
        mode="lines+markers",
        name=name,
        line={"color": _model_colour(model, colours), "width": 2, "dash": "solid" if model == "model" else "dot"},
        marker={"size": 6, "symbol": SYMBOLS[model]},
        customdata=[_line(date, name, form(value)) for date, value in zip(days, values, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
    )


def accuracy_dots(found: Accuracy, *, dark: bool = False) -> Chart:
    """WAPE of predictions and seasonal naive per segment; of many, those where most units were missed."""
    shown = found.items
    if len(shown) > MOST_DOTS:
        shown = tuple(sorted(shown, key=lambda row: row.error, reverse=True)[:MOST_DOTS])
    values = {"model": [row.wape for row in shown], "seasonal_naive": [row.naive_wape for row in shown]}
    return _dots([segment_name(found.by, str(row.key)) for row in shown], values, dark)


# ---------------------------------------------------------------- data health

LEVEL_SYMBOLS = {"none": "circle-open", "moderate": "diamond", "strong": "x"}


def missing_chart(days: Sequence[DataDay], *, dark: bool = False) -> Chart:
    """Rows per day whose sales are not known."""
    colours = look(dark)
    figure = _figure(colours, height=220)
    shares = [item.missing / item.rows if item.rows else 0.0 for item in days]
    figure.add_bar(
        x=[item.date for item in days],
        y=[item.missing for item in days],
        marker={"color": colours.rival, "pattern": {"shape": "/"}},
        customdata=[
            _line(item.date, gettext("missing"), f"{amount(item.missing)} ({percent(share)})")
            for item, share in zip(days, shares, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_layout(showlegend=False, margin={"b": 8})
    figure.update_xaxes(tickformat=_tick_days())
    figure.update_yaxes(rangemode="tozero", title=gettext("Rows"))
    text = gettext("Rows are missing on {days} of {all} days.")
    return Chart(figure, text.format(days=sum(item.missing > 0 for item in days), all=len(days)))


def drift_chart(features: Sequence[FeatureDrift], importance: Mapping[str, float], *, dark: bool = False) -> Chart:
    """Each input by how far it moved and how much it weighs: what lies up and right matters."""
    colours = look(dark)
    inks = {"none": colours.muted, "moderate": colours.model, "strong": colours.rival}
    figure = _figure(colours, height=300)
    for level, symbol in LEVEL_SYMBOLS.items():
        found = [item for item in features if item.level == level]
        names = [word(INPUT_NAMES, item.feature) for item in found]
        figure.add_scatter(
            x=[item.distance for item in found],
            y=[importance.get(item.feature) for item in found],
            mode="markers+text",
            name=state(DRIFT_LEVELS, level)[1],
            text=names,
            textposition="top center",
            marker={"symbol": symbol, "size": 12, "color": inks[level]},
            hovertemplate="%{text}<extra></extra>",
            cliponaxis=False,
        )
    figure.update_xaxes(title=gettext("Effect"), rangemode="tozero")
    figure.update_yaxes(title=gettext("Importance"), rangemode="tozero", tickformat=".0%")
    figure.update_layout(margin={"b": 84})
    text = gettext("{name}: {level}, effect {effect}, importance {importance}.")
    told = [
        text.format(
            name=word(INPUT_NAMES, item.feature), level=state(DRIFT_LEVELS, item.level)[1],
            effect=number(item.distance, 2), importance=percent(importance.get(item.feature)),
        )
        for item in features
    ]  # fmt: skip
    return Chart(figure, " ".join(told))


# ---------------------------------------------------------------- runs


FEWEST_RUNS = 10  # room for so many, so that two runs are no two walls


def runs_chart(runs: Sequence[Run], *, dark: bool = False) -> Chart:
    """How long each run took, oldest first; failed ones are hatched, of another colour and named so."""
    colours = look(dark)
    figure = _figure(colours, height=230)
    shown = [run for run in reversed(runs) if run.started_at and run.ended_at]
    minutes = [(run.ended_at - run.started_at).total_seconds() / 60 for run in shown]  # type: ignore[operator]
    for code, ink, shape in (("success", colours.model, ""), ("failed", colours.rival, "/")):
        figure.add_bar(
            x=[index for index, run in enumerate(shown) if run.state == code],
            y=[minutes[index] for index, run in enumerate(shown) if run.state == code],
            name=state(RUN_STATES, code)[1],
            marker={"color": ink, "pattern": {"shape": shape}},
            customdata=[
                f"{moment(run.started_at)}<br><b>{duration(60 * minutes[index])}</b>"
                for index, run in enumerate(shown)
                if run.state == code
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    every = max(1, len(shown) // 6)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(
        range=[-0.5, max(len(shown), FEWEST_RUNS) - 0.5],
        tickvals=list(range(0, len(shown), every)),
        ticktext=[run.started_at.strftime(_tick_days()) for run in shown[::every] if run.started_at],
    )
    figure.update_yaxes(rangemode="tozero", title=gettext("Minutes"))
    failed = sum(run.state == "failed" for run in shown)
    text = gettext("{count} runs have ended, {failed} of them failed.")
    return Chart(figure, text.format(count=len(shown), failed=failed))


# ---------------------------------------------------------------- one style


def _figure(colours: Look, height: int, two_columns: bool = False) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28, "b": 64},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colours.text, "size": 13},
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0, "title": None}
        | ({"entrywidth": 0.45, "entrywidthmode": "fraction"} if two_columns else {}),
        hoverlabel={"align": "left"},
        separators=decimal_mark() + group_mark(),
        bargap=0.35,
    )
    figure.update_xaxes(gridcolor=colours.line, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=colours.line, zeroline=False, automargin=True)
    return figure


def _tick_days() -> str:
    # plotly only knows English month names without a download, so other languages get numbers.
    return "%b %-d" if reader().language == "en" else "%-d/%-m"
