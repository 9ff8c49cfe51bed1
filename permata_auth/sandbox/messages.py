"""Plain values that pass between the network, the bank's rules and the faults."""

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

    ``pieces`` gets the head and the body of the reply as bytes and returns the pieces to send,
    ``interval`` seconds apart. ``reset`` ends with a TCP reset instead of an orderly close.
    """

    pieces: Callable[[bytes, bytes], Iterable[bytes]]
    interval: float = 0.0
    reset: bool = False


@attrs.frozen(kw_only=True)
class Reply:
    """The bank's response. ``status`` 0 means that no status line is sent at all.

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

    The repr and :meth:`masked` show no secret.

    Args:
        method: The HTTP method.
        path: The decoded path, without its query.
        target: The path with its query, byte for byte.
        headers: The headers, with names in any case.
        body: The bytes of the body.
        status: The status of the response; 0 where a fault sent no status line.
        at: ``time.monotonic()`` at arrival.
        reason: The reason of the response, in a few words.
        token_fingerprint: Names the token that a call carried or a login was given.
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
    """A token that was minted.

    Args:
        fingerprint: The first 8 hex digits of its SHA-256.
        issued_at: ``time.monotonic()`` at the login.
        expires_at: ``time.monotonic()`` at the end of its life.
    """

    fingerprint: str
    issued_at: float
    expires_at: float


def fingerprint(token: str) -> str:
    """Return the first 8 hex digits of the token's SHA-256: a name that gives nothing away."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def json_reply(status: int, document: object, *, reason: str = "ok", **fields: Any) -> Reply:
    """Return a JSON reply.

    Args:
        status: The HTTP status.
        document: The body, before it is serialised.
        reason: For the log of requests; "ok" by default.
        fields: More of :class:`Reply`.
    """
    return Reply(status=status, body=json.dumps(document).encode(), reason=reason, **fields)


def oauth_error(status: int, error: str, description: str, **fields: Any) -> Reply:
    """Return the OAuth error shape, which only the token endpoint uses.

    Args:
        status: The HTTP status.
        error: One of the codes of RFC 6749 section 5.2.
        description: The bank's words.
        fields: More of :class:`Reply`.
    """
    document = {"error": error, "error_description": description}
    return json_reply(status, document, reason=f"{error}: {description}", **fields)


def bank_error(status: int, description: str, *, reason: str = "", **fields: Any) -> Reply:
    """Return the bank's own error shape.

    Args:
        status: The HTTP status.
        description: The bank's words.
        reason: For the log of requests; by default the description.
        fields: More of :class:`Reply`.
    """
    document = {"ErrorCode": str(status), "ErrorDescription": description}
    return json_reply(status, document, reason=reason or description, **fields)
