"""A clock that moves only when it is told to, and takes the product's waiting threads along."""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from contextlib import suppress

from permata_auth import _clock, handler
from permata_auth._latch import Latch

_PATIENCE = 20.0


class _Sleeper:
    def __init__(self, latch: Latch, deadline: float) -> None:
        self.thread = threading.current_thread()
        self.latch = latch
        self.deadline = deadline
        self.lock = threading.Lock()
        self.lock.acquire()
        self.is_awake = False

    def wake(self) -> None:
        self.is_awake = True
        with suppress(ValueError):  # Latch.set() has released it already
            self.latch._waiters.remove(self.lock)
            self.lock.release()


class FakeClock:
    """Stands in for both clocks and for every timed wait on a latch; a context manager.

    ``advance(seconds)`` passes through the wake-ups that are due, in their order. After each it
    waits until every thread of the product has ended or waits again, so a test sees a world at
    rest. ``jump(seconds)`` is a machine that was suspended: everything due wakes up late, at once.
    ``step_wall(seconds)`` moves the wall clock alone. ``waits`` lists (thread name, seconds) of
    every timed wait. With ``runs_free`` set, a wait takes the clock to its end as soon as all other
    threads of the product rest. If it did so at once, a thread that was just started would find its
    time over on a busy machine.
    """

    def __init__(self) -> None:
        self._now = 1_000.0
        # Whole seconds: sums of whole numbers are exact, so tests may ask for exact moments.
        self._epoch = float(int(time.time())) - self._now
        self._sleepers: list[_Sleeper] = []
        self._parked: dict[int | None, threading.Event] = {}
        self._changed = threading.Condition()
        self.waits: list[tuple[str, float]] = []
        self.runs_free = False
        self._free: set[threading.Thread] = set()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._epoch + self._now

    def step_wall(self, seconds: float) -> None:
        self._epoch += seconds

    def __enter__(self) -> FakeClock:
        self._real = (_clock.now, _clock.wall, Latch.wait)
        self._strangers = product_threads()  # leaked by a test before this one
        _clock.now, _clock.wall = self.now, self.wall
        handler._now = self.now  # the hot path's own name for it
        Latch.wait = lambda latch, timeout=None: self._wait(latch, timeout)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Who still sleeps is woken by its latch alone, as a real thread would be.
        _clock.now, _clock.wall, Latch.wait = self._real
        handler._now = _clock.now

    def _wait(self, latch: Latch, timeout: float | None) -> bool:
        name = threading.current_thread().name
        if timeout is not None:
            self.waits.append((name, timeout))
        if latch.is_set() or (timeout is not None and timeout <= 0):
            return latch.is_set()
        if self.runs_free and timeout is not None:
            return self._wait_freely(latch, timeout)
        sleeper = _Sleeper(latch, math.inf if timeout is None else self._now + timeout)
        with self._changed:
            self._sleepers.append(sleeper)
            latch._waiters.append(sleeper.lock)
            self._changed.notify_all()
        try:
            if not latch.is_set():  # as in Latch: set() raises the flag, then empties the list
                sleeper.lock.acquire()
        finally:
            with suppress(ValueError):
                latch._waiters.remove(sleeper.lock)
            with self._changed:
                self._sleepers.remove(sleeper)
                self._changed.notify_all()
        return latch.is_set()

    def _wait_freely(self, latch: Latch, timeout: float) -> bool:
        thread = threading.current_thread()
        self._free.add(thread)
        try:
            self.settle()
        finally:
            self._free.discard(thread)
        if not latch.is_set():
            self._now += timeout
        return latch.is_set()

    def park(self, gate: threading.Event) -> None:
        """Wait for ``gate``, which is the test's; until it is set, this thread is at rest."""
        ident = threading.get_ident()
        self._parked[ident] = gate
        assert gate.wait(60), "the test forgot to open a gate"
        del self._parked[ident]

    @property
    def sleepers(self) -> list[str]:
        """The names of the threads that wait."""
        return [sleeper.thread.name for sleeper in list(self._sleepers)]

    @property
    def next_wake_up(self) -> float | None:
        """The seconds until the next thread wakes up by itself."""
        ends = [s.deadline for s in list(self._sleepers) if s.deadline < math.inf]
        return min(ends) - self._now if ends else None

    def advance(self, seconds: float) -> None:
        target = self._now + seconds
        self.settle()
        while (sleeper := self._next_until(target)) is not None:
            self._now = max(self._now, sleeper.deadline)
            sleeper.wake()
            self.settle()
        self._now = target

    def jump(self, seconds: float) -> None:
        self.settle()
        self._now += seconds
        self.advance(0)

    def advance_to_next(self) -> float:
        """Advance to the next wake-up and return how far that was."""
        self.settle()
        step = self.next_wake_up
        assert step is not None, "nobody waits"
        self.advance(step)
        return step

    def wait_for_sleepers(self, count: int) -> None:
        """Block until ``count`` threads wait on latches."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._sleepers) >= count, _PATIENCE)

    def settle(self) -> None:
        """Block until every thread of the product has ended or waits."""
        deadline = time.monotonic() + _PATIENCE
        while busy := self._busy():
            if time.monotonic() > deadline:
                raise AssertionError(f"threads do not come to rest:\n{_stacks(busy)}")
            # No join(): it raises for a thread that another one is just starting.
            with self._changed:
                self._changed.wait(0.001)

    def _next_until(self, target: float) -> _Sleeper | None:
        due = [s for s in list(self._sleepers) if s.deadline <= target]
        return min(due, key=lambda sleeper: sleeper.deadline, default=None)

    def _busy(self) -> list[threading.Thread]:
        with self._changed:
            # Listed under the lock: each thread below sleeps already, or has yet to be waited for.
            sleepers = list(self._sleepers)
            threads = product_threads()
        waking = [s.thread for s in sleepers if s.is_awake or s.latch.is_set()]
        at_rest = {s.thread for s in sleepers} | self._free
        at_rest.update(t for t in threads if self._is_parked(t))
        return waking + [t for t in threads if t not in at_rest and t not in self._strangers]

    def _is_parked(self, thread: threading.Thread) -> bool:
        gate = self._parked.get(thread.ident)
        return gate is not None and not gate.is_set()


def product_threads() -> list[threading.Thread]:
    """List the product's threads; the deadline timers of HTTP exchanges only in :mod:`threads`."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("permata-auth-") and thread.name != "permata-auth-deadline"
    ]


def timers() -> list[threading.Thread]:
    """List the product's running timers."""
    return [thread for thread in product_threads() if isinstance(thread, threading.Timer)]


def _stacks(threads: list[threading.Thread]) -> str:
    frames = sys._current_frames()
    return "\n".join(
        f"{thread.name}:\n" + "".join(traceback.format_stack(frames[thread.ident]))
        for thread in threads
        if thread.ident in frames
    )
