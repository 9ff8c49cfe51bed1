"""What passes between the network, the bank's rules and the faults: plain values, no behaviour."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from werkzeug.datastructures import Headers

TOKEN_PATH = "/apiservice/oauth/token"
CALLBACK_PATH = "/apiservice/wa/callbackstatus"
SNAP_PREFIX = "/snap"
SNAP_TOKEN_PATH = SNAP_PREFIX + "/v1.0/access-token/b2b"
ADMIN_PREFIX = "/__sandbox__/"
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"

_SECRET_HEADERS = frozenset(
    {
        *("authorization", "api-key", "oauth-signature", "permata-signature"),
        *("x-signature", "x-client-key", "x-partner-id"),
    }
)


@attrs.frozen(kw_only=True)
class Inbound:
    """One request as it arrived. Header names compare without case, as HTTP wants.

    ``path`` is decoded and has no query; ``target`` is the request line's, byte for byte.
    """

    method: str
    path: str
    target: str = attrs.field(repr=False)
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @property
    def is_login(self) -> bool:
        return self.path in (TOKEN_PATH, SNAP_TOKEN_PATH)

    @property
    def is_snap(self) -> bool:
        return self.path.startswith(SNAP_PREFIX + "/")


@attrs.frozen(kw_only=True)
class Wire:
    """How to put a faulty reply on the connection, which is closed afterwards.

    ``pieces`` gets the head and the body of the reply as bytes and returns what is really sent,
    ``interval`` seconds apart. ``reset`` ends with a TCP reset instead of an orderly close.
    """

    pieces: Callable[[bytes, bytes], Iterable[bytes]]
    interval: float = 0.0
    reset: bool = False


@attrs.frozen(kw_only=True)
class Reply:
    """What the bank answers. ``status`` 0 means that no status line is sent at all.

    A header whose value is None is left out, also one that every response has.
    """

    status: int
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str | None], ...] = ()
    reason: str = "ok"
    token_fingerprint: str | None = None
    delay: float = 0.0
    wire: Wire | None = None


@attrs.frozen(kw_only=True, repr=False)
class RecordedRequest:
    """One request that the bank answered or dropped, in the order of the decisions.

    ``at`` is ``time.monotonic()`` at arrival. ``status`` is 0 where a fault sent no status line.
    ``reason`` says in a few words why the bank answered so. ``token_fingerprint`` names the token
    that a call carried or a login was given. ``target`` is the path with its query, byte for byte.
    The repr and :meth:`masked` show no secret.
    """

    method: str
    path: str
    target: str
    headers: Headers
    body: bytes
    status: int
    at: float
    reason: str
    token_fingerprint: str | None

    @property
    def size(self) -> int:
        """The bytes of its path, headers and body."""
        fields = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.path) + len(self.target) + fields + len(self.body)

    def masked(self) -> dict[str, Any]:
        """Return a JSON-able dict of everything but credentials, signatures, query and body."""
        fields = attrs.asdict(self, recurse=False)
        del fields["target"]
        fields["headers"] = {
            name: "***" if name.lower() in _SECRET_HEADERS else value
            for name, value in self.headers.items()
        }
        fields["body"] = f"<{len(self.body)} bytes>"
        return fields

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"RecordedRequest({shown})"


@attrs.frozen(kw_only=True)
class IssuedToken:
    """A token that was minted, named by its fingerprint; both times are ``time.monotonic()``."""

    fingerprint: str
    issued_at: float
    expires_at: float


def fingerprint(token: str) -> str:
    """Return the first 8 hex digits of the token's SHA-256: a name that gives nothing away."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def json_reply(status: int, document: object, *, reason: str = "ok", **fields: Any) -> Reply:
    """Return a JSON reply; further fields go to :class:`Reply` unchanged."""
    return Reply(status=status, body=json.dumps(document).encode(), reason=reason, **fields)


def oauth_error(status: int, error: str, description: str, **fields: Any) -> Reply:
    """Return the OAuth error shape, which only the token endpoint uses."""
    document = {"error": error, "error_description": description}
    return json_reply(status, document, reason=f"{error}: {description}", **fields)


def bank_error(status: int, description: str, *, reason: str = "", **fields: Any) -> Reply:
    """Return the bank's own error shape."""
    document = {"ErrorCode": str(status), "ErrorDescription": description}
    return json_reply(status, document, reason=reason or description, **fields)
