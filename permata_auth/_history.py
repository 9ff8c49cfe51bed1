"""The outcomes of a handler's logins, for its state and its health."""

from __future__ import annotations

from datetime import datetime

import attrs

from . import _clock
from ._logging import describe


@attrs.frozen(kw_only=True)
class Failing:
    """Logins that have failed since there was a new token: the last error, and the first moment."""

    last_error: str
    since: datetime


class History:
    """Counts and moments of one handler's logins. Thread-safe without a lock.

    Written by the thread of a flight alone, but for the end of an abandoned one; each attribute is
    replaced as a whole.
    """

    def __init__(self) -> None:
        self.logins = 0
        self.failed_logins = 0
        self.last_login_at: datetime | None = None
        #: The last error, and when it was met; a later success does not take it away.
        self.last_error: tuple[str, datetime] | None = None
        #: None once there is a new token, from a login or from the store.
        self.failing: Failing | None = None
        #: When the handler last began to have a live token whose refresh had not failed.
        self.ready_since: datetime | None = None

    def succeed(self) -> None:
        """Note a login that gave a token."""
        self.logins += 1
        self.last_login_at = _now()

    def fail(self, error: BaseException) -> None:
        """Note a login that failed."""
        self.failed_logins += 1
        self.note_error(describe(error))

    def note_error(self, text: str) -> None:
        """Note why there is no new token, where no login of this process has failed.

        Args:
            text: The error, with no secret in it.
        """
        now = _now()
        self.last_error = text, now
        since = self.failing.since if self.failing else now
        self.failing = Failing(last_error=text, since=since)

    def swap(self, *, is_first: bool) -> None:
        """Note a new token.

        Args:
            is_first: No token lived just before.
        """
        if is_first or self.failing is not None:
            self.ready_since = _now()
        self.failing = None


def _now() -> datetime:
    return _clock.at(_clock.now())
