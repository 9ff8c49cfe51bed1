"""Keep a valid access token at hand: the public face of :mod:`permata_auth._token_life`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from . import _clock
from ._app_settings import Settings
from ._logging import Log
from ._pace import Asker
from ._readiness import HandlerInfo, Health, Readiness
from ._reports import Reports
from ._rotation import rotation_of
from ._schedule import RefreshSchedule
from ._settings import (
    Seconds,
    Unpicklable,
    finite_seconds,
    require_bool,
    require_members,
    timeout_secs,
)
from .events import Event, EventHooks
from .exceptions import ConfigurationError
from .login import LoginClient, RetryPolicy
from .scheduler import NOT_NEEDED, TokenScheduler
from .schemes.base import Scheme
from .stores.base import TokenStore
from .stores.sharing import share
from .tokens import AccessToken
from .transport import Transport

__all__ = ["HandlerInfo", "Health", "LoginHandler"]

logger = Log(__name__)

# The clock by a name of this module's own, since the path of a live token reads it and little else.
_now = _clock.now

#: So that a caller that waits to the end of a login's budget gets the login's own error.
_GRACE_SECS = 0.25


class LoginHandler(Readiness, Reports, Unpicklable):
    """Keep a valid access token at hand, for any number of threads.

    Nothing happens before the first call: no thread, no connection. Safe after a fork; the child
    keeps the token. A handler that is dropped takes its timer with it. Raises ConfigurationError
    for arguments that do not fit.

    Args:
        credentials: The bank's dialect and secrets: PermataCredentials, or another Scheme.
        name: Labels log records, events, threads and errors. By default the token endpoint's host.
        client: Logs in; made for the same credentials, and not closed here. By default a
            LoginClient of the handler's own.
        transport: Client certificate, CA bundle and proxy of the handler's own client.
        scheduler: Runs the refresh in the background, for this handler alone; not shut down here.
            By default one of the handler's own.
        store: Shares the token between processes. By default each process has its own.
        on_event: Called with an :class:`Event`, mostly in a thread of the handler's; it should
            return at once. Its exceptions are logged once.
        clamp_to_lifetime: Fit the scheduler's margins to tokens that live shorter than they ask
            for. False: such tokens are replaced on demand.
        refusal_memory_secs: The first pause after refused credentials. Five seconds by default:
            long enough that a loop does no harm, short enough for a person who corrects them.
        store_timeout_secs: The seconds that a store which fails may cost, once per outage. Five by
            default, a fifth of a login's budget.
        background: False: no timer, on demand only.
        stop_when_idle: Do not refresh a token that nobody has asked for during its whole life;
            the next caller waits for a login. False by default: a process that serves requests now
            and then should have a token for each.
        clock_correction: As in LoginClient, for a client of the handler's own.
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
        transport: Transport | None = None,
        on_event: Callable[[Event], object] | None = None,
        clamp_to_lifetime: bool = True,
        refusal_memory_secs: Seconds = 5.0,
        store_timeout_secs: Seconds = 5.0,
        background: bool = True,
        stop_when_idle: bool = False,
        clock_correction: bool | None = None,
    ) -> None:
        _check_parts(credentials, client, scheduler)
        require_bool("clamp_to_lifetime", clamp_to_lifetime)
        require_bool("background", background)
        require_bool("stop_when_idle", stop_when_idle)
        if client is not None and clock_correction is not None:
            raise ConfigurationError(
                "clock_correction= and client= exclude each other; give it to the LoginClient"
            )
        self._credentials = credentials
        self._owns_client = client is None
        if client is not None and transport is not None:
            raise ConfigurationError(
                "transport= and client= exclude each other; give it to the LoginClient"
            )
        client = client or LoginClient(
            credentials, transport=transport, clock_correction=clock_correction
        )
        budget = getattr(client, "retry", RetryPolicy()).timeout + _GRACE_SECS
        store_timeout = finite_seconds("store_timeout_secs", store_timeout_secs, above=True)
        shared = share(store, credentials, timeout=store_timeout, budget=budget)
        label, name = name, _checked_name(_host(credentials) if name is None else name)
        events = EventHooks(name, on_event)
        schedule = RefreshSchedule(
            scheduler or TokenScheduler(name=name),
            functools.partial(_refresh, weakref.WeakMethod(self._refresh_by_timer)),
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
            rotation=rotation_of(credentials),
            client=client,
            shared=shared,
            schedule=schedule,
            events=events,
            budget=budget,
            refusal_memory=finite_seconds("refusal_memory_secs", refusal_memory_secs),
            stops_when_idle=stop_when_idle,
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, Any] | None = None,
        *,
        prefix: str = "PERMATA_",
        **arguments: Any,
    ) -> LoginHandler:
        """Make a handler whose credentials, token store and margins the environment names.

        The credentials are those that ``PERMATA_SCHEME`` names (``classic``, or ``snap``), from
        variables and from files as :meth:`RotatingCredentials.from_env` finds them; where a value
        comes from a file, they are loaded again when it changes. Further ``PERMATA_TOKEN_STORE``,
        ``PERMATA_REFRESH_BUFFER_SECS``, ``PERMATA_MIN_SCHEDULE_TIME_SECS``,
        ``PERMATA_BACKGROUND``, and the variables of :meth:`Transport.from_env`.
        Raises ConfigurationError that names every variable that is missing or
        wrong and shows no value; ImportError for an extra that is missing.

        Args:
            environ: The variables; None: those of the process.
            prefix: The beginning of the names of all variables.
            arguments: Of :class:`LoginHandler`, in place of the environment's.
        """
        settings = Settings.of_environment(environ, prefix)
        margins = None if arguments.get("scheduler") else settings.margins()
        handler = cls(settings.credentials(), **settings.handler_arguments(arguments))
        if margins is not None:
            handler.scheduler.update_config(margins)
        return handler

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
    def transport(self) -> Transport | None:
        """The transport of its client: how calls to the bank are to be sent, too."""
        found = getattr(self._client, "transport", None)
        return found if isinstance(found, Transport) else None

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
        share. A failed login is followed by a pause; calls during it raise a copy of the login's
        error at once, whose ``retry_after`` is the rest of the pause in seconds.

        Raises the login's error, each caller its own copy, and RequestTimeoutError; never while a
        token lives. Thread-safe. May be called from signal handlers and from log handlers, with
        one exception: a log handler that takes urllib3's DEBUG records, and calls this while it
        handles a record, waits until the login's budget is over.

        Args:
            timeout: The seconds to wait at most; None: as long as a login may take, 25 s by
                default (``RetryPolicy.timeout``).
            unique_id: Marks the log records and events that this call sets off.
            request_id: As ``unique_id``.
        """
        # Two reads without a lock: a snapshot never changes, except to be dropped. If another
        # thread swaps it between the two, this call counts as having come just before the swap.
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

    def _refresh_by_timer(self) -> object:
        if not self._snapshot.is_asked:
            logger.info("Token not refreshed: nobody has asked for it during its life")
            return NOT_NEEDED
        return self._log_in(Asker.TIMER, self._snapshot)

    def shutdown(self, timeout: Seconds | None = 5.0) -> None:
        """Stop the refresh for good; idempotent. :meth:`get_token` still works, on demand only.

        Waits for a refresh that is running, and for log records and events of the last login,
        unless called from them. Closes the handler's own
        client and scheduler; of a given scheduler it stops its own schedule alone.

        Args:
            timeout: The seconds to wait at most; None: without end. Five by default, so that a
                program ends soon though its bank does not answer.
        """
        secs = timeout_secs(timeout)
        self._notice_fork()
        self._stopped.set()
        if self._owns_client:
            self._client.close()  # first: it ends a login's wait for its next attempt
        self._schedule.shutdown(self, secs)
        self._flights.wait_told(secs)


def _refresh(method: weakref.WeakMethod[Callable[[], object]]) -> object:
    """Refresh the token of a handler, unless that has been collected: a timer keeps none alive."""
    refresh = method()
    return NOT_NEEDED if refresh is None else refresh()


def _host(credentials: Any) -> str:
    """Name a handler after its token endpoint."""
    return urlsplit(str(getattr(credentials, "token_url", ""))).hostname or "token"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ConfigurationError("name must be printable text")
    return name


def _check_parts(credentials: object, client: object, scheduler: object) -> None:
    """Refuse parts that would fail later, or that belong to another handler or account."""
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
