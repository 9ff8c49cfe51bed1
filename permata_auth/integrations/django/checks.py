"""System checks: what ``manage.py check`` says about the settings. They ask nobody outside.

========================  ======================================================================
permata_auth.E001         ``PERMATA_AUTH`` is no dict, or has a key that is not known
permata_auth.E002         a credential is missing or malformed
permata_auth.E003         ``TOKEN_STORE`` is wrong, names no cache, or lacks its package
permata_auth.E004         a margin, ``BACKGROUND``, ``ON_EVENT`` or ``MAX_BODY_BYTES`` is wrong
permata_auth.E005         ``CALLBACK_STATUS_URL`` is wrong
permata_auth.W001         ``check --deploy``: webhooks are taken from anybody
permata_auth.W002         ``check --deploy``: the cache of ``TOKEN_STORE`` is not shared
========================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from ..._settings import url_problem
from ...exceptions import ConfigurationError
from ...schemes.classic import PermataCredentials
from .._services import Settings
from . import _services

_KNOWN = {field.name.upper() for field in attrs.fields(PermataCredentials)} | {
    "TOKEN_STORE",
    "REFRESH_BUFFER_SECS",
    "MIN_SCHEDULE_TIME_SECS",
    "BACKGROUND",
    "ON_EVENT",
    "CALLBACK_STATUS_URL",
    "APP_SECRETS",
    "MAX_BODY_BYTES",
}
_WHERE = "Set it in PERMATA_AUTH (without PERMATA_ before its name), or in the environment."


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check all that can be checked without asking anybody."""
    try:
        given = _services.given()
    except ConfigurationError as error:
        return [Error(str(error), hint='PERMATA_AUTH = {"TOKEN_URL": …}', id="permata_auth.E001")]
    return list(_problems(given))


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Check what is fine on a developer's machine alone."""
    given = Settings(_services.given())
    found: list[CheckMessage] = []
    if given.get("PERMATA_CALLBACK_STATUS_URL") and not given.app_secrets():
        found.append(
            Warning(
                "Webhooks are accepted from anybody who knows their URL.",
                hint="Set PERMATA_APP_SECRETS to the app secret of the WhatsApp Business provider.",
                id="permata_auth.W001",
            )
        )
    alias = _cache_alias(given)
    backend = settings.CACHES.get(alias or "", {}).get("BACKEND", "")
    if backend.endswith(("LocMemCache", "DummyCache")):
        found.append(
            Warning(
                f"The cache {alias!r} shares nothing between processes: each logs in by itself.",
                hint="Use a cache that is shared, or no TOKEN_STORE.",
                id="permata_auth.W002",
            )
        )
    return found


def _problems(given: dict[str, Any]) -> Iterator[CheckMessage]:
    unknown = sorted(name for name in given if name.removeprefix("PERMATA_") not in _KNOWN)
    if unknown:
        names = ", ".join(name.removeprefix("PERMATA_") for name in unknown)
        hint = f"Known are {', '.join(sorted(_KNOWN))}."
        yield Error(f"PERMATA_AUTH has unknown keys: {names}", hint=hint, id="permata_auth.E001")
    there = Settings(given)
    hook = given.get("PERMATA_ON_EVENT")
    checks: list[tuple[str, Callable[[], object]]] = [
        ("E002", there.credentials),
        ("E003", lambda: _check_store(there, given)),
        ("E004", there.margins),
        ("E004", there.is_background),
        ("E004", there.max_body_bytes),
        ("E004", lambda: _services._event_hook(hook)),
        ("E005", lambda: _check_callback_status_url(there)),
    ]
    for number, check in checks:
        yield from _failure(number, check)


def _failure(number: str, check: Callable[[], object]) -> Iterator[CheckMessage]:
    try:
        check()
    except (ConfigurationError, ImportError) as error:
        yield Error(str(error), hint=_WHERE, id=f"permata_auth.{number}")


def _check_store(there: Settings, given: dict[str, Any]) -> None:
    alias = _cache_alias(there)
    if alias is not None and alias not in settings.CACHES:
        raise ConfigurationError(f"PERMATA_TOKEN_STORE names the cache {alias!r}, which is not set")
    _services.DjangoServices(given)._new_store()


def _check_callback_status_url(there: Settings) -> None:
    url = there.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
    problem = url_problem(url, allow_insecure_http=False) if url else None
    if problem is not None:
        raise ConfigurationError(f"PERMATA_CALLBACK_STATUS_URL {problem}")


def _cache_alias(there: Settings) -> str | None:
    scheme, _, alias = there.get("PERMATA_TOKEN_STORE", "").partition(":")
    return (alias or "default") if scheme == "cache" else None
