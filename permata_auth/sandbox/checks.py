"""The checks of one request: framing, timestamp, signature; each has its own refusal."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from datetime import datetime

from .errors import error_reply
from .messages import Inbound, Reply, bank_error

BAD_SIGNATURE = bank_error(403, "Signature Not Valid")
_BAD_TIMESTAMP = bank_error(403, "Invalid Timestamp Value")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+07:00", re.ASCII)


def _minify(body: bytes) -> bytes:
    """Delete JSON's white space outside strings, byte by byte: a machine of three states."""
    kept = bytearray()
    is_in_string = is_escaped = False
    for byte in body:
        if is_in_string or byte not in b" \t\r\n":
            kept.append(byte)
        if is_escaped:
            is_escaped = False
        elif byte == ord('"'):
            is_in_string = not is_in_string
        elif byte == ord("\\"):
            is_escaped = is_in_string
    return bytes(kept)


CANONICALIZERS: dict[str, Callable[[bytes], bytes]] = {
    "strip_all": lambda body: body.translate(None, b" \t\n\r\v\f"),
    "minify": _minify,
    "raw": lambda body: body,
}


class Refused(Exception):  # noqa: N818 - control flow inside the bank, not an error
    """The bank refuses a request.

    Args:
        reply: Its response.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.reason)
        self.reply = reply


def require(condition: bool, reply: Reply) -> None:
    """Refuse the request unless a condition holds.

    Args:
        condition: The result of a check.
        reply: The response where it is false.
    """
    if not condition:
        raise Refused(reply)


def signature(key: str, *parts: bytes) -> str:
    """Return base64(HMAC-SHA256(key, parts joined by colons))."""
    return base64.b64encode(hmac.digest(key.encode("ascii"), b":".join(parts), "sha256")).decode()


def is_same(received: str, expected: str) -> bool:
    """Compare two signatures in constant time.

    Args:
        received: The header's value.
        expected: ASCII.
    """
    # Header values arrive as Latin-1 text, and compare_digest takes only ASCII text.
    return hmac.compare_digest(received.encode("latin-1", "replace"), expected.encode())


def check_framing(request: Inbound, *, methods: tuple[str, ...] | None) -> None:
    """Refuse a method that the path does not have, and a body of no announced length.

    Args:
        request: Any.
        methods: Those of the path; None for any.
    """
    if methods and request.method not in methods:
        allow = (("Allow", ", ".join(methods)),)
        raise Refused(error_reply(request, 405, "Method Not Allowed", headers=allow))
    has_length = "Transfer-Encoding" not in request.headers
    require(has_length, error_reply(request, 411, "Length Required"))


def check_timestamp(text: str, *, now: float, tolerance: float) -> bytes:
    """Return the timestamp as it was signed; refuse one of another form or too far from now.

    Args:
        text: The header's value.
        now: The bank's wall clock, in POSIX seconds.
        tolerance: The seconds that a timestamp may be off, either way.
    """
    require(_TIMESTAMP.fullmatch(text) is not None, _BAD_TIMESTAMP)
    try:
        age = now - datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refused(_BAD_TIMESTAMP) from None
    require(abs(age) <= tolerance, _BAD_TIMESTAMP)
    return text.encode()
