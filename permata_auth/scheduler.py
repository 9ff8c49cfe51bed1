"""Call something a while before a moment of expiry, and again if it failed.

:class:`TokenScheduler` knows a time and a callable; it knows no token and no HTTP, and serves any
timed refresh. It holds one schedule at most. One :class:`threading.Timer`, a daemon named
``permata-auth-…``, waits for the schedule's next call; nothing wakes up in between.

After a failed call the waits grow: from min(1 s, w/20), doubled each time, to min(60 s, w/4), where
w is the time from the first call to expiry; the jitter takes up to a quarter off. No wait is
shorter than the one before, nor than the error's ``retry_after``. The last wait alone is cut, so
that one call falls in the last tenth of w (the last 10 s at most).
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from collections.abc import Callable
from datetime import datetime

import attrs

from . import _clock
from ._latch import Latch
from ._logging import Log, describe, frames
from ._process import PerProcess
from ._settings import Seconds, Unpicklable, duration, seconds, timeout_secs
from ._timer import Schedule, Timers
from ._waits import Waits, retry_after_of
from .exceptions import ConfigurationError

logger = Log(__name__)

#: Returned by a callback that had nothing to do: no log record then tells of a refresh.
NOT_NEEDED = object()


@attrs.frozen
class SchedulerConfig:
    """When to refresh.

    Raises ConfigurationError for anything negative, infinite or not a duration.

    Args:
        refresh_buffer_secs: The seconds, or a timedelta, before expiry at which the callback is
            called. Five minutes by default, so that a bank may be down for so long; zero is
            allowed.
        min_schedule_time_secs: With fewer seconds than this left to that moment, nothing is
            scheduled. A minute by default: so short a wait is not worth a thread. Zero is allowed.
    """

    refresh_buffer_secs: float = attrs.field(default=300.0, converter=seconds, validator=duration())
    min_schedule_time_secs: float = attrs.field(
        default=60.0, converter=seconds, validator=duration()
    )


@attrs.frozen(kw_only=True)
class SchedulerInfo:
    """The running schedule at one moment. Times are aware UTC.

    Args:
        name: The scheduler's name.
        expires_at: The expiry that the schedule was started for.
        next_refresh_at: The moment of the next call of the callback.
        seconds_until_refresh: The seconds to that moment, zero while the callback runs.
        attempts: The number of calls that have failed.
    """

    name: str
    expires_at: datetime
    next_refresh_at: datetime
    seconds_until_refresh: float
    attempts: int

    def __str__(self) -> str:
        retries = f" after {self.attempts} failed attempts" if self.attempts else ""
        return f"{self.name}: refresh in {self.seconds_until_refresh:.0f} s{retries}"


class TokenScheduler(Unpicklable):
    """Call a callback ahead of an expiry, once; call it again while it raises and time is left.

    Thread-safe. No method waits for the callback but :meth:`shutdown`. Forked children start with
    no schedule. A scheduler that is dropped takes its schedule with it: keep a reference. The
    schedule keeps its callback alive, and with a bound method the method's object. To let it be
    collected earlier, stop the schedule or give a callback that holds the object weakly.

    Args:
        config: When to refresh; :class:`SchedulerConfig`'s own defaults if left out.
        name: Names the timer's thread and the scheduler's log records.
    """

    _why_unpicklable = "it owns a timer thread; make one in each process"

    def __init__(self, config: SchedulerConfig | None = None, *, name: str = "token") -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError("name must be a str that is not empty")
        self.name = name
        self._is_shut_down = False
        self._running = PerProcess(Timers)
        self._config = SchedulerConfig() if config is None else _checked(config)
        self._served: weakref.ref[object] | None = None

    def __repr__(self) -> str:
        return f"<TokenScheduler {self.name!r} active={self.is_active}>"

    @property
    def config(self) -> SchedulerConfig:
        """The configuration that the next :meth:`start` uses."""
        return self._config

    def update_config(self, config: SchedulerConfig) -> None:
        """Use ``config`` from the next :meth:`start` on; the running schedule stays as it is.

        Args:
            config: The new configuration. Raises ConfigurationError for anything else.
        """
        self._config = _checked(config)

    def reserve(self, owner: object) -> None:
        """Keep this scheduler for ``owner``; its schedules end when ``owner`` is collected.

        Raises ConfigurationError while another owner that lives has it: two owners would replace
        each other's schedules, and one of them would never be refreshed.

        Args:
            owner: Held weakly.
        """
        # Weak, since a schedule must not keep its owner alive; its callback stops the schedule.
        reference = weakref.ref(owner, functools.partial(_stop, self._running))
        with self._running.get().lock:  # of two threads that reserve it at once, one is refused
            served = self._served() if self._served else None
            if served is not None and served is not owner:
                raise ConfigurationError(
                    f"the scheduler {self.name!r} serves another handler; give each one its own"
                )
            self._served = reference

    def release(self, owner: object) -> None:
        """Let another owner have this scheduler.

        Args:
            owner: As given to :meth:`reserve`; nothing happens for any other.
        """
        if self._served is not None and self._served() is owner:
            self._served = None

    def start(
        self,
        expires_at: datetime | float,
        callback: Callable[[], object],
        *,
        config: SchedulerConfig | None = None,
    ) -> bool:
        """Schedule ``callback`` ahead of ``expires_at``, in place of the schedule that runs.

        Returns False, with nothing scheduled, when less than ``min_schedule_time_secs`` is left
        to the refresh, after :meth:`shutdown`, and where no thread can be started. Raises
        TypeError or ValueError for invalid arguments, and then changes nothing. Never blocks.

        Args:
            expires_at: An aware datetime or POSIX seconds, read against the wall clock now. Later
                steps of the wall clock of less than two minutes move nothing.
            callback: Called with no arguments in the timer's thread. If it raises, it is called
                again after a wait (see the module's documentation) until ``expires_at``.
            config: Overrides :attr:`config` for this schedule.
        """
        config = self._config if config is None else _checked(config)
        posix = _posix(expires_at)
        life = posix - _clock.wall()
        if not callable(callback):
            raise TypeError("callback must be callable")
        wait = life - config.refresh_buffer_secs
        if wait < config.min_schedule_time_secs:
            self.stop()
            logger.info(
                "Token refresh not scheduled, it would be due in %d seconds",
                round(wait),
                scheduler=self.name,
            )
            return False
        now = _clock.now()
        if not self._arm(Schedule(callback, now + life, posix, now + wait)):
            return False
        logger.info(
            "Starting token refresh scheduler, will refresh in %d seconds",
            round(wait),
            scheduler=self.name,
        )
        return True

    def stop(self, callback: Callable[[], object] | None = None) -> None:
        """Drop the schedule. A callback that is running finishes, and is not called again.

        Never blocks.

        Args:
            callback: Drop the schedule only if it is for this callback; None: in any case.
        """
        if self._running.get().drop(callback):
            logger.info("Token refresh scheduler stopped", scheduler=self.name)

    def shutdown(self, timeout: Seconds | None = 5.0) -> None:
        """Stop for good; idempotent.

        Waits for a callback that is running, unless it is called from that callback.

        Args:
            timeout: The seconds to wait at most; None: without end. Five by default, so that a
                program ends soon though its bank does not answer.
        """
        secs = timeout_secs(timeout)
        self._is_shut_down = True
        self.stop()
        # From its own thread the callback's end cannot be waited for.
        self._running.get().join(secs)

    @property
    def is_active(self) -> bool:
        """Whether a timer of this process will call the callback, or is calling it."""
        return self._running.get().active is not None

    def info(self) -> SchedulerInfo | None:
        """Return the running schedule, or None where :attr:`is_active` is false."""
        schedule = self._running.get().active
        if schedule is None:
            return None
        return SchedulerInfo(
            name=self.name,
            expires_at=_clock.to_datetime(_clock.wall() + schedule.seconds_left),
            next_refresh_at=_clock.at(schedule.due),
            seconds_until_refresh=max(schedule.due - _clock.now(), 0.0),
            attempts=schedule.waits.attempts,
        )

    def _arm(self, schedule: Schedule, replacing: Schedule | None = None) -> bool:
        """Publish ``schedule`` and start its timer; given ``replacing``, only in its place."""
        running = self._running.get()
        try:
            with running.lock:
                # Decided under the lock: a callback that outlived stop(), shutdown() or a newer
                # start() would otherwise bring its schedule back.
                replaced = running.schedule
                is_stopped = self._is_shut_down or replacing not in (None, replaced)
                if not is_stopped:
                    if replaced is not None:
                        replaced.cancelled.set()  # first, as in Timers.drop()
                    running.schedule = schedule
            if is_stopped:
                # Not under the lock: the garbage collector may run _stop(), which takes this lock,
                # in a thread that holds a lock of logging, and the two would wait for each other.
                logger.debug("Token refresh not scheduled, stopped", scheduler=self.name)
                return False
            # After the schedule is published: a timer that fired earlier would be ignored. Where
            # another thread stops the schedule before this line, its latch is set, and the timer
            # ends at once.
            name = f"permata-auth-{self.name}"
            running.start(schedule.timer(name, self._fire))
        except BaseException as error:
            # Without this, an exception that a signal handler throws into start() would leave a
            # schedule that counts as active and has no timer.
            running.end(schedule)
            schedule.cancelled.set()
            if not isinstance(error, RuntimeError):
                raise
            # No thread, or no daemon thread, can be started here, or the interpreter ends.
            logger.warning(
                "Token refresh not scheduled, no thread can be started: %s",
                error,
                scheduler=self.name,
            )
            return False
        return True

    def _fire(self, schedule: Schedule) -> None:
        # False in a forked child that has a copy of the timer, as happens with greenlets.
        if self._running.get().schedule is schedule:
            self._call(schedule)

    def _call(self, schedule: Schedule) -> None:
        left = schedule.seconds_left
        if not schedule.waits.attempts:
            schedule.waits = Waits(window=max(left, 0.0))
        elif schedule.is_last_wait or left <= 0:
            self._give_up(schedule)
            return
        try:
            outcome = schedule.callback()
        except BaseException as error:  # SystemExit too would end the schedule without a trace
            self._retry(schedule, error)
        else:
            self._running.get().end(schedule)
            if outcome is not NOT_NEEDED:
                logger.info(
                    "Token refresh by scheduler completed successfully", scheduler=self.name
                )

    def _retry(self, failed: Schedule, error: BaseException) -> None:
        failed.failure = describe(error)
        left = failed.seconds_left
        waits, wait = failed.waits.after_failure(left, retry_after_of(error))
        logger.debug("The refresh failed at\n%s", frames(error), scheduler=self.name)
        if left <= 0:
            failed.waits = waits
            self._give_up(failed)
            return
        again = attrs.evolve(
            failed,
            waits=waits,
            due=_clock.now() + (left if wait is None else wait),
            is_last_wait=wait is None,
            cancelled=Latch(),
        )
        if not self._arm(again, replacing=failed):
            return
        text = "Token refresh failed, next attempt in %.1f seconds: %s"
        if wait is None:
            text = "Token refresh failed, no attempt is left before expiry in %.1f seconds: %s"
        logger.warning(text, left if wait is None else wait, failed.failure, scheduler=self.name)

    def _give_up(self, schedule: Schedule) -> None:
        if self._running.get().end(schedule):
            logger.error(
                "Token refresh given up at expiry, failed attempts: %d, last: %s",
                schedule.waits.attempts,
                schedule.failure,
                scheduler=self.name,
            )


def _stop(
    running: PerProcess[Timers],
    _owner: object,
    is_finalizing: Callable[[], bool] = sys.is_finalizing,
) -> None:
    """Drop the schedule of a scheduler whose owner was collected, without a log record.

    The garbage collector may call this in any thread, also in one that holds a lock of logging.
    """
    # An owner that lives until the interpreter ends is collected when the names of modules are
    # None already: this would print an "Exception ignored". Daemon timers have ended by then.
    if not is_finalizing():
        running.get().drop()


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
