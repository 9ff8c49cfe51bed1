"""What a token store is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import attrs
from attrs import validators

from .._settings import duration, seconds
from ..tokens import AccessToken

#: Seconds; longer than any login's budget, so that it is the handler that bounds a wait.
DEFAULT_LOCK_TIMEOUT = 300.0

_is_text = validators.instance_of(str)


def _is_whole_number(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be an int")


@attrs.frozen(kw_only=True)
class StoredFailure:
    """A failed login that a store tells to the other processes, so that they pause with us.

    ``kind`` is the name of an error class of our tree, ``message`` its text; ``status_code``,
    ``error`` and ``error_description`` are the bank's. ``proof`` is a hex digest that binds the
    failure to the credentials that met it, ``count`` the number of failures in a row, and
    ``expires_in`` the seconds that are left of the pause.
    """

    kind: str = attrs.field(validator=_is_text)
    message: str = attrs.field(validator=_is_text)
    status_code: int | None = attrs.field(
        default=None, validator=validators.optional(_is_whole_number)
    )
    error: str | None = attrs.field(default=None, validator=validators.optional(_is_text))
    error_description: str | None = attrs.field(
        default=None, validator=validators.optional(_is_text)
    )
    proof: str = attrs.field(validator=_is_text)
    count: int = attrs.field(validator=_is_whole_number)
    expires_in: float = attrs.field(converter=seconds, validator=duration())


class TokenStore(Protocol):
    """Share one token per key between all who log in with the same credentials.

    ``key`` names the credentials and holds no secret. Every method may block for a bounded time,
    may be called from any thread and any process, and may raise TokenStoreError, after which the
    handler goes on without the store for a while.
    """

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token, or None where there is none that can be trusted."""

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other, until it expires."""

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now."""

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Return a context manager in which nobody else logs in for ``key``."""


@runtime_checkable
class FailureStore(Protocol):
    """A store that shares the last failed login, too. With any other, each process paces itself."""

    def load_failure(self, key: str) -> StoredFailure | None:
        """Return the stored failure while its pause lasts, or None where none can be read."""

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Store ``failure`` in place of any other, until its pause ends; None removes it."""


@runtime_checkable
class KeySource(Protocol):
    """Credentials that a store may derive encryption keys from."""

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 bytes that only a holder of the same secrets can compute."""


@runtime_checkable
class SealedStore(Protocol):
    """A store that others can read or write too, so that it seals what it stores."""

    def bind(self, credentials: object) -> TokenStore:
        """Return this store with keys derived from ``credentials``; :class:`LoginHandler` asks."""


def bound(store: TokenStore, credentials: object) -> TokenStore:
    """Return ``store`` ready for ``credentials``; raise ConfigurationError if they do not fit."""
    return store.bind(credentials) if isinstance(store, SealedStore) else store
