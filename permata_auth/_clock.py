"""The clocks, read through this module everywhere, so that a test can move them in one place."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial

#: Seconds on the clock that lifetimes are judged by. Wall-clock steps do not touch it, and where
#: the system has CLOCK_BOOTTIME it goes on while the machine is suspended, as a token's life does.
now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)

#: POSIX seconds of the wall clock: for what people and the bank read.
wall: Callable[[], float] = time.time

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = datetime.max.replace(tzinfo=timezone.utc)


def to_datetime(posix: float) -> datetime:
    """Return the aware UTC datetime of POSIX seconds, the last one there is for any later time."""
    try:
        return _EPOCH + timedelta(seconds=posix)
    except OverflowError:
        return _LAST


def at(instant: float) -> datetime:
    """Return the wall-clock time at which :data:`now` reads (or read) ``instant``."""
    return to_datetime(wall() + (instant - now()))
