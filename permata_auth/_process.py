"""Which process this is, and values of which each process must have its own."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_T = TypeVar("_T")


class _ForkAware(Protocol):
    def after_fork_in_child(self) -> None: ...


_forks = 0
_fork_aware: weakref.WeakSet[_ForkAware] = weakref.WeakSet()


def identity() -> tuple[int, int]:
    """Return a key that no other process in this one's line of ancestors has.

    The pid tells a child from its parent even after a fork in C that runs no Python hooks; the
    count of forks tells it from a dead ancestor whose pid it was given.
    """
    return _forks, os.getpid()


def notify_forks(watcher: _ForkAware) -> None:
    """Call ``watcher.after_fork_in_child()`` in every child; holds it weakly."""
    _fork_aware.add(watcher)


class PerProcess(Generic[_T]):
    """A value of which every process has its own, made by ``make`` at the first use there.

    For locks, sessions and calls in flight: a lock that another thread of the parent held at the
    fork stays locked in the child for ever, and a TLS session that two processes use is corrupted.
    A child forgets its ancestors' values; where dropping one could harm, ``retire`` is called with
    it and may keep it from being collected. Thread-safe without a lock, since every step is
    one atomic operation on a dictionary.

    Args:
        make: Makes the value. Of two threads that make one at once, both get the same value.
        retire: Called in a child with each value of an ancestor.
    """

    __slots__ = ("_make", "_retire", "_values")

    def __init__(
        self, make: Callable[[], _T], *, retire: Callable[[_T], object] | None = None
    ) -> None:
        self._make = make
        self._retire = retire
        self._values: dict[tuple[int, int], _T] = {}

    def get(self) -> _T:
        """Return this process's value."""
        key = identity()
        try:
            return self._values[key]
        except KeyError:
            self._forget_ancestors(key)
            return self._values.setdefault(key, self._make())

    def peek(self) -> _T | None:
        """Return this process's value, or None where it was not needed yet."""
        return self._values.get(identity())

    def pop(self) -> _T | None:
        """Forget this process's value and return it; the next use makes another."""
        return self._values.pop(identity(), None)

    def _forget_ancestors(self, key: tuple[int, int]) -> None:
        for other in list(self._values):
            value = self._values.pop(other, None) if other != key else None
            if value is not None and self._retire is not None:
                self._retire(value)


def _in_child() -> None:
    # Only assignments are safe here: a lock may be held by a thread that does not exist any more.
    global _forks
    _forks += 1
    for watcher in list(_fork_aware):
        watcher.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
