"""Call something a while before a moment of expiry, and again if it failed.

:class:`TokenScheduler` knows a time and a callable; it knows no token and no HTTP, and serves any
timed refresh. It holds one schedule at most. One :class:`threading.Timer`, a daemon named
``permata-auth-…``, waits for the schedule's next call; nothing wakes up in between.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import weakref
from collections.abc import Callable
from datetime import datetime

import attrs

from . import _clock, _process
from ._latch import Latch
from ._logging import extra
from ._settings import Unpicklable, duration, seconds
from .exceptions import ConfigurationError

logger = logging.getLogger(__name__)

_FIRST_RETRY_WAIT = 1.0
_LONGEST_RETRY_WAIT = 60.0
_SHORTEST_RETRY_WAIT = 0.1


@attrs.frozen
class SchedulerConfig:
    """When to refresh.

    ``refresh_buffer_secs``: seconds (or a timedelta) before expiry at which the callback is called.
    ``min_schedule_time_secs``: with less than this left to that moment, nothing is scheduled.
    Either may be zero. Raises ConfigurationError for anything negative, infinite or not a duration.
    """

    refresh_buffer_secs: float = attrs.field(default=300.0, converter=seconds, validator=duration())
    min_schedule_time_secs: float = attrs.field(
        default=60.0, converter=seconds, validator=duration()
    )


@attrs.frozen(kw_only=True)
class SchedulerInfo:
    """The running schedule, as it was when asked. Times are aware UTC; ``attempts`` have failed."""

    name: str
    expires_at: datetime
    next_refresh_at: datetime
    seconds_until_refresh: float
    attempts: int

    def __str__(self) -> str:
        retries = f" after {self.attempts} failed attempts" if self.attempts else ""
        return f"{self.name}: refresh in {self.seconds_until_refresh:.0f} s{retries}"


class _Schedule(threading.Timer):
    """A timer and what it is for. Its identity tells the running schedule from a replaced one."""

    def __init__(
        self,
        owner: TokenScheduler,
        expires: float,
        due: float,
        callback: Callable[[], object],
        attempts: int = 0,
    ) -> None:
        super().__init__(due - _clock.now(), callback)
        self.name = f"permata-auth-{owner.name}"
        # Set from weak-reference callbacks and signal handlers too, where an Event may deadlock.
        self.finished = latch = Latch()  # type: ignore[assignment]
        self.pid = os.getpid()
        self.owner = weakref.ref(owner, lambda _: latch.set())
        self.expires = expires
        self.due = due
        self.attempts = attempts

    def run(self) -> None:
        # A loop, since no lock waits longer than threading.TIMEOUT_MAX, or exactly long enough.
        while (left := self.due - _clock.now()) > 0:
            if self.finished.wait(left):
                return
        owner = self.owner()
        if owner is not None:
            owner._fire(self)


@attrs.define(eq=False)
class _Running:
    """What one process runs. A child has its own: no lock and no timer crosses a fork."""

    lock: threading.RLock = attrs.Factory(threading.RLock)
    schedule: _Schedule | None = None


class TokenScheduler(Unpicklable):
    """Call a callback ahead of an expiry, once; retry it while it raises and time is left.

    Thread-safe. No method waits for the callback but :meth:`shutdown`. Forked children start with
    no schedule. A scheduler that is dropped takes its schedule with it: keep a reference.
    """

    _why_unpicklable = "it owns a timer thread; make one in each process"

    def __init__(self, config: SchedulerConfig | None = None, *, name: str = "token") -> None:
        self.name = name
        self._is_shut_down = False
        self._processes: dict[tuple[int, int], _Running] = {}
        self._config = SchedulerConfig() if config is None else _checked(config)

    def __repr__(self) -> str:
        return f"<TokenScheduler {self.name!r} active={self.is_active}>"

    @property
    def config(self) -> SchedulerConfig:
        """The configuration that the next :meth:`start` goes by."""
        return self._config

    def update_config(self, config: SchedulerConfig) -> None:
        """Go by ``config`` from the next :meth:`start` on; the running schedule stays as it is."""
        self._config = _checked(config)

    def start(
        self,
        expires_at: datetime | float,
        callback: Callable[[], object],
        *,
        config: SchedulerConfig | None = None,
    ) -> bool:
        """Schedule ``callback`` ahead of ``expires_at``, in place of the schedule that runs.

        ``expires_at`` is an aware datetime or POSIX seconds, read against the wall clock now;
        later steps of the wall clock move nothing. ``callback()`` runs in the timer's thread. If
        it raises, it is called again after a growing, random wait until ``expires_at`` has passed.
        ``config`` overrides :attr:`config` for this schedule.

        Returns False, with nothing scheduled, when less than ``min_schedule_time_secs`` is left
        to the refresh, after :meth:`shutdown`, and where no thread can be started. Raises
        TypeError or ValueError for invalid arguments, and then changes nothing. Never blocks.
        """
        config = self._config if config is None else _checked(config)
        life = _posix(expires_at) - _clock.wall()
        if not callable(callback):
            raise TypeError("callback must be callable")
        wait = life - config.refresh_buffer_secs
        if wait < config.min_schedule_time_secs:
            self.stop()
            logger.info(
                "Token refresh not scheduled, it would be due in %d seconds",
                round(wait),
                extra=extra(scheduler=self.name),
            )
            return False
        now = _clock.now()
        if not self._arm(_Schedule(self, now + life, now + wait, callback)):
            return False
        logger.info(
            "Starting token refresh scheduler, will refresh in %d seconds",
            round(wait),
            extra=extra(scheduler=self.name),
        )
        return True

    def stop(self, callback: Callable[[], object] | None = None) -> None:
        """Drop the schedule (only if it is for ``callback``, where one is given).

        A callback that is running finishes, and is not called again. Never blocks.
        """
        running = self._running()
        with running.lock:
            schedule = running.schedule
            if schedule is None or (callback is not None and schedule.function != callback):
                return
            running.schedule = None
        schedule.cancel()
        logger.info("Token refresh scheduler stopped", extra=extra(scheduler=self.name))

    def shutdown(self, timeout: float | None = 5.0) -> None:
        """Stop for good; idempotent.

        Waits up to ``timeout`` seconds (None: without end) for a callback that is running, unless
        it is called from that callback.
        """
        self._is_shut_down = True
        self.stop()
        until = None if timeout is None else _clock.now() + timeout
        for timer in self._timers():
            timer.cancel()
            # One that start() is about to start has no callback to wait for: it was cancelled.
            if timer.is_alive() and timer is not threading.current_thread():
                timer.join(None if until is None else max(until - _clock.now(), 0.0))

    def _timers(self) -> list[_Schedule]:
        """List the timers of this process, replaced and stopped ones too: their callback may run.

        After a fork in C, threading still lists those of the parent.
        """
        return [
            thread
            for thread in threading.enumerate()
            if isinstance(thread, _Schedule)
            and thread.owner() is self
            and thread.pid == os.getpid()
        ]

    @property
    def is_active(self) -> bool:
        """Whether a live timer of this process will call the callback, or is calling it."""
        schedule = self._running().schedule
        return schedule is not None and schedule.is_alive()

    def info(self) -> SchedulerInfo | None:
        """Return the running schedule, or None where :attr:`is_active` is false."""
        schedule = self._running().schedule
        if schedule is None or not schedule.is_alive():
            return None
        return SchedulerInfo(
            name=self.name,
            expires_at=_clock.at(schedule.expires),
            next_refresh_at=_clock.at(schedule.due),
            seconds_until_refresh=max(schedule.due - _clock.now(), 0.0),
            attempts=schedule.attempts,
        )

    def _running(self) -> _Running:
        key = _process.identity()
        return self._processes.get(key) or self._processes.setdefault(key, _Running())

    def _arm(self, schedule: _Schedule, replacing: _Schedule | None = None) -> bool:
        """Publish ``schedule`` and start its timer; given ``replacing``, only in its place."""
        running = self._running()
        with running.lock:
            # Decided under the lock: a callback that outlived stop(), shutdown() or a newer
            # start() must not bring its schedule back.
            if self._is_shut_down or (replacing and running.schedule is not replacing):
                logger.debug(
                    "Token refresh not scheduled, stopped", extra=extra(scheduler=self.name)
                )
                return False
            replaced, running.schedule = running.schedule, schedule
        if replaced is not None:
            replaced.cancel()
        try:
            # After it is published, so that it cannot fire unnoticed; whoever stops it before
            # this line has set its latch, and its thread ends at once.
            schedule.daemon = True
            schedule.start()
        except RuntimeError as error:  # no thread or daemon to be had, or the interpreter ends
            self._forget(schedule)
            logger.warning(
                "Token refresh not scheduled, no thread can be started: %s",
                error,
                extra=extra(scheduler=self.name),
            )
            return False
        return True

    def _forget(self, schedule: _Schedule) -> None:
        running = self._running()
        with running.lock:
            if running.schedule is schedule:
                running.schedule = None

    def _fire(self, schedule: _Schedule) -> None:
        # Also false in a child that a fork gave a copy of the timer, as it does with greenlets.
        if self._running().schedule is not schedule:
            return
        try:
            schedule.function()
        except BaseException as error:  # SystemExit too would end the schedule without a trace
            self._retry(schedule, error)
        else:
            self._forget(schedule)
            logger.info(
                "Token refresh by scheduler completed successfully",
                extra=extra(scheduler=self.name),
            )

    def _retry(self, failed: _Schedule, error: BaseException) -> None:
        attempts = failed.attempts + 1
        now = _clock.now()
        left = failed.expires - now
        reason = (type(error).__name__, error)
        trace = error if logger.isEnabledFor(logging.DEBUG) else None
        if left <= 0:
            self._forget(failed)
            logger.error(
                "Token refresh given up at expiry, failed attempts: %d, last: %s: %s",
                attempts,
                *reason,
                exc_info=trace,
                extra=extra(scheduler=self.name),
            )
            return
        wait = _retry_wait(attempts, left)
        again = _Schedule(self, failed.expires, now + wait, failed.function, attempts)
        if self._arm(again, replacing=failed):
            logger.warning(
                "Token refresh failed, next attempt in %.1f seconds: %s: %s",
                wait,
                *reason,
                exc_info=trace,
                extra=extra(scheduler=self.name),
            )


def _retry_wait(attempts: int, left: float) -> float:
    """Draw the wait after ``attempts`` failures: exponential, full jitter, bounded by the life."""
    ceiling = min(_FIRST_RETRY_WAIT * 2.0 ** min(attempts - 1, 10), _LONGEST_RETRY_WAIT, left / 4)
    if ceiling < _SHORTEST_RETRY_WAIT:
        return left  # quarters of what is left would never end: the last attempt is at expiry
    return random.uniform(_SHORTEST_RETRY_WAIT, ceiling)


def _checked(config: SchedulerConfig) -> SchedulerConfig:
    if not isinstance(config, SchedulerConfig):
        raise ConfigurationError("config must be a SchedulerConfig")
    return config


def _posix(expires_at: datetime | float) -> float:
    if isinstance(expires_at, datetime):
        if expires_at.utcoffset() is None:
            raise ValueError("expires_at must be an aware datetime: give it a tzinfo")
        return expires_at.timestamp()
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        raise TypeError("expires_at must be an aware datetime or POSIX seconds")
    try:
        posix = float(expires_at)
    except OverflowError:
        posix = math.inf
    if not math.isfinite(posix):
        raise ValueError("expires_at must be finite")
    return posix
