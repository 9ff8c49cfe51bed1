"""The bank's classic API: OAUTH-Signature for the login, permata-signature for every call."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

import attrs

from .._json import json_object
from .._settings import (
    Secret,
    choice_problem,
    flag_or_none,
    flag_problem,
    header_problem,
    text_problem,
    url_problem,
)
from .._sources import sources
from ..exceptions import (
    ClockError,
    ConfigurationError,
    InvalidClientError,
    TokenEndpointError,
)
from . import _classic_forms as forms
from .base import Hint, TokenRequest, TokenResponse, derived_key, error_response, token_response
from .canonical import CANONICALIZERS, canonical, minify, raw, strip_all  # noqa: F401
from .explained import Explanation, SignedCall
from .jakarta import timestamp

_BAD_TIMESTAMP = "invalid timestamp|timestamp (is )?(not valid|invalid|expired|too old)"
#: The meanings of the bank's own words.
_HINTS: tuple[Hint, ...] = (
    (
        _BAD_TIMESTAMP,
        ClockError,
        "correct this machine's clock and let NTP keep it",
    ),
    (
        "signature (is )?(not valid|invalid)|invalid signature",
        TokenEndpointError,
        "check the static key (PERMATA_STATIC_KEY)",
    ),
    (
        "api.?key",
        InvalidClientError,
        "check the API key and its header's name (PERMATA_API_KEY, PERMATA_API_KEY_HEADER)",
    ),
)

_LOGIN_BODY = b"grant_type=client_credentials"


def hmac_sha256(key: bytes, message: bytes) -> str:
    """Return the HMAC-SHA256 of ``message`` in base64.

    Args:
        key: Of any length.
        message: The bytes to sign.
    """
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


@attrs.frozen(kw_only=True)
class PermataCredentials(Secret):
    """The credentials that the bank gave out, and its rules for using them.

    Every string is printable ASCII (RFC 6749 appendix A). Thread-safe. Raises one
    ConfigurationError that names all that is wrong and shows no value.

    Args:
        token_url: The full URL of the token endpoint: https, plain http only to loopback (or
            anywhere with ``allow_insecure_http``).
        api_key: Sent with the login, and signed there.
        client_id: Sent with the login (RFC 6749 section 2.3.1); has no colon (RFC 7617 section 2).
        client_secret: Sent with it.
        static_key: The HMAC key of the signatures of logins and calls; never sent.
        organization_name: Sent with calls. None by default: needed to sign calls, not to log in.
        api_key_header: The header that carries the API key. ``API-Key`` by default, which the
            bank takes; some samples say ``keyid``.
        canonicalizer: The part of a body that is signed: ``strip_all`` (default, the bank's
            published rule), ``minify`` or ``raw``.
        allow_insecure_http: Take plain http to other machines, for a sandbox. False by default.
    """

    _why_unpicklable = "it holds secrets; build it from the environment in each process"

    token_url: str = attrs.field(repr=lambda url: repr(url.partition("?")[0]))
    api_key: str = attrs.field(repr=False)
    client_id: str = attrs.field(repr=False)
    client_secret: str = attrs.field(repr=False)
    static_key: str = attrs.field(repr=False)
    organization_name: str | None = None
    api_key_header: str = "API-Key"
    canonicalizer: str = "strip_all"
    allow_insecure_http: bool = False

    def __attrs_post_init__(self) -> None:
        problems = _problems(attrs.asdict(self))
        if problems:
            raise ConfigurationError(
                "; ".join(f"{name} {problem}" for name, problem in problems.items())
            )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, prefix: str = "PERMATA_"
    ) -> PermataCredentials:
        """Read ``PERMATA_TOKEN_URL``, ``PERMATA_API_KEY`` and so on, one variable a field.

        A value may come from a file too: as :meth:`RotatingCredentials.from_env`, which reads a
        file again when it changes. Raises one ConfigurationError that names every variable and
        file that is missing or malformed.

        Args:
            environ: The variables; None: those of the process.
            prefix: The beginning of the names of all variables.
        """
        given = sources(environ, prefix)
        found: dict[str, object] = {}
        for field in attrs.fields(cls):
            text = given.get(prefix + field.name.upper(), "")
            found[field.name] = text if text or field.default is attrs.NOTHING else field.default
        found["allow_insecure_http"] = flag_or_none(found["allow_insecure_http"])
        problems = {
            prefix + name.upper(): f"{prefix}{name.upper()} {what}"
            for name, what in _problems(found).items()
        } | given.problems
        if problems:
            del environ, found, text  # error reports show the locals of a traceback's frames
            raise ConfigurationError("; ".join(problems.values()))
        return cls(**found)  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """Name these credentials in a token store; holds no secret."""
        identity = f"classic\n{self.token_url}\n{self.client_id}"
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 bytes for ``purpose``, derived from both secrets (HKDF-SHA256, RFC 5869)."""
        return derived_key(self.static_key, self.client_secret, f"{purpose}\n{self.key}")

    @property
    def default_lifetime(self) -> float:
        """900 s: the shortest life that the bank's token endpoints are known to give."""
        return 900.0

    def token_request(self, *, clock_offset: float = 0.0) -> TokenRequest:
        """Build and sign a token request, with a timestamp of now.

        ``OAUTH-Signature`` is the base64 HMAC-SHA256, by the static key, of
        ``API-Key:OAUTH-Timestamp:body``.
        """
        now = timestamp(clock_offset)
        signed = f"{self.api_key}:{now}:".encode() + _LOGIN_BODY
        headers = {
            "Authorization": f"Basic {self._basic()}",
            self.api_key_header: self.api_key,
            "OAUTH-Timestamp": now,
            "OAUTH-Signature": hmac_sha256(self.static_key.encode(), signed),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        return TokenRequest(url=self.token_url, headers=headers, body=_LOGIN_BODY)

    def read_token_response(self, body: bytes) -> TokenResponse:
        """Read a 2xx response; raise a TokenEndpointError if it grants no usable token."""
        return token_response(
            body,
            token="access_token",
            token_type="token_type",
            expires_in="expires_in",
            secrets=self._secrets(),
            hints=_HINTS,
        )

    def read_error_response(
        self, status_code: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> TokenEndpointError:
        """Read any of the bank's error shapes, and return the error that it means."""
        return error_response(status_code, body, secrets=self._secrets(), hints=_HINTS)

    def _secrets(self) -> tuple[str, ...]:
        given = (self.client_secret, self.static_key, self.api_key, self.client_id)
        return (*given, self._basic())

    def _basic(self) -> str:
        return base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()

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

        ``permata-signature`` is the base64 HMAC-SHA256, by the static key, of
        ``token:permata-timestamp:payload``, where payload is the body after the canonicaliser;
        method and URL are not part of it. Raises ConfigurationError without an organization name,
        and for a canonicaliser that does not exist.
        """
        if self.organization_name is None:
            raise ConfigurationError("organization_name is needed to sign calls")
        now = timestamp(clock_offset)
        payload = canonical(body, canonicalizer or self.canonicalizer)
        signed = b"%b:%b:%b" % (token.encode(), now.encode(), payload)
        return {
            "Authorization": f"Bearer {token}",
            "organizationname": self.organization_name,
            "permata-timestamp": now,
            "permata-signature": hmac_sha256(self.static_key.encode(), signed),
        }

    def explain(self, call: SignedCall) -> Explanation:
        """Explain the signature of a call; sends nothing.

        Args:
            call: The call, with the timestamp that it has or had.
        """
        return forms.explain(self, call)

    def is_token_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a rejected token, which is a 403 here, from a 403 for any other reason."""
        if status_code != 403:
            return status_code == 401
        payload = json_object(body) or {}
        return payload.get("ErrorDescription") == "Failed Authentication OAuth2"

    def is_signature_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a refused ``permata-signature``, which is a 403 here, from any other refusal.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """
        payload = json_object(body) if status_code == 403 else None
        return payload is not None and payload.get("ErrorDescription") == "Signature Not Valid"

    def is_timestamp_rejected(self, status_code: int, body: bytes) -> bool:
        """Tell a refused ``permata-timestamp``, which is a 403 here, from any other refusal.

        Args:
            status_code: The HTTP status of the call's response.
            body: Its body.
        """
        if status_code not in (400, 401, 403):
            return False
        described = str((json_object(body) or {}).get("ErrorDescription"))
        return re.search(_BAD_TIMESTAMP, described.lower()) is not None


def _problems(values: Mapping[str, object]) -> dict[str, str]:
    """Return the problem of each wrong field, by its name; shows no value."""
    names = ("api_key", "client_id", "client_secret", "static_key", "organization_name")
    found = {name: text_problem(values[name]) for name in names}
    if values["organization_name"] is None:
        del found["organization_name"]
    if found["client_id"] is None and ":" in str(values["client_id"]):
        found["client_id"] = "must have no colon in it"  # RFC 7617 section 2
    found["allow_insecure_http"] = flag_problem(values["allow_insecure_http"])
    url, is_open = values["token_url"], values["allow_insecure_http"] is True
    found["token_url"] = url_problem(url, allow_insecure_http=is_open) if url else "is missing"
    found["api_key_header"] = header_problem(values["api_key_header"])
    found["canonicalizer"] = choice_problem(values["canonicalizer"], CANONICALIZERS)
    return {name: problem for name, problem in found.items() if problem is not None}
