"""The access token, an immutable value."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

import attrs

from . import _clock
from ._settings import Secret


def _printable(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    # A line break would end the Authorization header and begin one of the token's choosing.
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("an access token is printable ASCII without spaces")


def _aware(instance: object, attribute: attrs.Attribute[datetime], value: datetime) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"{attribute.name} must be an aware datetime")


@attrs.frozen(kw_only=True)
class AccessToken(Secret):
    """An access token and its life (RFC 6749 section 5.1). The repr does not show its value.

    From its creation on, its life runs on a clock that counts suspended time and ignores
    wall-clock steps of less than two minutes.

    Args:
        value: The token itself: printable ASCII.
        expires_at: The moment at which it dies; an aware datetime.
        issued_at: The moment at which it was asked for; an aware datetime, now by default.
        token_type: How calls present it; the bank issues ``Bearer`` tokens (RFC 6750).
        scope: The scope that the bank granted, or None where it names none.
    """

    _why_unpicklable = "it is a secret; send token.value by a channel meant for secrets"

    value: str = attrs.field(repr=False, validator=_printable)
    expires_at: datetime = attrs.field(validator=_aware)
    issued_at: datetime = attrs.field(
        factory=lambda: _clock.to_datetime(_clock.wall()), validator=_aware
    )
    token_type: str = "Bearer"
    scope: str | None = None
    #: The expiry on the clock of :mod:`permata_auth._clock`, by which every decision is made.
    deadline: float = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        seconds = self.expires_at.timestamp() - _clock.wall()
        object.__setattr__(self, "deadline", _clock.now() + seconds)

    def expires_in(self) -> float:
        """Return the seconds of life that are left, negative once it has expired."""
        return _clock.seconds_left(self.deadline, self.expires_at.timestamp())

    @property
    def fingerprint(self) -> str:
        """The first 8 hex digits of its SHA-256, by which logs name it."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:8]
