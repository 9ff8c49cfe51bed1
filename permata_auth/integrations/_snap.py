"""The needs of the bank's calls in a framework: the path as received, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..snap_inbound import ExternalIds
from ..snap_inbound.settings import read

PREFIX = "PERMATA_SNAP_"

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


def inbound_summary(
    settings: Mapping[str, str], external_ids: ExternalIds | None = None
) -> dict[str, str]:
    """Describe the settings for the bank's calls, without a secret; issues and stores nothing.

    Raises ConfigurationError for settings that are wrong, and ImportError without an extra.

    Args:
        settings: By the names of the environment variables.
        external_ids: In place of the setting.
    """
    _, rules, error = read(settings, PREFIX, external_ids)
    del settings  # error reports show the locals of a frame
    if rules is None:
        del _
        raise error or ValueError
    return rules.summary()
