"""The clocks, read through this module everywhere, so that a test can move them in one place."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial

#: The two clocks may part by this much before the wall clock counts: steps of NTP are smaller.
MAX_DRIFT_SECS = 120.0


def _running_clock() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):
        clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        with suppress(OSError):  # some sandboxes have the name but not the clock
            clock()
            return clock
    return time.monotonic


#: Seconds on the clock that lifetimes are judged by. Wall-clock steps do not touch it, and where
#: the system has CLOCK_BOOTTIME it goes on while the machine is suspended, as a token's life does.
now: Callable[[], float] = _running_clock()

#: POSIX seconds of the wall clock: for texts that people and the bank read.
wall: Callable[[], float] = time.time

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = datetime.max.replace(tzinfo=timezone.utc)


def seconds_left(deadline: float, posix: float) -> float:
    """Return the seconds until ``deadline`` on :data:`now`, which is ``posix`` on :data:`wall`.

    Where the wall clock is ahead of the other by more than :data:`MAX_DRIFT_SECS`, it decides: in
    a virtual machine that was resumed from a snapshot, or whose host slept, :data:`now` stood
    still. A wall clock that was wrongly set forward costs one login.
    """
    left, left_by_wall = deadline - now(), posix - wall()
    return left_by_wall if left_by_wall < left - MAX_DRIFT_SECS else left


def to_datetime(posix: float) -> datetime:
    """Return an aware UTC datetime, the last one there is for any later time.

    Args:
        posix: POSIX seconds.
    """
    try:
        return _EPOCH + timedelta(seconds=posix)
    except OverflowError:
        return _LAST


def at(instant: float) -> datetime:
    """Return the wall-clock time at which :data:`now` reads (or read) ``instant``."""
    return to_datetime(wall() + (instant - now()))
