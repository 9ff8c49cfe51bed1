"""Credentials that may change while a program runs, as a login, a call and a store see them.

For a moment after a change nobody knows which set the bank takes: the new one, the old one, both or
neither. So there are up to three: the *newest* set, which every login uses; the one *accepted*
last; and the *current* one, which signs calls. They are the same most of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import EventHooks
    from .schemes.base import Scheme


class Rotation:
    """The sets of one account; here of one that never changes. Each is immutable and whole.

    A login or a call takes one set once and uses nothing else, so that it is never signed in part
    by another. Thread-safe.

    Args:
        scheme: The set to begin with.
    """

    def __init__(self, scheme: Scheme) -> None:
        #: Signs calls.
        self.current = scheme
        #: Logs in.
        self.newest = scheme
        #: The newest set, then the one before it, under which a store may still have a token.
        self.known: tuple[Scheme, ...] = (scheme,)
        self._accepted: Scheme | None = None

    @property
    def accepted(self) -> Scheme:
        """The set of the last login that gave a token; the newest before there was any."""
        return self._accepted or self.newest

    def is_due(self) -> bool:
        """Tell whether to look for a change. Never blocks."""
        return False

    def check(self, timeout: float | None = None) -> None:
        """Look for a change, if that is due; called before every login.

        Args:
            timeout: The seconds that this may take at most; None: as long as a look may take.
        """

    def has_other_login(self, refused: Scheme, timeout: float | None = None) -> bool:
        """Look at once after a refused login; return whether to try once more, with the newest set.

        Args:
            refused: The set that the login used.
            timeout: As in :meth:`check`.
        """
        return False

    def other_signer(self, refused: Scheme) -> Scheme | None:
        """Look at once after a refused signature; return the set for one more try, or None.

        Args:
            refused: The set that signed the call.
        """
        return None

    def accept(self, scheme: Scheme) -> None:
        """Note that the bank has accepted a set: in a login, or in that one more try of a call.

        Args:
            scheme: The set.
        """
        self._accepted = self.current = scheme

    def watch(self, events: EventHooks) -> None:
        """Tell these hooks of every change; holds them weakly.

        Args:
            events: The hooks of one handler.
        """


def rotation_of(scheme: Scheme) -> Rotation:
    """Return the rotation that a scheme has, or one in which it stays the only set."""
    found = getattr(scheme, "rotation", None)
    return found if isinstance(found, Rotation) else Rotation(scheme)
