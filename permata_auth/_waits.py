"""The waits between the failed calls of a refresh: arithmetic alone, without a clock.

A wait's bound starts at min(1 s, w/20) and doubles up to min(60 s, w/4), where w is the window: the
seconds from the first call to expiry. The jitter takes up to a quarter off. No wait is shorter
than the one before, nor than what the error asks for; the last one alone is cut, so that one call
falls in the last tenth of w (the last 10 s at most).
"""

from __future__ import annotations

import random
from contextlib import suppress

import attrs

from ._settings import finite_seconds

#: Each wait is drawn between this part of its bound and all of it.
MIN_JITTER = 0.75
_MIN_WAIT_SECS = 1.0
_MAX_WAIT_SECS = 60.0
_MAX_LAST_ATTEMPT_SECS = 10.0


@attrs.frozen
class Waits:
    """What the next wait goes by; each failed call makes a new one.

    Args:
        attempts: The calls that have failed.
        window: The seconds from the first call to expiry.
        longest: The longest wait so far, in seconds.
    """

    attempts: int = 0
    window: float = 0.0
    longest: float = 0.0

    def after_failure(self, left: float, asked: float) -> tuple[Waits, float | None]:
        """Draw the wait after one more failed call; None: no call fits before expiry.

        Args:
            left: The seconds until expiry.
            asked: The seconds that the callback's error asks for.
        """
        attempts = self.attempts + 1
        # A wall clock that was set back leaves more than there was at the first call. The window
        # of that call, perhaps of no length, would make waits of no length.
        window = max(self.window, left)
        drawn = longest_wait(attempts, window) * random.uniform(MIN_JITTER, 1.0)
        wait = longest = max(drawn, self.longest, asked)
        tail = last_attempt_secs(window)
        if left > tail and wait >= left:
            # The first half of the tail, so that the call has time to succeed.
            wait = max(left - tail * random.uniform(0.5, 1.0), asked)
        return Waits(attempts, window, longest), wait if wait < left else None


def longest_wait(attempts: int, window: float) -> float:
    """Return the bound of the wait after so many failed calls, before jitter.

    Args:
        attempts: At least one.
        window: The seconds from the first call to expiry.
    """
    first, longest = min(_MIN_WAIT_SECS, window / 20), min(_MAX_WAIT_SECS, window / 4)
    return min(first * 2.0 ** min(attempts - 1, 20), longest)


def last_attempt_secs(window: float) -> float:
    """Return the seconds before expiry in which one call is to fall.

    Args:
        window: The seconds from the first call to expiry.
    """
    return min(window / 10, _MAX_LAST_ATTEMPT_SECS)


def retry_after_of(error: BaseException) -> float:
    """Return the seconds for which ``error`` asks not to be called again, zero for none.

    Args:
        error: Any; its ``retry_after`` is looked at.
    """
    # Anything but a finite duration is ignored; in a foreign error it may even raise.
    with suppress(Exception):
        return finite_seconds("retry_after", getattr(error, "retry_after", None))
    return 0.0
