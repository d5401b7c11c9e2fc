"""Error code -> what the person reads and what they can do. A test checks that every code of ``ml.errors`` is here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from control_room.i18n import N_, gettext
from ml.errors import ControlRoomError, ServiceDown, all_codes


@dataclass(frozen=True)
class Explanation:
    """What happened, what can be done, and the service's own words where they add something."""

    title: str
    advice: str
    detail: str = ""
    request_id: str = ""


# code -> (what happened, what can be done)
SENTENCES: dict[str, tuple[str, str]] = {
    "internal": (
        N_("Something went wrong on the server."),
        N_("Nothing was changed. Try again; if it stays, give the request id to whoever runs the service."),
    ),
    "settings": (
        N_("A setting is missing or not usable."),
        N_("Whoever runs the service has to correct the setting that is named and start it again."),
    ),
    "input": (N_("What was entered cannot be used."), N_("Correct the field that is named and try again.")),
    "file_refused": (
        N_("The file cannot be used."),
        N_("Send a CSV, XLSX or Parquet table with at least a date and a sales column; the template shows one."),
    ),
    "too_large": (
        N_("This is too large for one request."),
        N_("Split the file into parts, for example by year or by store, and send them one after the other."),
    ),
    "not_found": (N_("This does not exist, or no longer."), N_("Go back to the list and choose again.")),
    "conflict": (
        N_("This does not fit the present state."),
        N_("It may have been done already, or a run is active. Look at the present state and decide again."),
    ),
    "in_progress": (
        N_("The same request is being worked on."),
        N_("Wait a moment and ask again: it is not done twice."),
    ),
    "key_reused": (
        N_("This Idempotency-Key was used for another request."),
        N_("Take a new key for each new request, and the same key only to send the same request again."),
    ),
    "no_data": (
        N_("No sales data has been published yet."),
        N_("Upload a file with your sales, accept it and start the ETL."),
    ),
    "not_enough_data": (
        N_("There is not enough history for this."),
        N_("Add earlier sales, or choose fewer folds or a shorter window."),
    ),
    "no_champion": (
        N_("No model is serving forecasts yet."),
        N_("Train one on the Retrain page; forecasts start when it is promoted."),
    ),
    "bundle_damaged": (
        N_("The model's files do not match their seal, so the model is not loaded."),
        N_("The last good model goes on serving. Retrain, or roll back to an earlier version."),
    ),
    "retired": (
        N_("The files of this model or of this data are no longer kept."),
        N_("Choose a newer version; how many are kept is a setting (CONTROL_ROOM_KEEP_MODELS)."),
    ),
    "service_down": (
        N_("{service} does not answer."),
        N_("What was known before is still shown. Try again in a moment."),
    ),
    "forbidden": (
        N_("Your role does not allow this."),
        N_("Ask an administrator of the control room for a role that does."),
    ),
    "sign_in_failed": (
        N_("Name or password is not right."),
        N_("Check both; an administrator can give the account a new password."),
    ),
    "too_many_sign_ins": (
        N_("There were too many attempts to sign in."),
        N_("Wait a quarter of an hour, or ask an administrator for a new password."),
    ),
    "too_many": (
        N_("This key has sent more requests than it may."),
        N_("Wait a minute; how many are allowed is a setting (CONTROL_ROOM_RATE_LIMIT)."),
    ),
    "unauthorized": (
        N_("The API does not accept the console's key."),
        N_("Whoever runs the service has to give the console the API's key (CONTROL_ROOM_API_TOKEN)."),
    ),
}

# Error of the API as a program meets it: code -> status, what happened, what can be done. The console's own case of a
# key that is not accepted is another one than a program's, and wrong settings never get to answer.
_AS_A_PROGRAM = {
    "unauthorized": (
        N_("The key is missing, unknown, ended or revoked."),
        N_("Send a valid one as X-API-Key or as Authorization: Bearer."),
    ),
    "forbidden": (N_("The key's role does not allow this."), N_("Use a key with the role that the route takes.")),
    "service_down": (
        N_("A service that is needed for this does not answer."),
        N_("Try again after the seconds of Retry-After."),
    ),
}
ANSWERED: dict[str, tuple[int, str, str]] = {
    code: (kind.status, *(_AS_A_PROGRAM.get(code) or SENTENCES[code]))
    for code, kind in all_codes().items()
    if code in SENTENCES and code != "settings"
}

SERVICE_NAMES = {
    "api": N_("The API"),
    "airflow": N_("Airflow"),
    "mlflow": N_("MLflow"),
    "database": N_("The database"),
    "model": N_("The model"),
    "lake": N_("The object store"),
    "object": N_("The object store"),
}


# What a service that is away was seen to do, as clients say it -> in words; the number in it is kept
REASONS = (
    (r"no answer within ([\d.]+) s", N_("No answer within {what} s.")),
    (r"answered (\d{3})", N_("It answered with error {what}.")),
    (r"(Connection|NewConnection|MaxRetry)Error", N_("Nothing answers at its address.")),
    (r"(Read|Connect)?Timeout(Error)?", N_("No answer in time.")),
    (r"answered something.*", N_("Its answer could not be understood.")),
)


def reason(text: str) -> str:
    """Why a service counts as away, in the reader's words where it is a known one."""
    for pattern, sentence in REASONS:
        found = re.fullmatch(pattern, text)
        if found:
            return gettext(sentence).format(what=found.group(1) if found.groups() else "")
    return text


def explain(error: ControlRoomError) -> Explanation:
    """The person's version of an error."""
    code = str(error.facts.get("code", error.code))
    title, advice = SENTENCES.get(code, SENTENCES["internal"])
    service = error.service if isinstance(error, ServiceDown) else "api"
    return Explanation(
        gettext(title).format(service=service_name(service)),
        gettext(advice),
        _detail(error),
        str(error.facts.get("request_id") or ""),
    )


def service_name(service: str) -> str:
    return gettext(SERVICE_NAMES[service]) if service in SERVICE_NAMES else service


def _detail(error: ControlRoomError) -> str:
    if isinstance(error, ServiceDown):
        return reason(error.reason)
    return "" if str(error) == error.title else str(error)
