"""The token's life: cached, refreshed ahead of its expiry, replaced by one login for everybody.

1. *Snapshot.* A call with a live token reads one snapshot and one clock, and returns.
2. *Pace.* Any other call is told at once where a recent failure lets no login start yet.
3. *Flight.* Else one login runs on a thread of its own, and all callers share its outcome. It first
   looks for a newer token in the store, and keeps the other processes from logging in meanwhile.
4. *Schedule.* The new token is swapped in and its refresh scheduled, before any caller wakes.
5. *Events.* Then logs and the event hook are told.

Only a flight swaps the snapshot, counts logins and begins or ends pauses, so none of that needs a
lock. All other threads read, or drop the snapshot that they hold: dropping is final, and cannot
touch a newer one.
"""

from __future__ import annotations

import collections
import functools
import inspect
import math
import random
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import attrs

from . import _clock, _process
from ._flight import Flight, SingleFlight
from ._latch import Once
from ._logging import Log, contained, describe, frames, ids, tagged, tell
from ._pace import Asker, Pace, Pause, Row, held_error
from ._settings import Seconds, Unpicklable, finite_seconds, require_members, timeout_secs
from ._threads import start_daemon
from .events import (
    Event,
    LoginAbandoned,
    LoginFailed,
    LoginPostponed,
    LoginStarted,
    LoginSucceeded,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)
from .exceptions import ConfigurationError, InvalidTokenResponseError, PermataAuthError
from .login import LoginClient, RetryPolicy
from .scheduler import SchedulerConfig, TokenScheduler
from .schemes.base import Scheme
from .stores.base import TokenStore
from .stores.sharing import SharedToken, Turn, Unshared
from .tokens import AccessToken

logger = Log(__name__)

# The clock by a name of this module's own, since the path of a live token reads it and little else.
_now = _clock.now

#: So that a caller that waits to the end of a login's budget gets the login's own error.
_GRACE_SECS = 0.25
_MAX_REMEMBERED = 32


@attrs.frozen(kw_only=True)
class HandlerInfo:
    """A handler's state, as it was when asked. Times are aware UTC; None where there is none.

    ``fingerprint`` is the first 8 hex digits of the token's SHA-256; ``waiting`` counts the
    callers that wait for a login; ``next_login_at`` is the end of a pause after failures.
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
    last_login_at: datetime | None
    next_login_at: datetime | None

    def __str__(self) -> str:
        token = f"token {self.fingerprint}, {self.seconds_left:.0f} s left"
        refresh = f"refresh at {self.next_refresh_at:%H:%M:%SZ}" if self.next_refresh_at else ""
        failed = f"{self.failed_logins} failed, last: {self.last_error}" if self.last_error else ""
        pause = f"no login before {self.next_login_at:%H:%M:%SZ}" if self.next_login_at else ""
        parts = [
            token if self.fingerprint else "no token",
            refresh,
            f"{self.logins} logins",
            failed,
            pause,
        ]
        return ", ".join(filter(None, parts))


class _Snapshot:
    """A token as :meth:`LoginHandler.get_token` reads it, without a lock.

    Nothing is torn on a build without the GIL either: each attribute is one reference, stored
    under the object's own lock there, so that a thread that stores second has seen the first store.
    """

    def __init__(self, token: AccessToken | None) -> None:
        self.token = token
        self.value = token.value if token else ""
        self.is_dropped = token is None
        self.valid_until = token.deadline if token else -math.inf
        #: A call with it was accepted.
        self.is_accepted = False
        #: A call with it was rejected before any was accepted, and the pace has counted that.
        self.is_rejected = False
        self._drop = Once()
        self._rejection = Once()

    @property
    def live(self) -> AccessToken | None:
        """The token, unless it was dropped or has expired by either clock."""
        token = self.token
        if token is None or self.is_dropped:
            return None
        if token.expires_in() > 0:
            return token
        self.drop()  # so that a later call does not serve it by the running clock alone
        return None

    def drop(self) -> bool:
        """Never serve it again; return True to the first caller alone."""
        self.is_dropped = True
        self.valid_until = -math.inf
        return self.token is not None and self._drop.take()

    def first_rejection(self) -> bool:
        """Return True to the one thread that is to count its rejection."""
        return self._rejection.take()

    def send_the_slow_way(self) -> None:
        """Let the next call take the slow path, though the token lives."""
        self.valid_until = -math.inf

    def restore(self, token: AccessToken) -> None:
        """Let calls take the fast path again."""
        self.valid_until = token.deadline
        # Another thread may drop it between the caller's look and the line above, and would find
        # its token served again; drop() raises the flag before it stores.
        if self.is_dropped:
            self.valid_until = -math.inf


class LoginHandler(Unpicklable):
    """Keep a valid access token at hand, for any number of threads.

    Nothing happens before the first call: no thread, no connection. Safe after a fork; the child
    keeps the token. A handler that is dropped takes its timer with it. Raises ConfigurationError
    for arguments that do not fit.

    Args:
        credentials: The bank's dialect and secrets: PermataCredentials, or another Scheme.
        name: Labels log records, events, threads and errors. By default the token endpoint's host.
        client: Logs in; made for the same credentials, and not closed here. By default a
            LoginClient of the handler's own.
        scheduler: Runs the refresh in the background, for this handler alone; not shut down here.
            By default one of the handler's own.
        store: Shares the token between processes. By default each process has its own.
        on_event: Called with an :class:`Event`, mostly in a thread of the handler's; it should
            return at once. What it raises is logged once.
        clamp_to_lifetime: Fit the scheduler's margins to tokens that live shorter than they ask
            for. False: such tokens are replaced on demand.
        refusal_memory_secs: The first pause after refused credentials. Five seconds by default:
            long enough for a loop not to harm, short enough for a person who corrects them.
        store_timeout_secs: The seconds that a store which fails may cost, once per outage.
        background: False: no timer, on demand only.
    """

    _why_unpicklable = "it owns threads and connections; make one in each process"

    def __init__(
        self,
        credentials: Scheme,
        *,
        name: str | None = None,
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
        _check_parts(credentials, client, scheduler, on_event)
        _check_flags(clamp_to_lifetime=clamp_to_lifetime, background=background)
        self._credentials = credentials
        self.name = _host(credentials) if name is None else _checked_name(name)
        self._label = name  # errors name the host in any case
        self._refusal_memory = finite_seconds("refusal_memory_secs", refusal_memory_secs)
        store_timeout = finite_seconds("store_timeout_secs", store_timeout_secs, above=True)
        self._client = client or LoginClient(credentials)
        self._owns_client = client is None
        self._log_in_once = _one_attempt(self._client)
        budget = getattr(self._client, "retry", RetryPolicy()).timeout + _GRACE_SECS
        self._shared: SharedToken | Unshared = Unshared()
        if store is not None:
            self._shared = SharedToken(
                store,
                credentials,
                timeout=store_timeout,
                budget=budget,
                is_unwanted=self._is_unwanted,
            )
        self._scheduler = scheduler or TokenScheduler(name=self.name)
        self._owns_scheduler = scheduler is None
        self._scheduler.reserve(self)
        self._on_event = on_event
        self._clamps = clamp_to_lifetime
        self._background = background

        self._snapshot = _Snapshot(None)
        self._flights: SingleFlight[AccessToken] = SingleFlight(
            self.name, budget, on_abandon=functools.partial(_abandoned, weakref.ref(self))
        )
        self._pace = Pace(self._refusal_memory)
        #: Fingerprints of tokens that were rejected, and are never taken from the store.
        self._rejected: collections.deque[str] = collections.deque(maxlen=_MAX_REMEMBERED)
        self._logins = 0
        self._failed_logins = 0
        self._last_login_at: datetime | None = None
        self._last_error: tuple[str, datetime] | None = None
        self._hook_has_failed = False
        self._is_shut_down = False
        self._home = _process.identity()
        # The scheduler holds this callback, and must not keep the handler alive.
        self._refresh_callback = functools.partial(_refresh, weakref.ref(self))
        _process.notify_forks(self)

    def __repr__(self) -> str:
        return f"<LoginHandler {self.name!r} {self.info()}>"

    def __enter__(self) -> LoginHandler:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    @property
    def credentials(self) -> Scheme:
        """The credentials that logins and signatures are made with."""
        return self._credentials

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
        share. After a failed login raises a copy of its error at once until the pause is over that
        the failure calls for; ``retry_after`` of the error is what is left of it.

        Raises what the login raised, each caller its own copy, and RequestTimeoutError; never
        while a token lives. Thread-safe. May be called from signal handlers and from log handlers;
        only a handler of the log that takes records of urllib3 (level DEBUG) and logs in for them
        waits out the login's budget.

        Args:
            timeout: The seconds to wait at most; None: as long as a login may take, 25 s by
                default (``RetryPolicy.timeout``).
            unique_id: Marks the log records and events of what this call sets off.
            request_id: As ``unique_id``.
        """
        # Two reads without a lock: a snapshot is never changed but to be dropped, so a swap
        # between them means that this call came just before it.
        snapshot = self._snapshot
        if _now() < snapshot.valid_until:
            return snapshot.value
        return self._obtain(timeout, unique_id, request_id).value

    def get_access_token(
        self,
        timeout: float | None = None,
        unique_id: str | None = None,
        request_id: str | None = None,
    ) -> AccessToken:
        """Return a valid access token with its expiry; otherwise as :meth:`get_token`.

        Args:
            timeout: As in :meth:`get_token`.
            unique_id: As in :meth:`get_token`.
            request_id: As in :meth:`get_token`.
        """
        snapshot = self._snapshot
        if snapshot.token is not None and _now() < snapshot.valid_until:
            return snapshot.token
        return self._obtain(timeout, unique_id, request_id)

    def refresh(self, timeout: float | None = None) -> AccessToken:
        """Log in now and return the new token, or that of a login that is under way already.

        Blocks and raises as :meth:`get_token`. The old token is served until the new one is here,
        and stays if there is none. Refused credentials do not stop it, since they may have been
        corrected at the bank; a pause that the bank has asked for does.

        Args:
            timeout: As in :meth:`get_token`.
        """
        self._notice_fork()
        return self._log_in(Asker.REFRESH, self._snapshot, timeout_secs(timeout))

    def invalidate(self, token: AccessToken | str | None = None) -> None:
        """Drop ``token``, which the bank has rejected; do nothing if another one is cached by now.

        The next call looks for a newer token in the store, then logs in. A token that no call was
        accepted with is dropped too, but from the second such token in a row no sooner than after
        a pause; until then it is served. Does not wait for a login; with a store, for that.

        Args:
            token: The token, or its value; None: the one that is cached.
        """
        self._notice_fork()
        snapshot = self._snapshot
        value = token.value if isinstance(token, AccessToken) else token
        cached = snapshot.token
        if cached is None or snapshot.is_dropped or value not in (None, cached.value):
            return
        if self._note_rejection(snapshot, cached) and snapshot.drop():
            self._rejected.append(cached.fingerprint)
            self._discard(cached)

    def note_response(self, token: str, *, accepted: bool) -> None:
        """Tell how the bank received a call with ``token``; :class:`PermataAuth` does so itself.

        A token with which a call was accepted is replaced at once when the bank rejects it later.
        Cheap after the first time. Never blocks, but for a store after rejected tokens.

        Args:
            token: The value that the call carried.
            accepted: True for a response that neither rejects the token nor is a 5xx; False for a
                rejection that :meth:`invalidate` is not called for.
        """
        snapshot = self._snapshot
        cached = snapshot.token
        if snapshot.is_accepted or cached is None or cached.value != token:
            return
        if accepted:
            self._accept(snapshot)
        else:
            self._note_rejection(snapshot, cached)

    def clear_cache(self) -> None:
        """Forget the token, and every pause but one that the bank asked for; keep the schedule."""
        self._notice_fork()
        self._pace.clear()
        snapshot = self._snapshot
        if snapshot.token is not None and snapshot.drop():
            self._discard(snapshot.token)

    def info(self) -> HandlerInfo:
        """Return a snapshot of the state. Never blocks, never logs in."""
        self._notice_fork()
        token = self._snapshot.live
        schedule = self._scheduler.info()
        message, failed_at = self._last_error or (None, None)
        paused_until = self._pace.next_login_at
        return HandlerInfo(
            fingerprint=token.fingerprint if token else None,
            expires_at=_clock.at(token.deadline) if token else None,
            seconds_left=token.expires_in() if token else 0.0,
            next_refresh_at=schedule.next_refresh_at if schedule else None,
            logins=self._logins,
            failed_logins=self._failed_logins,
            last_error=message,
            last_error_at=failed_at,
            waiting=self._flights.waiting,
            last_login_at=self._last_login_at,
            next_login_at=_clock.at(paused_until) if paused_until else None,
        )

    def shutdown(self, timeout: Seconds | None = 5.0) -> None:
        """Stop the refresh for good; idempotent. :meth:`get_token` goes on, on demand only.

        Waits for a refresh that is running, unless called from it. Closes what the handler made
        itself, and of a given scheduler stops its own schedule.

        Args:
            timeout: The seconds to wait at most; None: without end. Five by default, so that a
                program ends soon though its bank does not answer.
        """
        secs = timeout_secs(timeout)
        self._notice_fork()
        self._is_shut_down = True
        if self._owns_client:
            self._client.close()  # first: it ends a login's wait for its next attempt
        if self._owns_scheduler:
            self._scheduler.shutdown(secs)
        else:
            self._scheduler.stop(self._refresh_callback)
            self._scheduler.release(self)

    # The slow path: everything below is off the path of a call with a live token.

    def _obtain(
        self, timeout: float | None, unique_id: str | None, request_id: str | None
    ) -> AccessToken:
        secs = timeout_secs(timeout)
        self._notice_fork()
        snapshot = self._snapshot
        token = snapshot.live
        if token is not None:  # the first call after a fork: the timer stayed with the parent
            self._schedule(token)
            snapshot.restore(token)
            return token
        with tagged(unique_id=unique_id, request_id=request_id):
            return self._log_in(Asker.CALLER, snapshot, secs)

    def _log_in(self, asker: Asker, seen: _Snapshot, timeout: float | None = None) -> AccessToken:
        """Return the token of a flight, or raise why there is none; ``seen`` is to be replaced."""
        try:
            self._check_pace(asker)
            with tagged(handler=self.name):
                return self._flights.call(functools.partial(self._renew, asker, seen), timeout)
        except PermataAuthError as error:
            error.handler = self._label
            raise

    def _check_pace(self, asker: Asker) -> None:
        pause = self._held(asker)
        if pause is not None:
            raise held_error(pause)

    def _held(self, asker: Asker) -> Pause | None:
        token = self._snapshot.live
        if asker is not Asker.TIMER or token is None:
            return self._pace.held(asker)
        life = (token.expires_at - token.issued_at).total_seconds()
        return self._pace.held(asker, window=self._buffer(life), left=token.expires_in())

    def _renew(
        self, asker: Asker, seen: _Snapshot, flight: Flight[AccessToken]
    ) -> Callable[[], AccessToken]:
        """Get the newest token there is, on the flight's thread; return what puts it in place."""
        is_forced = asker is Asker.REFRESH
        snapshot = self._snapshot
        token = None if snapshot is seen or is_forced else snapshot.live
        if token is not None:  # another flight has landed since this one's caller looked
            return functools.partial(_same, token)
        # Again, on the one thread that logs in: callers that looked before the last flight failed
        # would otherwise start a login each.
        self._check_pace(asker)
        is_held = functools.partial(self._is_held_by, asker)
        with self._shared.turn(snapshot.token, is_forced=is_forced, is_held=is_held) as turn:
            if turn.newer is not None:
                return functools.partial(self._swap, turn.newer, is_shared=True)
            if turn.pause is not None:
                raise held_error(turn.pause)
            # The time in the queue for the store's lock was not the login's.
            flight.restart_budget(self._flights.budget)
            return self._ask_the_bank(asker, turn)

    def _is_held_by(self, asker: Asker, pause: Pause) -> bool:
        """Take over another process's failure; tell whether no login may start because of any."""
        self._pace.adopt(pause)
        return self._held(asker) is not None

    def _ask_the_bank(self, asker: Asker, turn: Turn | Unshared) -> Callable[[], AccessToken]:
        began = _clock.now()
        self._emit(LoginStarted)
        try:
            # In the background one attempt: the scheduler's waits come between them.
            token = self._log_in_once() if asker is Asker.TIMER else self._client.login()
            if token.expires_in() <= 0:
                raise InvalidTokenResponseError(
                    "the token had expired when it arrived: its life is shorter than the login"
                )
        except Exception as error:
            failure = error.with_traceback(None)
            pause = self._pace.after(failure)
            turn.save_failure(pause)
            return functools.partial(self._fail, asker, pause, _clock.now() - began)
        turn.save(token)
        return functools.partial(self._succeed, token, _clock.now() - began)

    def _succeed(self, token: AccessToken, duration: float) -> AccessToken:
        self._logins += 1
        self._last_login_at = _clock.at(_clock.now())
        logger.info(
            "Logged in, the token lives for %d seconds",
            round(token.expires_in()),
            token=token.fingerprint,
        )
        self._emit(
            LoginSucceeded,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            duration=duration,
        )
        return self._swap(token, is_shared=False)

    def _fail(self, asker: Asker, pause: Pause, duration: float) -> AccessToken:
        error = pause.error
        self._failed_logins += 1
        self._last_error = (describe(error), _clock.at(_clock.now()))
        self._pace.begin(pause)
        kind, text = type(error).__name__, _own_text(error)
        self._emit(LoginFailed, error=kind, message=text, duration=duration)
        self._tell_of_pause(pause)
        held = self._held(asker)
        raise held_error(held) if held else error

    def _swap(self, token: AccessToken, *, is_shared: bool) -> AccessToken:
        replaced = self._snapshot.token
        self._pace.end()
        self._snapshot = _Snapshot(token)
        self._emit(
            TokenSwapped,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            is_shared=is_shared,
        )
        self._schedule(token, replaced)
        return token

    def _schedule(self, token: AccessToken, replaced: AccessToken | None = None) -> None:
        if not self._background or self._is_shut_down:
            return
        config = self._margins(token, replaced)
        expires_at = _clock.wall() + token.expires_in()
        is_scheduled = self._scheduler.start(expires_at, self._refresh_callback, config=config)
        if self._is_shut_down:  # meanwhile: the schedule that was just started must not outlive it
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
        life = max(token.expires_in(), 0.0)
        buffer, minimum = self._buffer(life), self._scheduler.config.min_schedule_time_secs
        if self._clamps:
            minimum = min(minimum, life / 10)
        if self._shared.is_fleet_wide:
            # So that the processes of a fleet do not all come at once. Only ever earlier.
            buffer *= random.uniform(1.0, 1.1)
        return SchedulerConfig(buffer, minimum)

    def _buffer(self, life: float) -> float:
        buffer = self._scheduler.config.refresh_buffer_secs
        return min(buffer, life / 2) if self._clamps else buffer

    def _accept(self, snapshot: _Snapshot) -> None:
        snapshot.is_accepted = True
        if self._pace.rejections is not None:
            self._pace.end_rejections()
            self._shared.save_rejections(None)

    def _note_rejection(self, snapshot: _Snapshot, token: AccessToken) -> bool:
        """Count a rejection of the cached token; return whether it is to be replaced now."""
        if snapshot.is_accepted:
            return True
        known = self._shared.load_rejections()
        if known is not None:
            self._pace.adopt(known)
            snapshot.is_rejected = snapshot.is_rejected or known.rejected == token.fingerprint
        age = _clock.wall() - token.issued_at.timestamp()
        if age > self._refusal_memory and not snapshot.is_rejected:
            self._accept(snapshot)
            return True
        if snapshot.first_rejection() and not snapshot.is_rejected:
            pause = self._pace.after_rejection(token.fingerprint)
            self._pace.begin(pause)
            snapshot.is_rejected = True
            self._shared.save_rejections(pause)
            self._tell_of_pause(pause)
        # Where another thread is about to count this rejection, the pause that it leads to is not
        # known yet; to replace the token now could be a login too many.
        return snapshot.is_rejected and not self._pace.is_held_by(Row.REJECTED)

    def _discard(self, token: AccessToken) -> None:
        self._shared.discard(token)
        with tagged(handler=self.name):
            logger.info("Token invalidated", token=token.fingerprint)
            self._emit(TokenInvalidated, fingerprint=token.fingerprint)

    def _is_unwanted(self, token: AccessToken) -> bool:
        return token.fingerprint in self._rejected

    def _tell_of_pause(self, pause: Pause) -> None:
        if pause.until > _clock.now():
            kind, text = type(pause.error).__name__, _own_text(pause.error)
            self._emit(LoginPostponed, until=_clock.at(pause.until), error=kind, message=text)

    def tell_of_abandoned_login(self) -> None:
        """Log that a login overran its budget; called by the flight, on a thread of its own."""
        budget = self._flights.budget
        self._last_error = (
            f"the login was abandoned after {budget:.0f} seconds",
            _clock.at(_clock.now()),
        )
        with tagged(handler=self.name):
            logger.warning("Login abandoned after its budget of %.1f seconds", budget)
            self._emit(LoginAbandoned, budget=budget)

    def _emit(self, kind: Callable[..., Event], **fields: object) -> None:
        hook = self._on_event
        if hook is not None:
            event = kind(at=_clock.at(_clock.now()), **{**ids(), "handler": self.name, **fields})
            tell(functools.partial(self._call_hook, hook, event))

    def _call_hook(self, hook: Callable[[Event], object], event: Event) -> None:
        with contained(self._report_hook):
            hook(event)

    def _report_hook(self, error: BaseException) -> None:
        if not self._hook_has_failed:
            self._hook_has_failed = True
            logger.error("The event hook raised; it will not be logged again: %s", describe(error))
            logger.debug("The event hook raised at\n%s", frames(error))

    def _notice_fork(self) -> None:
        """Do what the fork hook does, after a fork in C that ran no hook."""
        if self._home != _process.identity():
            self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Send the next call the slow way, which arms a timer; called by the fork hook."""
        self._home = _process.identity()
        self._snapshot.send_the_slow_way()


def _refresh(reference: weakref.ref[LoginHandler]) -> None:
    handler = reference()
    if handler is not None:
        handler._log_in(Asker.TIMER, handler._snapshot)


def _abandoned(reference: weakref.ref[LoginHandler]) -> None:
    """Tell of an abandoned login on a thread of its own: the caller has to start another."""
    handler = reference()
    if handler is not None:
        try:
            start_daemon(handler.tell_of_abandoned_login, "events")
        except RuntimeError:  # no thread can be started
            handler.tell_of_abandoned_login()


def _same(token: AccessToken) -> AccessToken:
    return token


def _is_same(token: AccessToken, replaced: AccessToken) -> bool:
    """Tell whether a login gained nothing; lives that the wire rounds to seconds may differ."""
    return token.value == replaced.value and token.deadline < replaced.deadline + 1.0


def _own_text(error: BaseException) -> str:
    """Return the text of an error of our tree, which shows no secret."""
    return str(error) if isinstance(error, PermataAuthError) else ""


def _host(credentials: Any) -> str:
    """Name a handler after its token endpoint."""
    return urlsplit(getattr(credentials, "token_url", "")).hostname or "token"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ConfigurationError("name must be printable text")
    return name


def _check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(f"{name} must be True or False")


def _check_parts(credentials: object, client: object, scheduler: object, on_event: object) -> None:
    """Refuse parts that would fail later, or that belong to somebody else."""
    if not isinstance(scheduler, TokenScheduler | None):
        raise ConfigurationError("scheduler must be a TokenScheduler")
    if on_event is not None and not callable(on_event):
        raise ConfigurationError("on_event must be callable")
    if client is None:
        return
    if isinstance(client, type) or not callable(getattr(client, "login", None)):
        raise ConfigurationError("client must be a LoginClient: an object with a method login")
    if getattr(client, "credentials", credentials) != credentials:
        raise ConfigurationError(
            "client was made for other credentials: calls would be signed for one account "
            "with the token of another"
        )


def _one_attempt(client: Any) -> Callable[[], AccessToken]:
    """Return what makes a login of one attempt, where the client can do that."""
    if "attempts" in inspect.signature(client.login).parameters:
        return functools.partial(client.login, attempts=1)
    login: Callable[[], AccessToken] = client.login
    return login
