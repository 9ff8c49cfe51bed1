"""JSON bodies, read leniently where the bank sent them and strictly where a stranger did."""

from __future__ import annotations

import json
from typing import Any


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


def strict_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``, or raise BodyError.

    Refused is every body that two parsers could read in two ways: with a key twice, with NaN, in
    another encoding than UTF-8. Numbers come out as floats: a long integer takes long to parse.

    Args:
        body: As received.
    """
    reason = "the body is no JSON in UTF-8, or nested too deeply"
    try:
        payload = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=float,
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BodyError("the body has an object with the same key twice")
    return found


def _refuse_constant(name: str) -> None:
    raise BodyError("the body has a number that JSON does not know")
