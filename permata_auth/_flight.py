"""Single flight: one call for all that ask at the same time, whose outcome they share."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from . import _clock
from ._latch import Latch, Once
from ._logging import held_back
from ._process import PerProcess
from ._threads import is_own_thread, note_end, start_daemon
from .exceptions import RequestTimeoutError, TransportError

_T = TypeVar("_T")

#: A caller waits this long for the thread that ought to run a flight before it starts another.
_TAKEOVER_SECS = 0.05
_MAX_ABANDONED = 2


class Flight(Generic[_T]):
    """One call, from its first caller to its outcome.

    Args:
        work: See :meth:`SingleFlight.call`.
        budget: The seconds that the call may take.
    """

    def __init__(self, work: Callable[[Flight[_T]], Callable[[], _T]], budget: float) -> None:
        self.work = work
        #: When it has overrun its budget.
        self.until = _clock.now() + budget
        self.done = Latch()
        self.is_abandoned = False
        #: Set when its thread is done with it, log records and events included.
        self.ended = Latch()
        self.runner: int | None = None
        self.outcome: _T | BaseException = TransportError(
            "the login was interrupted; the caller may try again"
        )
        #: Taken by the thread that runs it.
        self.claim = Once()
        #: Taken by the thread that decides its outcome: the runner, or a caller that abandons it.
        self.decision = Once()

    def restart_budget(self, budget: float) -> None:
        """Count the budget from now: time in a queue is not the login's."""
        self.until = _clock.now() + budget


class SingleFlight(Generic[_T]):
    """At most one call at a time in each process, on a thread of its own.

    A thread of its own, so that no caller's timeout, signal or end disturbs the other callers.
    Takes no lock: callers may come from signal handlers, and from the call itself.

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
        # A dictionary for its atomic setdefault(); its one key is None.
        self._current: PerProcess[dict[None, Flight[_T]]] = PerProcess(dict)
        self._abandoned: PerProcess[list[Flight[_T]]] = PerProcess(list)
        self._last: PerProcess[list[Flight[_T]]] = PerProcess(list)

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        flight = self._current.get().get(None)
        return flight.done.waiting if flight else 0

    def wait_told(self, timeout: float | None) -> None:
        """Wait until the last call has told its log records and events, unless called by them.

        Args:
            timeout: The seconds to wait at most; None: without end.
        """
        for flight in self._last.get():
            if flight.done.is_set() and flight.runner != threading.get_ident():
                flight.ended.wait(timeout)

    def call(
        self, work: Callable[[Flight[_T]], Callable[[], _T]], timeout: float | None = None
    ) -> _T:
        """Run ``work``, or join the call that runs already; return or raise its outcome.

        Raises a copy of the error for each caller, RequestTimeoutError when ``timeout`` or the
        budget has passed, and TransportError to a call from within ``work``.

        Args:
            work: Does what takes time, and returns a function that makes its result count. That
                function runs before any caller wakes, and not at all if the call was abandoned.
            timeout: The seconds to wait at most; None: the budget.
        """
        deadline = _clock.now() + min(self.budget if timeout is None else timeout, self.budget)
        while True:
            flight = self._join(work)
            self._wait(flight, deadline)
            if flight.done.is_set() and not flight.is_abandoned:
                if isinstance(flight.outcome, BaseException):
                    raise copied(flight.outcome)
                return flight.outcome
            if _clock.now() >= flight.until:
                self._abandon(flight)
            if _clock.now() >= deadline:
                raise RequestTimeoutError(
                    "no token in the time allowed; the login goes on: wait, or allow more time"
                )

    def _join(self, work: Callable[[Flight[_T]], Callable[[], _T]]) -> Flight[_T]:
        current = self._current.get()
        flight = current.get(None)
        if flight is None:
            self._check_abandoned()
            fresh = Flight(work, self.budget)
            flight = current.setdefault(None, fresh)
            if flight is fresh:
                self._last.get()[:] = [flight]
                self._start(flight)
        if flight.runner == threading.get_ident() and not flight.done.is_set():
            raise TransportError("no token yet: this is called by the login itself")
        return flight

    def _check_abandoned(self) -> None:
        alive = [flight for flight in self._abandoned.get() if not flight.ended.is_set()]
        self._abandoned.get()[:] = alive
        if len(alive) >= _MAX_ABANDONED:
            raise RequestTimeoutError(
                f"{len(alive)} logins are stuck past their budget of {self.budget:.0f} seconds, "
                "so no other one is started; check the session, the proxy and the resolver"
            )

    def _wait(self, flight: Flight[_T], deadline: float) -> None:
        if not flight.claim.is_taken:
            # Its first caller may have been interrupted before it could start a thread, for good,
            # or by the signal handler that is here now. Of two threads the second ends at once.
            flight.done.wait(min(_TAKEOVER_SECS, deadline - _clock.now()))
            if not flight.claim.is_taken:
                self._start(flight)
        # A loop, since the runner may restart the budget.
        while (left := min(deadline, flight.until) - _clock.now()) > 0:
            if flight.done.wait(left):
                return

    def _start(self, flight: Flight[_T]) -> None:
        try:
            start_daemon(lambda: self._run(flight), f"login-{self._name}")
        except RuntimeError:  # no thread can be started: run it on the caller's
            self._run(flight)

    def _run(self, flight: Flight[_T]) -> None:
        if not flight.claim.take():
            return
        flight.runner = threading.get_ident()
        with held_back() as notes:
            is_decided = False
            try:
                land = _attempt(flight.work, flight)
                is_decided = flight.decision.take()
                if is_decided:
                    flight.outcome = _outcome(land)
            finally:  # also where an exception such as KeyboardInterrupt ends a caller's own thread
                if is_decided or flight.decision.take():
                    # In this order: a caller that wakes and asks again must not join this flight.
                    self._current.get().pop(None, None)
                    if is_own_thread():
                        # Before a caller wakes, which may fork at once: the child would have the
                        # locks that this thread holds while it tells, and nobody to release them.
                        note_end()
                    flight.done.set()
                try:
                    notes.tell()
                finally:
                    flight.ended.set()

    def _abandon(self, flight: Flight[_T]) -> None:
        if (
            not flight.decision.take()
        ):  # by another caller, or the runner is about to wake everybody
            flight.done.wait(_TAKEOVER_SECS)
            return
        flight.is_abandoned = True
        self._abandoned.get().append(flight)
        self._current.get().pop(None, None)
        flight.done.set()
        self._on_abandon()


def _attempt(
    work: Callable[[Flight[_T]], Callable[[], _T]], flight: Flight[_T]
) -> Callable[[], _T]:
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
