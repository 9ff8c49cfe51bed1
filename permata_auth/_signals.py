"""Tell an exception that a signal handler threw into a thread from one of the code there."""

from __future__ import annotations

import signal
import threading
from types import CodeType
from typing import Any


def is_thrown_by_signal(error: BaseException) -> bool:
    """Tell whether a signal handler raised ``error``, as Celery's soft time limit does.

    Python runs signal handlers in the main thread, between any two steps of its code. Their
    exception comes out there, and must reach the caller.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Return the code that runs when ``handler`` is called, if it is Python's."""
    handler = getattr(handler, "func", handler)  # of a functools.partial
    handler = getattr(handler, "__func__", handler)  # of a bound method
    if not hasattr(handler, "__code__"):
        handler = vars(type(handler)).get("__call__")
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None
