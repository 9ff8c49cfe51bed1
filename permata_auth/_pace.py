"""Pace: when the next login may start.

Each kind of failure is a *row* with a count of its own, and a pause that grows with the count:

===========  ==========================================  ===============================
row          a login failed because                      the pause holds
===========  ==========================================  ===============================
BACKOFF      the bank was not reached, or was busy       callers, ``refresh()``
ASKED        the bank asked for a pause (Retry-After)    everybody
REFUSED      the credentials were refused                callers, the timer
BROKEN       of anything else that waiting cannot mend   callers, the timer
REJECTED     (none failed: the bank rejects new tokens)  callers, the timer
===========  ==========================================  ===============================

The timer's own waits stand in for BACKOFF. A login that succeeds ends every row but REJECTED,
which an accepted call ends. REFUSED and BROKEN hold the credentials that met the failure, and no
others.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable

import attrs

from . import _clock
from ._flight import copied
from ._waits import MIN_JITTER, last_attempt_secs, longest_wait, retry_after_of
from .exceptions import (
    InvalidClientError,
    PermataAuthError,
    TokenEndpointError,
    TransportError,
)

_MAX_ASKED_SECS = 300.0


class Asker(enum.Enum):
    """On whose behalf a login is to start."""

    CALLER = enum.auto()
    REFRESH = enum.auto()
    TIMER = enum.auto()


class Row(enum.Enum):
    """A kind of failure; the value is its name in a store."""

    BACKOFF = "backoff"
    ASKED = "asked"
    REFUSED = "refused"
    BROKEN = "broken"
    REJECTED = "rejected"


_HOLDS = {
    Row.BACKOFF: (Asker.CALLER, Asker.REFRESH),
    Row.ASKED: (Asker.CALLER, Asker.REFRESH, Asker.TIMER),
    Row.REFUSED: (Asker.CALLER, Asker.TIMER),
    Row.BROKEN: (Asker.CALLER, Asker.TIMER),
    Row.REJECTED: (Asker.CALLER, Asker.TIMER),
}


_BOUND = (Row.REFUSED, Row.BROKEN)


@attrs.frozen(kw_only=True)
class Pause:
    """One row's failures in a row, and the moment before which they let no login start."""

    row: Row
    error: BaseException = attrs.field(repr=False)
    count: int
    failed_at: float
    until: float
    #: Another process of the fleet made the attempt.
    is_shared: bool = False
    #: The fingerprint of the token that was rejected last.
    rejected: str | None = None
    #: The credentials that met it.
    met_by: object = attrs.field(default=None, repr=False, eq=False)

    @property
    def is_bound(self) -> bool:
        """Whether changed credentials pass."""
        return self.row in _BOUND

    @property
    def seconds_left(self) -> float:
        """The rest of it, zero where it is over."""
        return max(self.until - _clock.now(), 0.0)


class Pace:
    """The pauses of one handler. No locks: each row is one reference, replaced as a whole.

    Args:
        refusal_memory: The first pause after refused credentials, in seconds.
        credentials: Returns those that the next login uses, the same object while they are the
            same.
    """

    def __init__(
        self, refusal_memory: float, credentials: Callable[[], object] = lambda: None
    ) -> None:
        self._credentials = credentials
        self._first_secs = {
            Row.BACKOFF: 0.5,
            Row.REFUSED: refusal_memory,
            Row.BROKEN: 5.0,
            Row.REJECTED: refusal_memory,
        }
        self._max_secs = {
            Row.BACKOFF: 5.0,
            Row.ASKED: _MAX_ASKED_SECS,
            Row.REFUSED: 300.0,
            Row.BROKEN: 60.0,
            Row.REJECTED: 300.0,
        }
        self._pauses: dict[Row, Pause] = {}

    def after(self, error: BaseException) -> Pause:
        """Return the pause that a failed login calls for; it counts once :meth:`begin` takes it."""
        row = row_of(error)
        return self._pause(row, error, count=self._count(row) + 1)

    def after_rejection(self, fingerprint: str) -> Pause:
        """Return the pause that one more rejected fresh token calls for: none after the first."""
        error = TransportError("the bank rejects new tokens; wait, or check the URL of the calls")
        count = self._count(Row.REJECTED) + 1
        pause = self._pause(Row.REJECTED, error, count=max(count - 1, 1))
        until = pause.failed_at if count == 1 else pause.until
        return attrs.evolve(pause, count=count, until=until, rejected=fingerprint)

    def begin(self, pause: Pause) -> None:
        """Let no login start before the end of ``pause``."""
        self._pauses[pause.row] = pause

    def adopt(self, pause: Pause) -> None:
        """Take over a failure of another process, unless this one has failed later."""
        own = self._pauses.get(pause.row)
        if own is None or own.failed_at < pause.failed_at:
            longest = _clock.now() + self._max_secs[pause.row]
            count = max(pause.count, own.count if own else 0)
            self.begin(attrs.evolve(pause, count=count, until=min(pause.until, longest)))

    def end(self) -> None:
        """Forget the failed logins, after one that succeeded."""
        for row in (Row.BACKOFF, Row.ASKED, Row.REFUSED, Row.BROKEN):
            self._pauses.pop(row, None)

    def end_rejections(self) -> None:
        """Forget the rejected tokens, after a call that was accepted."""
        self._pauses.pop(Row.REJECTED, None)

    def clear(self) -> None:
        """Forget every pause but one that the bank has asked for."""
        for row in (Row.BACKOFF, Row.REFUSED, Row.BROKEN, Row.REJECTED):
            self._pauses.pop(row, None)

    @property
    def rejections(self) -> Pause | None:
        """The pause after fresh tokens that the bank has rejected in a row, over or not."""
        return self._pauses.get(Row.REJECTED)

    @property
    def next_login_at(self) -> float | None:
        """The end of the longest pause, for callers; None where there is none."""
        pause = self.held(Asker.CALLER)
        return pause.until if pause else None

    def held(self, asker: Asker, *, window: float = 0.0, left: float = 0.0) -> Pause | None:
        """Return the pause that lasts longest of those that hold ``asker``, or None.

        Args:
            asker: On whose behalf a login is to start.
            window: For the timer: the seconds from its first attempt to the token's expiry.
            left: For the timer: the seconds that the token has left.
        """
        found = []
        for pause in list(self._pauses.values()):
            if asker in _HOLDS[pause.row]:
                found.append(pause)
            elif asker is Asker.TIMER and pause.is_shared:
                found.append(self._for_timers(pause, window, left))
        found = [pause for pause in found if self._counts(pause)]
        return max(found, key=lambda pause: pause.until, default=None)

    def _counts(self, pause: Pause) -> bool:
        is_for_others = pause.is_bound and pause.met_by is not self._credentials()
        return _clock.now() < pause.until and not is_for_others

    def is_held_by(self, row: Row) -> bool:
        """Tell whether the pause of this row is not over."""
        pause = self._pauses.get(row)
        return pause is not None and _clock.now() < pause.until

    def _count(self, row: Row) -> int:
        pause = self._pauses.get(row)
        return pause.count if pause else 0

    def _pause(self, row: Row, error: BaseException, *, count: int) -> Pause:
        now = _clock.now()
        asked = min(retry_after_of(error), _MAX_ASKED_SECS)
        if row is Row.ASKED:
            # So that a fleet does not come back in one instant.
            secs = asked * random.uniform(1.0, 1.1)
        else:
            secs = min(self._first_secs[row] * 2.0 ** min(count - 1, 20), self._max_secs[row])
            secs = secs * random.uniform(0.5, 1.0) if row is Row.BACKOFF else max(secs, asked)
        return Pause(
            row=row,
            error=error,
            count=count,
            failed_at=now,
            until=now + secs,
            met_by=self._credentials(),
        )

    def _for_timers(self, pause: Pause, window: float, left: float) -> Pause:
        """Space the timers of a fleet as the waits of one timer are, its last attempt included."""
        tail = last_attempt_secs(window)
        if left <= tail and _clock.now() - pause.failed_at > tail - left:
            return attrs.evolve(pause, until=pause.failed_at)  # nobody has tried in the tail
        wait = longest_wait(pause.count, window)
        return attrs.evolve(pause, until=pause.failed_at + MIN_JITTER * wait)


def held_error(pause: Pause) -> BaseException:
    """Return a copy of the failure behind ``pause``; its ``retry_after`` is the rest of it."""
    error = copied(pause.error)
    if isinstance(error, PermataAuthError):
        error.retry_after = pause.seconds_left
    return error


def is_refusal(error: BaseException) -> bool:
    """Tell whether a login failed because the bank refused its credentials.

    Args:
        error: Of the login.
    """
    if not isinstance(error, TokenEndpointError) or error.retryable:
        return False
    return isinstance(error, InvalidClientError) or error.status_code in (400, 401, 403)


def row_of(error: BaseException) -> Row:
    """Return the kind of failure that ``error`` is."""
    if isinstance(error, PermataAuthError) and error.retryable:
        return Row.ASKED if retry_after_of(error) else Row.BACKOFF
    return Row.REFUSED if is_refusal(error) else Row.BROKEN
