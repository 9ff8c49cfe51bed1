"""Bounds of the bank: logins in a while, refusals that lock an account, keys seen before."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable

import attrs


def is_seconds(
    *, above: float = -math.inf
) -> Callable[[object, attrs.Attribute[float], float], None]:
    """Return a validator for a finite number of seconds.

    Args:
        above: The least value, itself allowed; by default any number is.
    """

    def check(_: object, attribute: attrs.Attribute[float], value: float) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value >= above):
            raise ValueError(f"{attribute.name} must be a finite number of seconds >= {above}")

    return check


def is_count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    """Refuse anything that is no whole number of at least 1; a validator.

    Args:
        _: The instance, of no account.
        attribute: The field, for the error.
        value: Its value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number >= 1")


@attrs.define(eq=False)
class SlidingWindow:
    """The moments of the events of the last seconds; not thread-safe."""

    _moments: deque[float] = attrs.field(factory=deque, init=False)

    def add(self, now: float) -> None:
        """Note that something happened."""
        self._moments.append(now)

    def seconds_until_below(self, limit: int, window: float, now: float) -> float:
        """Return how long fewer than ``limit`` moments lie in the last ``window`` seconds, or 0."""
        while self._moments and self._moments[0] <= now - window:
            self._moments.popleft()
        if len(self._moments) < limit:
            return 0.0
        return self._moments[-limit] + window - now

    def clear(self) -> None:
        """Forget all moments."""
        self._moments.clear()


@attrs.define(eq=False)
class Seen:
    """The last ``max_keys`` keys; not thread-safe."""

    max_keys: int
    _keys: dict[Hashable, None] = attrs.field(factory=dict, init=False, repr=False)

    def add(self, key: Hashable) -> bool:
        """Note the key, and return whether it came before."""
        was_there = key in self._keys
        self._keys[key] = None
        if len(self._keys) > self.max_keys:
            del self._keys[next(iter(self._keys))]
        return was_there

    def __len__(self) -> int:
        return len(self._keys)

    def clear(self) -> None:
        """Forget all keys."""
        self._keys.clear()
