"""The events that a handler passes to its hooks: frozen records with no secret in them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime

import attrs

from . import _clock
from ._logging import Log, contained, describe, frames, ids, tell
from .exceptions import ConfigurationError

logger = Log(__name__)


@attrs.frozen(kw_only=True)
class Event:
    """The fields of all events.

    A login's events are passed on in their order once it has ended: its token is in place by then,
    and its callers are free.

    Args:
        at: The moment at which it happened; aware UTC.
        handler: The handler's name.
        unique_id: The mark of the call that set it off, as given to ``get_token()``.
        request_id: The other mark of that call.
    """

    at: datetime
    handler: str | None = None
    unique_id: str | None = None
    request_id: str | None = None


@attrs.frozen(kw_only=True)
class LoginStarted(Event):
    """A login begins."""


@attrs.frozen(kw_only=True)
class LoginSucceeded(Event):
    """A login gave a token.

    Args:
        fingerprint: The token's: the first 8 hex digits of its SHA-256.
        expires_at: The token's expiry; aware UTC.
        duration: The seconds that the login took, all attempts included.
    """

    fingerprint: str
    expires_at: datetime
    duration: float


@attrs.frozen(kw_only=True)
class LoginFailed(Event):
    """A login gave up.

    Args:
        error: The name of the error's class.
        message: The error's text.
        duration: The seconds that the login took, all attempts included.
    """

    error: str
    message: str
    duration: float


@attrs.frozen(kw_only=True)
class InboundCallAnswered(Event):
    """A request of the bank is answered. Its ``request_id`` is the ``X-EXTERNAL-ID``.

    Args:
        service: The code of the service; 0 where the path is unknown.
        response_code: ``responseCode`` of the response.
        outcome: ``verified`` where it passed every check, even if the merchant's function refused
            it; ``refused`` by a check; ``replayed`` where its external id was seen before; ``slow``
            where the function took longer than its time limit; ``failed`` where it raised, or the
            external ids could not be stored.
        check: The check that it did not pass; None where it did.
        is_replay: Whether its external id was seen before: it is answered with 409, or with the
            first response again.
        duration: The seconds that the response took.
    """

    service: int
    response_code: str
    outcome: str
    check: str | None
    is_replay: bool
    duration: float


@attrs.frozen(kw_only=True)
class LoginPostponed(Event):
    """A pause begins after a failure.

    Args:
        until: No login starts before this moment; aware UTC.
        error: The name of the class of the failure's error.
        message: The error's text.
    """

    until: datetime
    error: str
    message: str


@attrs.frozen(kw_only=True)
class LoginAbandoned(Event):
    """A login took longer than its budget; its outcome will be ignored.

    Args:
        budget: The budget, in seconds.
    """

    budget: float


@attrs.frozen(kw_only=True)
class TokenSwapped(Event):
    """The handler serves a new token.

    Args:
        fingerprint: The new token's.
        expires_at: The new token's expiry; aware UTC.
        is_shared: Whether it came from the store and not from a login of this process.
    """

    fingerprint: str
    expires_at: datetime
    is_shared: bool


@attrs.frozen(kw_only=True)
class TokenInvalidated(Event):
    """The token was dropped before its time.

    Args:
        fingerprint: The dropped token's.
    """

    fingerprint: str


@attrs.frozen(kw_only=True)
class RefreshScheduled(Event):
    """The token will be refreshed in the background.

    Args:
        fingerprint: The token's.
        next_refresh_at: The moment of the refresh; aware UTC.
    """

    fingerprint: str
    next_refresh_at: datetime


@attrs.frozen(kw_only=True)
class RefreshSkipped(Event):
    """The token will not be refreshed in the background, but on demand once it has expired.

    Args:
        fingerprint: The token's.
    """

    fingerprint: str


@attrs.frozen(kw_only=True)
class CredentialsReloaded(Event):
    """The credentials have changed; ``fields`` has the names of those that did, and no value.

    It is empty where credentials of another kind took their place.
    """

    fields: tuple[str, ...]


class EventHooks:
    """The hooks of one handler. Thread-safe. A hook that raises does not keep events from others.

    Args:
        handler: The handler's name, which each event carries.
        first: A hook to begin with, or None.
    """

    def __init__(self, handler: str, first: Callable[[Event], object] | None = None) -> None:
        self._handler = handler
        self._hooks: tuple[Callable[[Event], object], ...] = ()
        self._has_failed = False
        if first is not None:
            self.add(first)

    def add(self, hook: Callable[[Event], object]) -> None:
        """Call ``hook`` with every event from now on.

        Args:
            hook: Called with an :class:`Event`, mostly in a thread of the handler's; it should
                return at once. The first exception that it raises is logged.
        """
        if not callable(hook):
            raise ConfigurationError("on_event, or any event hook, must be callable")
        self._hooks = (*self._hooks, hook)

    def remove(self, hook: Callable[[Event], object]) -> None:
        """Do not call ``hook`` any more.

        Args:
            hook: As given to :meth:`add`; nothing happens for any other.
        """
        self._hooks = tuple(each for each in self._hooks if each != hook)

    def emit(self, kind: Callable[..., Event], **fields: object) -> None:
        """Make an event now, and pass it on now, or after the login that it belongs to.

        Args:
            kind: The event's class.
            fields: The fields of that class.
        """
        if self._hooks:
            marks = {**ids(), "handler": self._handler}
            event = kind(at=_clock.at(_clock.now()), **marks, **fields)
            tell(functools.partial(self._call_hooks, event))

    def _call_hooks(self, event: Event) -> None:
        for hook in self._hooks:
            with contained(self._report):
                hook(event)

    def _report(self, error: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.error("An event hook raised; it will not be logged again: %s", describe(error))
            logger.debug("The event hook raised at\n%s", frames(error))
