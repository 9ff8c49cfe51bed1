"""A token ahead of the first call that needs one, fetched in the background."""

from __future__ import annotations

import contextvars

from .._latch import Once
from .._logging import Log, describe
from .._threads import start_daemon
from ..handler import LoginHandler

logger = Log(__name__)


class WarmUp:
    """One thread at a time that waits until a handler has a token. Thread-safe, takes no lock.

    It tries at the handler's own pace, so that a bank which is down at the start costs no more
    requests than callers would. A child of a fork needs one of its own.

    Args:
        handler: Its token is waited for.
    """

    def __init__(self, handler: LoginHandler) -> None:
        self._handler = handler
        self._turn = Once()

    def start(self) -> None:
        """Wait for a token in the background, unless a thread does so or a token lives."""
        if self._handler.health().state in ("ready", "degraded") or not self._turn.take():
            return
        try:
            # In a context of its own: that of a request would be kept for as long as it takes.
            contextvars.Context().run(start_daemon, self._run, f"warm-up-{self._handler.name}")
        except RuntimeError:  # no thread can be started; the next call tries again
            self._turn = Once()

    def _run(self) -> None:
        try:
            self._handler.wait_until_ready(timeout=None)
        except Exception as error:
            logger.warning("No token ahead of the first call: %s", describe(error))
        finally:
            self._turn = Once()  # so that a later probe or request starts it anew
