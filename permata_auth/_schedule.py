"""When a handler's token is refreshed in the background."""

from __future__ import annotations

import random
from collections.abc import Callable

from . import _clock
from .events import EventHooks, RefreshScheduled, RefreshSkipped
from .scheduler import SchedulerConfig, TokenScheduler
from .tokens import AccessToken


class RefreshSchedule:
    """A handler's use of its scheduler: the margins that fit a token, and the end of it all.

    Args:
        scheduler: The scheduler, reserved for the handler.
        refresh: The callback. It holds the handler weakly, since the scheduler holds it.
        events: Hears of each schedule.
        is_owned: The scheduler was made for this handler, and ends with it.
        is_enabled: False: nothing is ever scheduled.
        clamps: Fit the margins to tokens that live shorter than they ask for.
        is_fleet: Other processes refresh the same token: spread the moments.
    """

    def __init__(
        self,
        scheduler: TokenScheduler,
        refresh: Callable[[], object],
        events: EventHooks,
        *,
        is_owned: bool,
        is_enabled: bool,
        clamps: bool,
        is_fleet: bool,
    ) -> None:
        self.scheduler = scheduler
        self._refresh = refresh
        self._events = events
        self._is_owned = is_owned
        self._is_enabled = is_enabled
        self._clamps = clamps
        self._is_fleet = is_fleet

    @property
    def is_active(self) -> bool:
        """Whether a refresh is scheduled, or runs, in this process."""
        return self.scheduler.is_active

    def start(self, token: AccessToken, replaced: AccessToken | None = None) -> None:
        """Schedule the refresh of ``token``, in place of the one that is scheduled.

        Args:
            token: The token that is served from now on.
            replaced: The one before it.
        """
        if not self._is_enabled:
            return
        config = self._margins(token, replaced)
        expires_at = _clock.wall() + token.expires_in()
        is_scheduled = self.scheduler.start(expires_at, self._refresh, config=config)
        if not self._is_enabled:  # shut down meanwhile, before there was a schedule to stop
            self.scheduler.stop(self._refresh)
        elif is_scheduled:
            left = token.expires_in() - config.refresh_buffer_secs
            due = _clock.at(_clock.now() + left)
            self._events.emit(RefreshScheduled, fingerprint=token.fingerprint, next_refresh_at=due)
        else:
            self._events.emit(RefreshSkipped, fingerprint=token.fingerprint)

    def shutdown(self, owner: object, timeout: float | None) -> None:
        """Stop for good; wait ``timeout`` seconds for a refresh that runs on an owned scheduler."""
        self._is_enabled = False
        if self._is_owned:
            self.scheduler.shutdown(timeout)
        else:
            self.scheduler.stop(self._refresh)
            self.scheduler.release(owner)

    def window(self, token: AccessToken) -> float:
        """Return the seconds from the first attempt to refresh ``token`` to its expiry."""
        return self._buffer((token.expires_at - token.issued_at).total_seconds())

    def _margins(self, token: AccessToken, replaced: AccessToken | None) -> SchedulerConfig:
        if replaced is not None and _is_same(token, replaced):
            # The bank hands out the same token until it dies: there is no other before then.
            return SchedulerConfig(0.0, 0.0)
        life = max(token.expires_in(), 0.0)
        buffer, minimum = self._buffer(life), self.scheduler.config.min_schedule_time_secs
        if self._clamps:
            minimum = min(minimum, life / 10)
        if self._is_fleet:
            # So that the processes of a fleet do not all come at once. Only ever earlier.
            buffer *= random.uniform(1.0, 1.1)
        return SchedulerConfig(buffer, minimum)

    def _buffer(self, life: float) -> float:
        buffer = self.scheduler.config.refresh_buffer_secs
        return min(buffer, life / 2) if self._clamps else buffer


def _is_same(token: AccessToken, replaced: AccessToken) -> bool:
    """Tell whether a login gained nothing; lives that the wire rounds to seconds may differ."""
    return token.value == replaced.value and token.deadline < replaced.deadline + 1.0
