"""The tables, one a dialect: each fault, the error it becomes, and whether the login is retried."""

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


@attrs.frozen
class Dialect:
    """The names of one dialect of the bank for the parts of every token endpoint."""

    path: str
    access_token: str
    expires_in: str
    refusals: tuple[Fault, ...]

    def lifetime(self, value: Any, lifetime: float | None) -> Fault:
        """Return the row of a token response whose lifetime is this value."""
        error = InvalidTokenResponseError if lifetime is None else None
        change = (
            {"drop_fields": self.expires_in}
            if value is ...
            else {"json_fields": {self.expires_in: value}}
        )
        shown = "missing" if value is ... else repr(value)
        return Fault(f"{self.expires_in} {shown}", error, "json", change, lifetime=lifetime)

    def token(self, value: Any, name: str) -> Fault:
        """Return the row of a token response with this value in place of the token."""
        fields = {"json_fields": {self.access_token: value}}
        return Fault(f"token {name}", InvalidTokenResponseError, "json", fields)


def _reply(name: str, fault: str, **arguments: Any) -> Fault:
    return Fault(name, InvalidTokenResponseError, fault, arguments)


def _reply_of(name: str, error: type[PermataAuthError], body: Any) -> Fault:
    return Fault(name, error, "json", {"body": body})


def _tls(**arguments: Any) -> Callable[[Path], AbstractContextManager[str]]:
    return lambda folder: servers.tls(folder, **arguments)


def _nowhere() -> AbstractContextManager[str]:
    return nullcontext("https://no-such-host.invalid/apiservice/oauth/token")


_TEN_YEARS = 10 * 365.25 * 86_400

_NO_ANSWER: tuple[Fault, ...] = (
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
)

_CLASSIC = Dialect(
    "/apiservice/oauth/token",
    "access_token",
    "expires_in",
    (
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
        _reply_of(
            "the clock's error as 200",
            ClockError,
            {"StatusCode": "06", "StatusDesc": "Invalid Timestamp Value"},
        ),
    ),
)


def _snap(code: str, message: str, error: type[PermataAuthError]) -> Fault:
    document = {"responseCode": code, "responseMessage": message}
    return _status(int(code[:3]), error, f"{code} {message}", body=document)


_SNAP = Dialect(
    "/snap/v1.0/access-token/b2b",
    "accessToken",
    "expiresIn",
    (
        _status(400, InvalidRequestError),
        _snap("4007300", "Bad Request", InvalidRequestError),
        _snap("4007301", "Invalid Field Format [clientId]", InvalidClientError),
        _snap("4007302", "Invalid Mandatory Field [X-CLIENT-KEY]", InvalidClientError),
        _snap("4007301", "Invalid Field Format [grantType]", UnsupportedGrantTypeError),
        _snap("4007301", "Invalid Field Format [X-TIMESTAMP]", ClockError),
        _status(401, InvalidClientError),
        _snap("4017300", "Unauthorized. [Signature]", InvalidClientError),
        _snap("4017300", "Unauthorized. [Unknown client]", InvalidClientError),
        _snap("4017300", "Unauthorized. [Connection not allowed]", UnauthorizedClientError),
        Fault("4017300 Unauthorized. [Timestamp]", ClockError, "clock"),
        _status(403, UnauthorizedClientError),
        _snap("4037304", "Exceeds Transaction Frequency Limit", TokenEndpointUnavailableError),
        _snap("4297300", "Too Many Requests", TokenEndpointUnavailableError),
        _snap("5047300", "Timeout", TokenEndpointUnavailableError),
        _reply_of(
            "a refusal as 200",
            InvalidClientError,
            {"responseCode": "4017300", "responseMessage": "Unauthorized"},
        ),
        _reply_of(
            "an outage as 200",
            TokenEndpointUnavailableError,
            {"responseCode": "5007300", "responseMessage": "General Error"},
        ),
    ),
)


def _faults(dialect: Dialect) -> tuple[Fault, ...]:
    return (
        *_NO_ANSWER,
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
                ("the same host", dialect.path),
                ("another host", "https://elsewhere.invalid/?code=1"),
            )
        ),
        # Refusals
        *dialect.refusals,
        *(
            _status(status, TokenEndpointError)
            for status in (404, 405, 406, 408, 410, 413, 415, 451)
        ),
        # Busy or broken
        _status(429, TokenEndpointUnavailableError),
        _status(429, TokenEndpointUnavailableError, "HTTP 429, Retry-After: 0", retry_after=0),
        _status(
            429,
            TokenEndpointUnavailableError,
            "HTTP 429, Retry-After: a date that has passed",
            retry_after="Fri, 31 Dec 1999 23:59:59 GMT",
        ),
        _status(
            503, TokenEndpointUnavailableError, "HTTP 503, Retry-After: soon", retry_after="soon"
        ),
        *(
            _status(status, TokenEndpointUnavailableError)
            for status in (500, 501, 502, 503, 504, 599)
        ),
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
            "an OAuth error as 200",
            InvalidClientError,
            "json",
            {"body": {"error": "invalid_client"}},
        ),
        _reply("another error as 200", "json", body={"responseMessage": "Kuota habis"}),
        _reply("no token", "json", drop_fields=dialect.access_token),
        dialect.token("", "empty"),
        dialect.token(None, "null"),
        dialect.token(7, "a number"),
        dialect.token(["t"], "a list"),
        dialect.token("abc\r\nX-Injected: 1", "with a line break"),
        dialect.token("abc def", "with a space"),
        dialect.token("törn", "not ASCII"),
        # Lifetimes
        dialect.lifetime(1, 1.0),
        dialect.lifetime(30, 30.0),
        dialect.lifetime(300, 300.0),
        dialect.lifetime(359, 359.0),
        dialect.lifetime(10800, 10800.0),
        dialect.lifetime("900", 900.0),
        dialect.lifetime(" 900.0 ", 900.0),
        dialect.lifetime(899.5, 899.5),
        dialect.lifetime(1e300, _TEN_YEARS),
        dialect.lifetime(..., 900.0),
        dialect.lifetime(None, 900.0),
        dialect.lifetime(0, None),
        dialect.lifetime(-1, None),
        dialect.lifetime("-1", None),
        dialect.lifetime(math.nan, None),
        dialect.lifetime(-math.inf, None),
        dialect.lifetime(True, None),
        dialect.lifetime([], None),
        dialect.lifetime("abc", None),
        dialect.lifetime("", None),
    )


#: The rows of each dialect.
FAULTS: dict[str, tuple[Fault, ...]] = {"classic": _faults(_CLASSIC), "snap": _faults(_SNAP)}

# Retry-After beyond the budget is told apart: nothing could be tried in time.
IMPATIENT: tuple[Fault, ...] = (
    _status(429, TokenEndpointUnavailableError, "HTTP 429, Retry-After: 3600", retry_after=3600),
    _status(503, TokenEndpointUnavailableError, "HTTP 503, Retry-After: absurd", retry_after=10**8),
)


def document(scheme: str) -> str:
    """Return the table of one dialect as Markdown."""
    lines = ["| what goes wrong | what is raised | tried again |", "|---|---|---|"]
    for row in (*FAULTS[scheme], *IMPATIENT):
        if row.error is None:
            raised = f"nothing: the token lives for {row.lifetime:g} s"
        else:
            raised = f"`{row.error.__name__}`"
        again = "not within the budget" if row in IMPATIENT else "yes" if row.attempts > 1 else "no"
        lines.append(f"| {row.name} | {raised} | {'' if row.error is None else again} |")
    return "\n".join(lines)
