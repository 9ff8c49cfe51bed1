"""JSON objects, read so strictly that no two parsers could read one in two ways."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

#: More than any document of the bank or the provider has; a deeper one breaks what walks it.
MAX_DEPTH = 64

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def strict_object(body: bytes, *, parse_int: Callable[[str], Any] = int) -> dict[str, Any]:
    """Return the JSON object in ``body``.

    Raises ValueError, whose text shows nothing of the body, for anything else: other encodings
    than UTF-8, keys that occur twice in one object, NaN and infinite numbers.

    Args:
        body: As received.
        parse_int: Reads a whole number. ``float`` is quick for numbers of very many digits.
    """
    try:
        text = body.decode()
        found = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=parse_int,
        )
    except _StrictError as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError):
        raise ValueError("the body is no JSON in UTF-8, or nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("the body is no JSON object")  # noqa: TRY004 - of what type is the sender's
    return found


def plain_object(body: bytes) -> dict[str, Any]:
    """Return a strict object that is safe to store, to log and to walk.

    Raises ValueError as :func:`strict_object`, and for more than :data:`MAX_DEPTH` levels, numbers
    too large for a float, and halves of surrogate pairs, which no encoding can write.

    Args:
        body: As received.
    """
    found = strict_object(body)
    if b"\\u" in body and _SURROGATE.search(body.decode()):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            raise ValueError("the body has half a surrogate pair") from None
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [each for value in level for each in _members(value)]
        if not level:
            return found
        if any(isinstance(each, float) and math.isinf(each) for each in level):
            raise ValueError("the body has a number that is too large")
    raise ValueError("the body is nested too deeply")


class _StrictError(ValueError):
    """Its text may be shown."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _StrictError("the body has an object with the same key twice")
    return found


def _refuse_constant(name: str) -> None:
    raise _StrictError("the body has a number that JSON does not know")


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
