"""One-shot flags that are safe where those of :mod:`threading` are not."""

from __future__ import annotations

import threading
from contextlib import suppress


class Latch:
    """A flag that is set once and waited for by any number of threads.

    It may be set, and waited for, from a signal handler, a weak-reference callback or ``__del__``.
    :class:`threading.Event` may not: each of its methods takes a lock, and the interrupted thread
    may be the one that holds it. Here every step is one atomic operation on a list, and a waiter
    owns its lock alone, so that an exception thrown into it harms nobody else.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[threading.Lock] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        # Built-in names alone: as the interpreter ends without a GIL, a weak reference's callback
        # gets here when those of this module are gone.
        try:
            while True:
                self._waiters.pop().release()
        except IndexError:
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the latch is set or ``timeout`` seconds have passed; return whether it is."""
        if not self._is_set:
            waiter = threading.Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            # set() raises the flag before it empties the list: a waiter that came too late to be
            # released sees the flag here. Without the GIL the list's own lock orders the two.
            try:
                if not self._is_set:
                    waiter.acquire(timeout=-1 if timeout is None else clamp(timeout))
            finally:
                with suppress(ValueError):  # released: set() has taken it off the list already
                    self._waiters.remove(waiter)
        return self._is_set

    @property
    def waiting(self) -> int:
        """The number of threads that wait."""
        return len(self._waiters)


def clamp(timeout: float) -> float:
    """Return ``timeout`` as a number of seconds that every lock accepts."""
    return min(max(timeout, 0.0), threading.TIMEOUT_MAX)


class Once:
    """Something that one thread alone may do. Safe wherever :class:`Latch` is."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries = [None]  # to take the last one off a list is one atomic operation

    @property
    def is_taken(self) -> bool:
        return not self._entries

    def take(self) -> bool:
        """Return True to the first caller alone."""
        try:
            self._entries.pop()
        except IndexError:
            return False
        return True
