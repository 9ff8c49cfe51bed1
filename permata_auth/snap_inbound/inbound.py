"""One request of the bank as it was received: its headers, its path, its timestamp."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from ..schemes import _snap_signing as signing
from ..schemes.jakarta import WIB
from .answers import bad_format, missing

#: A mapping, or pairs, as frameworks have them; names in any case.
Headers = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: Neither a fragment, nor anything that looks like a host.
_PATH = re.compile(r"/(?!/)[\x21\x22\x24-\x7e]*")
_BELOW_VERSION = re.compile(r"/v[0-9]+(?:\.[0-9]+)*(/.*)")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-5][0-9]))"
)
_LAST_HOUR_OF_OFFSET = 23


@attrs.frozen
class Inbound:
    """One request.

    Args:
        method: The HTTP method, as received.
        path: As received, with its query.
        headers: Every value of a header, by its name in lower case.
        body: The bytes of the body.
    """

    method: str
    path: str
    headers: Mapping[str, list[str]] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, method: str, path: str, headers: Headers, body: bytes) -> Inbound:
        """Make one of the values that a framework has.

        Args:
            method: The HTTP method.
            path: As received, with its query.
            headers: A mapping, or (name, value) pairs; names in any case, values of any type.
            body: The bytes of the body; None for none.
        """
        found: dict[str, list[str]] = {}
        items: Any = headers.items() if hasattr(headers, "items") else headers
        for name, value in items:
            key = (name if isinstance(name, str) else _text(name)).lower()
            if isinstance(value, str):
                texts = [value]
            else:
                texts = [*map(_text, value if isinstance(value, list | tuple) else [value])]
            found[key] = found[key] + texts if key in found else texts
        return cls(_text(method), _text(path), found, bytes(body or b""))

    def route(self) -> str | None:
        """Return the path below the version, without the query; None for no path at all.

        A path without a version is taken whole.
        """
        return _route(self.path)

    def header(self, name: str) -> str:
        """Return the value of a header that must be there once; raise CheckFailed otherwise.

        Args:
            name: In the case that an answer shows.
        """
        values = self.headers.get(name.lower(), ())
        if len(values) == 1:
            value = values[0]
            # Where a server joins a header that came twice, it does so by a comma, which no value
            # of SNAP has. Other values than printable ASCII cannot be encoded, compared or logged.
            if value.isascii() and value.isprintable() and "," not in value and value.strip(" "):
                return value
        raise bad_format(name) if any(value.strip() for value in values) else missing(name)

    def is_json(self) -> bool:
        """Tell whether the one Content-Type is that of JSON, with any parameters."""
        values = self.headers.get("content-type", [])
        return len(values) == 1 and (
            values[0].partition(";")[0].strip(" \t").lower() == "application/json"
        )


@functools.lru_cache(maxsize=64)
def _route(path: str) -> str | None:
    if not _PATH.fullmatch(path):
        return None
    path = signing.signed_path(path, signed_prefix="/", sign_query=False)
    below = _BELOW_VERSION.fullmatch(path)
    return below[1] if below else path


@functools.lru_cache(maxsize=64)  # requests of one second have one text
def moment(text: str) -> datetime | None:
    """Return the moment of an ``X-TIMESTAMP``; None for a text that is no date with an offset.

    :meth:`datetime.fromisoformat` takes other forms in each Python.

    Args:
        text: As received.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    *numbers, fraction, sign, hours, minutes = match.groups()
    zone = timezone.utc
    if sign is not None:
        if int(hours) > _LAST_HOUR_OF_OFFSET:
            return None
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset)
    micros = int((fraction or "0").ljust(6, "0")[:6])
    try:
        return datetime(*map(int, numbers), micros, tzinfo=zone)  # type: ignore[misc,arg-type]
    except ValueError:
        return None


@functools.lru_cache(maxsize=64)
def jakarta_day(moment: datetime) -> str:
    """Return the day in Jakarta, as eight digits.

    Args:
        moment: Any, aware.
    """
    return moment.astimezone(WIB).strftime("%Y%m%d")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
