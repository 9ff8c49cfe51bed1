"""Explain the signature of a call, and name the mistake in a signature of somebody else's.

For support: nothing is sent, and neither a secret nor the token is shown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import attrs

from .canonical import minify
from .jakarta import WIB

#: A signature in a log may be cut off; of so many characters no two forms have the same.
_MIN_SIGNATURE_CHARS = 12
_DATE_AND_TIME_CHARS = 19

#: A description of a string to sign, and the bytes of its signature.
Form = tuple[str, bytes]


@attrs.frozen(kw_only=True)
class SignedCall:
    """A call whose signature is in question.

    Args:
        method: The HTTP method.
        url: As it is sent, with its query.
        body: The bytes that are sent.
        canonicalizer: The name of one, in place of the scheme's own.
        token: The access token; None where it is not known, and there is no signature.
        shown: The text that is shown in place of the token.
        timestamp: The text of the call's header; None: now.
    """

    method: str
    url: str
    body: bytes = attrs.field(repr=False)
    canonicalizer: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    shown: str = attrs.field(default="<token>", repr=False)
    timestamp: str | None = None


@attrs.frozen(kw_only=True)
class Explanation:
    """The parts that are signed for one call, and their signature.

    Args:
        rows: Labels and texts, in their order, with the token masked.
        signature: The bytes of the right signature; None where the token is not known.
        encoding: How the header writes them: ``base64`` or ``hex``.
        wrong: Makes the known wrong forms.
    """

    rows: Mapping[str, str]
    signature: bytes | None = attrs.field(repr=False)
    encoding: str
    wrong: Callable[[], Iterable[Form]] = attrs.field(repr=False)

    def recognise(self, given: str) -> str:
        """Say whether a signature is right, has a known wrong form, or neither.

        Args:
            given: As the header holds it, in base64 or hex; its first 12 characters will do.
        """
        given = "".join(given.split()).rstrip(".…=").translate(str.maketrans("-_", "+/"))
        if self.signature is None or len(given) < _MIN_SIGNATURE_CHARS:
            return f"needs the token, and {_MIN_SIGNATURE_CHARS} characters of a signature"
        found = _encodings(given, self.signature)
        if self.encoding in found:
            return "right: it is that of the string above"
        if found:
            return f"wrong: the right one, written in {found[0]} in place of {self.encoding}"
        forms = list(self.wrong())
        names = [
            f"{name}{'' if self.encoding in found else f', written in {found[0]}'}"
            for name, signature in forms
            if (found := _encodings(given, signature))
        ]
        if names:
            return f"wrong: {' or '.join(dict.fromkeys(names))}"
        return (
            f"unknown: neither right nor one of {len(forms)} known wrong forms; compare the "
            "secret, the token, the timestamp and the bytes of the body"
        )


def _encodings(given: str, signature: bytes) -> list[str]:
    """Return the encodings in which a signature begins with the given text."""
    texts = {"base64": base64.b64encode(signature).decode(), "hex": signature.hex()}
    return [
        name
        for name, text in texts.items()
        if text.startswith(given.lower() if name == "hex" else given)
    ]


def shown_bytes(payload: bytes) -> str:
    """Return bytes as text that a terminal shows, also where they are no UTF-8.

    Args:
        payload: Any bytes.
    """
    return payload.decode(errors="backslashreplace")


def other_timestamps(timestamp: str) -> dict[str, str]:
    """Return a timestamp in the forms that it is not in; none where it cannot be read.

    Args:
        timestamp: In one of the forms of :func:`permata_auth.schemes.jakarta.timestamp`.
    """
    # fromisoformat() reads no Z before Python 3.11.
    is_utc = timestamp.endswith("Z")
    with suppress(ValueError):
        at = datetime.fromisoformat(timestamp.removesuffix("Z") + ("+00:00" if is_utc else ""))
        local = at.astimezone(WIB).isoformat()[:_DATE_AND_TIME_CHARS]
        in_utc = at.astimezone(timezone.utc).isoformat()[:_DATE_AND_TIME_CHARS]
        millis = at.microsecond // 1000
        forms = {
            "a timestamp with milliseconds": f"{local}.{millis:03d}+07:00",
            "a timestamp without milliseconds": f"{local}+07:00",
            "a timestamp in UTC (Z)": f"{in_utc}Z",
            "a timestamp of UTC labelled +07:00": f"{in_utc}+07:00",
        }
        return {name: text for name, text in forms.items() if text != timestamp}
    return {}


def rewritten(body: bytes) -> dict[str, bytes]:
    """Return a body as editors, and JSON libraries, write it anew.

    Args:
        body: As it is sent.
    """
    found = {
        "a line feed after the body": body + b"\n",
        "the body with escaped slashes": minify(body).replace(b"/", rb"\/"),
    }
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        compact: dict[str, Any] = {"separators": (",", ":")}
        ways: dict[str, dict[str, Any]] = {
            "the body's keys sorted": {"sort_keys": True, "ensure_ascii": False, **compact},
            "the body written anew by a JSON library": {"ensure_ascii": False, **compact},
            "the body with \\u escapes": compact,
            "the body with Python's default separators": {},
            "the same, without \\u escapes": {"ensure_ascii": False},
        }
        texts = {name: json.dumps(document, **way) for name, way in ways.items()}
        found |= {name: text.encode(errors="replace") for name, text in texts.items()}
    return found
