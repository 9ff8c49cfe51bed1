"""A token store in Redis or Valkey, for the processes of many hosts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .. import _clock
from .._latch import Latch
from .._logging import Log
from .._settings import Seconds, finite_seconds
from .._threads import start_daemon
from ..exceptions import ConfigurationError, TokenStoreError
from ..tokens import AccessToken
from . import _document
from ._sealed import Sealed, wait_for
from .base import DEFAULT_LOCK_TIMEOUT_SECS
from .failures import StoredFailure

_missing: ImportError | None = None
try:
    import cryptography as _cryptography  # noqa: F401 - tokens are sealed by it

    from ._redis_client import asking, client_of
except ModuleNotFoundError as _error:
    _missing = _error

logger = Log(__name__)

_LOCK_LIFE_MS = 10_000

# The entry, and the time that the server's clock, which all hosts share, leaves it.
_LOAD = "return {redis.call('get', KEYS[1]), redis.call('pttl', KEYS[1])}"
# This fence may have the lock already: where the response to a first attempt was lost.
_CLAIM = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('get', KEYS[1]) == ARGV[1] then return 1 end
return 0
"""
_EXTEND = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""
_REMOVE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


class RedisTokenStore(Sealed):
    """Share tokens through Redis or Valkey. Thread-safe, and safe to fork.

    A token is encrypted and authenticated with a key derived from the credentials, and goes with
    its expiry. :class:`LoginHandler` binds the store to its credentials. The lock lives for 10
    seconds and is extended while it is held, so a holder that was killed delays the others by no
    more. Methods other than ``lock()`` block as long as the client. Raises TokenStoreError,
    ConfigurationError for arguments that make no sense.

    Args:
        client_or_url: A URL (``redis://``, ``rediss://``, ``unix://``, ``valkey://``,
            ``valkeys://``), or a client of redis-py or valkey-py, of a Sentinel or a Cluster too,
            which is used as it is. Clients made from a URL wait two seconds for the server.
        credentials: The keys of the encryption are derived from them; None by default, since a
            handler binds the store to its own.
        prefix: Begins the name of every key, so that a server may be shared with other programs.
        lock_timeout: The seconds that ``lock()`` waits at most. A handler bounds its wait by
            itself, so this is longer than any login's budget.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(
        self,
        client_or_url: Any,
        *,
        credentials: object = None,
        prefix: str = "permata-auth:",
        lock_timeout: Seconds = DEFAULT_LOCK_TIMEOUT_SECS,
    ) -> None:
        if _missing:
            raise ImportError(
                "RedisTokenStore needs redis and cryptography: pip install 'permata-auth[redis]'"
            ) from _missing
        if not isinstance(prefix, str):
            raise ConfigurationError("prefix must be a str")
        self._client = client_of(client_or_url, "RedisTokenStore")
        self._ask = asking(self._client)
        super().__init__(credentials, prefix)
        self._lock_timeout = finite_seconds("lock_timeout", lock_timeout)
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<RedisTokenStore {self._prefix!r}>"

    def bind(self, credentials: object) -> RedisTokenStore:
        """Return this store, on the same connections, with keys derived from ``credentials``."""
        return RedisTokenStore(
            self._client,
            credentials=credentials,
            prefix=self._prefix,
            lock_timeout=self._lock_timeout,
        )

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives."""
        return self._look(key)[1]

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other; the server drops it when it expires."""
        life = math.ceil(token.expires_in() * 1000)
        if life > 0:
            sealed = self._seal.seal(key, token)
            self._ask("set", self._name(key), sealed, px=life)

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now."""
        text, stored = self._look(key)
        if text is not None and stored is not None and stored.value == token.value:
            self._run(_REMOVE, self._name(key), text)

    def load_failure(self, key: str) -> StoredFailure | None:
        """Return the stored failure while it is kept."""
        text, left = self._get(self._failure_name(key))
        return None if text is None else _document.parse_failure(key, text, time_to_live=left)

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Store ``failure`` in place of any other; None removes it."""
        # Not sealed: it holds no secret, and one that a stranger plants costs its reader no more
        # than the longest pause there is.
        life = 0 if failure is None else math.ceil(failure.expires_in * 1000)
        if failure is None or life <= 0:
            self._ask("delete", self._failure_name(key))
        else:
            self._ask("set", self._failure_name(key), _document.dump_failure(key, failure), px=life)

    @contextmanager
    def _held(self, name: str, fence: str) -> Iterator[None]:
        wait_for(lambda: self._run(_CLAIM, name, fence, _LOCK_LIFE_MS), self._lock_timeout)
        released = Latch()
        self._keep(name, fence, released)
        try:
            yield
        finally:
            released.set()
            self._run(_REMOVE, name, fence)

    def _keep(self, name: str, fence: str, released: Latch) -> None:
        """Extend a lock, on a thread of its own, until it is released or lost."""
        # Without a bound, a holder that hangs would keep every other process waiting.
        until = _clock.now() + self._lock_timeout

        def extend() -> None:
            with suppress(TokenStoreError):
                while not released.wait(_LOCK_LIFE_MS / 4000) and _clock.now() < until:
                    if not self._run(_EXTEND, name, fence, _LOCK_LIFE_MS):
                        return

        with suppress(RuntimeError):  # no thread to be had: the lock then lasts for its first life
            start_daemon(extend, "store-lock")

    def _failure_name(self, key: str) -> str:
        return f"{self._name(key)}:failure"

    def _look(self, key: str) -> tuple[str | bytes | None, AccessToken | None]:
        """Return the stored text, and the token in it if it can be trusted and lives."""
        text, left = self._get(self._name(key))
        if text is None:
            return None, None
        try:
            token = self._seal.unseal(key, text, time_to_live=left)
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("Stored token passed over: %s", error)
            return text, None
        self._has_warned = False
        return text, token

    def _get(self, name: str) -> tuple[str | bytes | None, float]:
        """Return the stored text, and the seconds that the server will keep it."""
        try:
            text, left = self._run(_LOAD, name)
            return text, left / 1000 if left >= 0 else math.inf
        except (TypeError, ValueError):
            raise TokenStoreError("Redis: a senseless response; check the server") from None

    def _run(self, script: str, name: str, *arguments: Any) -> Any:
        return self._ask("eval", script, 1, name, *arguments)
