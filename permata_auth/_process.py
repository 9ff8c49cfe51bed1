"""Which process this is: what a fork must not share is kept under this process's own key."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _ForkAware(Protocol):
    def _after_fork_in_child(self) -> None: ...


_forks = 0
_fork_aware: weakref.WeakSet[_ForkAware] = weakref.WeakSet()


def identity() -> tuple[int, int]:
    """Return a key that no other process in this one's line of ancestors has.

    The pid tells a child from its parent even after a fork in C that runs no Python hooks; the
    count of forks tells it from a dead ancestor whose pid it was given.
    """
    return _forks, os.getpid()


def notify_forks(watcher: _ForkAware) -> None:
    """Call ``watcher._after_fork_in_child()`` in every child; holds it weakly."""
    _fork_aware.add(watcher)


def _in_child() -> None:
    # Only assignments are safe here: a lock may be held by a thread that does not exist any more.
    global _forks
    _forks += 1
    for watcher in list(_fork_aware):
        watcher._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
