"""A token store in one of Django's caches, for projects that have one."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from django.core.cache import BaseCache, caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.db import connections, router

from ... import _clock
from ..._process import PerProcess
from ..._settings import Unpicklable
from ...exceptions import TokenStoreError
from ...stores._sealed import Sealed, wait_for
from ...tokens import AccessToken
from ._databases import opened, own_connections

try:
    import cryptography as _cryptography  # noqa: F401 - tokens are sealed by it
except ModuleNotFoundError as _error:
    raise ImportError(
        "CacheTokenStore needs cryptography: pip install 'permata-auth[django]'"
    ) from _error

_LOCK_LIFE_SECS = 10
_MAX_WAIT_SECS = 30.0
#: The time after which a cache that refuses a free lock is known to keep none.
_MAX_REFUSAL_SECS = 1.0
#: The longest wait for a database that another connection has locked: SQLite's own is 5 seconds.
_MAX_DATABASE_WAIT_SECS = 1.0


class CacheTokenStore(Sealed):
    """Share tokens through a cache of the project: ``"TOKEN_STORE": "cache:default"``. Thread-safe.

    A token is encrypted and authenticated with a key derived from the credentials, and goes with
    its expiry. :class:`LoginHandler` binds the store to its credentials.

    The store is as good as the cache: LocMemCache ends at the process, and the lock holds only
    where ``add()`` is atomic, as with Redis, Memcached and a database, but not FileBasedCache. A
    database cache on SQLite drops one of two writes at once, which costs one more login. The lock
    lives for 10 seconds; a login that takes longer may be repeated by another process. ``lock()``
    blocks 30 seconds at most, and one second where the cache cannot keep a lock: its server is
    away and its errors are ignored, or its database is in the caller's own transaction. Other
    methods block as long as the cache. No database connection is left open. Raises TokenStoreError.

    Args:
        alias: The cache's name in ``CACHES``; ``default`` is there in every project.
        credentials: The keys of the encryption are derived from them; None by default, since a
            handler binds the store to its own.
        prefix: Begins the name of every entry, so that a cache may be shared with other programs.
    """

    _why_unpicklable = "it derives keys from secrets; make one in each process"

    def __init__(
        self, alias: str = "default", *, credentials: object = None, prefix: str = "permata-auth:"
    ) -> None:
        super().__init__(credentials, prefix)
        self._alias = alias
        self._connection = PerProcess(lambda: _Connection(caches.create_connection(alias)))

    def __repr__(self) -> str:
        return f"<CacheTokenStore {self._alias!r}>"

    def bind(self, credentials: object) -> CacheTokenStore:
        """Return this store with keys derived from ``credentials``."""
        return CacheTokenStore(self._alias, credentials=credentials, prefix=self._prefix)

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives and was not discarded."""
        sealed = self._ask("get", self._name(key))
        if not isinstance(sealed, str):
            return None
        try:
            token = self._seal.unseal(key, sealed)
        except ValueError:  # written by another program, or sealed with earlier credentials
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
        """Make ``token`` unloadable for every process; any other token stays."""
        # A cache cannot remove a value on condition that it is still the same, so the token is
        # marked instead, under a name of its own.
        life = math.ceil(token.expires_in())
        if life > 0:
            self._ask("set", self._tombstone(key, token), 1, life)

    @contextmanager
    def _held(self, name: str, fence: str) -> Iterator[None]:
        wait_for(self._claim(name, fence), _MAX_WAIT_SECS)
        try:
            yield
        finally:
            if self._ask("get", name) == fence:  # after the lock's life it is another process's
                self._ask("delete", name)

    def _claim(self, name: str, fence: str) -> Callable[[], bool]:
        """Return a function that adds the lock, if it is free.

        ``add()`` refuses also where it cannot add anything: a holder that has the lock beyond its
        life, or no holder at all in several refusals, means that.
        """
        seen, refused_until = None, _clock.now() + _MAX_REFUSAL_SECS

        def claim() -> bool:
            nonlocal seen, refused_until
            if self._ask("add", name, fence, _LOCK_LIFE_SECS):
                return True
            holder = self._ask("get", name)
            now = _clock.now()
            if holder != seen:
                seen = holder
                refused_until = now + _MAX_REFUSAL_SECS + (_LOCK_LIFE_SECS if holder else 0)
            if now >= refused_until:
                raise TokenStoreError(f"the cache {self._alias!r} does not keep what is added")
            return False

        return claim

    def _tombstone(self, key: str, token: AccessToken) -> str:
        digest = hashlib.sha256(f"discarded\n{token.value}".encode()).hexdigest()[:32]
        return f"{self._name(key)}:{digest}"

    def _ask(self, method: str, *arguments: Any) -> Any:
        return _asked(self._connection, self._alias, method, *arguments)


class CacheExternalIds(Unpicklable):
    """The requests that all processes have seen, in a cache of the project that they share.

    ``"SNAP_INBOUND_EXTERNAL_IDS": "cache:default"``. Thread-safe; blocks as long as the cache.
    Raises TokenStoreError, on which requests are refused: for a cache that fails, and for one that
    keeps nothing. ``add()`` of the cache must be atomic, as with Redis, Memcached and a database,
    but not FileBasedCache; and a cache that evicts entries lets a replay pass. Its methods'
    arguments are those of :class:`ExternalIds`: a ``key`` or a ``value`` is kept for so many
    ``seconds``.

    Args:
        alias: The cache's name in ``CACHES``; ``default`` is there in every project.
        prefix: Begins the name of every entry, so that a cache may be shared with other programs.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(self, alias: str = "default", *, prefix: str = "permata-snap:") -> None:
        self._alias, self._prefix = alias, prefix
        self._connection = PerProcess(lambda: _Connection(caches.create_connection(alias)))

    def __repr__(self) -> str:
        return f"<CacheExternalIds {self._alias!r}>"

    def add(self, key: str, seconds: float) -> bool:
        is_added = bool(self._ask("add", self._prefix + key, "-", math.ceil(seconds)))
        if self.load(key) is None:  # a cache that ignores its errors, or DummyCache
            raise TokenStoreError(f"the cache {self._alias!r} does not keep what is added")
        return is_added

    def keep(self, key: str, seconds: float) -> None:
        self._ask("touch", self._prefix + key, math.ceil(seconds))

    def release(self, key: str) -> None:
        self._ask("delete", self._prefix + key)

    def save(self, key: str, value: bytes, seconds: float) -> None:
        # As text: a cache that keeps its values as JSON refuses bytes.
        self._ask("set", self._prefix + key, value.decode("latin-1"), math.ceil(seconds))

    def load(self, key: str) -> bytes | None:
        found: str | None = self._ask("get", self._prefix + key)
        return None if found is None else found.encode("latin-1")

    def _ask(self, method: str, *arguments: Any) -> Any:
        return _asked(self._connection, self._alias, method, *arguments)


@attrs.frozen(eq=False)
class _Connection:
    """A process's own connection, for all of its threads.

    Django has one for each thread, closed after a request; but tokens are renewed by threads that
    live for one login.
    """

    cache: BaseCache
    lock: threading.Lock = attrs.Factory(threading.Lock)

    def ask(self, method: str, *arguments: Any) -> Any:
        # Not every client may be used by two threads at once.
        with self.lock, own_connections():
            _shorten_wait(self.cache)
            return getattr(self.cache, method)(*arguments)


def _asked(connection: PerProcess[_Connection], alias: str, method: str, *arguments: Any) -> Any:
    try:
        return connection.get().ask(method, *arguments)
    except Exception as error:
        reason = type(error).__name__
    # Out here, so that it is chained to nothing: a client's error may quote its command.
    raise TokenStoreError(f"the cache {alias!r} failed ({reason})")


def _shorten_wait(cache: BaseCache) -> None:
    """Let SQLite wait for the lock of another connection no longer than a login can afford.

    That other connection may be the caller's, in whose transaction the token is asked for: it
    waits for this thread, and SQLite for it. A connection that this thread has already stays as it
    is.
    """
    if not isinstance(cache, BaseDatabaseCache):
        return
    alias = router.db_for_write(cache.cache_model_class)
    if alias in opened():
        return
    connection = connections[alias]
    if connection.vendor == "sqlite":
        options = connection.settings_dict.get("OPTIONS") or {}
        timeout = min(options.get("timeout", math.inf), _MAX_DATABASE_WAIT_SECS)
        # A dict of its own: all threads share the one that is there.
        shorter = {"OPTIONS": {**options, "timeout": timeout}}
        connection.settings_dict = {**connection.settings_dict, **shorter}
