"""Canonicalizers: the part of a body that is signed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..exceptions import ConfigurationError

_WHITESPACE = b" \t\n\r\v\f"
_SPACE, _TAB, _LF, _CR = b" \t\n\r"
#: Stand for two escapes; no UTF-8 has the byte that they begin with (RFC 3629 section 3).
_MARK = b"\xff"
_BACKSLASH, _QUOTE = b"\xff\xfe", b"\xff\xfd"
_STRING_OR_WHITESPACE = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*"?)|[ \t\n\r]+', re.DOTALL)


def strip_all(body: bytes) -> bytes:
    """Remove every whitespace byte, those inside JSON strings too.

    Args:
        body: Any bytes.
    """
    return body.translate(None, _WHITESPACE)


def minify(body: bytes) -> bytes:
    """Remove JSON's whitespace outside strings; everything else stays as it is, byte for byte.

    Args:
        body: JSON; other bytes lose the whitespace outside of double quotes.
    """
    # By their numbers: a search for one byte costs a quarter of one for a text of one byte.
    if not (_SPACE in body or _LF in body or _CR in body or _TAB in body):
        return body
    hidden = body
    if b"\\" in body:
        if _MARK in body:
            return _minify_slowly(body)
        hidden = body.replace(b"\\\\", _BACKSLASH).replace(b'\\"', _QUOTE)
    # Where no quote is escaped any more, every second piece between quotes is outside of strings.
    parts = hidden.split(b'"')
    outside = b'"'.join(parts[::2])
    if hidden is not body and _MARK in outside:
        return _minify_slowly(body)
    small = outside.translate(None, b" \t\n\r")
    if len(small) == len(outside):  # spaces are in strings alone, as in most bodies
        return body
    parts[::2] = small.split(b'"')
    small = b'"'.join(parts)
    return (
        small.replace(_QUOTE, b'\\"').replace(_BACKSLASH, b"\\\\") if hidden is not body else small
    )


def _minify_slowly(body: bytes) -> bytes:
    """Minify bytes that are no JSON: an escape outside of strings, a byte that no UTF-8 has."""
    return _STRING_OR_WHITESPACE.sub(lambda match: match[1] or b"", body)


def raw(body: bytes) -> bytes:
    """Return ``body`` as it is."""
    return body


#: By the names that settings have for them.
CANONICALIZERS: Mapping[str, Callable[[bytes], bytes]] = {
    "strip_all": strip_all,
    "minify": minify,
    "raw": raw,
}


def canonical(body: bytes, name: str) -> bytes:
    """Return the part of a body that is signed; raise ConfigurationError for an unknown name.

    Args:
        body: The bytes that are sent.
        name: Of one of :data:`CANONICALIZERS`.
    """
    canonicalize = CANONICALIZERS.get(name)
    if canonicalize is None:
        raise ConfigurationError(f"canonicalizer must be one of {', '.join(CANONICALIZERS)}")
    return canonicalize(body)
