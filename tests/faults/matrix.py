"""The table: each fault, the error it becomes, and whether the login is tried again."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs

from permata_auth import (
    CertificateError,
    ClockError,
    ConfigurationError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTokenResponseError,
    PermataAuthError,
    RequestTimeoutError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TransportError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)

from . import servers

#: The policy that every row runs under: attempts, and bounds in seconds.
ATTEMPTS = 2
READ_TIMEOUT = 0.4
BUDGET = 1.2


@attrs.frozen
class Fault:
    """One row. ``error`` None: the login succeeds, with ``lifetime`` seconds to live.

    ``name``: in words. ``fault``, ``arguments``: the sandbox's name for it. ``elsewhere``:
    a server to send the login to instead. ``is_down``: the bank's port refuses connections.
    """

    name: str
    error: type[PermataAuthError] | None
    fault: str | None = None
    arguments: dict[str, Any] = attrs.Factory(dict)
    elsewhere: Callable[[Path], AbstractContextManager[str]] | None = None
    is_down: bool = False
    lifetime: float | None = None

    @property
    def attempts(self) -> int:
        """How often the login is tried."""
        return ATTEMPTS if self.error is not None and self.error.retryable else 1


def _status(status: int, error: type[PermataAuthError], name: str = "", **arguments: Any) -> Fault:
    return Fault(name or f"HTTP {status}", error, "status", {"status": status, **arguments})


def _oauth(code: str, error: type[PermataAuthError]) -> Fault:
    body = f'{{"error":"{code}","error_description":"no"}}'
    return _status(400, error, f"HTTP 400 {code}", body=body, content_type="application/json")


def _expires_in(value: Any, lifetime: float | None) -> Fault:
    error = InvalidTokenResponseError if lifetime is None else None
    name = f"expires_in {value!r}" if value is not ... else "expires_in missing"
    change = (
        {"drop_fields": "expires_in"} if value is ... else {"json_fields": {"expires_in": value}}
    )
    return Fault(name, error, "json", change, lifetime=lifetime)


def _token(value: Any, name: str) -> Fault:
    fields = {"json_fields": {"access_token": value}}
    return Fault(f"token {name}", InvalidTokenResponseError, "json", fields)


def _reply(name: str, fault: str, **arguments: Any) -> Fault:
    return Fault(name, InvalidTokenResponseError, fault, arguments)


def _tls(**arguments: Any) -> Callable[[Path], AbstractContextManager[str]]:
    return lambda folder: servers.tls(folder, **arguments)


def _nowhere() -> AbstractContextManager[str]:
    return nullcontext("https://no-such-host.invalid/apiservice/oauth/token")


_TEN_YEARS = 10 * 365.25 * 86_400

FAULTS: tuple[Fault, ...] = (
    # No answer
    Fault("connection refused", TransportError, is_down=True),
    Fault(
        "connection never accepted", RequestTimeoutError, elsewhere=lambda _: servers.full_backlog()
    ),
    Fault("accepted, never answered", RequestTimeoutError, elsewhere=lambda _: servers.silence()),
    Fault("closed without a byte", TransportError, "drop"),
    Fault("reset before the answer", TransportError, "reset", {"at": "start"}),
    Fault("reset amid the headers", TransportError, "reset", {"at": "headers"}),
    Fault("reset amid the body", TransportError, "reset", {"at": "body"}),
    Fault("body cut short", TransportError, "truncated"),
    Fault("first byte too late", RequestTimeoutError, "slow", {"seconds": 3.0}),
    Fault(
        "headers byte by byte", RequestTimeoutError, "drip", {"interval": 0.1, "part": "headers"}
    ),
    Fault("body byte by byte", RequestTimeoutError, "drip", {"interval": 0.1, "part": "body"}),
    Fault("no such host", TransportError, elsewhere=lambda _: _nowhere()),
    Fault("no HTTP on that port", TransportError, elsewhere=lambda _: servers.no_http()),
    # TLS
    Fault("certificate self-signed", CertificateError, elsewhere=_tls(is_trusted=False)),
    Fault("certificate expired", CertificateError, elsewhere=_tls(days=-1)),
    Fault("certificate of another host", CertificateError, elsewhere=_tls(host="127.0.0.2")),
    Fault("closed after the TLS handshake", TransportError, elsewhere=_tls()),
    Fault("no TLS on that port", ConfigurationError, elsewhere=lambda _: servers.plain_text()),
    # Redirects
    *(
        Fault(
            f"HTTP {status} to {where}",
            TokenEndpointError,
            "redirect",
            {"status": status, "location": location},
        )
        for status in (301, 302, 303, 307, 308)
        for where, location in (
            ("the same host", "/apiservice/oauth/token"),
            ("another host", "https://elsewhere.invalid/?code=1"),
        )
    ),
    # Refusals
    _status(400, InvalidRequestError),
    _oauth("invalid_request", InvalidRequestError),
    _oauth("invalid_client", InvalidClientError),
    _oauth("invalid_grant", InvalidGrantError),
    _oauth("unauthorized_client", UnauthorizedClientError),
    _oauth("unsupported_grant_type", UnsupportedGrantTypeError),
    _oauth("invalid_scope", InvalidScopeError),
    _status(401, InvalidClientError),
    _status(403, TokenEndpointError),
    Fault("HTTP 403 Invalid Timestamp Value", ClockError, "clock"),
    *(_status(status, TokenEndpointError) for status in (404, 405, 406, 408, 410, 413, 415, 451)),
    # Busy or broken
    _status(429, TokenEndpointUnavailableError),
    _status(429, TokenEndpointUnavailableError, "HTTP 429, Retry-After: 0", retry_after=0),
    _status(
        429,
        TokenEndpointUnavailableError,
        "HTTP 429, Retry-After: a date that has passed",
        retry_after="Fri, 31 Dec 1999 23:59:59 GMT",
    ),
    _status(503, TokenEndpointUnavailableError, "HTTP 503, Retry-After: soon", retry_after="soon"),
    *(_status(status, TokenEndpointUnavailableError) for status in (500, 501, 502, 503, 504, 599)),
    # A 200 that is no token
    _reply("HTML", "html"),
    _reply("an empty 200", "empty"),
    Fault("HTTP 204", InvalidTokenResponseError, "empty", {"status": 204}),
    _reply("100 MiB", "huge"),
    _reply("a gzip bomb of 100 MiB", "gzip_bomb"),
    _reply("another encoding than declared", "encoding"),
    _reply("half a JSON document", "json", raw='{"access_token":"abc'),
    _reply("a JSON list", "json", body=[]),
    _reply("a JSON string", "json", body="token"),
    _reply("JSON null", "json", body=None),
    _reply("JSON nested 100,000 deep", "json", raw="[" * 100_000),
    Fault(
        "an OAuth error as 200", InvalidClientError, "json", {"body": {"error": "invalid_client"}}
    ),
    Fault(
        "the clock's error as 200",
        ClockError,
        "json",
        {"body": {"StatusCode": "06", "StatusDesc": "Invalid Timestamp Value"}},
    ),
    _reply("another error as 200", "json", body={"responseMessage": "Kuota habis"}),
    _reply("no access_token", "json", drop_fields="access_token"),
    _token("", "empty"),
    _token(None, "null"),
    _token(7, "a number"),
    _token(["t"], "a list"),
    _token("abc\r\nX-Injected: 1", "with a line break"),
    _token("abc def", "with a space"),
    _token("törn", "not ASCII"),
    # Lifetimes
    _expires_in(1, 1.0),
    _expires_in(30, 30.0),
    _expires_in(300, 300.0),
    _expires_in(359, 359.0),
    _expires_in(10800, 10800.0),
    _expires_in("900", 900.0),
    _expires_in(" 900.0 ", 900.0),
    _expires_in(899.5, 899.5),
    _expires_in(1e300, _TEN_YEARS),
    _expires_in(..., 900.0),
    _expires_in(None, 900.0),
    _expires_in(0, None),
    _expires_in(-1, None),
    _expires_in("-1", None),
    _expires_in(math.nan, None),
    _expires_in(-math.inf, None),
    _expires_in(True, None),
    _expires_in([], None),
    _expires_in("abc", None),
    _expires_in("", None),
)

# Retry-After beyond the budget is told apart: nothing could be tried in time.
IMPATIENT: tuple[Fault, ...] = (
    _status(429, TokenEndpointUnavailableError, "HTTP 429, Retry-After: 3600", retry_after=3600),
    _status(503, TokenEndpointUnavailableError, "HTTP 503, Retry-After: absurd", retry_after=10**8),
)


def document() -> str:
    """Return the table as Markdown."""
    lines = ["| what goes wrong | what is raised | tried again |", "|---|---|---|"]
    for row in (*FAULTS, *IMPATIENT):
        if row.error is None:
            raised = f"nothing: the token lives for {row.lifetime:g} s"
        else:
            raised = f"`{row.error.__name__}`"
        again = "not within the budget" if row in IMPATIENT else "yes" if row.attempts > 1 else "no"
        lines.append(f"| {row.name} | {raised} | {'' if row.error is None else again} |")
    return "\n".join(lines)
