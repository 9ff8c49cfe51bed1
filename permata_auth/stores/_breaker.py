"""The circuit breaker of a token store: after a failure no operation starts for a while."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import NoReturn, Protocol

from .. import _clock
from .._latch import Latch
from .._logging import Log
from ..exceptions import PermataAuthError

#: By the name of the module whose operations it tells of.
logger = Log("permata_auth.stores.guarded")

_MIN_PAUSE_SECS = 0.5
_MAX_PAUSE_SECS = 8.0
_MAX_ABANDONED = 4

#: The operations of which each success shows that they would succeed too. They may be rare: after
#: a failed ``discard`` the next one could be hours away.
_PROVES = {"save": ("save", "discard", "save_failure")}


class Worker(Protocol):
    """A thread whose operation may never return."""

    ended: Latch

    def close(self) -> None:
        """Let the thread end, once its operation returns."""


class StoreOutError(Exception):
    """The circuit breaker is open; the log has said why."""


class CircuitBreaker:
    """The circuit breaker of one store in one process. Thread-safe.

    An outage is over when the operation that failed first succeeds, or one that asks more of the
    store: a successful read does not mean that a store which could not be written is back, but
    a successful save means so of one that failed to remove a token.
    """

    def __init__(self) -> None:
        self.failing: str | None = None
        self._pause_secs = 0.0
        self._next_trial = -math.inf
        self._abandoned: list[Worker] = []
        self._lock = threading.RLock()

    def check(self) -> None:
        """Raise StoreOutError where no operation may start."""
        for worker in self._abandoned.copy():
            if worker.ended.is_set():
                # Another thread can remove this worker, or add one, between the two lines. Each
                # step is atomic; without the suppress() the second removal would raise.
                with suppress(ValueError):
                    self._abandoned.remove(worker)
        is_open = self.failing is not None and _clock.now() < self._next_trial
        if is_open or len(self._abandoned) >= _MAX_ABANDONED:
            raise StoreOutError

    def abandon(self, worker: Worker) -> None:
        """Leave a thread to the operation that does not return.

        Args:
            worker: The thread; it ends by itself once the operation returns.
        """
        worker.close()
        self._abandoned.append(worker)

    def fail(self, operation: str, error: BaseException, began: float) -> NoReturn:
        """Note that an operation failed, and raise StoreOutError. The first failure is logged.

        Args:
            operation: The operation's name.
            error: The reason.
            began: When it began. Where another operation has failed since, both met the same
                failure of the store, and the pause does not grow twice.
        """
        with self._lock:
            if began >= self._next_trial:
                self._pause_secs = min(max(self._pause_secs * 2, _MIN_PAUSE_SECS), _MAX_PAUSE_SECS)
            self._next_trial = _clock.now() + self._pause_secs
            is_first = self.failing is None
            if is_first:
                self.failing = operation
        if is_first:
            logger.warning("Token store failed, going on without it: %s", _reason(error))
        raise StoreOutError from None

    def succeed(self, operation: str) -> None:
        """Note that an operation succeeded.

        Args:
            operation: The operation's name.
        """
        with self._lock:
            is_back = self.failing in _PROVES.get(operation, (operation,))
            if is_back:
                self.failing, self._pause_secs, self._next_trial = None, 0.0, -math.inf
        if is_back:
            logger.warning("Token store is back")


def _reason(error: BaseException) -> str:
    """Name an error; its text only where it is our own, which shows no secret."""
    return str(error) if isinstance(error, PermataAuthError) else type(error).__name__
