"""The string to sign of a classic call, and the wrong forms that others may have made."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .canonical import CANONICALIZERS, canonical
from .explained import Explanation, Form, SignedCall, other_timestamps, rewritten, shown_bytes
from .jakarta import timestamp as now

if TYPE_CHECKING:
    from .classic import PermataCredentials


def explain(credentials: PermataCredentials, call: SignedCall) -> Explanation:
    """Explain the signature of a call.

    Args:
        credentials: Their settings decide, and their static key signs.
        call: The call.
    """
    rule = call.canonicalizer or credentials.canonicalizer
    payload, stamp = canonical(call.body, rule), call.timestamp or now()
    text, token = shown_bytes(payload), call.token
    key = credentials.static_key.encode()
    return Explanation(
        rows={
            "Request": f"{call.method} {call.url} (neither is signed)",
            "Canonicalizer": rule,
            "Timestamp": stamp,
            "Payload": text,
            "String to sign": f"{call.shown}:{stamp}:{text}",
        },
        signature=None if token is None else _hmac(key, token, stamp, payload),
        encoding="base64",
        wrong=lambda: _wrong(credentials, str(token), stamp, call.body, payload),
    )


def _hmac(key: bytes, token: str, stamp: str, payload: bytes) -> bytes:
    return hmac.digest(key, b"%b:%b:%b" % (token.encode(), stamp.encode(), payload), "sha256")


def _wrong(
    credentials: PermataCredentials, token: str, stamp: str, body: bytes, payload: bytes
) -> Iterator[Form]:
    """Yield the known wrong forms, each with one mistake."""
    key = credentials.static_key.encode()
    for name, canonicalize in CANONICALIZERS.items():
        yield f"the body after {name}", _hmac(key, token, stamp, canonicalize(body))
    for name, text in rewritten(body).items():
        yield name, _hmac(key, token, stamp, text)
    digest = hashlib.sha256(payload).hexdigest()
    yield "the body's hash in place of the body", _hmac(key, token, stamp, digest.encode())
    for name, text_of in other_timestamps(stamp).items():
        yield name, _hmac(key, token, text_of, payload)
    yield "Bearer before the token", _hmac(key, f"Bearer {token}", stamp, payload)
    yield "no token", hmac.digest(key, f"{stamp}:".encode() + payload, "sha256")
    for name in ("client_secret", "api_key"):
        other = getattr(credentials, name).encode()
        yield f"{name} in place of static_key", _hmac(other, token, stamp, payload)
    message = f"{token}:{stamp}:".encode() + payload
    yield "an HMAC by SHA-512", hmac.digest(key, message, "sha512")
