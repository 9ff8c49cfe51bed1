"""Token stores that a test can make fail, or hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from permata_auth import AccessToken, MemoryTokenStore, TokenStoreError
from permata_auth.stores.failures import StoredFailure

from .clock import FakeClock


class ScriptedStore:
    """Tokens in memory, behind operations that fail or hang as they are told.

    ``failing`` maps operations to the errors that they raise; ``hanging`` names those that wait for
    ``heal()``. Besides the operations of the protocol, "release" is the end of the lock. ``calls``
    lists the operations that began, and ``threads`` those that they began on.

    Args:
        tokens: Where the tokens are.
        clock: Operations that hang are at rest for this clock.
    """

    def __init__(
        self, tokens: MemoryTokenStore | None = None, *, clock: FakeClock | None = None
    ) -> None:
        self.tokens = tokens or MemoryTokenStore()
        self.failing: dict[str, BaseException] = {}
        self.hanging: set[str] = set()
        self.calls: list[str] = []
        self.threads: list[threading.Thread] = []
        self._clock = clock
        self._healed = threading.Event()

    def load(self, key: str) -> AccessToken | None:
        self._come("load")
        return self.tokens.load(key)

    def save(self, key: str, token: AccessToken) -> None:
        self._come("save")
        self.tokens.save(key, token)

    def discard(self, key: str, token: AccessToken) -> None:
        self._come("discard")
        self.tokens.discard(key, token)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        self._come("lock")
        with self.tokens.lock(key):
            yield
            self._come("release")

    def fail(self, *operations: str) -> None:
        """Let these operations raise a TokenStoreError that names them."""
        self.failing |= {name: TokenStoreError(f"example {name}") for name in operations}

    def heal(self) -> None:
        """Let all operations succeed from now on, and those go on that hang."""
        self.failing = {}
        self.hanging = set()
        self._healed.set()

    def _come(self, operation: str) -> None:
        self.calls.append(operation)
        self.threads.append(threading.current_thread())
        if operation in self.hanging:
            if self._clock is not None:
                self._clock.park(self._healed)
            assert self._healed.wait(60), "the test forgot to heal a store"
        if operation in self.failing:
            raise self.failing[operation]


class FailureSharingStore(ScriptedStore):
    """A scripted store that shares failures too."""

    def load_failure(self, key: str) -> StoredFailure | None:
        self._come("load_failure")
        return self.tokens.load_failure(key)

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        self._come("save_failure")
        self.tokens.save_failure(key, failure)
