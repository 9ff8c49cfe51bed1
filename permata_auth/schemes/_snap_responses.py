"""The meaning of SNAP's responses: to a call, and of the token endpoint.

A responseCode is the HTTP status (3 digits), the service that was called (2) and the case (2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

from .._json import json_object
from ..exceptions import (
    ClockError,
    InvalidClientError,
    InvalidRequestError,
    InvalidTokenResponseError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)
from ._bank_words import presentable, reason_in
from .base import Kind, TokenResponse, no_token, token_response
from .jakarta import timestamp

SnapOutcome = Literal[
    "success",
    "pending",
    "malformed",
    "clock",
    "unauthorized",
    "token_rejected",
    "customer_token_rejected",
    "rate_limited",
    "refused",
    "already_done",
    "duplicate_request",
    "unknown",
]

#: Status and case (two dots where the case is of no account, two hyphens for a response without a
#: code that can be read), a pattern for the message in lower case, the outcome. The first row that
#: fits counts.
_OUTCOMES: tuple[tuple[str, str, SnapOutcome], ...] = (
    ("202..", "", "pending"),
    ("2....", "", "success"),
    ("400..", r"time.?stamp", "clock"),
    ("400..", "", "malformed"),
    ("401(01|03)", "", "token_rejected"),
    ("401(02|04)", "", "customer_token_rejected"),
    ("401..", r"time.?stamp", "clock"),
    ("401..", r"(customer|b2b2c).*token\b|token\b.*(customer|b2b2c)", "customer_token_rejected"),
    ("401..", r"token\b", "token_rejected"),
    ("401..", r"signature", "unauthorized"),
    ("401--", "", "token_rejected"),
    ("401..", "", "unauthorized"),
    ("40304|429..", "", "rate_limited"),
    ("403..", "", "refused"),
    ("404..", "", "refused"),  # but for _is_done_before()
    ("405..", "", "malformed"),
    ("40901", "", "already_done"),
    ("409..", "", "duplicate_request"),
)

#: An inconsistent request (404, case 18) of these services says that the same was done before:
#: transfers, payments of virtual accounts, and refunds.
_DONE_BEFORE = frozenset(("17", "18", "22", "23", "25", "33", "58", "78"))


@attrs.frozen
class _Verdict:
    """The parts of a response that decide."""

    status: str
    service: str | None
    case: str
    message: str

    def is_a(self, pattern: str, words: str) -> bool:
        """Tell whether a row of a table is about this response."""
        is_status = re.fullmatch(pattern, self.status + self.case) is not None
        return is_status and re.search(words, self.message) is not None


def _verdict(status_code: int, body: bytes) -> _Verdict:
    """Read a response: the HTTP status decides, and the code refines it where the two agree.

    In a 2xx response the code may say otherwise: a failure, or still in progress.
    """
    payload = json_object(body) or {}
    http, code = str(status_code), str(payload.get("responseCode"))
    message = str(payload.get("responseMessage")).lower()
    found = re.fullmatch(r"([0-9]{3})([0-9A-Za-z]{2})([0-9]{2})", code)
    if found is not None:
        status, service, case = found.groups()
        if status == http or (http[0] == "2" and (status[0] != "2" or status == "202")):
            return _Verdict(status, service, case, message)
    return _Verdict(http, None, "--", message)


def outcome(status_code: int | None, body: bytes) -> SnapOutcome:
    """Return the meaning of the response to a call.

    Args:
        status_code: The HTTP status; None where there was no response.
        body: As received.
    """
    verdict = _verdict(status_code or 0, body)
    if _is_done_before(verdict):
        return "already_done"
    return next((name for row, words, name in _OUTCOMES if verdict.is_a(row, words)), "unknown")


def _is_done_before(verdict: _Verdict) -> bool:
    return verdict.is_a("40418", "") and verdict.service in _DONE_BEFORE


def is_signature_refused(status_code: int, body: bytes) -> bool:
    """Tell whether the response to a call refuses its signature, and says so.

    Args:
        status_code: The HTTP status.
        body: As received.
    """
    named = _verdict(status_code, body).is_a("401..", r"signature|string.?to.?sign")
    return named and outcome(status_code, body) == "unauthorized"


# The token endpoint.

_URL = "check the token URL (PERMATA_SNAP_TOKEN_URL)"
_CLOCK: Kind = (ClockError, "")  # its advice shows the clocks
_CLIENT: Kind = (
    InvalidClientError,
    (
        "check the client id (PERMATA_SNAP_CLIENT_ID), whether the bank has the public half of "
        "this private key, this machine's clock, and the timestamp's form "
        "(PERMATA_SNAP_TIMESTAMP_FORM)"
    ),
)
_NOT_ALLOWED: Kind = (
    UnauthorizedClientError,
    "ask the bank to allow this client, and the address that it connects from",
)
_UNAVAILABLE: Kind = (TokenEndpointUnavailableError, "wait, a later login may succeed")

#: As :data:`_OUTCOMES`, with the error, and the advice.
_TOKEN_ERRORS: tuple[tuple[str, str, Kind], ...] = (
    ("40304|429..|5....", "", _UNAVAILABLE),
    ("(400|401)..", r"time.?stamp", _CLOCK),
    ("(400|401|403)..", r"connection not allowed|white.?list", _NOT_ALLOWED),
    ("400..", r"client.?(id|secret|key)|invalid_client", _CLIENT),
    (
        "400..",
        r"grant.?type",
        (UnsupportedGrantTypeError, "ask the bank to enable client credentials"),
    ),
    ("400..", "", (InvalidRequestError, f"{_URL}, and the settings of the signature")),
    ("401..", "", _CLIENT),
    ("403..", "", _NOT_ALLOWED),
    (
        "3....",
        "",
        (
            TokenEndpointError,
            f"{_URL}: a redirect would carry the credentials elsewhere and is refused",
        ),
    ),
    (".*", "", (TokenEndpointError, _URL)),
)


def token_grant(body: bytes, *, form: str, secrets: Iterable[str]) -> TokenResponse:
    """Read a 2xx response of the token endpoint; raise a TokenEndpointError if it has no token.

    Args:
        body: As received.
        form: As in :func:`token_error`.
        secrets: As in :func:`token_error`.
    """
    try:
        response = token_response(
            body,
            token="accessToken",
            token_type="tokenType",
            expires_in="expiresIn",
            secrets=secrets,
            url_setting="PERMATA_SNAP_TOKEN_URL",
        )
    except InvalidTokenResponseError:
        if _verdict(200, body).is_a("[45]....", ""):
            raise token_error(200, body, {}, form=form, secrets=secrets) from None
        raise
    return attrs.evolve(response, token_type="Bearer")


def token_error(
    status_code: int, body: bytes, headers: Mapping[str, str], *, form: str, secrets: Iterable[str]
) -> TokenEndpointError:
    """Return the error for a response of the token endpoint that is no success.

    Args:
        status_code: The HTTP status.
        body: As received.
        headers: With names in any case; those that show the bank's clock are quoted.
        form: The timestamp's form in use.
        secrets: Texts that the bank may echo and no error may show.
    """
    reason = reason_in(json_object(body) or {}, secrets)
    said = f"{reason.code} {reason.description}".lower()  # not every gateway speaks SNAP
    verdict = attrs.evolve(_verdict(status_code, body), message=said)
    kind = next(kind for row, words, kind in _TOKEN_ERRORS if verdict.is_a(row, words))
    if kind is _CLOCK:
        kind = ClockError, _clocks(headers, form, secrets)
    return no_token(kind, status_code, reason)


def _clocks(headers: Mapping[str, str], form: str, secrets: Iterable[str]) -> str:
    """Show the time of both clocks: the bank means our time, or the form it is written in."""
    named = {name.lower(): value for name, value in headers.items()}
    shown = presentable(named.get("x-timestamp") or named.get("date"), secrets)
    theirs = f"the bank's response shows {shown}" if shown else "the response shows no time"
    return (
        f"this machine's clock reads {timestamp(form=form)}, {theirs}: correct the clock, or the "
        f"timestamp's form, which is {form} (PERMATA_SNAP_TIMESTAMP_FORM)"
    )
