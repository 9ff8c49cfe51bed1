"""The token's life: cached, refreshed ahead of its expiry, replaced by one login for everybody.

A call with a live token reads one snapshot and one clock. Any other call boards a *flight*: one
login whose outcome, token or error, all who wait for it share. There is at most one flight in a
process, and only a flight swaps the token, counts, and starts the next schedule; so none of that
needs a lock. Everybody else reads, or drops the snapshot that it holds: dropping is final, and
cannot touch a newer one.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import logging
import math
import random
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import datetime

import attrs

from . import _clock, _process
from ._latch import Latch
from ._logging import extra, ids, tagged
from ._settings import Seconds, Unpicklable, finite_seconds, require_members
from .events import (
    Event,
    LoginFailed,
    LoginStarted,
    LoginSucceeded,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)
from .exceptions import (
    PermataAuthError,
    RequestTimeoutError,
    TransportError,
)
from .login import LoginClient, RetryPolicy
from .scheduler import SchedulerConfig, TokenScheduler
from .schemes.base import Scheme
from .stores.base import TokenStore
from .stores.memory import MemoryTokenStore
from .stores.sharing import SharedToken
from .tokens import AccessToken

logger = logging.getLogger(__name__)

# The clock by a name of this module's own, since the path of a live token reads it and little else.
_now = _clock.now

#: So that who waits to the end of a login's budget gets the login's own error.
_GRACE = 0.25

#: What part of a login's budget may pass in waiting for another process's login; the rest is for
#: one's own, should that one never come to an end.
_SHARE_OF_WAITING = 0.75


@attrs.frozen(kw_only=True)
class HandlerInfo:
    """A handler's state, as it was when asked. Times are aware UTC; None where there is none.

    ``fingerprint`` is the first 8 hex digits of the token's SHA-256; ``waiting`` counts the
    callers that wait for a login.
    """

    fingerprint: str | None
    expires_at: datetime | None
    seconds_left: float
    next_refresh_at: datetime | None
    logins: int
    failed_logins: int
    last_error: str | None
    last_error_at: datetime | None
    waiting: int

    def __str__(self) -> str:
        token = f"token {self.fingerprint}, {self.seconds_left:.0f} s left"
        refresh = f"refresh at {self.next_refresh_at:%H:%M:%SZ}" if self.next_refresh_at else ""
        failed = f"{self.failed_logins} failed, last: {self.last_error}" if self.last_error else ""
        parts = [
            token if self.fingerprint else "no token",
            refresh,
            f"{self.logins} logins",
            failed,
        ]
        return ", ".join(filter(None, parts))


class _Cached:
    """A token as :meth:`LoginHandler.get_token` reads it, without a lock.

    Nothing is torn on a build without the GIL either: each attribute is one reference, stored
    under the object's own lock there, so that who stores second has seen what the first did.
    """

    __slots__ = ("is_dropped", "token", "valid_until", "value")

    def __init__(self, token: AccessToken | None) -> None:
        self.token = token
        self.value = token.value if token else ""
        self.is_dropped = token is None
        self.valid_until = token.deadline if token else -math.inf

    @property
    def live(self) -> AccessToken | None:
        """The token, unless it was dropped or has expired."""
        token = self.token
        is_live = token is not None and not self.is_dropped and _clock.now() < token.deadline
        return token if is_live else None

    def drop(self) -> None:
        self.is_dropped = True
        self.valid_until = -math.inf

    def rest(self) -> None:
        """Send the next call the long way round, though the token lives."""
        self.valid_until = -math.inf

    def wake(self, token: AccessToken) -> None:
        self.valid_until = token.deadline
        # By another thread, since the caller looked: drop() raises the flag before it stores.
        if self.is_dropped:
            self.valid_until = -math.inf


@attrs.define(eq=False)
class _Flight:
    """One login on its way, and what came of it."""

    replacing: _Cached
    until: float
    is_forced: bool
    outcome: AccessToken | BaseException | None = None
    landed: Latch = attrs.Factory(Latch)
    pilot: int | None = None
    pilots_seat: list[None] = attrs.Factory(lambda: [None])


class LoginHandler(Unpicklable):
    """Keep a valid access token at hand, for any number of threads.

    ``credentials``: the bank's dialect and secrets. ``client``, ``scheduler``, ``store``: used,
    and not closed, in place of its own. ``on_event`` is called with an :class:`Event` by whatever
    thread made it happen; it should return at once. ``clamp_to_lifetime`` fits the scheduler's
    margins to tokens that live shorter than they ask for. ``refusal_memory_secs``: for how long a
    refusal that is not retryable is answered from memory. ``store_timeout_secs``: what a store
    that fails may cost, once per outage. ``background=False``: no timer, on demand only.

    Nothing happens before the first call: no thread, no connection. Safe after a fork; the child
    keeps the token. A handler that is dropped takes its timer with it.
    """

    _why_unpicklable = "it owns threads and connections; make one in each process"

    def __init__(
        self,
        credentials: Scheme,
        *,
        client: LoginClient | None = None,
        scheduler: TokenScheduler | None = None,
        store: TokenStore | None = None,
        on_event: Callable[[Event], object] | None = None,
        clamp_to_lifetime: bool = True,
        refusal_memory_secs: Seconds = 5.0,
        store_timeout_secs: Seconds = 5.0,
        background: bool = True,
    ) -> None:
        require_members(Scheme, "credentials", credentials)
        self.credentials = credentials
        self._client = client or LoginClient(credentials)
        self._owns_client = client is None
        self._scheduler = scheduler or TokenScheduler()
        self._owns_scheduler = scheduler is None
        self._on_event = on_event
        self._clamps = clamp_to_lifetime
        self._refusal_memory = finite_seconds("refusal_memory_secs", refusal_memory_secs)
        self._budget = getattr(self._client, "retry", RetryPolicy()).timeout + _GRACE
        self._shared = SharedToken(
            MemoryTokenStore() if store is None else store,
            credentials,
            timeout=finite_seconds("store_timeout_secs", store_timeout_secs, above=True),
            wait=self._budget * _SHARE_OF_WAITING,
        )
        self._background = background

        self._cached = _Cached(None)
        self._flights: dict[tuple[int, int], _Flight] = {}
        self._refusal: tuple[PermataAuthError, float] | None = None
        self._logins = 0
        self._failed_logins = 0
        self._last_error: tuple[str, datetime] | None = None
        self._hook_has_failed = False
        self._is_shut_down = False
        self._home = _process.identity()
        # What the scheduler holds must not keep the handler alive.
        self._refresh_callback = functools.partial(_refresh, weakref.ref(self))
        _process.notify_forks(self)

    def __repr__(self) -> str:
        return f"<LoginHandler {self.info()}>"

    def __enter__(self) -> LoginHandler:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    @property
    def scheduler(self) -> TokenScheduler:
        """The scheduler that the refresh in the background runs on."""
        return self._scheduler

    # Its arguments are to be given by name. They are not keyword-only, because CPython makes
    # every call of a method with keyword-only arguments a quarter slower.
    def get_token(
        self,
        timeout: float | None = None,
        unique_id: str | None = None,
        request_id: str | None = None,
    ) -> str:
        """Return a valid access token.

        With a live token: at once, without a lock. Else blocks for the one login that all callers
        share, ``timeout`` seconds at most, or as long as the login's own budget (30 s by default).
        ``unique_id`` and ``request_id`` mark the log records of what this call sets off.

        Raises what the login raised, each caller its own copy, and RequestTimeoutError; never
        while a token lives. Thread-safe; may be called from signal handlers.
        """
        # Two reads without a lock: the snapshot is never changed but to be dropped, so a swap
        # between them means that this call came just before it.
        cached = self._cached
        if _now() < cached.valid_until:
            return cached.value
        return self._obtain(timeout, unique_id, request_id).value

    def get_access_token(
        self,
        timeout: float | None = None,
        unique_id: str | None = None,
        request_id: str | None = None,
    ) -> AccessToken:
        """Return a valid access token with its expiry; otherwise as :meth:`get_token`."""
        cached = self._cached
        if cached.token is not None and _now() < cached.valid_until:
            return cached.token
        return self._obtain(timeout, unique_id, request_id)

    def refresh(self, timeout: float | None = None) -> AccessToken:
        """Log in now and return the new token, or that of a login that is under way already.

        Blocks and raises as :meth:`get_token`; a refusal in memory does not stop it. The old
        token is served until the new one is here, and stays if there is none.
        """
        self._notice_fork()
        return self._fly(self._cached, timeout, is_forced=True)

    def invalidate(self, token: AccessToken | str | None = None) -> None:
        """Drop ``token``, which the bank has rejected; do nothing if another one is cached by now.

        Without ``token``: drop whichever is cached. The next call looks for a newer one in the
        store, then logs in. Does not wait for a login.
        """
        self._notice_fork()
        cached = self._cached
        value = token.value if isinstance(token, AccessToken) else token
        if cached.token is None or cached.is_dropped or value not in (None, cached.value):
            return
        cached.drop()
        self._shared.withdraw(cached.token)
        logger.info("Token invalidated", extra=extra(token=cached.token.fingerprint))
        self._emit(TokenInvalidated, fingerprint=cached.token.fingerprint)

    def clear_cache(self) -> None:
        """Forget the token, and a refusal in memory; the schedule goes on."""
        self._refusal = None
        self.invalidate()

    def info(self) -> HandlerInfo:
        """Return a snapshot of the state. Never blocks, never logs in."""
        self._notice_fork()
        token = self._cached.live
        schedule = self._scheduler.info()
        flight = self._flights.get(_process.identity())
        message, failed_at = self._last_error or (None, None)
        return HandlerInfo(
            fingerprint=token.fingerprint if token else None,
            expires_at=_clock.at(token.deadline) if token else None,
            seconds_left=token.expires_in() if token else 0.0,
            next_refresh_at=schedule.next_refresh_at if schedule else None,
            logins=self._logins,
            failed_logins=self._failed_logins,
            last_error=message,
            last_error_at=failed_at,
            waiting=flight.landed.waiting if flight else 0,
        )

    def shutdown(self, timeout: float | None = 5.0) -> None:
        """Stop the refresh for good; idempotent. :meth:`get_token` goes on, on demand only.

        Waits up to ``timeout`` seconds for a refresh that is running, unless called from it.
        Closes what the handler made itself, and of a given scheduler stops its own schedule.
        """
        self._notice_fork()
        self._is_shut_down = True
        if self._owns_client:
            self._client.close()  # first: it ends a login's wait for its next attempt
        if self._owns_scheduler:
            self._scheduler.shutdown(timeout)
        else:
            self._scheduler.stop(self._refresh_callback)

    # The long way round: everything below is off the path of a call with a live token.

    def _obtain(
        self, timeout: float | None, unique_id: str | None, request_id: str | None
    ) -> AccessToken:
        self._notice_fork()
        cached = self._cached
        token = cached.live
        if token is not None:  # the first call after a fork: the timer stayed with the parent
            self._schedule(token)
            cached.wake(token)
            return token
        refusal = self._refusal
        if refusal is not None and _clock.now() < refusal[1]:
            raise copy.copy(refusal[0])
        with tagged(unique_id=unique_id, request_id=request_id):
            return self._fly(cached, timeout)

    def _fly(
        self, replacing: _Cached, timeout: float | None = None, *, is_forced: bool = False
    ) -> AccessToken:
        """Board this process's flight, or start it, and wait until it has landed."""
        until = _clock.now() + self._budget
        flight = _Flight(replacing, until, is_forced)
        # setdefault() is atomic, with or without a GIL: one thread gets its own flight back.
        boarded = self._flights.setdefault(_process.identity(), flight)
        if boarded is flight:
            self._take_off(flight)
        elif boarded.pilot == threading.get_ident() and not boarded.landed.is_set():
            raise TransportError("no token yet: this is called by the login itself")
        elif boarded.pilots_seat:
            # Whoever was to start it may have been interrupted, for good, or by the signal handler
            # that is here now. If not, the second thread finds the seat taken and ends.
            self._take_off(boarded)
        wait = boarded.until - _clock.now()
        if not boarded.landed.wait(wait if timeout is None else min(wait, timeout)):
            raise RequestTimeoutError(
                "no token in the time allowed, the login goes on; wait, or allow more"
            )
        outcome = boarded.outcome
        if isinstance(outcome, AccessToken):
            return outcome
        assert outcome is not None
        raise _copy(outcome)

    def _take_off(self, flight: _Flight) -> None:
        """Log in on a thread of its own: no caller's timeout, signal or end disturbs the others."""
        context = contextvars.copy_context()  # the ids of the call, and whatever logging reads

        def pilot() -> None:
            context.run(self._pilot, flight)

        try:
            if sys.is_finalizing():  # where Python 3.10 and 3.11 would hang
                raise RuntimeError
            threading.Thread(target=pilot, name="permata-auth-login", daemon=True).start()
        except RuntimeError:  # no thread to be had, or the interpreter is on its way out
            pilot()

    def _pilot(self, flight: _Flight) -> None:
        try:
            flight.pilots_seat.pop()
        except IndexError:  # taken
            return
        flight.pilot = threading.get_ident()
        # What a waiter gets if an exception of the interpreter's, such as KeyboardInterrupt,
        # ends a login on a caller's own thread.
        flight.outcome = TransportError("the login was interrupted; the caller may try again")
        try:
            flight.outcome = self._renew(flight)
        except Exception as error:
            flight.outcome = error.with_traceback(None)
        finally:
            self._flights.pop(_process.identity(), None)
            flight.landed.set()

    def _renew(self, flight: _Flight) -> AccessToken:
        """Replace the token by the newest there is: ours, the store's, or that of a login."""
        replacing, cached = flight.replacing, self._cached
        token = None if cached is replacing or flight.is_forced else cached.live
        if token is not None:  # another flight landed since this one's caller looked
            return token
        with self._shared.turn(replacing.token, is_forced=flight.is_forced) as turn:
            token = turn.newer
            if token is None:
                # Who boards from now on may wait for the whole login, however long the queue was.
                flight.until = _clock.now() + self._budget
                token = self._log_in()
                turn.publish(token)
        self._cached = _Cached(token)
        self._emit(
            TokenSwapped,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            is_shared=turn.newer is not None,
        )
        self._schedule(token, replacing.token)
        return token

    def _log_in(self) -> AccessToken:
        began = _clock.now()
        self._emit(LoginStarted)
        try:
            token = self._client.login()
        except Exception as error:
            self._note_failure(error, _clock.now() - began)
            raise
        self._logins += 1
        self._refusal = None
        logger.info(
            "Logged in, the token lives for %d seconds",
            round(token.expires_in()),
            extra=extra(token=token.fingerprint),
        )
        self._emit(
            LoginSucceeded,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            duration=_clock.now() - began,
        )
        return token

    def _note_failure(self, error: Exception, duration: float) -> None:
        """Count a failed login, and remember a refusal; the log is left to whoever handles it."""
        kind, message = type(error).__name__, ""
        if isinstance(error, PermataAuthError):  # whose text shows no secret
            message = str(error)
            if not error.retryable:
                until = _clock.now() + self._refusal_memory
                self._refusal = (copy.copy(error), until)
        self._failed_logins += 1
        self._last_error = (f"{kind}: {message}" if message else kind, _clock.at(_clock.now()))
        self._emit(LoginFailed, error=kind, message=message, duration=duration)

    def _schedule(self, token: AccessToken, replaced: AccessToken | None = None) -> None:
        if not self._background or self._is_shut_down:
            return
        config = self._margins(token, replaced)
        expires_at = _clock.wall() + token.expires_in()
        is_scheduled = self._scheduler.start(expires_at, self._refresh_callback, config=config)
        if self._is_shut_down:  # meanwhile: what has just been started must not outlive it
            self._scheduler.stop(self._refresh_callback)
        elif is_scheduled:
            due = _clock.at(token.deadline - config.refresh_buffer_secs)
            self._emit(RefreshScheduled, fingerprint=token.fingerprint, next_refresh_at=due)
        else:
            self._emit(RefreshSkipped, fingerprint=token.fingerprint)

    def _margins(self, token: AccessToken, replaced: AccessToken | None) -> SchedulerConfig:
        """Fit the scheduler's margins to this token."""
        if replaced is not None and _is_same(token, replaced):
            # The bank hands out the same token until it dies: there is no other before then.
            return SchedulerConfig(0.0, 0.0)
        config = self._scheduler.config
        buffer, minimum = config.refresh_buffer_secs, config.min_schedule_time_secs
        if self._clamps:
            life = max(token.expires_in(), 0.0)
            buffer, minimum = min(buffer, life / 2), min(minimum, life / 10)
        if self._shared.is_fleet_wide:
            # So that the processes of a fleet do not all come at once. Only ever earlier.
            buffer *= random.uniform(1.0, 1.1)
        return SchedulerConfig(buffer, minimum)

    def _emit(self, kind: Callable[..., Event], **fields: object) -> None:
        if self._on_event is None:
            return
        event = kind(at=_clock.at(_clock.now()), **ids(), **fields)
        try:
            self._on_event(event)
        except Exception:
            if not self._hook_has_failed:
                self._hook_has_failed = True
                logger.exception("The event hook raised; it will not be logged again")

    def _notice_fork(self) -> None:
        """Do what the hook does, after a fork in C that ran no hook."""
        if self._home != _process.identity():
            self._after_fork_in_child()

    def _after_fork_in_child(self) -> None:
        self._home = _process.identity()
        self._cached.rest()


def _refresh(reference: weakref.ref[LoginHandler]) -> None:
    handler = reference()
    if handler is not None:
        handler._fly(handler._cached)


def _copy(error: BaseException) -> BaseException:
    """Return a copy for one caller; an error from outside our tree may not allow one."""
    try:
        return copy.copy(error)
    except Exception:
        return error


def _is_same(token: AccessToken, replaced: AccessToken) -> bool:
    """Tell whether a login gained nothing; lives that the wire rounds to seconds may differ."""
    return token.value == replaced.value and token.deadline < replaced.deadline + 1.0
