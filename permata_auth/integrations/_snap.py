"""The path of the bank's calls as a WSGI server received it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_SAFE = "/!$&'()*+,;=:@~"  # unescaped in a path (RFC 3986 section 3.3)


def raw_path(environ: Mapping[str, Any]) -> str:
    """Return the path and query that were signed, before anything decoded them.

    Where the server tells none, the path is escaped anew, which is right for every path of the
    standard.

    Args:
        environ: Of WSGI (PEP 3333).
    """
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw:
        return str(raw)
    decoded = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    query = environ.get("QUERY_STRING")
    path = quote(decoded.encode("latin-1", errors="replace"), safe=_SAFE)
    return f"{path}?{query}" if query else path
