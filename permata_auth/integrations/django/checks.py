"""System checks of the settings, for ``manage.py check``. They send no request.

========================  ======================================================================
permata_auth.E001         ``PERMATA_AUTH`` is no dict, or has a key that is not known
permata_auth.E002         a credential is missing or malformed
permata_auth.E003         ``TOKEN_STORE`` is wrong, names no cache, or lacks its package
permata_auth.E004         a margin, ``BACKGROUND``, ``STOP_WHEN_IDLE``, ``CLOCK_CORRECTION``,
                          ``WARM_UP``, ``ON_EVENT`` or ``MAX_BODY_BYTES`` is wrong
permata_auth.E005         ``CALLBACK_STATUS_URL`` is wrong
permata_auth.E006         ``APP_SECRETS``, ``ALLOW_UNSIGNED_WEBHOOKS`` or
                          ``WEBHOOK_VERIFY_TOKEN`` is wrong
permata_auth.E007         the settings are right one by one, but not together
permata_auth.E008         ``CLIENT_CERT``, ``CLIENT_KEY``, ``CLIENT_KEY_PASSWORD``, ``CA_BUNDLE`` or
                          ``PROXY`` is wrong
permata_auth.E009         a setting ``SNAP_INBOUND_…`` or ``SNAP_BANK_PUBLIC_KEY`` is wrong, where
                          one of them is set
permata_auth.W001         ``check --deploy``: webhooks are taken from anybody
permata_auth.W002         ``check --deploy``: the cache of ``TOKEN_STORE`` is not shared
permata_auth.W003         webhooks are answered with 503: there is no app secret
permata_auth.W004         ``check --deploy``: ``SNAP_INBOUND_EXTERNAL_IDS`` is not shared, so that
                          each process takes a replayed request of the bank once
========================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from ..._settings import url_problem
from ...exceptions import ConfigurationError
from ...schemes.classic import PermataCredentials
from ...schemes.snap import SnapCredentials
from ._services import DjangoServices
from ._settings import DjangoSettings, is_of_one_process

_KNOWN = {
    *(field.name.upper() for field in attrs.fields(PermataCredentials)),
    *(f"SNAP_{field.name.upper()}" for field in attrs.fields(SnapCredentials) if field.init),
    "CLIENT_CERT",
    "CLIENT_KEY",
    "CLIENT_KEY_PASSWORD",
    "CA_BUNDLE",
    "PROXY",
    "TOKEN_STORE",
    "REFRESH_BUFFER_SECS",
    "MIN_SCHEDULE_TIME_SECS",
    "BACKGROUND",
    "STOP_WHEN_IDLE",
    "CLOCK_CORRECTION",
    "WARM_UP",
    "ON_EVENT",
    "CALLBACK_STATUS_URL",
    "APP_SECRETS",
    "ALLOW_UNSIGNED_WEBHOOKS",
    "WEBHOOK_VERIFY_TOKEN",
    "MAX_BODY_BYTES",
    "SCHEME",
    "SECRETS_DIR",
}
#: Of a receiver, which has settings of its own.
_INBOUND = ("SNAP_INBOUND_", "SNAP_BANK_")
_WHERE = "Set it in PERMATA_AUTH (without PERMATA_ before its name), or in the environment."


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check all settings without a request."""
    there = DjangoSettings()
    try:
        names = there.names()
    except ConfigurationError as error:
        return [Error(str(error), hint='PERMATA_AUTH = {"TOKEN_URL": …}', id="permata_auth.E001")]
    found = [*_unknown(names), *_wrong(there)]
    return found or list(_wrong_together(there))


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Check for settings that are right only on a developer's machine."""
    if any(isinstance(each, Error) for each in check_settings()):  # these are reported already
        return []
    there = DjangoSettings()
    found: list[CheckMessage] = []
    webhooks = there.webhook_arguments()
    if webhooks["allow_unsigned"] and not webhooks["app_secrets"]:
        found.append(
            Warning(
                "Webhooks are taken from anybody who knows their URL.",
                hint="Set PERMATA_APP_SECRETS to the app secret of the WhatsApp Business provider.",
                id="permata_auth.W001",
            )
        )
    if there.has_inbound() and not there.shares_external_ids():
        found.append(
            Warning(
                "Each process takes a replayed request of the bank once.",
                hint="Set PERMATA_SNAP_INBOUND_EXTERNAL_IDS to a Redis, or a cache that is shared.",
                id="permata_auth.W004",
            )
        )
    alias = there.cache_alias()
    if is_of_one_process(alias):
        found.append(
            Warning(
                f"The cache {alias!r} shares nothing between processes: each logs in by itself.",
                hint="Use a cache that is shared, or no TOKEN_STORE.",
                id="permata_auth.W002",
            )
        )
    return found


def _unknown(names: list[str]) -> Iterator[CheckMessage]:
    known = _KNOWN | {f"{name}_FILE" for name in _KNOWN}
    unknown = ", ".join(sorted(name for name in {*names} - known if not name.startswith(_INBOUND)))
    if unknown:
        hint = f"Known are {', '.join(sorted(_KNOWN))}."
        yield Error(f"PERMATA_AUTH has unknown keys: {unknown}", hint=hint, id="permata_auth.E001")


def _wrong(there: DjangoSettings) -> Iterator[CheckMessage]:
    checks: list[tuple[str, Callable[[], object]]] = [
        ("E002", there.credentials),
        ("E003", there.store),
        ("E004", there.margins),
        ("E004", there.is_background),
        ("E004", there.stops_when_idle),
        ("E004", there.corrects_clock),
        ("E004", there.warms_up),
        ("E004", there.max_body_bytes),
        ("E004", there.event_hook),
        ("E005", lambda: _check_callback_status_url(there)),
        ("E008", there.transport),
        ("E006", there.app_secrets),
        ("E006", there.allows_unsigned),
        ("E006", there.verify_token),
        ("E009", lambda: there.inbound() if there.has_inbound() else None),
    ]
    for number, check in checks:
        yield from _failure(number, check)


def _wrong_together(there: DjangoSettings) -> Iterator[CheckMessage]:
    """Make the services of a request, so that no mistake is left for the first request."""
    services = DjangoServices()
    if not there.get("PERMATA_CALLBACK_STATUS_URL", "").strip():
        yield from _failure("E007", lambda: services.handler)
        return
    yield from _failure("E007", lambda: services.callback_status)
    closed = there.closed_webhooks()
    if closed is not None:
        yield Warning(
            f"Webhooks are answered with 503. {closed}", hint=_WHERE, id="permata_auth.W003"
        )
    else:
        yield from _failure("E007", lambda: services.webhooks)


def _failure(number: str, check: Callable[[], object]) -> Iterator[CheckMessage]:
    try:
        check()
    except (ConfigurationError, ImportError) as error:
        yield Error(str(error), hint=_WHERE, id=f"permata_auth.{number}")


def _check_callback_status_url(there: DjangoSettings) -> None:
    url = there.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
    problem = url_problem(url, allow_insecure_http=there.allows_insecure_http()) if url else None
    if problem is not None:
        raise ConfigurationError(f"PERMATA_CALLBACK_STATUS_URL {problem}")
