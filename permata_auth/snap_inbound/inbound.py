"""One request of the bank as it was received: its headers, its path, its timestamp."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
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
#: The whole seconds, their fraction and the offset. Python 3.13 would take the hour 24.
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-5][0-9])"
)


@attrs.define(eq=False)  # made for each request: to freeze one costs more than to fill it
class Inbound:
    """One request.

    Args:
        method: The HTTP method, as received.
        path: As received, with its query.
        headers: Every value of a header, by its name in upper case, as SNAP writes its own.
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
            key = (name if isinstance(name, str) else _text(name)).upper()
            texts = [value] if isinstance(value, str) else _texts(value)
            found[key] = found[key] + texts if key in found else texts
        return cls(_text(method), _text(path), found, bytes(body or b""))

    def route(self) -> str | None:
        """Return the path below the version, without the query; None for no path at all.

        A path without a version is taken whole.
        """
        return _route(self.path)

    def needed(self, names: Iterable[str]) -> dict[str, str]:
        """Return the values of headers that must be there once; raise CheckFailed for the first.

        Args:
            names: In upper case, as an answer shows them.
        """
        found = {}
        for name in names:
            values = self.headers.get(name, ())
            value = values[0] if len(values) == 1 else ""
            # Where a server joins a header that came twice, it does so by a comma, which no value
            # of SNAP has. Other values than printable ASCII cannot be encoded, compared or logged.
            is_one = value.isascii() and value.isprintable() and "," not in value
            if not (is_one and value.strip(" ")):
                raise bad_format(name) if any(map(str.strip, values)) else missing(name)
            found[name] = value
        return found

    def is_json(self) -> bool:
        """Tell whether the one Content-Type is that of JSON, with any parameters."""
        values = self.headers.get("CONTENT-TYPE", ())
        return len(values) == 1 and _is_json(values[0])


@attrs.frozen
class Moment:
    """The moment of an ``X-TIMESTAMP``.

    Args:
        at: Aware, with the offset that was received.
        posix: POSIX seconds.
        jakarta_day: Its day in Jakarta, as eight digits; blank on the last days of the calendar.
    """

    at: datetime
    posix: float
    jakarta_day: str


@functools.lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip(" \t").lower() == "application/json"


@functools.lru_cache(maxsize=64)
def _route(path: str) -> str | None:
    if not _PATH.fullmatch(path):
        return None
    path = signing.signed_path(path, signed_prefix="/", sign_query=False)
    below = _BELOW_VERSION.fullmatch(path)
    return below[1] if below else path


@functools.lru_cache(maxsize=64)  # requests of one second have one text
def moment(text: str) -> Moment | None:
    """Return the moment of an ``X-TIMESTAMP``; None for a text that is no date with an offset.

    :meth:`datetime.fromisoformat` takes other forms in each Python: it reads one of them.

    Args:
        text: As received.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    whole, fraction, offset = match.groups("")
    offset = "+00:00" if offset == "Z" else offset
    try:
        at = datetime.fromisoformat(f"{whole}.{fraction:0<6.6}{offset}")
    except ValueError:
        return None
    return Moment(at, at.timestamp(), _jakarta_day(at))


def _jakarta_day(at: datetime) -> str:
    try:
        return at.astimezone(WIB).date().isoformat().replace("-", "")
    except OverflowError:  # of the year 1 or 9999: too far from any clock to be asked for
        return ""


def _texts(value: Any) -> list[str]:
    return [*map(_text, value if isinstance(value, list | tuple) else [value])]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
