"""A handler's way to its store, however that behaves: slow, silent, broken, gone and back."""

from __future__ import annotations

import contextvars
import functools
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import attrs

from .. import _clock, _process
from .._latch import Latch
from .._logging import extra
from ..exceptions import PermataAuthError, TokenStoreError
from ..tokens import AccessToken
from .base import TokenStore, bound
from .memory import MemoryTokenStore

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
#: During an outage a try may take this part of the time that is allowed before it.
_TRY = 0.1
_MOST_HUNG = 4
_FIRST_LOOK = 0.05
_LATEST_LOOK = 0.25
#: Of reading two clocks one after the other, in seconds.
_NOISE = 0.001


class _StoreOutError(Exception):
    """The store is not there for now; whoever had to hear of it has heard."""


@attrs.define(eq=False)
class _Health:
    """How the store has been to this process; a child starts afresh.

    ``failing`` names the operation that failed first. The outage is over when that one succeeds:
    a store that can be read but not written to is not back because it was read.
    """

    failing: str | None = None
    pause: float = 0.0
    next_try: float = -math.inf
    hung: list[threading.Thread] = attrs.Factory(list)
    lock: threading.RLock = attrs.Factory(threading.RLock)


class SharedToken:
    """The one token that a store holds for one handler's credentials.

    No operation lasts longer than ``timeout`` in all for one turn. Where one fails or lasts
    longer, that is reported once, and the store is left alone for a while; a try to come back
    costs little. ``wait`` bounds how long another's login is waited for.
    """

    def __init__(self, store: TokenStore, credentials: Any, *, timeout: float, wait: float) -> None:
        self._store = bound(store, credentials)
        self._key: str = credentials.key
        self._timeout = timeout
        self._wait = wait
        #: Whether other processes may see the token too.
        self.is_fleet_wide = not isinstance(store, MemoryTokenStore)
        self._processes: dict[tuple[int, int], _Health] = {}

    @contextmanager
    def turn(self, replaced: AccessToken | None, *, is_forced: bool = False) -> Iterator[Turn]:
        """Look for a newer token; where there is none, keep the others from logging in meanwhile.

        With ``is_forced`` nothing is looked for. Never raises by itself.
        """
        turn = Turn(self, replaced, is_forced)
        with ExitStack() as stack:
            with suppress(_StoreOutError):
                turn.begin(stack)
            yield turn

    def withdraw(self, token: AccessToken) -> None:
        """Remove ``token`` from the store, if it is still the one stored."""
        with suppress(_StoreOutError):
            Turn(self, None, True).attempt("discard", lambda: self._store.discard(self._key, token))

    @property
    def _health(self) -> _Health:
        key = _process.identity()
        return self._processes.get(key) or self._processes.setdefault(key, _Health())


class Turn:
    """One use of the store, by one thread."""

    def __init__(self, shared: SharedToken, replaced: AccessToken | None, is_forced: bool) -> None:
        self._shared = shared
        self._health = shared._health
        self._replaced = replaced
        self._is_forced = is_forced
        self._seconds_left = shared._timeout * (_TRY if self._health.failing else 1.0)
        #: The store's token, if it is newer than the one to be replaced.
        self.newer: AccessToken | None = None

    def begin(self, stack: ExitStack) -> None:
        """Look, queue for the lock and look again; ``stack`` lets go of the lock."""
        if not self._is_forced:
            self._look()
        if self.newer is None:
            self._queue(stack)

    def publish(self, token: AccessToken) -> None:
        """Store ``token``, unless somebody who overtook us has stored a newer one."""
        store, key = self._shared._store, self._shared._key

        def save() -> None:
            stored = store.load(key)
            if stored is None or _asked_at(stored) <= _asked_at(token):
                store.save(key, token)

        with suppress(_StoreOutError):
            self.attempt("save", save)

    def attempt(self, name: str, operation: Callable[[], _T]) -> _T:
        """Return what ``operation`` returns, in time, or raise _StoreOutError."""
        if not self._shared.is_fleet_wide:
            return operation()
        self._check_rest()
        try:
            result = self._in_time(operation)
        except Exception as error:
            self._fail(name, error)
        self._succeed(name)
        return result

    def _look(self) -> None:
        token = self.attempt("load", self._load)
        if token is not None and not self._is_forced and _is_newer(token, self._replaced):
            self.newer = token

    def _load(self) -> AccessToken | None:
        token = self._shared._store.load(self._shared._key)
        if token is not None and not isinstance(token, AccessToken):
            raise TypeError("a store's load() must return an AccessToken or None")
        return token

    def _queue(self, stack: ExitStack) -> None:
        lock = functools.partial(self._shared._store.lock, self._shared._key)
        if not self._shared.is_fleet_wide:
            stack.enter_context(lock())
        else:
            self._check_rest()
            try:
                hold = _Hold(lock)
            except RuntimeError as error:
                self._fail("lock", error)
            stack.callback(self._let_go, hold)
            self._wait_for(hold)
        if self.newer is None:
            self._look()

    def _wait_for(self, hold: _Hold) -> None:
        """Wait while another one logs in, as long as the store shows that it is alive."""
        is_stuck = self._health.failing == "lock"
        wait = self._seconds_left if is_stuck else self._shared._wait
        until, pause = _clock.now() + wait, _FIRST_LOOK
        while not hold.settled.wait(min(pause, until - _clock.now())):
            if _clock.now() >= until:
                self._fail("lock", TokenStoreError(f"the lock was not free for {wait:.1f} seconds"))
            left = self._seconds_left
            self._look()
            if self.newer is not None:  # no need for the lock any more
                return
            self._seconds_left = left  # time that was spent waiting for the other one anyway
            pause = min(pause * 2, _LATEST_LOOK)
        if hold.error is not None:
            self._fail("lock", hold.error)
        self._succeed("lock")

    def _let_go(self, hold: _Hold) -> None:
        has_held = hold.settled.is_set() and hold.error is None
        hold.done.set()
        if not has_held:  # it goes through the lock without a stop, once it gets it
            self._health.hung.append(hold.thread)
            return
        with suppress(_StoreOutError):
            if not hold.ended.wait(max(self._seconds_left, _LATEST_LOOK)):
                self._health.hung.append(hold.thread)
                self._fail("lock", TokenStoreError("it could not be released in time"))
            elif hold.error is not None:
                self._fail("lock", hold.error)

    def _in_time(self, operation: Callable[[], _T]) -> _T:
        """Run ``operation`` on a thread of its own, which is left behind if it takes too long."""
        outcomes: list[_T] = []
        errors: list[BaseException] = []
        ended = Latch()

        def run() -> None:
            try:
                outcomes.append(operation())
            except BaseException as error:
                errors.append(error.with_traceback(None))
            finally:
                ended.set()

        began = _clock.now()
        thread = _start(run)
        if not ended.wait(self._seconds_left):
            self._health.hung.append(thread)
            raise TokenStoreError(f"no answer within {self._seconds_left:.1f} seconds")
        self._seconds_left = max(self._seconds_left - (_clock.now() - began), 0.0)
        if errors:
            raise TokenStoreError(_reason(errors[0])) from None
        return outcomes[0]

    def _check_rest(self) -> None:
        health = self._health
        health.hung = [thread for thread in health.hung if thread.is_alive()]
        is_resting = health.failing is not None and _clock.now() < health.next_try
        if is_resting or len(health.hung) >= _MOST_HUNG:
            raise _StoreOutError

    def _fail(self, name: str, error: BaseException) -> NoReturn:
        health = self._health
        with health.lock:
            health.pause = min(max(health.pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            health.next_try = _clock.now() + health.pause
            is_news = health.failing is None
            if is_news:
                health.failing = name
        if is_news:
            reason = _reason(error)
            logger.warning("Token store failed, going on without it: %s", reason, extra=extra())
        raise _StoreOutError from None

    def _succeed(self, name: str) -> None:
        health = self._health
        with health.lock:
            is_news = health.failing == name
            if is_news:
                health.failing, health.pause = None, 0.0
        if is_news:
            logger.warning("Token store is back", extra=extra())


class _Hold:
    """A lock of the store, entered and left by one thread, which waits in between."""

    def __init__(self, lock: Callable[[], AbstractContextManager[object]]) -> None:
        self._lock = lock
        self.settled = Latch()
        self.done = Latch()
        self.ended = Latch()
        self.error: BaseException | None = None
        self.thread = _start(self._run)

    def _run(self) -> None:
        try:
            with self._lock():
                self.settled.set()
                self.done.wait()
        except BaseException as error:
            self.error = error.with_traceback(None)
        finally:
            self.settled.set()
            self.ended.set()


def _start(function: Callable[[], None]) -> threading.Thread:
    if sys.is_finalizing():  # where Python 3.10 and 3.11 would hang
        raise RuntimeError("no thread can be started any more")
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(function,), name="permata-auth-store", daemon=True
    )
    thread.start()
    return thread


def _is_newer(token: AccessToken, than: AccessToken | None) -> bool:
    if token.expires_in() <= 0:
        return False
    if than is None:
        return True
    return token.value != than.value and _asked_at(token) > _asked_at(than) - _NOISE


def _asked_at(token: AccessToken) -> float:
    """Return when it was asked for on the clock that no step of the wall clock touches."""
    return token.deadline - (token.expires_at - token.issued_at).total_seconds()


def _reason(error: BaseException) -> str:
    """Name an error; its text only where it is our own, which shows no secret."""
    return str(error) if isinstance(error, PermataAuthError) else type(error).__name__
