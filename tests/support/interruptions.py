"""Interrupts at every line of the product, one after the other."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

from .threads import Call


def interrupted_at(step: int, body: Callable[[], Any], act: Callable[[], Any]) -> bool:
    """Run ``body``; at its ``step``-th line, on this thread, call ``act``; tell if it came there.

    A signal handler and a destructor run between any two lines of the thread that they interrupt;
    this finds all of these points, where a real signal would hit one of them now and then.
    """
    steps = itertools.count()
    has_acted = []

    def trace(frame, event, argument):
        # Not in threading itself: an exception between its own lines would keep its locks locked.
        if has_acted or "permata_auth" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(steps) == step:
            has_acted.append(True)
            act()
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    finally:
        sys.settrace(previous)
    return bool(has_acted)


def on_a_thread_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test on a thread that ends with it.

    An exception out of a trace function may leave CPython with another one that it believes is
    being handled, which would be the context of every error of that thread from then on.
    """

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        Call(test, *args, **kwargs).value(100)

    return run
