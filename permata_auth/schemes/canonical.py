"""What of a body is signed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..exceptions import ConfigurationError

_WHITESPACE = b" \t\n\r\v\f"
_STRING_OR_WHITESPACE = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*"?)|[ \t\n\r]+', re.DOTALL)


def strip_all(body: bytes) -> bytes:
    """Remove every whitespace byte, those inside JSON strings too."""
    return body.translate(None, _WHITESPACE)


def minify(body: bytes) -> bytes:
    """Remove JSON's whitespace outside strings; everything else stays as it is, byte for byte."""
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
    """Return what of a body is signed; raise ConfigurationError for a name that does not exist."""
    canonicalize = CANONICALIZERS.get(name)
    if canonicalize is None:
        raise ConfigurationError(f"canonicalizer must be one of {', '.join(CANONICALIZERS)}")
    return canonicalize(body)
