"""Where a token is shared between handlers, processes and hosts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from ..exceptions import ConfigurationError
from .base import TokenStore


def store_from_env(
    environ: Mapping[str, str] | None = None, *, prefix: str = "PERMATA_"
) -> TokenStore | None:
    """Return the store that ``PERMATA_TOKEN_STORE`` names, or None where it is not set.

    ``file:///folder`` (``file:`` alone: the default folder) is a :class:`FileTokenStore`;
    ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` and ``unix://`` are
    :class:`RedisTokenStore`, with the options that redis-py reads from URLs. Opens nothing.
    Raises ConfigurationError for any other value and shows none; ImportError for a missing extra.

    Args:
        environ: The variables, in place of those of the process.
        prefix: Begins the variable's name, in place of ``PERMATA_``: for a second account.
    """
    name = f"{prefix}TOKEN_STORE"
    url = (os.environ if environ is None else environ).get(name, "").strip()
    if not url:
        return None
    parts = None
    with suppress(ValueError):
        parts = urlsplit(url)
    if parts is None:  # out here, chained to nothing: urlsplit's own error may quote a password
        raise ConfigurationError(f"{name} is not a valid URL")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and not parts.query:
        from .file import FileTokenStore  # noqa: PLC0415 - needs an extra

        return FileTokenStore(_folder(parts.path) or None)
    if parts.scheme in ("redis", "rediss", "valkey", "valkeys", "unix"):
        from .redis import RedisTokenStore  # noqa: PLC0415 - needs an extra

        return RedisTokenStore(url)
    raise ConfigurationError(f"{name} must be a file:///, redis:// or rediss:// URL")


def _folder(path: str) -> str:
    """Return the folder that the path of a file URL names, on Windows with its drive."""
    folder = unquote(path)
    if sys.platform == "win32":  # RFC 8089, appendix E.2: file:///C:/folder, or C| as of old
        folder = re.sub(r"^/([A-Za-z])[:|](?=[/\\]|$)", r"\1:", folder)
        folder = f"{folder}/" if re.fullmatch("[A-Za-z]:", folder) else folder
    return folder
