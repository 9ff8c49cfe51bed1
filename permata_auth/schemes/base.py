"""What a scheme is, and what all schemes share: reading token answers and refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

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

_TEN_YEARS = 10 * 365.25 * 86_400
_LONGEST_DESCRIPTION = 200


@attrs.frozen(kw_only=True)
class TokenRequest:
    """One signed POST to the token endpoint, good for one attempt."""

    url: str = attrs.field(repr=lambda url: repr(url.partition("?")[0]))
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class TokenGrant:
    """What a token answer says (RFC 6749 section 5.1); ``lifetime`` in seconds, None if unsaid."""

    value: str = attrs.field(repr=False)
    lifetime: float | None
    token_type: str = "Bearer"
    scope: str | None = None


class Scheme(Protocol):
    """One dialect of the bank, with the credentials for it. Immutable, and safe in any thread."""

    @property
    def key(self) -> str:
        """Name these credentials in a token store; holds no secret."""

    @property
    def default_lifetime(self) -> float:
        """The seconds that a token is taken to live where the answer does not say."""

    def token_request(self) -> TokenRequest:
        """Build and sign a token request, with a timestamp of now."""

    def read_grant(self, body: bytes) -> TokenGrant:
        """Read a 2xx answer; raise InvalidTokenResponseError if it grants no usable token."""

    def read_refusal(self, status_code: int, body: bytes) -> TokenEndpointError:
        """Read any other answer, and return the error that it means."""

    def sign(
        self, token: str, method: str, url: str, body: bytes, *, canonicalizer: str | None = None
    ) -> dict[str, str]:
        """Return the headers that authorise one call, with a timestamp of now."""

    def is_token_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell whether the bank refused a call because of its token, and for no other reason."""


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``body``, or None.

    Never raises: the parser's own errors hold the whole document, and with it the token.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def grant(body: bytes, *, token: str, token_type: str, expires_in: str) -> TokenGrant:
    """Read a token answer whose fields have these names."""
    payload = json_object(body)
    if payload is None:
        raise InvalidTokenResponseError("the answer is no JSON object; check the token URL")
    value = payload.get(token)
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise InvalidTokenResponseError(f"the token endpoint's answer has no usable {token}")
    kind, scope = payload.get(token_type), payload.get("scope")
    return TokenGrant(
        value=value,
        lifetime=_lifetime(payload.get(expires_in)),
        token_type=kind if isinstance(kind, str) and kind else "Bearer",
        scope=scope if isinstance(scope, str) else None,
    )


def _lifetime(expires_in: object) -> float | None:
    """Read ``expires_in``: a number, or digits as sister APIs of the bank send it."""
    if expires_in is None:
        return None
    if isinstance(expires_in, str) and re.fullmatch(r"[0-9]{1,400}", expires_in):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        raise InvalidTokenResponseError("the token's expires_in is no number of seconds")
    if not expires_in > 0:  # NaN is not above anything
        raise InvalidTokenResponseError("the token has expired already by its expires_in")
    return float(min(expires_in, _TEN_YEARS))


_Kind = tuple[type[TokenEndpointError], str]

_ERRORS: dict[str, _Kind] = {
    "invalid_request": (InvalidRequestError, "check the token URL and the header names"),
    "invalid_client": (InvalidClientError, "check the client id, its secret and both keys"),
    "invalid_grant": (InvalidGrantError, "ask the bank to enable client credentials"),
    "unauthorized_client": (UnauthorizedClientError, "ask the bank to allow this client"),
    "unsupported_grant_type": (UnsupportedGrantTypeError, "check the token URL"),
    "invalid_scope": (InvalidScopeError, "ask the bank which scopes this client has"),
}
_UNAVAILABLE: _Kind = (TokenEndpointUnavailableError, "wait, a later login may succeed")
_REDIRECT: _Kind = (
    TokenEndpointError,
    "check the token URL: a redirect would carry the credentials elsewhere and is refused",
)
_OTHER: _Kind = (TokenEndpointError, "check the token URL and the credentials")


def refusal(
    status_code: int, error: object, description: object, *, secrets: tuple[str, ...]
) -> TokenEndpointError:
    """Return the error for an answer that grants nothing (RFC 6749 section 5.2)."""
    code = _presentable(error, secrets)
    if status_code == 429 or status_code >= 500:
        kind, advice = _UNAVAILABLE
    elif 300 <= status_code < 400:
        kind, advice = _REDIRECT
    elif status_code == 401 and code not in _ERRORS:
        kind, advice = _ERRORS["invalid_client"]
    else:
        kind, advice = _ERRORS.get(code or "", _OTHER)
    return endpoint_error(kind, advice, status_code, code, _presentable(description, secrets))


def endpoint_error(
    kind: type[TokenEndpointError],
    advice: str,
    status_code: int,
    error: str | None,
    description: str | None,
) -> TokenEndpointError:
    """Build an error that quotes the bank and says what to do."""
    words = ", ".join(word for word in (f"HTTP {status_code}", error, description) if word)
    return kind(
        f"the token endpoint gave no token ({words}); {advice}",
        status_code=status_code,
        error=error,
        error_description=description,
    )


def _presentable(text: object, secrets: tuple[str, ...]) -> str | None:
    """Cut the bank's words down to what may be shown: short, one line, nothing secret."""
    if not isinstance(text, str) or not text:
        return None
    # First of all, since a secret with a space in it may come out of this.
    text = re.sub(r"[^\x20-\x7e]+", " ", text).strip()
    for secret in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, "[redacted]")
    # A long unbroken run of these characters may be a key, a token or a signature.
    text = re.sub(r"[A-Za-z0-9+/=_.~-]{24,}", "[redacted]", text)
    return text[:_LONGEST_DESCRIPTION] or None
