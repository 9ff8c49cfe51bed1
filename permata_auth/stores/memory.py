"""A token store in this process's memory."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

import attrs

from .. import _clock, _process
from ..tokens import AccessToken
from .base import StoredFailure


class MemoryTokenStore:
    """Share tokens between the handlers of one process. Thread-safe.

    A forked child starts with the tokens of its parent, and with locks of its own.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, AccessToken] = {}
        self._failures: dict[str, tuple[StoredFailure, float]] = {}
        self._locks: dict[tuple[object, str], threading.Lock] = {}

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
        """Return the stored failure while its pause lasts."""
        failure, until = self._failures.get(key, (None, 0.0))
        left = until - _clock.now()
        return attrs.evolve(failure, expires_in=left) if failure and left > 0 else None

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Store ``failure`` in place of any other; None removes it."""
        if failure is None:
            self._failures.pop(key, None)
        else:
            self._failures[key] = (failure, _clock.now() + failure.expires_in)

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Return this process's lock for ``key``."""
        return self._locks.setdefault((_process.identity(), key), threading.Lock())
