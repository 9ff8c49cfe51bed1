"""The protocol of token stores."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from .._settings import require_instance, require_members
from ..exceptions import ConfigurationError
from ..tokens import AccessToken

#: Seconds; longer than any login's budget, so that it is the handler that bounds a wait.
DEFAULT_LOCK_TIMEOUT_SECS = 300.0


class TokenStore(Protocol):
    """Share one token per key between all processes that log in with the same credentials.

    ``key`` names the credentials and holds no secret. Every method may block for a bounded time,
    may be called from any thread and any process, and may raise TokenStoreError, after which the
    handler goes on without the store for a while.
    """

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token, or None where there is none that can be trusted.

        Args:
            key: The name of the credentials, as in every method.
        """

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other, until it expires.

        Args:
            key: The name of the credentials.
            token: A token of these credentials.
        """

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now.

        Args:
            key: The name of the credentials.
            token: The token to remove.
        """

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Return a context manager in which no other process logs in for ``key``.

        Args:
            key: The name of the credentials.
        """


class KeySource(Protocol):
    """Credentials that a store may derive encryption keys from."""

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 bytes that only a holder of the same secrets can compute.

        Args:
            purpose: The use of the key: each use gets another one.
        """


class SealedStore(Protocol):
    """A store that other programs can read or write too, and that seals its tokens therefore."""

    def bind(self, credentials: object) -> TokenStore:
        """Return this store with keys derived from ``credentials``; :class:`LoginHandler` asks."""


def bound(store: TokenStore, credentials: object) -> TokenStore:
    """Return ``store`` ready for ``credentials``; raise ConfigurationError if they do not fit.

    Args:
        store: The store as the user made it.
        credentials: A sealed store derives its keys from them.
    """
    if isinstance(store, str):
        raise ConfigurationError(
            "store must be a TokenStore; for a URL use store_from_env, or the store's own class"
        )
    require_instance(TokenStore, "store", store)
    bind = getattr(store, "bind", None)
    ready: TokenStore = store if bind is None else bind(credentials)
    require_members(TokenStore, "store", ready)
    return ready
