"""What the checks of a data run say, in the reader's language: code -> sentence and advice.

The codes and their facts are those of ``ml.checks`` (a test compares them); a page may not import the checks.
"""

from __future__ import annotations

import datetime as dt

from control_room.i18n import N_, day, gettext, number, percent
from ml.records import DataCheck

DATES = ("date", "week", "from", "to")
# code -> (what was seen, what to do); names in braces are the check's facts
CHECKS: dict[str, tuple[str, str]] = {
    "stale": (
        N_("The newest sales are of {date}, {days} days ago."),
        N_("Forecasts begin after that day: upload what has been sold since."),
    ),
    "missing_periods": (
        N_("{share} of the newest days of the stores have no row at all."),
        N_("If they were open then, upload those days: a gap reads as unknown or as nothing sold."),
    ),
    "store_silent": (
        N_("These stores have stopped selling: {stores}."),
        N_("If they are open, their newest sales are missing: upload them."),
    ),
    "copied_periods": (
        N_("On some days the sales of every product are exactly the same: {periods}."),
        N_("Probably one of these days was filled in with another's figures: correct it by a new upload."),
    ),
    "price_jump": (
        N_("{share} of the series cost several times more or less than two months ago."),
        N_("Look for another unit or currency, or a lost decimal point, in the newest upload."),
    ),
    "units_out_of_band": (
        N_("The week of {week} sold {times} times more or less than usual."),
        N_("If nothing special happened, rows are missing or doubled in the newest upload."),
    ),
    "rows_left_out": (
        N_("{rows} rows ({share}) of the uploads were left out."),
        N_("The table of rejected rows says why; mend them and upload the file again."),
    ),
    "goes_back": (
        N_("The newest day goes back from {from} to {to}."),
        N_("Did the run leave uploads out? Unless told otherwise it uses all accepted ones."),
    ),
    "series_gone": (
        N_("{count} series with {share} of the units are no longer in the data."),
        N_("If they were not meant to go, use all uploads again, or look for changed names."),
    ),
    "history_lost": (
        N_("{days} days of stores with {share} of the units are no longer in the data."),
        N_("Did the run leave uploads out? Unless told otherwise it uses all accepted ones."),
    ),
    "revised": (
        N_("{days} days of stores known before have changed, by {share} of the units."),
        N_("If this is no correction, an upload has the wrong dates or units."),
    ),
    "other_frequency": (
        N_("Daily data has become weekly, or the other way round."),
        N_("Mixed files read as neither: use uploads of one kind only."),
    ),
    "series_new": (
        N_("{count} series are new; until the next retraining they are forecast from similar ones."),
        "",
    ),
}


def told(check: DataCheck) -> tuple[str, str]:
    """What was seen and what to do, in the reader's language where the code is known."""
    if check.code not in CHECKS:
        return check.message, check.hint
    message, hint = CHECKS[check.code]
    try:
        facts = {name: _fact(name, value) for name, value in check.facts.items()}
        return gettext(message).format(**facts), gettext(hint) if hint else ""
    except (KeyError, IndexError, ValueError):
        return check.message, check.hint


def _fact(name: str, value: str | float) -> str:
    if name == "share":
        return percent(float(value), 0 if float(value) >= 0.1 else 1)
    if isinstance(value, int | float):
        return number(value, 0 if float(value).is_integer() else 1)
    return day(dt.date.fromisoformat(value)) if name in DATES else value
