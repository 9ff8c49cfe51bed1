"""A token store in Redis or Valkey, for the processes of many hosts."""

from __future__ import annotations

import logging
import math
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .. import _clock
from .._latch import Latch
from .._logging import extra
from .._settings import Unpicklable
from ..exceptions import ConfigurationError, TokenStoreError
from ..tokens import AccessToken

_missing: ImportError | None = None
try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from ._seal import Seal
except ModuleNotFoundError as _error:
    _missing = _error

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 30.0
_LOCK_LIFE_MS = 10_000
_TIMEOUT = 2.0

_LOAD = "return {redis.call('get', KEYS[1]), redis.call('pttl', KEYS[1])}"
# Taken by this very fence already, if the reply to a first attempt was lost.
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


class RedisTokenStore(Unpicklable):
    """Share tokens through Redis or Valkey. Thread-safe, and safe to fork.

    ``client_or_url``: a URL (``redis://``, ``rediss://``, ``unix://``, ``valkey://``,
    ``valkeys://``), or a client of redis-py, of a Sentinel or a Cluster too, which is used as it
    is. A token is encrypted and authenticated with a key derived from the credentials, and goes
    with its expiry. :class:`LoginHandler` binds the store to its credentials; ``credentials`` is
    for use without a handler. ``prefix`` begins the name of every key.

    The lock lives for 10 seconds and is extended while it is held; ``lock()`` blocks 30 seconds at
    most, other methods as long as the client. Raises TokenStoreError.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(
        self, client_or_url: Any, *, credentials: object = None, prefix: str = "permata-auth:"
    ) -> None:
        if _missing:
            raise ImportError(
                "RedisTokenStore needs redis and cryptography: pip install 'permata-auth[redis]'"
            ) from _missing
        is_url = isinstance(client_or_url, str)
        self._client = _connected(client_or_url) if is_url else client_or_url
        self._prefix = prefix
        self._bound = None if credentials is None else Seal(credentials)
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<RedisTokenStore {self._prefix!r}>"

    def bind(self, credentials: object) -> RedisTokenStore:
        """Return this store, on the same connections, with keys derived from ``credentials``."""
        return RedisTokenStore(self._client, credentials=credentials, prefix=self._prefix)

    def load(self, key: str) -> AccessToken | None:
        """Return the stored token while it lives."""
        return self._look(key)[1]

    def save(self, key: str, token: AccessToken) -> None:
        """Store ``token`` in place of any other; the server drops it when it expires."""
        life = math.ceil(token.expires_in() * 1000)
        if life > 0:
            sealed = self._seal.seal(key, token)
            with _as_store_errors():
                self._client.set(self._name(key), sealed, px=life)

    def discard(self, key: str, token: AccessToken) -> None:
        """Remove ``token``; do nothing if another one is stored by now."""
        text, stored = self._look(key)
        if text is not None and stored is not None and stored.value == token.value:
            self._run(_REMOVE, self._name(key), text)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep everybody else out, as long as the server remembers."""
        name, fence = f"{self._name(key)}:lock", secrets.token_hex(16)
        until = _clock.now() + _LONGEST_WAIT
        while not self._run(_CLAIM, name, fence, _LOCK_LIFE_MS):
            if _clock.now() >= until:
                raise TokenStoreError(f"the lock was not free for {_LONGEST_WAIT:.0f} seconds")
            time.sleep(random.uniform(0.02, 0.06))
        released = Latch()
        self._keep(name, fence, released)
        try:
            yield
        finally:
            released.set()
            self._run(_REMOVE, name, fence)

    def _keep(self, name: str, fence: str, released: Latch) -> None:
        """Extend a lock, on a thread of its own, until it is released or lost."""
        until = _clock.now() + _LONGEST_WAIT  # for the others' sake, should the holder hang

        def extend() -> None:
            with suppress(TokenStoreError):
                while not released.wait(_LOCK_LIFE_MS / 4000) and _clock.now() < until:
                    if not self._run(_EXTEND, name, fence, _LOCK_LIFE_MS):
                        return

        thread = threading.Thread(target=extend, name="permata-auth-store-lock", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: the lock then lasts for its first life
            thread.start()

    @property
    def _seal(self) -> Seal:
        if self._bound is None:
            raise ConfigurationError("give RedisTokenStore credentials, or give it to a handler")
        return self._bound

    def _name(self, key: str) -> str:
        return f"{self._prefix}{key}:{self._seal.name}"

    def _look(self, key: str) -> tuple[str | bytes | None, AccessToken | None]:
        """Return what is stored, and the token in it if it can be trusted and lives."""
        text, left = self._run(_LOAD, self._name(key))
        if text is None:
            return None, None
        # The time that is left by the server's clock, which all hosts share.
        left = left / 1000 if left >= 0 else math.inf
        try:
            token = self._seal.unseal(key, text, time_to_live=left)
        except ValueError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("Stored token passed over: %s", error, extra=extra())
            return text, None
        self._has_warned = False
        return text, token

    def _run(self, script: str, name: str, *arguments: Any) -> Any:
        with _as_store_errors():
            return self._client.eval(script, 1, name, *arguments)


def _connected(url: str) -> redis.Redis:
    """Return a client for ``url``, whose own options go before the ones here."""
    for ours, theirs in (("valkey://", "redis://"), ("valkeys://", "rediss://")):
        url = theirs + url.removeprefix(ours) if url.startswith(ours) else url
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            # Once again on a new connection, since the server may have closed an idle one.
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError:
        raise ConfigurationError("the Redis URL is not valid") from None


@contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        # The name alone: the text may quote what was sent.
        raise TokenStoreError(f"Redis: {type(error).__name__}; check the server") from None
