"""How a handler is: its state in full, its health in a word, and a wait until it has a token."""

from __future__ import annotations

import math
from datetime import datetime

import attrs

from . import _clock
from ._pace import Row, row_of
from ._settings import Seconds, timeout_secs
from ._token_life import TokenLife
from .exceptions import PermataAuthError, RequestTimeoutError
from .tokens import AccessToken

#: Refused credentials lock accounts.
_MAX_REFUSALS = 3
#: Between two tries where no pause is due: the last one got stuck.
_MIN_WAIT_SECS = 0.5


@attrs.frozen(kw_only=True)
class HandlerInfo:
    """A handler's state, as it was when asked. Times are aware UTC; None where there is none.

    Args:
        fingerprint: The first 8 hex digits of the token's SHA-256.
        expires_at: The end of the token's life.
        seconds_left: The seconds to that moment, 0.0 without a token.
        next_refresh_at: The moment of the next refresh in the background; None where none is
            scheduled.
        logins: The number of logins of this process that gave a token.
        failed_logins: The number of those that gave none.
        last_error: The last failure in one line, also after a later success; shows no secret.
        last_error_at: The moment of that failure.
        waiting: The number of callers that wait for a login now.
        last_login_at: The moment of the last login that gave a token.
        next_login_at: The end of the pause after a failure, before which no login starts.
        clock_offset: The seconds that timestamps are corrected by; 0.0, the default, where this
            machine's clock is right.
    """

    fingerprint: str | None
    expires_at: datetime | None
    seconds_left: float
    next_refresh_at: datetime | None
    logins: int
    failed_logins: int
    last_error: str | None
    last_error_at: datetime | None
    waiting: int
    last_login_at: datetime | None
    next_login_at: datetime | None
    clock_offset: float = 0.0

    def __str__(self) -> str:
        token = f"token {self.fingerprint}, {self.seconds_left:.0f} s left"
        refresh = f"refresh at {self.next_refresh_at:%H:%M:%SZ}" if self.next_refresh_at else ""
        failed = f"{self.failed_logins} failed, last: {self.last_error}" if self.last_error else ""
        pause = f"no login before {self.next_login_at:%H:%M:%SZ}" if self.next_login_at else ""
        clock = f"timestamps corrected by {self.clock_offset:+.1f} s" if self.clock_offset else ""
        parts = [
            token if self.fingerprint else "no token",
            refresh,
            f"{self.logins} logins",
            failed,
            pause,
            clock,
        ]
        return ", ".join(filter(None, parts))


@attrs.frozen(kw_only=True)
class Health:
    """A handler's health, as it was when asked.

    ``state`` is one of

    ============  ==========================================================
    ``cold``      no token lives, and no login has failed since the last one
    ``ready``     a token lives
    ``degraded``  a token lives, but the last login to replace it has failed
    ``down``      no token lives, and the last login has failed
    ============  ==========================================================

    A token or a failure that this process has from the store counts as of its own.

    Args:
        state: One of the four.
        seconds_left: The rest of the token's life, 0.0 where none lives.
        last_error: The error of the last login if that has failed, in one line.
        since: The beginning of the state as aware UTC; None where there has been no token and no
            failure yet.
    """

    state: str
    seconds_left: float
    last_error: str | None
    since: datetime | None


class Readiness(TokenLife):
    """A token's life as it looks from outside."""

    def info(self) -> HandlerInfo:
        """Return a snapshot of the state. Never blocks, never logs in."""
        self._notice_fork()
        token = self._snapshot.live
        history = self._history
        schedule = self._schedule.scheduler.info()
        message, failed_at = history.last_error or (None, None)
        paused_until = self._pace.next_login_at
        return HandlerInfo(
            fingerprint=token.fingerprint if token else None,
            expires_at=_clock.at(_clock.now() + token.expires_in()) if token else None,
            seconds_left=token.expires_in() if token else 0.0,
            next_refresh_at=schedule.next_refresh_at if schedule else None,
            logins=history.logins,
            failed_logins=history.failed_logins,
            last_error=message,
            last_error_at=failed_at,
            waiting=self._flights.waiting,
            last_login_at=history.last_login_at,
            next_login_at=_clock.at(paused_until) if paused_until else None,
            clock_offset=self.clock.current.secs,
        )

    def health(self) -> Health:
        """Return the health. Never blocks, never logs in; cheap enough for every probe."""
        self._notice_fork()
        snapshot, failing = self._snapshot, self._history.failing
        token = snapshot.live
        if token is not None:
            state = "degraded" if failing else "ready"
            since = failing.since if failing else self._history.ready_since
        else:
            state = "down" if failing else "cold"
            since = _later(snapshot.ended_at, failing.since if failing else None)
        return Health(
            state=state,
            seconds_left=token.expires_in() if token else 0.0,
            last_error=failing.last_error if failing else None,
            since=since,
        )

    def wait_until_ready(self, timeout: Seconds | None = 60.0) -> AccessToken:
        """Return a valid access token, however often that takes a login.

        For the start of a program: with a live token returns at once. After a failed login waits
        for the end of the pause that the failure calls for, and tries again. Raises the last error
        after three refusals of the credentials, which more of them could lock, when ``timeout``
        has passed or the pause would last longer than that, and once :meth:`shutdown` is called;
        RequestTimeoutError if no login has ended by then. Thread-safe.

        Args:
            timeout: The seconds to wait at most; None: without end. A minute by default: twice a
                login's budget, and less than most supervisors allow for a start.
        """
        secs = timeout_secs(timeout)
        until = math.inf if secs is None else _clock.now() + secs
        refusals, last = 0, None
        while True:
            try:
                return self._obtain(max(until - _clock.now(), 0.0))
            except PermataAuthError as error:
                is_over = _clock.now() >= until
                if last is None or not (is_over and isinstance(error, RequestTimeoutError)):
                    last = error  # else no login has ended since the last error
            refusals += row_of(last) is Row.REFUSED
            wait = self._wait_secs()
            is_over = refusals >= _MAX_REFUSALS or _clock.now() + wait >= until
            if is_over or self._stopped.wait(wait):
                raise last

    def _wait_secs(self) -> float:
        """Return the seconds until the next login may start."""
        paused_until = self._pace.next_login_at
        return _MIN_WAIT_SECS if paused_until is None else paused_until - _clock.now()


def _later(ended_at: datetime | None, failing_since: datetime | None) -> datetime | None:
    return max(filter(None, (ended_at, failing_since)), default=None)
