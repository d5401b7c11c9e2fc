"""Settings of the interactive tables (AgGrid) and of plain ones, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st
from st_aggrid import AgGrid, StAggridTheme

from control_room.i18n import N_, gettext, reader

Kind = Literal["text", "number", "date", "moment"]
LOOK_LIGHT = {
    "accentColor": "#0b6b67", "backgroundColor": "#ffffff", "foregroundColor": "#16282c", "borderColor": "#d5dfdd",
    "headerBackgroundColor": "#f2f6f5", "browserColorScheme": "light",
}  # fmt: skip
LOOK_DARK = {
    "accentColor": "#4cc3b2", "backgroundColor": "#0f181a", "foregroundColor": "#e6eeec", "borderColor": "#2b3b3f",
    "headerBackgroundColor": "#182427", "browserColorScheme": "dark",
}  # fmt: skip
WIDTHS: dict[Kind, int] = {"text": 115, "number": 112, "date": 130, "moment": 175}
# AgGrid's own words, as far as our tables show them.
GRID_WORDS = {
    "noRowsToShow": N_("No rows to show"),
    "contains": N_("Contains"),
    "notContains": N_("Does not contain"),
    "equals": N_("Equals"),
    "notEqual": N_("Does not equal"),
    "startsWith": N_("Begins with"),
    "endsWith": N_("Ends with"),
    "blank": N_("Blank"),
    "notBlank": N_("Not blank"),
    "lessThan": N_("Less than"),
    "greaterThan": N_("Greater than"),
    "lessThanOrEqual": N_("Less than or equal"),
    "greaterThanOrEqual": N_("Greater than or equal"),
    "inRange": N_("Between"),
    "before": N_("Before"),
    "after": N_("After"),
    "filterOoo": N_("Filter…"),
    "andCondition": N_("and"),
    "orCondition": N_("or"),
    "ariaFilterInput": N_("Filter value"),
    "page": N_("Page"),
    "to": N_("to"),
    "of": N_("of"),
}


@dataclass(frozen=True)
class Column:
    """One column of a grid: its name in the frame, its heading, how it is shown."""

    name: str
    title: str
    kind: Kind = "text"
    digits: int = 1
    width: int | None = None
    percent: bool = False


def grid(
    frame: pd.DataFrame, columns: list[Column], key: str, *, dark: bool, height: int = 420
) -> dict[str, Any] | None:
    """Draw an AgGrid and return the row that is selected in it, if any.

    The first column of the frame must be ``id``: it tells rows apart and is not shown.
    """
    reply = AgGrid(
        frame.copy(),  # AgGrid changes the frame it is given
        gridOptions=options(columns),
        key=key,
        height=height,
        theme=theme(dark),
        update_on=["selectionChanged"],
        show_toolbar=False,
        custom_css=_own_font(),
    )
    chosen = reply.selected_rows
    return None if chosen is None or len(chosen) == 0 else dict(pd.DataFrame(chosen).iloc[0])


def _own_font() -> dict[str, dict[str, str]]:
    """Streamlit's own font for the grid's frame, which does not inherit it; from this server, no other."""
    media = Path(st.__file__).parent / "static" / "static" / "media"
    found = next(media.glob("SourceSansVF-Upright*.woff2"), None)
    if found is None:
        return {}
    source = f"url('../../static/media/{found.name}') format('woff2')"
    return {"@font-face": {"font-family": "'Source Sans'", "font-weight": "200 900", "src": source}}


def options(columns: list[Column]) -> dict[str, Any]:
    """AgGrid's options: sortable, filterable, one row to select, words in the reader's language."""
    return {
        "columnDefs": [{"field": "id", "hide": True}, *(_definition(column) for column in columns)],
        "defaultColDef": {
            "sortable": True,
            "filter": True,
            "resizable": True,
            "minWidth": 90,
            "wrapHeaderText": True,
            "autoHeaderHeight": True,
        },
        "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
        "localeText": {name: gettext(text) for name, text in GRID_WORDS.items()},
        "animateRows": False,
        "suppressFieldDotNotation": True,
        "enableCellTextSelection": True,
    }


def _definition(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"field": column.name, "headerName": column.title, "cellDataType": "text"}
    found["width"] = column.width or WIDTHS[column.kind]
    if column.kind == "number":
        found |= {"type": "numericColumn", "filter": "agNumberColumnFilter", "cellDataType": "number"}
    if column.kind != "text":
        found["valueFormatter"] = _form(column)
    return found


def _form(column: Column) -> str:
    """An AgGrid expression; it holds only our own settings, never a value of the data."""
    tag = f"'{reader().locale.replace('_', '-')}'"
    if column.kind == "date":  # noon, so that no time zone makes it another day
        return f"value ? new Date(value + 'T12:00:00').toLocaleDateString({tag}, {{dateStyle: 'medium'}}) : ''"
    if column.kind == "moment":
        style = f"{{dateStyle: 'short', timeStyle: 'medium', timeZone: '{reader().zone}'}}"
        return f"value ? new Date(value).toLocaleString({tag}, {style}) : ''"
    places = f"minimumFractionDigits: {column.digits}, maximumFractionDigits: {column.digits}"
    style = ", style: 'percent'" if column.percent else ""
    return f"value == null ? '–' : value.toLocaleString({tag}, {{{places}{style}}})"


def theme(dark: bool) -> StAggridTheme:
    return StAggridTheme(base="quartz").withParams(
        fontSize=13,
        fontFamily="'Source Sans', system-ui, 'Segoe UI', 'Liberation Sans', sans-serif",
        rowHeight=34,
        headerHeight=38,
        spacing=6,
        wrapperBorderRadius=8,
        **(LOOK_DARK if dark else LOOK_LIGHT),
    )
