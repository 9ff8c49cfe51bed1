"""A token store in one of Django's caches, for projects that have one."""

from __future__ import annotations

import hashlib
import math
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from django.core.cache import BaseCache, caches

from ... import _clock, _process
from ..._settings import Unpicklable
from ...exceptions import ConfigurationError, TokenStoreError
from ...tokens import AccessToken

try:
    from ...stores._seal import Seal
except ModuleNotFoundError as _error:
    raise ImportError(
        "CacheTokenStore needs cryptography: pip install 'permata-auth[django]'"
    ) from _error

_LOCK_LIFE = 10
_LONGEST_WAIT = 30.0


class CacheTokenStore(Unpicklable):
    """Share tokens through the cache ``alias``: ``"TOKEN_STORE": "cache:default"``. Thread-safe.

    A token is encrypted and authenticated with a key derived from the credentials, and goes with
    its expiry. :class:`LoginHandler` binds the store to its credentials; ``credentials`` is for
    use without a handler.

    It is as good as the cache: LocMemCache ends at the process, and the lock is one only where
    ``add()`` is atomic, as with Redis, Memcached and a database, but not FileBasedCache. The lock
    lives for 10 seconds; a login that takes longer may be repeated by another process. ``lock()``
    blocks 30 seconds at most, other methods as long as the cache. Raises TokenStoreError.
    """

    _why_unpicklable = "it derives keys from secrets; make one in each process"

    def __init__(
        self, alias: str = "default", *, credentials: object = None, prefix: str = "permata-auth:"
    ) -> None:
        self._alias = alias
        self._prefix = prefix
        self._bound = None if credentials is None else Seal(credentials)
        self._connections: dict[tuple[int, int], _Connection] = {}

    def __repr__(self) -> str:
        return f"<CacheTokenStore {self._alias!r}>"

    def bind(self, credentials: object) -> CacheTokenStore:
        """Return this store with keys derived from ``credentials``."""
        return CacheTokenStore(self._alias, credentials=credentials, prefix=self._prefix)

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives and nobody has discarded it."""
        sealed = self._ask("get", self._name(key))
        if not isinstance(sealed, str):
            return None
        try:
            token = self._seal.unseal(key, sealed)
        except ValueError:  # written by somebody else, or with credentials of before
            return None
        if token is None or self._ask("get", self._tombstone(key, token)) is not None:
            return None
        return token

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other; the cache drops it when it expires."""
        life = math.ceil(token.expires_in())
        if life > 0:
            self._ask("delete", self._tombstone(key, token))
            self._ask("set", self._name(key), self._seal.seal(key, token), life)

    def discard(self, key: str, token: AccessToken) -> None:
        """Let nobody load ``token`` any more; any other one stays."""
        # A cache cannot remove a value on condition that it is still the same, so the token is
        # marked instead, under a name of its own.
        life = math.ceil(token.expires_in())
        if life > 0:
            self._ask("set", self._tombstone(key, token), 1, life)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep everybody else out for 10 seconds at most."""
        name, fence = f"{self._name(key)}:lock", secrets.token_hex(16)
        until = _clock.now() + _LONGEST_WAIT
        while not self._ask("add", name, fence, _LOCK_LIFE):
            if _clock.now() >= until:
                raise TokenStoreError(f"the lock was not free for {_LONGEST_WAIT:.0f} seconds")
            time.sleep(random.uniform(0.02, 0.06))
        try:
            yield
        finally:
            if self._ask("get", name) == fence:  # else its life has ended, and it is another's
                self._ask("delete", name)

    @property
    def _seal(self) -> Seal:
        if self._bound is None:
            raise ConfigurationError("CacheTokenStore needs credentials, or a LoginHandler")
        return self._bound

    def _name(self, key: str) -> str:
        return f"{self._prefix}{key}:{self._seal.name}"

    def _tombstone(self, key: str, token: AccessToken) -> str:
        digest = hashlib.sha256(f"discarded\n{token.value}".encode()).hexdigest()[:32]
        return f"{self._name(key)}:{digest}"

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._connection().ask(method, *arguments)
        except Exception as error:
            reason = type(error).__name__
        # Out here, so that it is chained to nothing: a client's error may quote its command.
        raise TokenStoreError(f"the cache {self._alias!r} failed ({reason})")

    def _connection(self) -> _Connection:
        key = _process.identity()
        if key not in self._connections:
            self._connections.setdefault(key, _Connection(caches.create_connection(self._alias)))
        return self._connections[key]


@attrs.frozen(eq=False)
class _Connection:
    """A process's own connection, for all of its threads.

    Django has one for each thread, closed after a request; but tokens are renewed by threads that
    live for one login.
    """

    cache: BaseCache
    lock: threading.Lock = attrs.Factory(threading.Lock)

    def ask(self, method: str, *arguments: Any) -> Any:
        with self.lock:  # not every client may be used by two threads at once
            return getattr(self.cache, method)(*arguments)
