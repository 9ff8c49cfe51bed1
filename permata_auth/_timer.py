"""One schedule, the timer that waits for it, and the timers of one process."""

from __future__ import annotations

import contextvars
import functools
import math
import sys
import threading
import weakref
from collections.abc import Callable

import attrs

from . import _clock
from ._latch import Latch, clamp
from ._threads import run_as_own
from ._waits import Waits


@attrs.define(eq=False)
class Schedule:
    """One wait and the call after it. Its identity tells it from a schedule that replaced it."""

    callback: Callable[[], object]
    #: Expiry, on the running clock and on the wall clock.
    expires: float
    expires_at: float
    due: float
    #: The failed calls before this one.
    waits: Waits = attrs.Factory(Waits)
    #: No call comes after this wait: it ends at expiry.
    is_last_wait: bool = False
    failure: str = ""
    #: Set to end the wait: from weak-reference callbacks and signal handlers too, where a
    #: threading.Event may deadlock.
    cancelled: Latch = attrs.Factory(Latch)

    @property
    def seconds_left(self) -> float:
        """The seconds until expiry."""
        return _clock.seconds_left(self.expires, self.expires_at)

    def timer(self, name: str, fire: Callable[[Schedule], object]) -> threading.Timer:
        """Return a timer that is not started.

        Args:
            name: The thread's name.
            fire: A bound method, called with this schedule when it is due. Its object is held
                weakly; the timer ends when that is collected.
        """
        latch = self.cancelled
        method = weakref.WeakMethod(fire, lambda _: latch.set())
        # A context of its own: the ids of the call that set this off are not those of the refresh.
        run = functools.partial(self._run, method), contextvars.Context()
        # Looked up now: gevent may have replaced the class since this module was imported.
        timer = threading.Timer(self.due - _clock.now(), run_as_own, run)
        timer.name = name
        timer.daemon = True
        timer.finished = latch  # type: ignore[assignment]
        return timer

    def _run(self, method: weakref.WeakMethod[Callable[[Schedule], object]]) -> None:
        try:
            # A loop, since no lock waits longer than threading.TIMEOUT_MAX, or exactly long enough.
            while (left := self.due - _clock.now()) > 0:
                if self.cancelled.wait(left):
                    return
            fire = method()
            if fire is not None:
                fire(self)
        finally:
            self.cancelled.set()  # a timer does so itself, but not where something is raised


class Timers:
    """The schedule of one process. A child has its own: no lock and no timer crosses a fork."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.schedule: Schedule | None = None
        #: The timers that run, replaced and stopped ones too: their callback may run. Held weakly,
        #: since a timer holds its callback also when it is over.
        self.running: list[weakref.ref[threading.Timer]] = []

    @property
    def active(self) -> Schedule | None:
        """The schedule, if its timer waits or its callback runs."""
        schedule = self.schedule
        # A timer sets the latch as it ends, too.
        return None if schedule is None or schedule.cancelled.is_set() else schedule

    def start(self, timer: threading.Timer) -> None:
        """Start ``timer``; RuntimeError: no thread can be started."""
        if sys.is_finalizing():  # Python 3.10 and 3.11 would hang here for ever
            raise RuntimeError("no thread can be started while the interpreter ends")
        with self.lock:
            # Before it starts: it may fire before this thread goes on, and shutdown() in another
            # thread would not wait for a callback of which it does not know.
            self.running = [each for each in self.running if each() is not None]
            self.running.append(weakref.ref(timer))
        timer.start()

    def join(self, timeout: float | None) -> None:
        """Wait for the timers that run, but for the one that calls this.

        Args:
            timeout: The seconds to wait at most; None: without end.
        """
        until = math.inf if timeout is None else _clock.now() + timeout
        for timer in [reference() for reference in self.running]:
            # One that has not started yet was cancelled before, and ends at once when it does.
            if timer and timer is not threading.current_thread() and timer.is_alive():
                timer.join(clamp(until - _clock.now()))

    def drop(self, callback: Callable[[], object] | None = None) -> bool:
        """Cancel the schedule, if it is for ``callback`` where one is given."""
        with self.lock:
            schedule = self.schedule
            if schedule is None or (callback is not None and schedule.callback != callback):
                return False
            # Before it is forgotten: where a signal handler comes in between, or throws, the next
            # drop() finds the schedule and ends its timer, which shutdown() would wait for.
            schedule.cancelled.set()
            if self.schedule is schedule:  # that signal handler may have replaced it
                self.schedule = None
        return True

    def end(self, schedule: Schedule) -> bool:
        """Forget ``schedule``, unless another one has replaced it."""
        with self.lock:
            if self.schedule is not schedule:
                return False
            self.schedule = None
            return True
