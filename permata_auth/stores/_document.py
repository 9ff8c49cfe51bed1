"""The document of a token, or of a failure, in a store, and its remaining life for the reader."""

from __future__ import annotations

import functools
import json
import math
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from .. import _clock
from ..tokens import AccessToken
from .failures import StoredFailure

_VERSION = 1
#: What is raised by reading a document that somebody else has written, or half written.
_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


@functools.lru_cache(maxsize=1)
def _running_clock() -> str | None:
    """Name the clock of :func:`_clock.now`, which all processes of one boot share; None if none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"  # containers may shift it
    except (OSError, ValueError):
        return None


def dump(key: str, token: AccessToken) -> bytes:
    """Return the document of ``token``.

    Args:
        key: The key that the document belongs to.
        token: The token.
    """
    document = {
        "version": _VERSION,
        "key": key,
        "token": token.value,
        "type": token.token_type,
        "scope": token.scope,
        "issued_at": token.issued_at.isoformat(),
        "expires_at": token.expires_at.isoformat(),
        "clock": _running_clock(),
        "deadline": token.deadline,
    }
    return json.dumps(document).encode()


def parse(key: str, data: bytes, *, time_to_live: float = math.inf) -> AccessToken | None:
    """Return the token in a document, or None if it has expired.

    Its life runs on the writer's own clock where this process has the same one. Elsewhere wall
    clocks differ, so the token is taken to die at the first of: the writer's wall-clock time, its
    whole lifetime from now, ``time_to_live``.

    Raises ValueError, without a word of the data, for anything but a document of ``key``.

    Args:
        key: The key that the document must belong to.
        data: The document.
        time_to_live: The seconds that the store will keep the document, by its own clock.
    """
    with suppress(*_UNREADABLE):
        document = _loaded(key, data)
        issued = datetime.fromisoformat(document["issued_at"])
        expires = datetime.fromisoformat(document["expires_at"])
        by_wall = expires.timestamp() - _clock.wall()
        life = _life(document, by_wall, (expires - issued).total_seconds(), time_to_live)
        # Dates as this process's wall clock has them, but for the noise of reading two clocks.
        drift = timedelta(seconds=0.0 if abs(life - by_wall) < 0.001 else life - by_wall)
        token = AccessToken(
            value=document["token"],
            issued_at=issued + drift,
            expires_at=expires + drift,
            token_type=document["type"],
            scope=document["scope"],
        )
        return token if life > 0 else None
    # Out here, chained to nothing: a parser's own error holds the whole document.
    raise ValueError("it holds no token of these credentials")


def dump_failure(key: str, failure: StoredFailure) -> bytes:
    """Return the document of ``failure``.

    Args:
        key: The key that the document belongs to.
        failure: The failure.
    """
    document = {
        "version": _VERSION,
        "key": key,
        "failure": attrs.asdict(failure),
        "expires_at": _clock.wall() + failure.expires_in,
        "clock": _running_clock(),
        "deadline": _clock.now() + failure.expires_in,
    }
    return json.dumps(document).encode()


def parse_failure(
    key: str, data: bytes | str, *, time_to_live: float = math.inf
) -> StoredFailure | None:
    """Return the failure in a document, with its remaining seconds, which count as a token's do.

    Returns None for a failure whose time is over, and for anything but a document of ``key``: the
    worst cost of that is one login.

    Args:
        key: The key that the document must belong to.
        data: The document.
        time_to_live: The seconds that the store will keep the document, by its own clock.
    """
    with suppress(*_UNREADABLE):
        document = _loaded(key, data)
        failure = StoredFailure(**document["failure"])
        by_wall = document["expires_at"] - _clock.wall()
        life = _life(document, by_wall, failure.expires_in, time_to_live)
        left = attrs.evolve(failure, expires_in=min(life, failure.expires_in))
        return left if left.expires_in > 0 else None
    return None


def _loaded(key: str, data: bytes | str) -> Any:
    document = json.loads(data)
    if document["version"] != _VERSION or document["key"] != key:
        raise ValueError
    return document


def _life(document: Any, by_wall: float, whole: float, time_to_live: float) -> float:
    """Return the seconds that are left: by the writer's clock, else by the most cautious one."""
    if document["clock"] is not None and document["clock"] == _running_clock():
        deadline = float(document["deadline"])
        if not math.isfinite(deadline):
            raise ValueError
        return min(_clock.seconds_left(deadline, by_wall + _clock.wall()), time_to_live)
    return min(by_wall, whole, time_to_live)
