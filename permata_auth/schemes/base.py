"""The protocol of a scheme, and the parts of all schemes: token responses, error responses."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs

from .._bank import is_temporary
from .._json import json_object
from ..exceptions import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTokenResponseError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)
from ._bank_words import Reason, reason_in

_MAX_LIFETIME_SECS = 10 * 365.25 * 86_400


@attrs.frozen(kw_only=True)
class TokenRequest:
    """One signed POST to the token endpoint, good for one attempt.

    Args:
        url: The full URL of the token endpoint.
        url_setting: The setting that gave the URL: errors name it.
        headers: All headers that the scheme needs; the client adds those of HTTP.
        body: The bytes to send, as they were signed.
    """

    url: str = attrs.field(repr=lambda url: repr(url.partition("?")[0]))
    url_setting: str = "PERMATA_TOKEN_URL"
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class TokenResponse:
    """The contents of a token response (RFC 6749 section 5.1).

    Args:
        value: The access token.
        lifetime: Its life in seconds; None where the response has no ``expires_in``.
        token_type: ``Bearer`` by default, as the bank issues no other.
        scope: None where the response has none: RFC 6749 leaves it out where it is as asked for.
    """

    value: str = attrs.field(repr=False)
    lifetime: float | None
    token_type: str = "Bearer"
    scope: str | None = None


class Scheme(Protocol):
    """One dialect of the bank, with the credentials for it. Immutable, and safe in any thread.

    Two more members are optional. ``needs_token``, a bool: False where calls are authorised
    without a token, so that there is no login for them (:func:`needs_token`). ``signed_names()``:
    see :func:`signed_names`; needed where :meth:`sign` must be called for real calls alone.
    """

    @property
    def key(self) -> str:
        """Name these credentials in a token store; holds no secret."""

    @property
    def default_lifetime(self) -> float:
        """The seconds that a token is taken to live where the response does not say."""

    def token_request(self, *, clock_offset: float = 0.0) -> TokenRequest:
        """Build and sign a token request, with a timestamp of now.

        Args:
            clock_offset: Seconds to add to this machine's clock for the timestamp.
        """

    def read_token_response(self, body: bytes) -> TokenResponse:
        """Read a 2xx response; raise a TokenEndpointError if it has no usable token.

        Args:
            body: As received.
        """

    def read_error_response(
        self, status_code: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> TokenEndpointError:
        """Read any other response, and return the error that it means.

        Args:
            status_code: The HTTP status.
            body: As received.
            headers: Of the response, with names in any case; an error may show the bank's clock.
        """

    def sign(
        self,
        token: str,
        method: str,
        url: str,
        body: bytes,
        *,
        canonicalizer: str | None = None,
        clock_offset: float = 0.0,
    ) -> dict[str, str]:
        """Return the headers that authorise one call, with a timestamp of now.

        Args:
            token: The access token.
            method: The HTTP method.
            url: As it will be sent, with its query.
            body: The bytes that will be sent.
            canonicalizer: The name of one, in place of the scheme's own.
            clock_offset: Seconds to add to this machine's clock for the timestamp.
        """

    def is_token_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell whether the bank refused a call because of its token, and for no other reason.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """


def needs_token(scheme: Scheme) -> bool:
    """Tell whether a call needs an access token; with most schemes it does.

    Args:
        scheme: Any; one without a ``needs_token`` of its own needs one.
    """
    return bool(getattr(scheme, "needs_token", True))


def signed_names(scheme: Scheme, canonicalizer: str | None = None) -> tuple[str, ...]:
    """Return the names of the headers that authorise a call; raise if the scheme cannot sign.

    A scheme without a ``signed_names()`` of its own signs an example.

    Args:
        scheme: The scheme that would sign.
        canonicalizer: The name of one; None, the default, for the scheme's own.
    """
    names = getattr(scheme, "signed_names", None)
    if names is not None:
        found: tuple[str, ...] = names(canonicalizer=canonicalizer)
        return found
    return tuple(scheme.sign("none", "GET", "https:", b"", canonicalizer=canonicalizer))


def is_timestamp_rejected(scheme: Scheme, status_code: int, body: bytes) -> bool:
    """Tell whether the bank refused a call because of its timestamp, and for no other reason.

    Args:
        scheme: Asked by its own ``is_timestamp_rejected(status_code, body)``; one that has no such
            method cannot tell.
        status_code: The HTTP status of the call's response.
        body: Its body.
    """
    tell = getattr(scheme, "is_timestamp_rejected", None)
    return tell is not None and bool(tell(status_code, body))


def is_signature_rejected(scheme: Scheme, status_code: int, body: bytes) -> bool:
    """Tell whether the bank refused a call because of its signature, and for no other reason.

    Args:
        scheme: Asked by its own ``is_signature_rejected(status_code, body)``; one that has no such
            method cannot tell.
        status_code: The HTTP status of the call's response.
        body: Its body.
    """
    tell = getattr(scheme, "is_signature_rejected", None)
    return tell is not None and bool(tell(status_code, body))


def derived_key(first_secret: str, second_secret: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, derived from two secrets (HKDF-SHA256, RFC 5869).

    Args:
        first_secret: A secret without a line break in it.
        second_secret: The other one; may be empty.
        purpose: The use of the key, and the credentials that it belongs to.
    """
    # The line break keeps them apart: no two pairs of secrets make the same text.
    secrets = f"{first_secret}\n{second_secret}".encode()
    extracted = hmac.digest(b"permata-auth", secrets, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")


def token_response(
    body: bytes,
    *,
    token: str,
    token_type: str,
    expires_in: str,
    secrets: Iterable[str] = (),
    hints: Iterable[Hint] = (),
    url_setting: str = "PERMATA_TOKEN_URL",
) -> TokenResponse:
    """Read a token response whose fields have these names.

    Raises a TokenEndpointError where it has no usable token.

    Args:
        body: As received.
        token: The name of the field that has the access token.
        token_type: The name of the field that has its type.
        expires_in: The name of the field that has its life in seconds.
        secrets: Texts that the bank may echo and no error may show; none by default.
        hints: As in :func:`error_response`; none by default.
        url_setting: The setting that gave the URL: errors name it.
    """
    payload = json_object(body)
    if payload is None:
        raise InvalidTokenResponseError(
            f"the token response is no JSON object; check the token URL ({url_setting})"
        )
    value = payload.get(token)
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        advice = f"its response has no usable {token}: check the token URL ({url_setting})"
        reason = reason_in(payload, secrets)
        kind = _by_words(reason, hints) or (InvalidTokenResponseError, advice)
        raise no_token(kind, None, reason)
    type_, scope = payload.get(token_type), payload.get("scope")
    return TokenResponse(
        value=value,
        lifetime=_lifetime(payload.get(expires_in)),
        token_type=type_ if isinstance(type_, str) and type_ else "Bearer",
        scope=scope if isinstance(scope, str) else None,
    )


def _lifetime(expires_in: object) -> float | None:
    """Read ``expires_in``: a number, or its digits in a string as sister APIs of the bank send."""
    if expires_in is None:
        return None
    if isinstance(expires_in, str) and re.fullmatch(
        r"\s*\+?\d+(\.\d*)?([eE]\+?\d+)?\s*", expires_in
    ):
        expires_in = float(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        raise InvalidTokenResponseError("the token's expires_in is no number of seconds")
    if not expires_in > 0:  # NaN is not above anything
        raise InvalidTokenResponseError("the token has expired already by its expires_in")
    return float(min(expires_in, _MAX_LIFETIME_SECS))


# Error responses.

#: A pattern for the bank's words in lower case, the error that they mean, and the advice.
Hint = tuple[str, type[TokenEndpointError], str]
#: An error, and the advice.
Kind = tuple[type[TokenEndpointError], str]

_CREDENTIALS = "PERMATA_CLIENT_ID, PERMATA_CLIENT_SECRET, PERMATA_API_KEY, PERMATA_STATIC_KEY"
_ERRORS: dict[str, Kind] = {
    "invalid_request": (
        InvalidRequestError,
        "check the token URL (PERMATA_TOKEN_URL) and the header names",
    ),
    "invalid_client": (
        InvalidClientError,
        f"check the client id, its secret and both keys ({_CREDENTIALS})",
    ),
    "invalid_grant": (InvalidGrantError, "ask the bank to enable client credentials"),
    "unauthorized_client": (UnauthorizedClientError, "ask the bank to allow this client"),
    "unsupported_grant_type": (
        UnsupportedGrantTypeError,
        "check the token URL (PERMATA_TOKEN_URL)",
    ),
    "invalid_scope": (InvalidScopeError, "ask the bank which scopes this client has"),
    "temporarily_unavailable": (TokenEndpointUnavailableError, "wait, a later login may succeed"),
    "server_error": (TokenEndpointUnavailableError, "wait, a later login may succeed"),
}
_UNAVAILABLE: Kind = _ERRORS["temporarily_unavailable"]
_REDIRECT: Kind = (
    TokenEndpointError,
    (
        "check the token URL (PERMATA_TOKEN_URL): "
        "a redirect would carry the credentials elsewhere and is refused"
    ),
)
_OTHER: Kind = (
    TokenEndpointError,
    f"check the token URL and the credentials (PERMATA_TOKEN_URL; {_CREDENTIALS})",
)


def error_response(
    status_code: int, body: bytes, *, secrets: Iterable[str] = (), hints: Iterable[Hint] = ()
) -> TokenEndpointError:
    """Return the error for a response that grants nothing (RFC 6749 section 5.2).

    Args:
        status_code: Decides alone for 429, 5xx (temporary) and 3xx (a redirect).
        body: In any shape: RFC 6749, the bank's own, SNAP's, or nested.
        secrets: Texts that the bank may echo and no error may show.
        hints: A scheme's own meanings of the bank's words; they go before those of RFC 6749.
    """
    reason = reason_in(json_object(body) or {}, secrets)
    if reason.code == str(status_code):
        reason = Reason(None, reason.description)
    if is_temporary(status_code):
        kind = _UNAVAILABLE
    elif 300 <= status_code < 400:
        kind = _REDIRECT
    elif (by_words := _by_words(reason, hints)) is not None:
        kind = by_words
    else:
        kind = _ERRORS["invalid_client"] if status_code == 401 else _OTHER
    return no_token(kind, status_code, reason)


def _by_words(reason: Reason, hints: Iterable[Hint]) -> Kind | None:
    words = f"{reason.code or ''} {reason.description or ''}".lower()
    for pattern, kind, advice in hints:
        if re.search(pattern, words):
            return kind, advice
    found = re.search(rf"\b({'|'.join(_ERRORS)})\b", words)
    return _ERRORS[found[1]] if found else None


def no_token(kind: Kind, status_code: int | None, reason: Reason) -> TokenEndpointError:
    """Build an error that quotes the bank and gives advice.

    Args:
        kind: The class of the error, and the advice.
        status_code: The HTTP status of the response, or None; a 2xx says nothing and is not shown.
        reason: The bank's words.
    """
    status = f"HTTP {status_code}" if status_code is not None and status_code >= 300 else None
    words = ", ".join(word for word in (status, reason.code, reason.description) if word)
    error, advice = kind
    return error(
        f"the token endpoint gave no token{f' ({words})' if words else ''}; {advice}",
        status_code=status_code,
        error=reason.code,
        error_description=reason.description,
    )
