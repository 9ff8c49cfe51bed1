"""Keep a valid access token at hand: the public face of :mod:`permata_auth._token_life`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import attrs

from . import _clock
from ._logging import tagged
from ._pace import Asker
from ._schedule import RefreshSchedule
from ._settings import Seconds, Unpicklable, finite_seconds, require_members, timeout_secs
from ._token_life import TokenLife
from .events import Event, EventHooks
from .exceptions import ConfigurationError
from .login import LoginClient, RetryPolicy
from .scheduler import TokenScheduler
from .schemes.base import Scheme
from .stores.base import TokenStore
from .stores.sharing import share
from .tokens import AccessToken

# The clock by a name of this module's own, since the path of a live token reads it and little else.
_now = _clock.now

#: So that a caller that waits to the end of a login's budget gets the login's own error.
_GRACE_SECS = 0.25


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


class LoginHandler(TokenLife, Unpicklable):
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
            return at once. Its exceptions are logged once.
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
        _check_parts(credentials, client, scheduler)
        _check_flags(clamp_to_lifetime=clamp_to_lifetime, background=background)
        self._credentials = credentials
        self._owns_client = client is None
        client = client or LoginClient(credentials)
        budget = getattr(client, "retry", RetryPolicy()).timeout + _GRACE_SECS
        store_timeout = finite_seconds("store_timeout_secs", store_timeout_secs, above=True)
        shared = share(store, credentials, timeout=store_timeout, budget=budget)
        label, name = name, _checked_name(_host(credentials) if name is None else name)
        events = EventHooks(name, on_event)
        schedule = RefreshSchedule(
            scheduler or TokenScheduler(name=name),
            functools.partial(_refresh, weakref.ref(self)),
            events,
            is_owned=scheduler is None,
            is_enabled=background,
            clamps=clamp_to_lifetime,
            is_fleet=shared.is_fleet_wide,
        )
        schedule.scheduler.reserve(self)
        super().__init__(
            name=name,
            label=label,  # errors name the host in any case
            client=client,
            shared=shared,
            schedule=schedule,
            events=events,
            budget=budget,
            refusal_memory=finite_seconds("refusal_memory_secs", refusal_memory_secs),
        )

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
        return self._schedule.scheduler

    @property
    def events(self) -> EventHooks:
        """The event hooks, to which more can be added."""
        return self._events

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
        the failure calls for; ``retry_after`` of the error is the rest of it, in seconds.

        Raises the login's error, each caller its own copy, and RequestTimeoutError; never while a
        token lives. Thread-safe. May be called from signal handlers and from log handlers;
        only a handler of the log that takes records of urllib3 (level DEBUG) and logs in for them
        waits out the login's budget.

        Args:
            timeout: The seconds to wait at most; None: as long as a login may take, 25 s by
                default (``RetryPolicy.timeout``).
            unique_id: Marks the log records and events that this call sets off.
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
        secs = timeout_secs(timeout)
        self._notice_fork()
        return self._log_in(Asker.REFRESH, self._snapshot, secs)

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
        cached = snapshot.token
        value = token.value if isinstance(token, AccessToken) else token
        if cached is None or snapshot.is_dropped or value not in (None, cached.value):
            return
        if self._rejections.reject(snapshot) and snapshot.drop():
            self._rejections.remember(cached)
            self._discard(cached)

    def note_response(
        self, token: str, status_code: int, body: bytes = b"", *, is_second: bool = False
    ) -> bool:
        """Note how the bank received a call; return whether to send it once more.

        :class:`PermataAuth` and :class:`CallbackStatusClient` do so themselves. True: the bank has
        rejected the token, and :meth:`get_token` will give another one. A token with which a call
        was accepted is replaced at once when the bank rejects it later. Costs next to nothing for
        an accepted call; blocks for a store alone, after a rejected token.

        Args:
            token: The value that the call carried; empty for a call that needs none.
            status_code: The HTTP status of the response.
            body: The body of the response; needed for 401 and 403 alone.
            is_second: The call has been sent again already: the token is not replaced now.
        """
        if token and self._credentials.is_token_rejected(status_code, body):
            if not is_second:
                self.invalidate(token)
                return self._snapshot.live is None or self._snapshot.value != token
            note = self._rejections.reject
        else:
            note = self._rejections.accept
        snapshot = self._snapshot
        if status_code < 500 and snapshot.value == token and not snapshot.is_accepted:
            note(snapshot)
        return False

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
        schedule = self.scheduler.info()
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

        Waits for a refresh that is running, and for log records and events of the last login,
        unless called from them. Closes the handler's own
        client and scheduler; of a given scheduler it stops its own schedule alone.

        Args:
            timeout: The seconds to wait at most; None: without end. Five by default, so that a
                program ends soon though its bank does not answer.
        """
        secs = timeout_secs(timeout)
        self._notice_fork()
        if self._owns_client:
            self._client.close()  # first: it ends a login's wait for its next attempt
        self._schedule.shutdown(self, secs)
        self._flights.wait_told(secs)

    def _obtain(
        self, timeout: float | None, unique_id: str | None, request_id: str | None
    ) -> AccessToken:
        secs = timeout_secs(timeout)
        self._notice_fork()
        snapshot = self._snapshot
        token = snapshot.live
        if token is not None:  # the first call after a fork: the timer stayed with the parent
            self._schedule.start(token)
            snapshot.restore(token)
            return token
        with tagged(unique_id=unique_id, request_id=request_id):
            return self._log_in(Asker.CALLER, snapshot, secs)


def _refresh(reference: weakref.ref[LoginHandler]) -> None:
    handler = reference()
    if handler is not None:
        handler._log_in(Asker.TIMER, handler._snapshot)


def _host(credentials: Any) -> str:
    """Name a handler after its token endpoint."""
    return urlsplit(str(getattr(credentials, "token_url", ""))).hostname or "token"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ConfigurationError("name must be printable text")
    return name


def _check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(f"{name} must be True or False")


def _check_parts(credentials: object, client: object, scheduler: object) -> None:
    """Refuse parts that would fail later, or that belong to somebody else."""
    require_members(Scheme, "credentials", credentials)
    if not isinstance(scheduler, TokenScheduler | None):
        raise ConfigurationError("scheduler must be a TokenScheduler")
    if client is None:
        return
    if isinstance(client, type) or not callable(getattr(client, "login", None)):
        raise ConfigurationError("client must be a LoginClient: an object with a method login")
    if getattr(client, "credentials", credentials) != credentials:
        raise ConfigurationError(
            "client was made for other credentials: calls would be signed for one account "
            "with the token of another"
        )
