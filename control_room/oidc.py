"""People of an identity provider: what Streamlit's sign-in needs, and which role their claims give them."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from ml.records import USER_ROLES, UserRole
from ml.settings import Settings


def secrets_of(settings: Settings) -> dict[str, Any] | None:
    """What Streamlit otherwise reads from ``secrets.toml``.

    The cookie is signed with a secret that follows from the console's own key: it outlives a restart, and there is no
    further one to keep.
    """
    if settings.sign_in != "oidc":
        return None
    signing = hmac.new(settings.api_token.encode(), b"cookies of the console", hashlib.sha256).hexdigest()
    return {
        "auth": {
            "redirect_uri": f"{settings.console_url}/oauth2callback",
            "cookie_secret": signing,
            "client_id": settings.oidc_client_id,
            "client_secret": settings.oidc_client_secret,
            "server_metadata_url": settings.oidc_metadata_url,
        }
    }


def role_of(claims: Mapping[str, Any], settings: Settings) -> UserRole | None:
    """The highest role among the values of the claim; None: this person is refused.

    Examples
    --------
    >>> settings = Settings(oidc_role_claim="groups", oidc_roles="buyers=planner,bosses=manager")
    >>> role_of({"groups": ["buyers", "bosses", "football"]}, settings)
    'manager'
    """
    told = claims.get(settings.oidc_role_claim)
    values = [told] if isinstance(told, str) else told if isinstance(told, list | tuple) else []
    meanings = _meanings(settings)
    found = [meanings[value] for value in values if isinstance(value, str) and value in meanings]
    if found:
        return max(found, key=USER_ROLES.index)
    return "viewer" if settings.oidc_unknown == "viewer" else None


def _meanings(settings: Settings) -> dict[str, UserRole]:
    if not settings.oidc_roles:
        return {role: role for role in USER_ROLES}
    pairs = (pair.rpartition("=") for pair in settings.oidc_roles.split(","))
    return {value: role for value, _, role in pairs}  # type: ignore[misc]  # the setting's pattern knows the roles


def name_of(claims: Mapping[str, Any]) -> str:
    """What a person is called in the audit: their e-mail where the provider has checked it, else what it calls them."""
    email = claims.get("email")
    if isinstance(email, str) and email and claims.get("email_verified", True) is True:
        return email[:255]
    return str(claims.get("preferred_username") or claims["sub"])[:255]


def fresh(claims: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the provider said so lately: the browser's own cookie would be good for a month."""
    told = claims.get("iat")
    age = dt.datetime.now(dt.UTC).timestamp() - told if isinstance(told, int | float) else float("inf")
    return age < settings.session_hours * 3600
