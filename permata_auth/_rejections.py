"""Calls that the bank answers with "token rejected": which token is replaced, and when.

A token with which a call was accepted is replaced at once when the bank rejects it later. One that
was rejected before any call was accepted is *fresh*: to replace it may be of no use, for instance
while a gateway of the bank's rejects every token. So the first fresh one in a row is replaced at
once, the others after a pause each; until then they are served, and each caller gets the bank's
response. The count is shared by the fleet; an accepted call ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from . import _clock
from ._pace import Pace, Pause, Row
from ._snapshot import Snapshot
from .stores.sharing import SharedToken, Unshared
from .tokens import AccessToken

_MAX_REMEMBERED = 32
#: So that a thread that was interrupted while it counted holds nobody up.
_MAX_COUNT_SECS = 0.5


class Rejections:
    """A handler's memory of rejected tokens. Thread-safe without a lock.

    Args:
        pace: Has the row of rejected tokens, which this room alone begins and ends.
        is_accepted_after: The age in seconds from which a token counts as accepted though no call
            was reported: some callers report nothing.
        shared: Shares the count with the fleet.
        on_pause: Called with each pause that begins.
    """

    def __init__(
        self,
        pace: Pace,
        shared: SharedToken | Unshared,
        *,
        is_accepted_after: float,
        on_pause: Callable[[Pause], object],
    ) -> None:
        self._pace = pace
        self._shared = shared
        self._is_accepted_after = is_accepted_after
        self._on_pause = on_pause
        self._replaced: deque[str] = deque(maxlen=_MAX_REMEMBERED)

    def was_replaced(self, token: AccessToken) -> bool:
        """Tell whether ``token`` was dropped after a rejection; the store may still have it."""
        return token.fingerprint in self._replaced

    def accept(self, snapshot: Snapshot) -> bool:
        """Note that a call with this token was accepted; return True: replace it if rejected."""
        snapshot.is_accepted = True
        if self._pace.rejections is not None:
            self._pace.end_rejections()
            self._shared.save_rejections(None)
        return True

    def reject(self, snapshot: Snapshot) -> bool:
        """Note that a call with this token was rejected; return whether to replace it now."""
        token = snapshot.token
        if snapshot.is_accepted or token is None:
            return True
        if self._shared.find_newer(token, self.was_replaced) is not None:
            return True  # to take it costs no login
        known = self._shared.load_rejections()
        if known is not None:
            self._pace.adopt(known)
            snapshot.is_rejected |= known.rejected == token.fingerprint
        if not snapshot.is_rejected and self._is_old(token):
            return self.accept(snapshot)
        if not snapshot.is_rejected:
            self._count(snapshot, token)
        return not self._pace.is_held_by(Row.REJECTED)

    def remember(self, token: AccessToken) -> None:
        """Never take ``token`` from the store again."""
        self._replaced.append(token.fingerprint)

    def _is_old(self, token: AccessToken) -> bool:
        return _clock.wall() - token.issued_at.timestamp() > self._is_accepted_after

    def _count(self, snapshot: Snapshot, token: AccessToken) -> None:
        if not snapshot.rejection.take():
            # Another thread is between the two lines below: a token that this one replaced before
            # the pause has begun could be a login too many.
            snapshot.counted.wait(_MAX_COUNT_SECS)
            return
        pause = self._pace.after_rejection(token.fingerprint)
        self._pace.begin(pause)
        if snapshot.is_accepted:
            # Another thread has noted an accepted call, or the token's age, since this one looked,
            # and may have dropped the token: the pause would hold callers with no token to serve.
            self._pace.end_rejections()
        else:
            snapshot.is_rejected = True
        snapshot.counted.set()
        if snapshot.is_rejected:
            # A single one too, though no pause follows: else each process that had not seen the
            # token before would replace its own first one at once, and a fleet log in once for
            # each of them.
            self._shared.save_rejections(pause)
            self._on_pause(pause)
