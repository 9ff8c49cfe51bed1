"""The bank's words in a response: found in any of its shapes, and made fit to be shown."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

_MAX_DESCRIPTION_CHARS = 200


@attrs.frozen
class Reason:
    """The bank's words in an error response, as :func:`presentable` leaves them.

    Args:
        code: The bank's code, such as ``invalid_client``; None where it gives none.
        description: The bank's sentence; None where it gives none.
    """

    code: str | None
    description: str | None


# Names of fields in lower case and without separators, the most telling first.
_CODES = ("error", "errorcode", "responsecode", "statuscode", "code")
_DESCRIPTIONS = (
    *("errordescription", "responsemessage", "statusdesc", "statusdescription", "errormessage"),
    *(
        "responsedescription",
        "errordesc",
        "message",
        "description",
        "faultstring",
        "detail",
        "title",
    ),
)
_MAX_FIELDS = 1_000


def reason_in(payload: dict[str, Any], secrets: Iterable[str]) -> Reason:
    """Return the bank's words in a response, as :func:`presentable` leaves them.

    Args:
        payload: The parsed body, in any of the shapes of :func:`error_response`.
        secrets: Texts that the bank may echo and no error may show.
    """
    found: dict[str, str] = {}
    for name, value in _fields(payload):
        is_number = isinstance(value, int) and not isinstance(value, bool)
        text = presentable(str(value) if is_number and abs(value) < 10**9 else value, secrets)
        if text is not None:
            found.setdefault(re.sub("[^a-z]", "", name.lower()), text)
    return Reason(
        next((found[name] for name in _CODES if name in found), None),
        next((found[name] for name in _DESCRIPTIONS if name in found), None),
    )


def _fields(payload: object) -> Iterator[tuple[str, Any]]:
    """Yield the named values of a document, the outer ones first."""
    waiting = deque([("", payload)])
    for _ in range(_MAX_FIELDS):
        if not waiting:
            return
        name, value = waiting.popleft()
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((name, each) for each in value)
        else:
            yield name, value


def presentable(text: object, secrets: Iterable[str]) -> str | None:
    """Return the bank's words fit for an error: short, one line, nothing secret; None if none are.

    Args:
        text: The bank's words; None for any value that is no text.
        secrets: Texts to take out.
    """
    if not isinstance(text, str) or not text:
        return None
    # First of all, since a secret with a space in it may come out of this.
    text = re.sub(r"[^\x20-\x7e]+", " ", text).strip()
    for secret in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = _redacted(text, secret)
    # A long unbroken run of these characters may be a key, a token or a signature.
    text = re.sub(r"[A-Za-z0-9+/=_.~-]{24,}", "[redacted]", text)
    return text[:_MAX_DESCRIPTION_CHARS] or None


def _redacted(text: str, secret: str) -> str:
    """Take a secret out of a text; one that is short only where it is a word of its own.

    "client" as the id of a test would else take its part out of ``invalid_client``.
    """
    if len(secret) < 6:
        return text
    word = re.escape(secret)
    return re.sub(word if len(secret) >= 8 else rf"(?<!\w){word}(?!\w)", "[redacted]", text)
