"""Single flight: one call for all that ask at the same time, whose outcome they share."""

from __future__ import annotations

import copy
import enum
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from . import _clock
from ._latch import Latch, Once
from ._logging import held_back
from ._process import PerProcess
from ._threads import is_own_thread, note_end, start_daemon
from .exceptions import RequestTimeoutError, TransportError

_T = TypeVar("_T")

#: A caller waits this long for the thread that ought to run a flight before it starts another.
_TAKEOVER_SECS = 0.05
#: The longest time from the moment at which an outcome counts to the waking of its callers.
_MAX_LANDING_SECS = 1.0
_MAX_ABANDONED = 2


class _First(Generic[_T]):
    """A value that can be set once. Safe wherever :class:`Latch` is."""

    def __init__(self) -> None:
        self._values: dict[None, _T] = {}

    @property
    def value(self) -> _T | None:
        return self._values.get(None)

    def set(self, value: _T) -> _T:
        """Set it, unless it is set; return the value that stays.

        A thread that was interrupted just here may call it again, and gets the same value.
        """
        return self._values.setdefault(None, value)  # one atomic operation


class _Decision(enum.Enum):
    """Whether the outcome of a flight counts; the first thread to say so decides it."""

    LANDED = enum.auto()
    ABANDONED = enum.auto()


@attrs.frozen(eq=False)
class _Runner:
    thread: int = attrs.Factory(threading.get_ident)


class Flight(Generic[_T]):
    """One call, from its first caller to its outcome.

    Args:
        budget: The seconds that the call may take.
    """

    def __init__(self, budget: float) -> None:
        #: The end of its budget.
        self.until = _clock.now() + budget
        #: The moment by which the thread that was started for it ought to have begun.
        self.start_by = _clock.now() + _TAKEOVER_SECS
        #: Set when it is over: from then on callers start the next one.
        self.done = Latch()
        #: Set when its thread is done with it, log records and events included.
        self.ended = Latch()
        self.outcome: _T | BaseException = TransportError(
            "the login was interrupted; the caller may try again"
        )
        self.runner: _First[_Runner] = _First()
        self.decision: _First[_Decision] = _First()
        self.next: _First[Flight[_T]] = _First()
        #: Taken by the one thread that reports it as abandoned.
        self.report = Once()

    @property
    def is_abandoned(self) -> bool:
        return self.decision.value is _Decision.ABANDONED

    def restart_budget(self, budget: float) -> None:
        """Count the budget from now: time in a queue is not the login's."""
        self.until = _clock.now() + budget


#: A function that does the slow part, and returns one that makes its result count.
Work = Callable[[Flight[_T]], Callable[[], _T]]


class SingleFlight(Generic[_T]):
    """At most one call at a time in each process.

    The call has a thread of its own, so that no caller's timeout, signal or end disturbs the other
    callers. Takes no lock: callers may come from signal handlers, and from the call itself. An
    exception such as KeyboardInterrupt, at any point of a caller, costs the other callers one
    budget at most.

    Args:
        name: For the names of threads.
        budget: The seconds that a call may take, and that a caller waits at most. A call that
            overruns is abandoned: its outcome is ignored, and the next caller starts another.
        on_abandon: Called by the thread that abandons a call.
    """

    def __init__(self, name: str, budget: float, on_abandon: Callable[[], object]) -> None:
        self.budget = budget
        self._name = name
        self._on_abandon = on_abandon
        # A list of one: the last flight, or an earlier one from which the last can be reached.
        self._last: PerProcess[list[Flight[_T]]] = PerProcess(lambda: [_over()])
        self._abandoned: PerProcess[set[Flight[_T]]] = PerProcess(set)

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return sum(flight.done.waiting for flight in self._last.get())

    def wait_told(self, timeout: float | None) -> None:
        """Wait for the last call's log records and events; called from within them, do not wait.

        Args:
            timeout: The seconds to wait at most; None: without end.
        """
        for flight in self._last.get():
            if flight.done.is_set() and not _runs_here(flight):
                flight.ended.wait(timeout)

    def call(self, work: Work[_T], timeout: float | None = None) -> _T:
        """Run ``work``, or join the call that runs already; return or raise its outcome.

        Raises a copy of the error for each caller, RequestTimeoutError when ``timeout`` or the
        budget has passed, and TransportError to a call from within ``work``.

        Args:
            work: Does the slow part, and returns a function that makes its result count. That
                function runs before any caller wakes, and not at all if the call was abandoned.
            timeout: The seconds to wait at most; None: the budget.
        """
        deadline = _clock.now() + min(self.budget if timeout is None else timeout, self.budget)
        while True:
            flight = self._join(work)
            self._wait(flight, work, deadline)
            if not flight.done.is_set() and _clock.now() >= flight.until:
                self._abandon(flight)
            if flight.done.is_set() and not flight.is_abandoned:
                if isinstance(flight.outcome, BaseException):
                    raise copied(flight.outcome)
                return flight.outcome
            if _clock.now() >= deadline:
                raise RequestTimeoutError(
                    "no token in the time allowed; the login goes on: wait, or allow more time"
                )

    def _join(self, work: Work[_T]) -> Flight[_T]:
        last = self._last.get()
        flight = last[0]
        if flight.done.is_set():
            self._check_abandoned()
            fresh = flight
            while flight.done.is_set():
                # A new one each time: a signal handler that interrupts this thread here may run
                # the one before to its end. One that follows itself would make the loop endless.
                fresh = Flight(self.budget)
                flight = flight.next.set(fresh)
            # Another thread may have stored a later flight, which this line takes back: the loop
            # above then goes on from the earlier one.
            last[0] = flight
            if flight is fresh:
                self._start(flight, work)
        if _runs_here(flight) and not flight.done.is_set() and _clock.now() < flight.until:
            raise TransportError("no token yet: this is called by the login itself")
        return flight

    def _check_abandoned(self) -> None:
        abandoned = self._abandoned.get()
        abandoned.difference_update([each for each in list(abandoned) if each.ended.is_set()])
        if len(abandoned) >= _MAX_ABANDONED:
            raise RequestTimeoutError(
                f"{len(abandoned)} logins are stuck past their budget of {self.budget:.0f} "
                "seconds, so no other one is started; check the session, the proxy and the resolver"
            )

    def _wait(self, flight: Flight[_T], work: Work[_T], deadline: float) -> None:
        """Wait until the flight is over, or there is no time left."""
        # In a loop, since the runner may restart the budget.
        while not flight.done.is_set():
            left = min(deadline, flight.until) - _clock.now()
            pause = flight.start_by - _clock.now()
            if left <= 0:
                return
            if flight.runner.value is not None:
                flight.done.wait(left)
            elif pause > 0:
                flight.done.wait(min(pause, left))
            else:
                # An exception may have ended the first caller before it could start a thread, or
                # this is a signal handler that has interrupted it there. Should two threads be
                # started, the second one ends at once.
                self._start(flight, work)

    def _start(self, flight: Flight[_T], work: Work[_T]) -> None:
        flight.start_by = _clock.now() + _TAKEOVER_SECS
        try:
            start_daemon(lambda: self._run(flight, work), f"login-{self._name}")
        except RuntimeError:  # no thread can be started: run it on the caller's
            self._run(flight, work)

    def _run(self, flight: Flight[_T], work: Work[_T]) -> None:
        """Run ``work`` for the flight, unless another thread does."""
        runner = _Runner()
        with held_back() as notes:
            try:
                if flight.runner.set(runner) is runner:
                    land = _attempt(work, flight)
                    if flight.decision.set(_Decision.LANDED) is _Decision.LANDED:
                        flight.outcome = _outcome(land)
            finally:  # also where an exception such as KeyboardInterrupt ends a caller's thread
                try:
                    if flight.runner.value is runner:
                        if is_own_thread():
                            # Before a caller wakes, since it may fork at once: the child would
                            # inherit the locks that this thread holds while it tells the log, and
                            # no thread that releases them.
                            note_end()
                        flight.done.set()
                        notes.tell()
                finally:
                    if flight.runner.value is runner:
                        flight.done.set()  # an interrupt may have come before the line above
                        flight.ended.set()

    def _abandon(self, flight: Flight[_T]) -> None:
        # Each step may be repeated: an exception may have ended another caller between two.
        if flight.decision.set(_Decision.ABANDONED) is _Decision.ABANDONED:
            self._abandoned.get().add(flight)
            flight.done.set()
            if flight.report.take():
                self._on_abandon()
        elif not flight.done.wait(_MAX_LANDING_SECS):
            flight.done.set()  # its runner, a caller's thread, was interrupted before it could


def _over() -> Flight[Any]:
    """Return a flight that is over, for the first caller to start the next one."""
    flight: Flight[Any] = Flight(0.0)
    flight.done.set()
    flight.ended.set()
    return flight


def _runs_here(flight: Flight[Any]) -> bool:
    runner = flight.runner.value
    return runner is not None and runner.thread == threading.get_ident()


def _attempt(work: Work[_T], flight: Flight[_T]) -> Callable[[], _T]:
    try:
        return work(flight)
    except Exception as error:
        failure = error.with_traceback(None)

    def fail() -> _T:
        raise failure

    return fail


def _outcome(land: Callable[[], _T]) -> _T | Exception:
    try:
        return land()
    except Exception as error:
        return error.with_traceback(None)


def copied(error: BaseException) -> BaseException:
    """Return a copy of ``error`` for one caller; an error that is not ours may not allow one."""
    try:
        return copy.copy(error)
    except Exception:
        return error
