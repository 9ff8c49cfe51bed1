"""One blocking login at the token endpoint; no cache, no threads."""

from __future__ import annotations

import attrs
import requests
import tenacity

from . import _clock
from ._clock_offset import ClockOffset, Reading
from ._http import Response, connect_and_read, exchange, host_and_port
from ._latch import Latch
from ._logging import Log, describe
from ._pace import is_refusal
from ._rotation import rotation_of
from ._settings import Unpicklable, duration, require_count, require_members, seconds
from .exceptions import (
    ClockError,
    ConfigurationError,
    InvalidTokenResponseError,
    PermataAuthError,
    TokenEndpointError,
    TransportError,
)
from .schemes.base import Scheme, TokenResponse
from .tokens import AccessToken
from .transport import Transport, connections

logger = Log(__name__)


def _at_least_one(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    require_count(f"RetryPolicy.{attribute.name}", value)


@attrs.frozen
class RetryPolicy:
    """How often and how long to try. Raises ConfigurationError for values out of range.

    The wait between two attempts is exponential with full jitter; a ``Retry-After`` goes before it.

    Args:
        attempts: The number of attempts in all, the first included. Three by default: enough for
            one lost connection and one that hits a restart.
        wait_initial: The longest first wait, in seconds or as a timedelta. 0.5 by default.
        wait_max: The longest wait of all, in seconds or as a timedelta. 8 by default.
        timeout: The budget of a login, waits included, in seconds or as a timedelta. 25 by default,
            below the 30 that gunicorn gives a request.
    """

    attempts: int = attrs.field(default=3, validator=_at_least_one)
    wait_initial: float = attrs.field(default=0.5, converter=seconds, validator=duration())
    wait_max: float = attrs.field(default=8.0, converter=seconds, validator=duration())
    timeout: float = attrs.field(default=25.0, converter=seconds, validator=duration(above=True))

    def retrying(self, until: float, stopped: Latch) -> tenacity.Retrying:
        """Return the loop for one call that has to end by ``until``, or once ``stopped`` is set.

        It tries again after ``retryable`` errors of our tree, and raises the last one.

        Args:
            until: On the clock of :mod:`permata_auth._clock`.
            stopped: Ends a wait between two attempts.
        """
        after_attempts = tenacity.stop_after_attempt(self.attempts)
        jitter = tenacity.wait_random_exponential(self.wait_initial, self.wait_max)

        def wait(state: tenacity.RetryCallState) -> float:
            # Some servers ask for zero seconds: that would be a loop without a pause.
            asked = getattr(_failure(state), "retry_after", None)
            return float(asked) if asked else jitter(state)

        def is_too_late(state: tenacity.RetryCallState) -> bool:
            return _clock.now() + state.upcoming_sleep >= until

        def sleep(wait_secs: float) -> None:
            if stopped.wait(wait_secs):
                raise TransportError("closed before the next attempt; the caller may try again")

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: getattr(error, "retryable", False)),
            wait=wait,
            stop=lambda state: after_attempts(state) or is_too_late(state),
            sleep=sleep,
            before_sleep=_log_retry,
            reraise=True,
        )


def _failure(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = _failure(state)
    logger.warning(
        "Attempt %d failed, the next one after %.1f seconds: %s",
        state.attempt_number,
        state.upcoming_sleep,
        describe(error) if error else "",
        attempt=state.attempt_number,
    )


class LoginClient(Unpicklable):
    """Log in with client credentials (RFC 6749 section 4.4). Thread-safe; caches nothing.

    A forked child uses connections of its own.

    Args:
        credentials: The scheme to log in by, with its secrets.
        retry: How often and how long to try.
        timeout: Connecting, and waiting for one byte of the response, in seconds, for each
            attempt. One number counts for both. A connection takes two or three round trips,
            the bank's own work takes longer.
        session: A session with the caller's own proxies, CA bundle or adapters; it is not closed
            here. Its hooks and ``auth``, retries of its adapters, and cookies that the bank sets
            take no part; an adapter that is no HTTPAdapter must send a request once, and no more.
            Proxies and CA bundle from the environment work without one.
        transport: Client certificate, CA bundle and proxy. None: as the environment says, or
            ``session``; with both a ConfigurationError is raised.
        clock_correction: Whether to try once more, with a timestamp by the bank's own clock, where
            the bank refuses one by this machine's. None: as ``PERMATA_CLOCK_CORRECTION`` says, on
            by default, so that a wrong clock costs one request and no call.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(
        self,
        credentials: Scheme,
        *,
        retry: RetryPolicy | None = None,
        timeout: tuple[float, float] | float = (5.0, 15.0),
        session: requests.Session | None = None,
        transport: Transport | None = None,
        clock_correction: bool | None = None,
    ) -> None:
        require_members(Scheme, "credentials", credentials)
        if not isinstance(retry, RetryPolicy | None):
            raise ConfigurationError("retry must be a RetryPolicy")
        self.retry = retry or RetryPolicy()
        #: How far this machine's clock is off, for the signatures of calls too.
        self.clock = ClockOffset(clock_correction)
        self._scheme = credentials
        self._rotation = rotation_of(credentials)
        self._timeout = connect_and_read(timeout)
        self._connections = connections(session, transport)
        self._transport = transport
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<LoginClient for {self._scheme!r}>"

    @property
    def credentials(self) -> Scheme:
        """The credentials that it logs in with."""
        return self._scheme

    @property
    def transport(self) -> Transport | None:
        """The transport that it was given."""
        return self._transport

    def __enter__(self) -> LoginClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def login(self, *, attempts: int | None = None) -> AccessToken:
        """Log in and return a new token, whose life counts from the moment it was asked for.

        Blocks for ``retry.timeout`` seconds at most (a stuck look-up of the host's name apart).
        Each attempt has a timestamp and a signature of its own. Credentials that change are looked
        at before it, and again after a refusal. Raises TransportError,
        TokenEndpointError or ConfigurationError; only ``retryable`` ones have been retried.

        Args:
            attempts: In place of ``retry.attempts``: one, for a caller that tries again itself.
        """
        policy = self.retry if attempts is None else attrs.evolve(self.retry, attempts=attempts)
        connection = self._connections.get()
        until = _clock.now() + policy.timeout
        self._rotation.check(policy.timeout)
        retrying = policy.retrying(until, connection.stopped)
        try:
            return retrying(self._attempt, connection.session, until)
        except PermataAuthError as error:
            # Without the frames below this one, whose locals hold the request and the response.
            raise error.with_traceback(None) from None

    def close(self) -> None:
        """Close idle connections and end a wait between attempts; a later login opens new ones."""
        self._connections.close()

    def _attempt(self, session: requests.Session, until: float) -> AccessToken:
        """Log in with the newest credentials; once more if a refusal shows that they changed."""
        is_second = False
        while True:  # not within the handling of the first error, which holds the request
            scheme = self._rotation.newest
            try:
                token = self._log_in_by(scheme, session, until)
            except TokenEndpointError as error:
                is_last = is_second or not is_refusal(error)
                if is_last or not self._rotation.has_other_login(scheme, until - _clock.now()):
                    raise
                is_second = True
            else:
                self._rotation.accept(scheme)
                return token

    def _log_in_by(self, scheme: Scheme, session: requests.Session, until: float) -> AccessToken:
        """Send one request, or two where the first one's response corrects this clock."""
        try:
            return self._ask(scheme, session, until)
        except _ClockCorrected:
            return self._ask(scheme, session, until, is_second=True)

    def _ask(
        self, scheme: Scheme, session: requests.Session, until: float, *, is_second: bool = False
    ) -> AccessToken:
        asked_at, used = _clock.now(), self.clock.current
        request = scheme.token_request(**used.arguments)
        response = exchange(
            session,
            "POST",
            request.url,
            headers=request.headers,
            body=request.body,
            timeout=self._timeout,
            deadline=until,
            setting=request.url_setting,
        )
        took = _clock.now() - asked_at
        reading = Reading(url=request.url, headers=response.headers, took=took, used=used)
        try:
            token = self._read(scheme, response, asked_at)
        except TokenEndpointError as error:
            is_refused = isinstance(error, ClockError)
            if is_refused and self.clock.correct(reading, is_second=is_second):
                raise _ClockCorrected from None
            raise _completed(error, request.url, response) from None
        self.clock.confirm(reading)
        return token

    def _read(self, scheme: Scheme, response: Response, asked_at: float) -> AccessToken:
        if not 200 <= response.status_code < 300:
            raise scheme.read_error_response(response.status_code, response.body, response.headers)
        if not response.is_complete:
            raise InvalidTokenResponseError("the token response is over 1 MiB; ask the bank")
        granted = scheme.read_token_response(response.body)
        lifetime = self._lifetime(granted)
        took = _clock.now() - asked_at
        if lifetime <= took:
            raise InvalidTokenResponseError(
                f"the token has expired already: it lives for {lifetime:.3g} s, and the login took "
                f"{took:.3g} s; ask the bank for a longer life"
            )
        return AccessToken(
            value=granted.value,
            issued_at=_clock.at(asked_at),
            expires_at=_clock.at(asked_at + lifetime),
            token_type=granted.token_type,
            scope=granted.scope,
        )

    def _lifetime(self, granted: TokenResponse) -> float:
        if granted.lifetime is not None:
            return granted.lifetime
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The token endpoint does not say how long a token lives, taken: %d seconds",
                self._scheme.default_lifetime,
            )
        return self._scheme.default_lifetime


class _ClockCorrected(Exception):  # noqa: N818 - no error: the request is made anew at once
    pass


def _completed(error: TokenEndpointError, url: str, response: Response) -> TokenEndpointError:
    """Add two facts that a scheme cannot know: the source of the response, the time to wait."""
    error.status_code = response.status_code
    error.retry_after = response.retry_after
    asked = "" if error.retry_after is None else f"; Retry-After: {error.retry_after:.0f} s"
    where = f"{host_and_port(url)}"
    if response.status_code < 300:
        where += f" (HTTP {response.status_code})"
    error.args = (f"{where}: {error}{asked}",)
    return error
