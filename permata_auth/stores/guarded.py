"""A guard around a token store, so that one that is slow, silent or broken costs little time.

Every operation runs on a thread that can be abandoned, behind a circuit breaker. During an outage a
trial operation may take a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, TypeVar

from .. import _clock
from .._latch import Latch
from .._process import PerProcess
from .._threads import start_daemon
from ..exceptions import TokenStoreError
from ..tokens import AccessToken
from ._breaker import CircuitBreaker, StoreOutError
from .base import TokenStore
from .failures import StoredFailure

_T = TypeVar("_T")

#: During an outage a trial operation may take this part of the time that is allowed otherwise.
_TRIAL_SHARE = 0.1
#: The time between two looks at the store's content, in a wait for its lock.
_MIN_LOOK_SECS = 0.05
_MAX_LOOK_SECS = 0.25


class GuardedStore:
    """A store for one key, whose operations end in time and raise nothing but StoreOutError.

    Args:
        store: The store to guard.
        key: The key of every operation.
        timeout: The seconds that all operations of one session may take, waiting for the lock not
            included.
        max_hold: The seconds after which a session's lock is released, though the session goes on:
            a login that overran its budget must not keep the other processes waiting.
        breaker: That of the same store at another key; None: a new one.
    """

    def __init__(
        self,
        store: TokenStore,
        key: str,
        *,
        timeout: float,
        max_hold: float,
        breaker: PerProcess[CircuitBreaker] | None = None,
    ) -> None:
        self.store = store
        self.key = key
        self.timeout = timeout
        self.max_hold = max_hold
        self._breaker = breaker or PerProcess(CircuitBreaker)

    def at(self, store: TokenStore, key: str) -> GuardedStore:
        """Return ``store`` at ``key`` behind the same circuit breaker: it is one outage for both.

        Args:
            store: This store, bound to other credentials.
            key: Their key.
        """
        return GuardedStore(
            store, key, timeout=self.timeout, max_hold=self.max_hold, breaker=self._breaker
        )

    @contextmanager
    def session(self) -> Iterator[StoreSession]:
        """Open a session, for one thread; its end releases its lock and ends its threads."""
        with closing(StoreSession(self, self._breaker.get())) as session:
            yield session


class StoreSession:
    """The operations of one renewal of a token, in order, on a thread beside the caller's.

    Args:
        guarded: The store.
        breaker: The circuit breaker of the store in this process.
    """

    def __init__(self, guarded: GuardedStore, breaker: CircuitBreaker) -> None:
        self._guarded = guarded
        self._store: Any = guarded.store
        self._key = guarded.key
        self._breaker = breaker
        self._seconds_left = guarded.timeout
        self._worker: _Worker | None = None
        self._has_taken_lock = False

    @property
    def has_lock(self) -> bool:
        """Whether this session has the store's lock; a lock that is held too long is released."""
        worker = self._worker
        return self._has_taken_lock and worker is not None and not worker.ended.is_set()

    def allow(self, seconds: float) -> None:
        """Set the time that all operations from now on may take.

        Args:
            seconds: The time in seconds.
        """
        self._seconds_left = seconds

    def load(self) -> AccessToken | None:
        """Return the stored token."""
        return self._attempt("load", self._load)

    def save(self, token: AccessToken) -> None:
        """Store ``token`` in place of any other.

        Args:
            token: The token.
        """
        self._attempt("save", lambda: self._store.save(self._key, token))

    def discard(self, token: AccessToken) -> None:
        """Remove ``token``, if it is still the one stored.

        Args:
            token: The token.
        """
        self._attempt("discard", lambda: self._store.discard(self._key, token))

    def load_failure(self, suffix: str = "") -> StoredFailure | None:
        """Return the stored failure; None from a store that keeps none.

        Args:
            suffix: Tells failures of one kind from others under the same key.
        """
        if not self._may_have("load_failure"):
            return None
        key = self._key + suffix
        found: Any = self._attempt("load_failure", lambda: self._store.load_failure(key))
        return found if isinstance(found, StoredFailure) else None

    def save_failure(self, failure: StoredFailure | None, suffix: str = "") -> None:
        """Store a failure.

        Args:
            failure: The failure; None removes the one that is stored.
            suffix: As in :meth:`load_failure`.
        """
        if self._may_have("save_failure"):
            key = self._key + suffix
            self._attempt("save_failure", lambda: self._store.save_failure(key, failure))

    def lock(self, wait: float, look: Callable[[StoreSession], bool]) -> bool:
        """Take the store's lock; return False where ``look`` made it needless.

        Args:
            wait: The seconds to wait at most. After a lock that could not be taken, or a token
                that could not be saved under it, a tenth of an operation's time instead.
            look: Called now and then while the lock is not free, with a session for its operations.
        """
        if self._breaker.failing in ("lock", "save"):
            # A save that hangs keeps the lock: perhaps an earlier one of this very process.
            wait = self._allowed()
        task = self._submit("lock", lambda stack: stack.enter_context(self._store.lock(self._key)))
        if not task.done.wait(min(_MIN_LOOK_SECS, wait)) and self._found(task, wait, look):
            return False
        if task.error is not None:
            self._breaker.fail("lock", task.error, task.began)
        self._has_taken_lock = True
        self._breaker.succeed("lock")
        return True

    def close(self) -> None:
        """Release the lock, and end the session's thread. Reports a release that fails."""
        worker = self._worker
        if worker is None:
            return
        worker.close()
        if worker.is_busy:  # with an operation that does not return
            self._breaker.abandon(worker)
        elif self._has_taken_lock:
            with suppress(StoreOutError):  # the circuit breaker has noted and logged it
                self._wait_for_release(worker)

    def _found(self, task: _Task, wait: float, look: Callable[[StoreSession], bool]) -> bool:
        """Wait for the lock; return True if ``look`` found something first."""
        until, pause = task.began + wait, _MIN_LOOK_SECS
        # A session of its own, since this one's thread waits for the lock.
        with closing(StoreSession(self._guarded, self._breaker)) as other:
            while True:
                other.allow(self._seconds_left)
                if look(other):
                    return True
                pause = min(pause * 2, _MAX_LOOK_SECS)
                if task.done.wait(min(pause, until - _clock.now())):
                    return False
                if _clock.now() >= until:
                    reason = f"its lock was not free for {wait:.1f} seconds"
                    self._breaker.fail("lock", TokenStoreError(reason), task.began)

    def _load(self) -> AccessToken | None:
        token = self._store.load(self._key)
        if token is not None and not isinstance(token, AccessToken):
            raise TypeError("a store's load() must return an AccessToken or None")
        return token

    def _may_have(self, name: str) -> bool:
        """Tell whether the store may have an operation; one that fails to tell is asked for it."""
        try:
            return hasattr(self._store, name)
        except Exception:  # of a store that delegates by __getattr__, and is down
            return True

    def _attempt(self, name: str, operation: Callable[[], _T]) -> _T:
        """Return the result of ``operation``, in time, or raise StoreOutError."""
        began, allowed = _clock.now(), self._allowed()
        task = self._submit(name, lambda stack: operation())
        if not task.done.wait(allowed):
            reason = f"no response within {allowed:.1f} seconds"
            self._breaker.fail(name, TokenStoreError(reason), task.began)
        self._seconds_left = max(allowed - (_clock.now() - began), 0.0)
        if task.error is not None:
            self._breaker.fail(name, task.error, task.began)
        self._breaker.succeed(name)
        result: _T = task.result
        return result

    def _allowed(self) -> float:
        """Return the seconds that the next operation may take; the outage may have begun here."""
        if self._breaker.failing:
            self._seconds_left = min(self._seconds_left, self._guarded.timeout * _TRIAL_SHARE)
        return self._seconds_left

    def _wait_for_release(self, worker: _Worker) -> None:
        began = _clock.now()
        if not worker.ended.wait(max(self._seconds_left, _MAX_LOOK_SECS)):
            self._breaker.abandon(worker)
            reason = "its lock was not released in time"
            self._breaker.fail("lock", TokenStoreError(reason), began)
        if worker.error is not None:
            self._breaker.fail("lock", worker.error, began)

    def _submit(self, name: str, operation: Callable[[ExitStack], Any]) -> _Task:
        worker = self._worker
        if worker is not None and worker.is_busy:
            # It is busy with an operation, or a wait for the lock, that was given up: the token of
            # the login after it would wait behind it and not be stored.
            self._breaker.abandon(worker)
            worker = self._worker = None
        self._breaker.check()
        if worker is None or worker.ended.is_set():  # it ends after the longest time of a lock
            self._has_taken_lock = False
            try:
                worker = self._worker = _Worker(self._guarded.max_hold)
            except RuntimeError as error:  # no thread can be started
                self._breaker.fail(name, error, _clock.now())
        return worker.submit(operation)


class _Task:
    """One operation, and the link to the next one of its thread."""

    def __init__(self, operation: Callable[[ExitStack], Any]) -> None:
        #: Not before the circuit breaker has let it through.
        self.began = _clock.now()
        self.done = Latch()
        self.result: Any = None
        self.error: BaseException | None = None
        #: The next task, once :attr:`is_followed` is set; None: there will be no more.
        self.following: _Task | None = None
        self.is_followed = Latch()
        self._operation = operation

    def run(self, stack: ExitStack) -> None:
        try:
            self.result = self._operation(stack)
        except BaseException as error:
            self.error = error.with_traceback(None)
        finally:
            self.done.set()


class _Worker:
    """A thread that runs tasks in their order, and keeps a store's lock between them."""

    def __init__(self, max_idle: float) -> None:
        self.ended = Latch()
        self.error: BaseException | None = None
        self._max_idle = max_idle
        self._first = self._last = _Task(lambda stack: None)
        self._last.done.set()
        start_daemon(self._run, "store")

    @property
    def is_busy(self) -> bool:
        return not self._last.done.is_set()

    def submit(self, operation: Callable[[ExitStack], Any]) -> _Task:
        """Queue an operation. Not thread-safe: a session has one caller.

        Args:
            operation: Called with the stack whose end releases the lock.
        """
        task, last = _Task(operation), self._last
        self._last = last.following = task
        last.is_followed.set()
        return task

    def close(self) -> None:
        """Let the thread release the lock and end, once its task returns."""
        self._last.is_followed.set()

    def _run(self) -> None:
        task = self._first
        try:
            with ExitStack() as stack:
                # Also ends where no task came for so long, because the login between two tasks
                # hangs: without that bound the store's lock would be held as long as it hangs.
                while task.is_followed.wait(self._max_idle) and task.following is not None:
                    task = task.following
                    task.run(stack)
        except BaseException as error:
            self.error = error.with_traceback(None)
        finally:
            self.ended.set()
