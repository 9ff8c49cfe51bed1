"""What a handler tells its event hook: frozen records, with no secret in them."""

from __future__ import annotations

from datetime import datetime

import attrs


@attrs.frozen(kw_only=True)
class Event:
    """The fields of all events: when it happened (aware UTC), in which handler, for which call.

    A login's events are told in their order once it has ended: its token is in place by then, and
    its callers are free.
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
    """A login gave a token; ``duration`` in seconds."""

    fingerprint: str
    expires_at: datetime
    duration: float


@attrs.frozen(kw_only=True)
class LoginFailed(Event):
    """A login gave up; ``error`` is the name of the error's class, ``duration`` in seconds."""

    error: str
    message: str
    duration: float


@attrs.frozen(kw_only=True)
class LoginPostponed(Event):
    """No login starts before ``until`` (aware UTC), after a failure.

    ``error`` is the name of the error's class.
    """

    until: datetime
    error: str
    message: str


@attrs.frozen(kw_only=True)
class LoginAbandoned(Event):
    """A login took longer than its budget of ``budget`` seconds; its outcome will be ignored."""

    budget: float


@attrs.frozen(kw_only=True)
class TokenSwapped(Event):
    """The handler serves a new token, from a login or (``is_shared``) from the store."""

    fingerprint: str
    expires_at: datetime
    is_shared: bool


@attrs.frozen(kw_only=True)
class TokenInvalidated(Event):
    """The token was dropped before its time."""

    fingerprint: str


@attrs.frozen(kw_only=True)
class RefreshScheduled(Event):
    """The token will be refreshed in the background."""

    fingerprint: str
    next_refresh_at: datetime


@attrs.frozen(kw_only=True)
class RefreshSkipped(Event):
    """The token will not be refreshed in the background, but on demand once it has expired."""

    fingerprint: str
