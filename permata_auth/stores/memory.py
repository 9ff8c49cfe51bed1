"""A token store in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from .. import _clock
from .._latch import Latch
from .._process import PerProcess
from ..tokens import AccessToken
from .failures import StoredFailure


class MemoryTokenStore:
    """Share tokens between the handlers of one process. Thread-safe.

    A forked child starts with the tokens of its parent, and with locks of its own.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, AccessToken] = {}
        self._failures: dict[str, tuple[StoredFailure, float]] = {}
        #: For each key that is locked, the latch that is set when it is free again.
        self._holders: PerProcess[dict[str, Latch]] = PerProcess(dict)

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives."""
        token = self._tokens.get(key)
        return token if token is not None and token.expires_in() > 0 else None

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other."""
        self._tokens[key] = token

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now."""
        stored = self._tokens.get(key)
        if stored is None or stored.value != token.value:
            return
        removed = self._tokens.pop(key, None)
        if removed is not None and removed is not stored:  # saved between the two lines above
            self._tokens.setdefault(key, removed)

    def load_failure(self, key: str) -> StoredFailure | None:
        """Return the stored failure while it is kept."""
        failure, until = self._failures.get(key, (None, 0.0))
        left = until - _clock.now()
        return attrs.evolve(failure, expires_in=left) if failure and left > 0 else None

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Keep ``failure`` in place of any other, or forget the one that is kept."""
        if failure is None:
            self._failures.pop(key, None)
        else:
            self._failures[key] = (failure, _clock.now() + failure.expires_in)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep the other threads of this process out."""
        holders, released = self._holders.get(), Latch()
        # setdefault() is atomic: one thread gets its own latch back.
        while (holder := holders.setdefault(key, released)) is not released:
            holder.wait()
        try:
            yield
        finally:
            holders.pop(key, None)
            released.set()
