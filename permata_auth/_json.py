"""JSON bodies, read leniently where the bank sent them and strictly where a stranger did."""

from __future__ import annotations

import functools
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


def strict_object(
    body: bytes,
    *,
    parse_int: Callable[[str], Any] = float,
    parse_float: Callable[[str], float] = float,
) -> dict[str, Any]:
    """Return the JSON object in ``body``, or raise BodyError.

    Refused is every body that two parsers could read in two ways: with a key twice, with NaN, in
    another encoding than UTF-8.

    Args:
        body: As received.
        parse_int: Reads a whole number. A float by default: a long integer takes long to parse.
        parse_float: Reads any other number; one that is too large becomes infinite by default.
    """
    reason = "the body is no JSON in UTF-8, or nested too deeply"
    try:
        payload = _decoder(parse_int, parse_float).decode(body.decode())
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
    found = strict_object(body, parse_int=int, parse_float=_finite)
    # Most bodies have too few brackets to be walked.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _is_flat(found):
        raise BodyError("the body is nested too deeply")
    if _SURROGATE.search(body) and not _is_encodable(found):
        raise BodyError("the body has half a surrogate pair")
    return found


@functools.lru_cache(maxsize=4)  # made anew, it costs more than a small body
def _decoder(
    parse_int: Callable[[str], Any], parse_float: Callable[[str], float]
) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_constant=_refuse_constant,
        parse_int=parse_int,
        parse_float=parse_float,
    )


def _finite(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise BodyError("the body has a number that is too large")
    return found


def _is_flat(found: dict[str, Any]) -> bool:
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        members = [each for value in level for each in _members(value)]
        level = [each for each in members if isinstance(each, dict | list)]
        if not level:
            return True
    return False


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
