"""A wrong clock of this machine: how far it is off by the bank's own, and its correction.

The bank refuses a timestamp that is too far from its own clock. Its response shows that clock in
``Date``, so the next request can be signed with a timestamp that is right, though the clock here
is wrong. Nothing is measured before the bank has refused a timestamp; lifetimes are never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from . import _clock
from ._http import http_date
from ._latch import Once
from ._logging import Log
from ._settings import flag, is_loopback
from .exceptions import ConfigurationError

logger = Log(__name__)

SETTING = "PERMATA_CLOCK_CORRECTION"
#: Less is the error of the measurement, or no reason for the bank to refuse a timestamp.
_MIN_OFFSET_SECS = 5.0
#: ``Date`` was written at some time of the exchange.
_MAX_EXCHANGE_SECS = 60.0
#: ``Date`` tells whole seconds, so that on average it is late by half of one.
_MEAN_FRACTION_SECS = 0.5
#: No bank's clock is outside of 2024 to 2099; some devices begin at 1970.
_MIN_POSIX_SECS, _MAX_POSIX_SECS = 1_704_067_200.0, 4_102_444_800.0


@attrs.frozen(eq=False)
class Offset:
    """Seconds to add to this machine's clock for a timestamp; its identity tells which are old."""

    secs: float = 0.0
    #: Taken by the thread that logs its replacement.
    report: Once = attrs.field(factory=Once, repr=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by which a scheme learns of it; none for a right clock."""
        return {"clock_offset": self.secs} if self.secs else {}


def _wall() -> float:
    return _clock.wall()  # looked up now: a test may have moved it


@attrs.frozen(kw_only=True)
class Reading:
    """A response, as far as it shows the clock of its server.

    Args:
        url: The URL of the request: over plain http anybody may have written the response.
        headers: Of the response, with names in any case.
        took: The seconds from sending the request to receiving the response.
        at: The wall clock as the response was received, in POSIX seconds.
        used: The correction that the request was signed with; None where that is not known.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    took: float
    at: float = attrs.field(factory=_wall)
    used: Offset | None = None

    @property
    def secs(self) -> float | None:
        """The seconds that the server's clock is ahead of this machine's, None if not known."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        date = http_date(headers.get("date", ""))
        if date is None or not _MIN_POSIX_SECS <= date < _MAX_POSIX_SECS:
            return None
        # Not by a response out of a cache, by one that took longer than the clock may be off, or by
        # one that anybody may have written.
        if "age" in headers or self.took > _MAX_EXCHANGE_SECS or not _is_authentic(self.url):
            return None
        return date + _MEAN_FRACTION_SECS - (self.at - self.took / 2)


class ClockOffset:
    """The correction of one client's timestamps. Thread-safe without a lock: it is one reference.

    Args:
        is_enabled: False: every timestamp is this machine's own. None: as the environment variable
            ``PERMATA_CLOCK_CORRECTION`` says, on by default.
    """

    def __init__(self, is_enabled: bool | None = None) -> None:
        if is_enabled is None:
            is_enabled = flag(SETTING, os.environ.get(SETTING, "").strip() or True)
        if not isinstance(is_enabled, bool):
            raise ConfigurationError("clock_correction must be True or False")
        self._is_enabled = is_enabled
        self._current = Offset()

    @property
    def current(self) -> Offset:
        """The correction of the next timestamp."""
        return self._current

    def correct(self, reading: Reading, *, is_second: bool = False) -> bool:
        """Take the clock from a response that refused a timestamp; return whether to try once more.

        Args:
            reading: The response.
            is_second: The request was that one more try: its correction is dropped.
        """
        current = self._current
        used = reading.used or current
        if not self._is_enabled or is_second:
            self._replace(used, 0.0)
            return False
        if used is not current:
            # Another thread has met a refusal and corrected the clock since this request was
            # signed. To measure here too could put an older response in place of a newer one.
            return True
        found = _significant(reading.secs)
        if abs(found - used.secs) >= _MIN_OFFSET_SECS:
            self._replace(used, found)
            return True
        if reading.used is None:  # signed before another thread's correction, it may be
            return used.secs != 0.0
        self._replace(used, 0.0)  # it is right, and yet refused
        return False

    def confirm(self, reading: Reading) -> None:
        """Measure again by a token response; forget the offset if the clock is right by now.

        Args:
            reading: The response.
        """
        measured = reading.secs if self._current.secs else None
        if measured is not None and reading.used is self._current:
            self._replace(reading.used, _significant(measured), is_refused=False)

    def _replace(self, used: Offset, secs: float, *, is_refused: bool = True) -> None:
        if used is not self._current or used.secs == secs:
            return
        # Of two threads that get here at once, the second puts the same in place once more.
        self._current = Offset(secs)
        if not used.report.take():
            return
        if not secs:
            logger.info("Timestamps are made by this machine's own clock again")
        elif is_refused:
            logger.warning(
                "The bank refused a timestamp: this machine's clock is %.1f seconds %s the bank's. "
                "Timestamps are corrected by that much until it is right; let NTP keep it",
                abs(secs),
                "behind" if secs > 0 else "ahead of",
            )


def _significant(measured: float | None) -> float:
    return measured if measured is not None and abs(measured) >= _MIN_OFFSET_SECS else 0.0


def _is_authentic(url: str) -> bool:
    """Tell whether nobody on the way can have written the response."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
