"""The sandbox's remote control: JSON over HTTP under ``/__sandbox__/``, for other processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from .messages import ADMIN_PREFIX, Inbound, Reply, json_reply

if TYPE_CHECKING:
    from .server import Sandbox

_SETTINGS = (
    "token_lifetime",
    "latency",
    "clock_skew",
    "timestamp_tolerance",
    "reuse_token",
    "single_token",
    "reject_tokens",
    "canonicalizer",
    "lock_after",
    "lock_window",
    "login_limit",
    "login_limit_window",
    "snap_rules",
    "inbound_rules",
)


def _counters(bank: Sandbox, **_: Any) -> dict[str, Any]:
    return bank.counters()


def _reset_counters(bank: Sandbox, **_: Any) -> dict[str, Any]:
    bank.reset_counters()
    return {}


def _requests(bank: Sandbox, **_: Any) -> dict[str, Any]:
    return {"requests": [record.masked() for record in bank.requests]}


def _deliveries(bank: Sandbox, **_: Any) -> dict[str, Any]:
    return {"deliveries": [body.decode("utf-8", "replace") for body in bank.deliveries]}


def _add_fault(
    bank: Sandbox,
    *,
    fault: str = "status",
    n: int = 1,
    seconds: float | None = None,
    on: str = "any",
    arguments: dict[str, Any] | None = None,
) -> dict[str, Any]:
    if seconds is None:
        bank.fail_next(n, fault, on=on, **(arguments or {}))
    else:
        bank.fail_for(seconds, fault, on=on, **(arguments or {}))
    return {}


def _clear_faults(bank: Sandbox, **_: Any) -> dict[str, Any]:
    bank.clear_faults()
    return {}


def _settings(bank: Sandbox, **changes: Any) -> dict[str, Any]:
    unknown = sorted(set(changes) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    type(bank)(**changes)  # a bad value is refused here, before any other is set
    for name, value in changes.items():
        setattr(bank, name, value)
    values = {name: getattr(bank, name) for name in _SETTINGS}
    return {name: attrs.asdict(v) if attrs.has(type(v)) else v for name, v in values.items()}


def _revoke(bank: Sandbox, *, token: str | None = None) -> dict[str, Any]:
    if token is None:
        bank.revoke_all_tokens()
        return {}
    return {"known": bank.revoke(token)}


def _rotate(bank: Sandbox, **new: Any) -> dict[str, Any]:
    bank.rotate(**new)
    return {}


def _unlock(bank: Sandbox, **_: Any) -> dict[str, Any]:
    bank.unlock()
    return {}


def _reject_tokens(bank: Sandbox, *, seconds: float) -> dict[str, Any]:
    bank.reject_tokens_for(seconds)
    return {}


_ACTIONS: dict[tuple[str, str], Callable[..., dict[str, Any]]] = {
    ("GET", "counters"): _counters,
    ("DELETE", "counters"): _reset_counters,
    ("GET", "requests"): _requests,
    ("GET", "deliveries"): _deliveries,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "settings"): _settings,
    ("POST", "settings"): _settings,
    ("POST", "revoke"): _revoke,
    ("POST", "reject"): _reject_tokens,
    ("POST", "rotate"): _rotate,
    ("POST", "unlock"): _unlock,
}


def administer(bank: Sandbox, request: Inbound) -> Reply:
    """Carry out one admin request: 200 with a JSON object, 404, or 400 with ``{"error": …}``.

    Args:
        bank: The bank to drive.
        request: One below the admin path.
    """
    action = _ACTIONS.get((request.method, request.path.removeprefix(ADMIN_PREFIX)))
    if action is None:
        return json_reply(404, {"error": "no such admin action"})
    try:
        return json_reply(200, action(bank, **json.loads(request.body or b"{}")))
    except (ValueError, TypeError) as error:
        return json_reply(400, {"error": str(error)})
