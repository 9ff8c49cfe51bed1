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
    return written(_clock.wall() + clock_offset, form)


def written(posix: float, form: str) -> str:
    """Return a moment in one of the forms of :func:`timestamp`.

    Args:
        posix: POSIX seconds.
        form: As in :func:`timestamp`.
    """
    if form != "milliseconds":
        return _second(int(posix), form)
    # Rounded to the clock's own precision before it is cut: as a float, a whole millisecond may
    # lie a hair below itself.
    whole, micros = divmod(round(posix * 1_000_000), 1_000_000)
    return f"{_second(whole, form)}.{micros // 1000:03d}+07:00"


@functools.lru_cache(maxsize=4)  # a third of the cost of signing, and the same for a whole second
def _second(posix: int, form: str) -> str:
    zone, end = {"utc": (timezone.utc, "Z"), "seconds": (WIB, "+07:00")}.get(form, (WIB, ""))
    return datetime.fromtimestamp(posix, zone).replace(tzinfo=None).isoformat() + end


@functools.lru_cache(maxsize=2)
def digits(posix: int) -> str:
    """Return a moment as 14 digits of the wall clock in Jakarta, year to second.

    Args:
        posix: Whole POSIX seconds.
    """
    return datetime.fromtimestamp(posix, WIB).strftime("%Y%m%d%H%M%S")
