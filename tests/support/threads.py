"""Threads that meet at a barrier, and waiting by condition."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 20.0


def until(condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
    """Poll ``condition`` until it is true and return its value; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.002)
    return value


class Call:
    """A function on a thread of its own, and its outcome."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._thread = threading.Thread(
            target=self._run, args=(function, args, kwargs), name="test-call", daemon=True
        )
        self._thread.start()

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        began = time.monotonic()
        try:
            self.result = function(*args, **kwargs)
        except BaseException as error:
            self.error = error
        self.seconds = time.monotonic() - began

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def join(self, timeout: float = PATIENCE) -> Call:
        self._thread.join(timeout)
        assert self.is_done, f"still running after {timeout} s"
        return self

    def value(self, timeout: float = PATIENCE) -> Any:
        """Return the result, or raise the error."""
        self.join(timeout)
        if self.error is not None:
            raise self.error
        return self.result


def together(count: int, function: Callable[[], Any], timeout: float = 60.0) -> list[Call]:
    """Call ``function`` in ``count`` threads that start at the same moment; join them all."""
    barrier = threading.Barrier(count + 1)

    def run() -> Any:
        barrier.wait(timeout)
        began = time.monotonic()
        try:
            return function(), time.monotonic() - began
        except Exception as error:
            error.seconds = time.monotonic() - began  # type: ignore[attr-defined]
            raise

    calls = [Call(run) for _ in range(count)]
    barrier.wait(timeout)
    for call in calls:
        call.join(timeout)
        if call.error is None:
            call.result, call.seconds = call.result
        else:
            call.seconds = getattr(call.error, "seconds", call.seconds)
    return calls


def logins_told() -> None:
    """Wait until every login has told its log records and events, after its callers woke."""
    until(lambda: not [t for t in threading.enumerate() if "permata-auth-login-" in t.name])
