"""Now, as the bank writes it: the wall clock in Jakarta."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone

from .. import _clock

#: Western Indonesian Time (Asia/Jakarta), which has had no clock changes since 1964.
WIB = timezone(timedelta(hours=7))


def timestamp(clock_offset: float = 0.0, form: str = "milliseconds") -> str:
    """Return now in one of the forms that the bank's sources show.

    Args:
        clock_offset: Seconds to add to this machine's clock.
        form: ``milliseconds`` (``2025-09-11T15:24:18.007+07:00``), ``seconds`` (the same without
            a fraction) or ``utc`` (``2025-09-11T08:24:18Z``).
    """
    # Rounded to the clock's own precision before it is cut: as a float, a whole millisecond may
    # lie a hair below itself.
    whole, micros = divmod(round((_clock.wall() + clock_offset) * 1_000_000), 1_000_000)
    if form == "milliseconds":
        return f"{_wall_clock(whole, WIB)}.{micros // 1000:03d}+07:00"
    if form == "seconds":
        return f"{_wall_clock(whole, WIB)}+07:00"
    return f"{_wall_clock(whole, timezone.utc)}Z"


def digits(clock_offset: float = 0.0) -> str:
    """Return now as 14 digits, year to second.

    Args:
        clock_offset: Seconds to add to this machine's clock.
    """
    return _digits(int(_clock.wall() + clock_offset))


@functools.lru_cache(maxsize=2)
def _digits(posix: int) -> str:
    return datetime.fromtimestamp(posix, WIB).strftime("%Y%m%d%H%M%S")


@functools.lru_cache(maxsize=4)  # a third of the cost of signing, and the same for a whole second
def _wall_clock(posix: int, zone: timezone) -> str:
    return datetime.fromtimestamp(posix, zone).replace(tzinfo=None).isoformat()
