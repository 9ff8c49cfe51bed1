"""Threads of this package's own: how they start, and how a fork waits for their end."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

_TASKS = Path("/proc/self/task")
_MAX_FORK_WAIT_SECS = 0.25
_POLL_SECS = 0.0005

#: Whether this context belongs to a thread that this package has started.
_is_own: ContextVar[bool] = ContextVar("permata_auth_is_own_thread", default=False)

#: Kernel ids of the last threads whose function has returned, or has no more to do than to tell
#: records and events; they may not have ended yet.
_ending: deque[int] = deque(maxlen=64)


def start_daemon(function: Callable[[], object], name: str) -> threading.Thread:
    """Run ``function`` on a daemon thread of its own, in a copy of the caller's context.

    Raises RuntimeError where no thread can be started: the system has none left, a subinterpreter
    refuses daemon threads, or the interpreter is ending.

    Args:
        function: Called with no arguments. Its exceptions go to :func:`threading.excepthook`.
        name: The thread's name; ``permata-auth-`` is put before it.
    """
    if sys.is_finalizing():  # Python 3.10 and 3.11 would hang here for ever
        raise RuntimeError("no thread can be started while the interpreter ends")
    # Looked up at each call: gevent may have replaced the class since this module was imported.
    thread = threading.Thread(
        target=run_as_own,
        args=(function, contextvars.copy_context()),
        name=f"permata-auth-{name}",
        daemon=True,
    )
    thread.start()
    return thread


def run_as_own(function: Callable[[], object], context: contextvars.Context) -> None:
    """Run ``function`` as all that a thread of this package's own does.

    Args:
        function: Called with no arguments.
        context: The context that it runs in, used by no other thread.
    """
    context.run(_is_own.set, True)
    try:
        context.run(function)
    finally:
        note_end()


def is_own_thread() -> bool:
    """Tell whether this package has started this thread."""
    return _is_own.get()


def note_end() -> None:
    """Have a fork wait for the end of this thread, which has at most records and events to tell."""
    ident = threading.get_native_id()
    if ident != os.getpid():  # a greenlet runs on the main thread, which does not end here
        _ending.append(ident)


def _wait_for_ends() -> None:
    """Wait before a fork for threads of ours that have noted their end but still exist.

    A login's thread takes locks of event hooks and log handlers while it tells, after its callers
    have woken; a thread that used OpenSSL takes a lock of OpenSSL's as it ends, after
    ``Thread.join()`` has returned. Without this wait, a child that is forked in that moment
    inherits the lock as taken, and hangs at its next event, at its next HMAC or at its exit.
    No other thread is waited for.
    """
    until = time.monotonic() + _MAX_FORK_WAIT_SECS
    own = threading.get_native_id()  # listed where an event hook forks
    # Listed anew each time: while this thread waits, more of them may end, and another thread that
    # forks removes the same ones.
    while others := [ident for ident in _ending.copy() if ident != own]:
        task = _TASKS / str(others[0])
        while task.exists() and time.monotonic() < until:
            time.sleep(_POLL_SECS)
        with suppress(ValueError):
            _ending.remove(others[0])


if _TASKS.is_dir():
    os.register_at_fork(before=_wait_for_ends)
