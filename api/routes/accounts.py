"""People: their accounts, signing in and out, passwords."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import Caller, console_only, needs
from api.deps import ServicesDep
from api.openapi import json_body
from api.strict import body_of
from ml.accounts import LONGEST, NAME, SHORTEST, Identity
from ml.errors import Conflict
from ml.records import Account, NewAccount, NewSession, UserRole

router = APIRouter(prefix="/v1", tags=["people"])

AccountId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]
AccountName = Annotated[str, StringConstraints(pattern=NAME)]
Secret = Annotated[str, StringConstraints(min_length=SHORTEST, max_length=LONGEST)]
Typed = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]  # may be anything but what it should be
Words = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Address = Annotated[str, StringConstraints(max_length=64)]
GENERATED = "Left out: one is made, and shown in this answer only."


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class AccountRequest(Strict):
    """A new person with a password here."""

    name: AccountName = Field(examples=["ana"])
    role: UserRole = Field(description="Each role may do what those before it may.", examples=["planner"])
    password: Secret | None = Field(None, description=GENERATED)


class AccountChange(Strict):
    """What is left out stays as it is."""

    role: UserRole | None = None
    disabled: bool | None = None


class PasswordReset(Strict):
    password: Secret | None = Field(None, description=GENERATED)


class PasswordChange(Strict):
    present: Typed
    new: Secret


class SignIn(Strict):
    """``address``: of the browser, for the limit on failures."""

    name: Typed
    password: Typed
    address: Address = ""


class Vouched(Strict):
    """Whom the identity provider has named to the console."""

    issuer: Words
    subject: Words
    name: Words
    role: UserRole
    address: Address = ""


class AccountList(BaseModel):
    items: list[Account]


AccountBody = Annotated[AccountRequest, body_of(AccountRequest)]
ChangeBody = Annotated[AccountChange, body_of(AccountChange)]
ResetBody = Annotated[PasswordReset, body_of(PasswordReset, PasswordReset())]
PasswordBody = Annotated[PasswordChange, body_of(PasswordChange)]
SignInBody = Annotated[SignIn, body_of(SignIn)]
VouchedBody = Annotated[Vouched, body_of(Vouched)]

# ---------------------------------------------------------------- accounts


@router.get("/accounts", summary="The people, by name", dependencies=needs("admin"))
def accounts(services: ServicesDep) -> AccountList:
    return AccountList(items=services.accounts.all())


@router.post(
    "/accounts", status_code=201, summary="Make an account", dependencies=needs("admin"), **json_body(AccountRequest)
)
def make_account(request: Request, services: ServicesDep, asked: AccountBody) -> NewAccount:
    """409: there is an account of this name."""
    return services.accounts.create(asked.name, asked.role, request.scope["caller"].name, asked.password)


@router.patch(
    "/accounts/{account_id}",
    summary="Another role, disable, enable",
    dependencies=needs("admin"),
    **json_body(AccountChange),
)
def change_account(request: Request, services: ServicesDep, account_id: AccountId, asked: ChangeBody) -> Account:
    """It counts at once here, and within seconds in other processes of the API. A disabled account's sessions end.
    409: no administrator would be left, or the role comes from the identity provider."""
    changed = services.accounts.change(account_id, request.scope["caller"].name, asked.role, asked.disabled)
    services.sessions.forget_all()
    return changed


@router.put(
    "/accounts/{account_id}/password",
    summary="Give an account a new password",
    dependencies=needs("admin"),
    **json_body(PasswordReset, required=False),
)
def reset_password(request: Request, services: ServicesDep, account_id: AccountId, asked: ResetBody) -> NewAccount:
    """All its sessions end."""
    reset = services.accounts.reset_password(account_id, request.scope["caller"].name, asked.password)
    services.sessions.forget_all()
    return reset


@router.put(
    "/me/password",
    status_code=204,
    summary="Change your own password",
    dependencies=needs("viewer"),
    **json_body(PasswordChange),
)
def change_own_password(request: Request, services: ServicesDep, asked: PasswordBody) -> None:
    """Your other sessions end. For people who have signed in; a key has no password."""
    caller = _person(request)
    services.accounts.change_own_password(str(caller.account_id), str(caller.session_id), asked.present, asked.new)
    services.sessions.forget_all()


# ---------------------------------------------------------------- sessions


@router.post(
    "/sessions", status_code=201, summary="Sign in with a password", dependencies=console_only(), **json_body(SignIn)
)
def sign_in(services: ServicesDep, asked: SignInBody) -> NewSession:
    """For the console: `token` is what it sends from then on in this person's name, as a key is sent. 401 does not say
    whether the account exists; 429 after too many failures of a name or an address."""
    hours = services.settings.session_hours
    return services.accounts.sign_in(asked.name, asked.password, asked.address, hours)


@router.post(
    "/sessions/identity",
    status_code=201,
    summary="Sign in whom the identity provider has named",
    dependencies=console_only(),
    **json_body(Vouched),
)
def sign_in_as(services: ServicesDep, asked: VouchedBody) -> NewSession:
    """For the console, which has checked what the provider signed. The account is made at the first time, and its role
    is the one that is given here."""
    who = Identity(asked.issuer, asked.subject, asked.name, asked.role)
    opened = services.accounts.sign_in_as(who, asked.address, services.settings.session_hours)
    services.sessions.forget_all()  # the role may have changed
    return opened


@router.delete("/sessions/current", status_code=204, summary="Sign out", dependencies=needs("viewer"))
def sign_out(request: Request, services: ServicesDep) -> None:
    caller = _person(request)
    services.accounts.sign_out(str(caller.session_id))
    services.sessions.forget(str(caller.session_id))


def _person(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    if caller.session_id is None:
        raise Conflict("This is for people who have signed in: a key has neither a password nor a session.")
    return caller
