"""A token as calls read it without a lock, and the outcome of calls with it."""

from __future__ import annotations

import math
from datetime import datetime

from . import _clock
from ._latch import Latch, Once
from .tokens import AccessToken


class Snapshot:
    """A token as :meth:`LoginHandler.get_token` reads it, without a lock.

    Nothing is torn on a build without the GIL either: each attribute is one reference, stored
    under the object's own lock there, so that a thread that stores second has seen the first store.
    """

    def __init__(self, token: AccessToken | None) -> None:
        self.token = token
        self.value = token.value if token else ""
        self.is_dropped = token is None
        self.valid_until = token.deadline if token else -math.inf
        #: A caller has asked for it, or it is of no interest whether one has.
        self.is_asked = True
        #: When its life was over, where that was noticed.
        self.ended_at: datetime | None = None
        #: A call with it was accepted.
        self.is_accepted = False
        #: A call with it was rejected before any was accepted, and the pace has counted that.
        self.is_rejected = False
        self._drop = Once()
        #: Taken by the thread that counts its rejection.
        self.rejection = Once()
        #: Set once that is done.
        self.counted = Latch()

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
        if self.token is None or not self._drop.take():
            return False
        self.ended_at = min(_clock.at(_clock.now()), self.token.expires_at)
        return True

    def send_the_slow_way(self) -> None:
        """Let the next call take the slow path, though the token lives."""
        self.valid_until = -math.inf

    def note_asked(self, token: AccessToken) -> None:
        """Note that a caller has asked for it, and let calls take the fast path again."""
        self.is_asked = True
        self.valid_until = token.deadline
        # Another thread may drop it between the caller's look and the line above, and would find
        # its token served again; drop() raises the flag before it stores.
        if self.is_dropped:
            self.valid_until = -math.inf
