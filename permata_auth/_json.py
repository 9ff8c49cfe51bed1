"""JSON bodies, read leniently where the bank sent them and strictly where a stranger did."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

#: More than any document of the bank has; a deeper one breaks code that walks it.
MAX_DEPTH = 64

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class BodyError(ValueError):
    """A body that is refused; its text says why, and quotes nothing of the body."""


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``body``, or None.

    Never raises: the parser's own errors hold the whole document, and with it a token.

    Args:
        body: As received.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def strict_object(body: bytes, *, parse_int: Callable[[str], Any] = float) -> dict[str, Any]:
    """Return the JSON object in ``body``, or raise BodyError.

    Refused is every body that two parsers could read in two ways: with a key twice, with NaN, in
    another encoding than UTF-8.

    Args:
        body: As received.
        parse_int: Reads a whole number. A float by default: a long integer takes long to parse.
    """
    reason = "the body is no JSON in UTF-8, or nested too deeply"
    try:
        payload = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=parse_int,
        )
    except BodyError as refusal:
        reason = str(refusal)
    except (ValueError, RecursionError):
        pass
    else:
        if isinstance(payload, dict):
            return payload
        reason = "the body is no JSON object"
    # Out here, chained to nothing: a parser's own error holds the whole body.
    raise BodyError(reason)


def plain_object(body: bytes) -> dict[str, Any]:
    """Return a strict object that is safe to store, to log and to walk, or raise BodyError.

    Refused are also more than :data:`MAX_DEPTH` levels, numbers too large for a float, and halves
    of surrogate pairs, which no encoding can write. Whole numbers come out as int.

    Args:
        body: As received, of a bounded size.
    """
    found = strict_object(body, parse_int=int)
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        level = [each for value in level for each in _members(value)]
        if any(isinstance(each, float) and math.isinf(each) for each in level):
            raise BodyError("the body has a number that is too large")
        if not level:
            break
    else:
        raise BodyError("the body is nested too deeply")
    if _SURROGATE.search(body) and not _is_encodable(found):
        raise BodyError("the body has half a surrogate pair")
    return found


def _is_encodable(found: dict[str, Any]) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BodyError("the body has an object with the same key twice")
    return found


def _refuse_constant(name: str) -> None:
    raise BodyError("the body has a number that JSON does not know")
