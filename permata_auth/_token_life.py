"""The token's life: served, refreshed ahead of its expiry, replaced by one login for everybody.

1. *Snapshot.* A call with a live token reads one snapshot and one clock, and returns.
2. *Pace.* Any other call is told at once where a recent failure lets no login start yet, unless
   that was a refusal and the credentials may have changed since, or another process may have put a
   token in the store: a few times a second one call looks.
3. *Flight.* Else one login runs on a thread of its own, and all callers share its outcome. It first
   looks for a newer token in the store, and keeps the other processes from logging in meanwhile.
4. *Schedule.* The new token is swapped in and its refresh scheduled, before any caller wakes.
5. *Events.* Then logs and the event hooks are told.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

from . import _clock, _process
from ._clock_offset import ClockOffset
from ._flight import Flight, SingleFlight
from ._history import History
from ._latch import Latch
from ._logging import Log, describe, tagged
from ._pace import Asker, Pace, Pause, held_error
from ._rejections import Rejections
from ._rotation import Rotation
from ._schedule import RefreshSchedule
from ._settings import timeout_secs
from ._snapshot import Snapshot
from ._threads import start_daemon
from .events import (
    EventHooks,
    LoginAbandoned,
    LoginFailed,
    LoginPostponed,
    LoginStarted,
    LoginSucceeded,
    TokenInvalidated,
    TokenSwapped,
)
from .exceptions import ConfigurationError, InvalidTokenResponseError, PermataAuthError
from .login import LoginClient
from .stores.sharing import Renewal, SharedToken, Unshared
from .tokens import AccessToken

#: By the name of the public module, which people configure.
logger = Log("permata_auth.handler")

_Login = Flight[Snapshot]
#: The step that puts its outcome in place.
_Landing = Callable[[], Snapshot]
_Renewal = Renewal | Unshared

#: So that tokens which die at once cost one call a few logins, not an endless number.
_MAX_FLIGHTS = 3


class TokenLife:
    """The slow path: everything that is off the path of a call with a live token.

    Only the thread of a flight swaps the snapshot, counts logins, and begins or ends the pauses of
    failed logins, so none of that needs a lock. All other threads read, or drop the snapshot that
    they hold: dropping is final, and cannot touch a newer one.

    Args:
        name: The handler's name, for logs, events and threads.
        label: The name that errors carry; None where they name the host alone.
        rotation: The credentials, as far as they change.
        client: Logs in.
        shared: The token as other processes see it.
        schedule: The refresh in the background.
        events: The event hooks.
        budget: The seconds that a login may take.
        refusal_memory: The first pause after refused credentials, in seconds.
        stops_when_idle: A token that no caller has asked for is not refreshed.
    """

    def __init__(
        self,
        *,
        name: str,
        label: str | None,
        rotation: Rotation,
        client: LoginClient,
        shared: SharedToken | Unshared,
        schedule: RefreshSchedule,
        events: EventHooks,
        budget: float,
        refusal_memory: float,
        stops_when_idle: bool,
    ) -> None:
        self.name = name
        self._label = label
        self._rotation = rotation
        rotation.watch(events)
        #: How far this machine's clock is off, for the signatures of calls.
        self.clock = _clock_of(client)
        self._client = client
        self._log_in_once = _one_attempt(client)
        self._shared = shared
        self._schedule = schedule
        self._events = events
        self._snapshot = Snapshot(None)
        self._pace = Pace(refusal_memory, credentials=lambda: rotation.newest)
        self._rejections = Rejections(
            self._pace,
            shared,
            is_accepted_after=refusal_memory,
            on_pause=functools.partial(_tell_of_pause, events),
        )
        tell = weakref.WeakMethod(self._tell_of_abandoned_login)
        self._flights: SingleFlight[Snapshot] = SingleFlight(
            name, budget, on_abandon=functools.partial(_abandoned, tell)
        )
        self._stops_when_idle = stops_when_idle
        self._history = History()
        #: Set by shutdown(): a wait for the next try ends.
        self._stopped = Latch()
        self._home = _process.identity()
        _process.notify_forks(self)

    def _obtain(
        self, timeout: float | None, unique_id: str | None = None, request_id: str | None = None
    ) -> AccessToken:
        """Return a live token, for a caller that was sent the slow way."""
        secs = timeout_secs(timeout)
        self._notice_fork()
        snapshot = self._snapshot
        token = snapshot.live
        if token is not None:
            # The first call after a fork, whose timer stayed with the parent, or the first one for
            # a token that the timer fetched. A timer that gives an idle token up at this moment
            # counts as active still: then the next login is made on demand.
            if not self._schedule.is_active:
                self._schedule.start(token)
            snapshot.note_asked(token)
            return token
        with tagged(unique_id=unique_id, request_id=request_id):
            return self._log_in(Asker.CALLER, snapshot, secs)

    def _log_in(self, asker: Asker, seen: Snapshot, timeout: float | None = None) -> AccessToken:
        """Return the token of a flight, or raise why there is none; ``seen`` is to be replaced."""
        try:
            with tagged(handler=self.name):
                return self._join_flights(asker, seen, timeout)
        except PermataAuthError as error:
            error.handler = self._label
            pause = self._held(asker)  # the login may have been another asker's, held otherwise
            if pause is not None:
                error.retry_after = pause.seconds_left
            raise

    def _join_flights(self, asker: Asker, seen: Snapshot, timeout: float | None) -> AccessToken:
        budget = self._flights.budget
        deadline = _clock.now() + min(budget if timeout is None else timeout, budget)
        for _ in range(_MAX_FLIGHTS):
            pause = self._held(asker)
            if pause is not None and not self._may_pass(asker, pause):
                # Again: another thread may have put other credentials in place since this one
                # looked, and their login would be held up by the old ones' pause.
                pause = self._held(asker)
                if pause is not None:
                    raise held_error(pause)
            work = functools.partial(self._renew, asker, seen)
            seen = self._flights.call(work, deadline - _clock.now())
            # Another caller may have taken the token from the snapshot, met a rejection and dropped
            # it before this one joined the flight, or woke: it would be served again.
            token = seen.live
            if token is not None:
                seen.is_asked |= asker is not Asker.TIMER
                return token
        raise InvalidTokenResponseError(
            f"the last {_MAX_FLIGHTS} tokens were rejected or had expired before they could be used"
        )

    def _may_pass(self, asker: Asker, pause: Pause) -> bool:
        """Tell whether a flight may find credentials or a token, and end the pause."""
        is_look_due = asker is Asker.CALLER and self._shared.is_look_due
        return is_look_due or (pause.is_bound and self._rotation.is_due())

    def _held(self, asker: Asker) -> Pause | None:
        """Return the pause that lets no login start for ``asker``, if there is one."""
        token = self._snapshot.live
        if asker is not Asker.TIMER or token is None:
            return self._pace.held(asker)
        window = self._schedule.window(token)
        return self._pace.held(asker, window=window, left=token.expires_in())

    def _renew(self, asker: Asker, seen: Snapshot, flight: _Login) -> _Landing:
        """Get the newest token, on the flight's thread; return the step that puts it in place."""
        snapshot = self._snapshot
        if snapshot is not seen and asker is not Asker.REFRESH and snapshot.live is not None:
            # Another flight has landed since this one's caller looked.
            return functools.partial(_same, snapshot)
        # Here, since it may block; before the store, where a token has its credentials' place.
        self._rotation.check()
        # Again, on the one thread that logs in: callers that looked before the last flight failed
        # would otherwise start a login each.
        pause = self._held(asker)
        if pause is not None:
            newer = asker is Asker.CALLER and self._shared.look(
                snapshot.token, self._rejections.was_replaced
            )
            if not newer:
                raise held_error(pause)
            return functools.partial(self._swap, asker, newer, is_shared=True)
        with self._shared.renewal(
            snapshot.token,
            is_forced=asker is Asker.REFRESH,
            is_unwanted=self._rejections.was_replaced,
            is_held=functools.partial(self._is_held_by, asker),
        ) as renewal:
            if renewal.newer is not None:
                return functools.partial(self._swap, asker, renewal.newer, is_shared=True)
            if renewal.pause is not None:
                raise held_error(renewal.pause)
            # The time in the queue for the store's lock was not the login's.
            flight.restart_budget(self._flights.budget)
            return self._ask_the_bank(asker, renewal, flight)

    def _is_held_by(self, asker: Asker, pause: Pause) -> bool:
        """Take over another process's failure; tell whether any failure lets no login start."""
        self._pace.adopt(pause)
        held = self._held(asker)
        if held is not None:
            self._history.note_error(describe(held.error))
        return held is not None

    def _ask_the_bank(self, asker: Asker, renewal: _Renewal, flight: _Login) -> _Landing:
        began = _clock.now()
        self._events.emit(LoginStarted)
        try:
            # In the background one attempt: the scheduler's waits come between them.
            token = self._log_in_once() if asker is Asker.TIMER else self._client.login()
            _check_usable(token)
        except Exception as error:
            pause = self._pace.after(error.with_traceback(None))
            # A failure past the budget would hold up a fleet that may have a newer token by now.
            if _clock.now() < flight.until:
                renewal.save_failure(pause)
            return functools.partial(self._fail, pause, _clock.now() - began)
        if not flight.is_abandoned:  # this process ignores its token, and so should the others
            renewal.save(token)
        return functools.partial(self._succeed, asker, token, _clock.now() - began)

    def _succeed(self, asker: Asker, token: AccessToken, duration: float) -> Snapshot:
        self._history.succeed()
        logger.info(
            "Logged in, the token lives for %d seconds",
            round(token.expires_in()),
            token=token.fingerprint,
        )
        self._events.emit(
            LoginSucceeded,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            duration=duration,
        )
        return self._swap(asker, token, is_shared=False)

    def _fail(self, pause: Pause, duration: float) -> Snapshot:
        self._history.fail(pause.error)
        self._pace.begin(pause)
        self._events.emit(LoginFailed, duration=duration, **_named(pause.error))
        _tell_of_pause(self._events, pause)
        raise pause.error

    def _swap(self, asker: Asker, token: AccessToken, *, is_shared: bool) -> Snapshot:
        before, replaced = self._snapshot.live, self._snapshot.token
        self._pace.end()
        snapshot = Snapshot(token)
        if asker is Asker.TIMER and self._stops_when_idle:
            snapshot.is_asked = False
            snapshot.send_the_slow_way()  # the first caller is noted there
        self._snapshot = snapshot
        self._history.swap(is_first=before is None)
        self._events.emit(
            TokenSwapped,
            fingerprint=token.fingerprint,
            expires_at=token.expires_at,
            is_shared=is_shared,
        )
        self._schedule.start(token, replaced)
        return snapshot

    def _discard(self, token: AccessToken) -> None:
        self._shared.discard(token)
        with tagged(handler=self.name):
            logger.info("Token invalidated", token=token.fingerprint)
            self._events.emit(TokenInvalidated, fingerprint=token.fingerprint)

    def _tell_of_abandoned_login(self) -> None:
        budget = self._flights.budget
        self._history.note_error("login abandoned")
        with tagged(handler=self.name):
            logger.warning("Login abandoned after its budget of %.1f seconds", budget)
            self._events.emit(LoginAbandoned, budget=budget)

    def after_fork_in_child(self) -> None:
        """Send the next call the slow way, which arms a timer; called by the fork hook."""
        self._home = _process.identity()
        self._snapshot.send_the_slow_way()

    def _notice_fork(self) -> None:
        """Stand in for the fork hook after a fork in C, which runs no hook."""
        if self._home != _process.identity():
            self.after_fork_in_child()


def _abandoned(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Tell of an abandoned login on a thread of its own: the caller has to start another."""
    tell = method()
    if tell is not None:
        try:
            start_daemon(tell, "events")
        except RuntimeError:  # no thread can be started
            tell()


def _clock_of(client: object) -> ClockOffset:
    """Return the correction that a client logs in by; one that is not ours may have none."""
    clock = getattr(client, "clock", None)
    return clock if isinstance(clock, ClockOffset) else ClockOffset()


def _tell_of_pause(events: EventHooks, pause: Pause) -> None:
    if pause.until > _clock.now():
        events.emit(LoginPostponed, until=_clock.at(pause.until), **_named(pause.error))


def _same(snapshot: Snapshot) -> Snapshot:
    return snapshot


def _check_usable(token: object) -> None:
    if not isinstance(token, AccessToken):
        raise ConfigurationError("client.login() must return an AccessToken")
    if token.expires_in() <= 0:
        raise InvalidTokenResponseError(
            "the token had expired when it arrived: its life is shorter than the login took"
        )


def _named(error: BaseException) -> dict[str, str]:
    """Return the fields of an event that name an error; its text only where it is ours."""
    text = str(error) if isinstance(error, PermataAuthError) else ""
    return {"error": type(error).__name__, "message": text}


def _one_attempt(client: Any) -> Callable[[], AccessToken]:
    """Return a function for a login of one attempt, where the client can do that."""
    if "attempts" in inspect.signature(client.login).parameters:
        return functools.partial(client.login, attempts=1)
    login: Callable[[], AccessToken] = client.login
    return login
