"""Which requests have been seen: in one process, or in Redis for all of them."""

from __future__ import annotations

import secrets
import threading
from typing import Any, Protocol, runtime_checkable

from .. import _clock, _process
from .._settings import Unpicklable

_missing: ImportError | None = None
try:
    from ..stores._redis_client import asking, client_of
except ModuleNotFoundError as _error:
    _missing = _error

_MIN_ENTRIES_TO_SWEEP = 1_000

# Taken by this very call already, if the reply to a first attempt was lost.
_ADD = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('get', KEYS[1]) == ARGV[1] then return 1 end
return 0
"""


@runtime_checkable
class ExternalIds(Protocol):
    """The store in which a :class:`SnapReceiver` notes the requests that it has seen. Thread-safe.

    Any exception of these methods is an outage: the receiver refuses requests until it is over.
    """

    def add(self, key: str, seconds: float) -> bool:
        """Add a key, in one atomic step; return False if it is there already.

        Args:
            key: Printable ASCII, below 200 characters, with no secret in it.
            seconds: How long it is kept.
        """

    def keep(self, key: str, seconds: float) -> None:
        """Keep a key for so long from now, if it is there.

        Args:
            key: As it was added.
            seconds: How long it is kept.
        """

    def release(self, key: str) -> None:
        """Remove a key.

        Args:
            key: As it was added, or saved.
        """

    def save(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value under a key, in place of any other.

        Args:
            key: As of :meth:`add`.
            value: A few hundred bytes.
            seconds: How long it is kept.
        """

    def load(self, key: str) -> bytes | None:
        """Return the value under a key, or None.

        Args:
            key: As it was saved.
        """


class MemoryExternalIds(Unpicklable):
    """The requests that this process has seen. Thread-safe; never blocks for long.

    Several processes would each take a request once: they need :class:`RedisExternalIds`. Its
    methods and their arguments are those of :class:`ExternalIds`: a ``key`` or a ``value`` is kept
    for so many ``seconds``.
    """

    _why_unpicklable = "its entries belong to one process"

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, bytes]] = {}
        # A lock that a thread of the parent held at a fork stays locked in the child for ever.
        self._lock = _process.PerProcess(threading.Lock)
        self._sweep_at = _MIN_ENTRIES_TO_SWEEP

    def __repr__(self) -> str:
        return f"<MemoryExternalIds, {len(self._entries)} entries>"

    def add(self, key: str, seconds: float) -> bool:
        with self._lock.get():
            if self._living(key) is not None:
                return False
            self._put(key, b"", seconds)
            return True

    def keep(self, key: str, seconds: float) -> None:
        with self._lock.get():
            value = self._living(key)
            if value is not None:
                self._put(key, value, seconds)

    def release(self, key: str) -> None:
        with self._lock.get():
            self._entries.pop(key, None)

    def save(self, key: str, value: bytes, seconds: float) -> None:
        with self._lock.get():
            self._put(key, value, seconds)

    def load(self, key: str) -> bytes | None:
        with self._lock.get():
            return self._living(key)

    def _living(self, key: str) -> bytes | None:
        deadline, value = self._entries.get(key, (0.0, b""))
        return value if _clock.now() < deadline else None

    def _put(self, key: str, value: bytes, seconds: float) -> None:
        self._entries[key] = (_clock.now() + seconds, value)
        if len(self._entries) >= self._sweep_at:  # seldom enough to cost nothing in the mean
            now = _clock.now()
            self._entries = {k: entry for k, entry in self._entries.items() if now < entry[0]}
            self._sweep_at = max(_MIN_ENTRIES_TO_SWEEP, 2 * len(self._entries))


class RedisExternalIds(Unpicklable):
    """The requests that all processes have seen, in Redis or Valkey. Thread-safe, safe to fork.

    Its methods block as long as the client, with a URL 2 s to connect and 2 s for each reply. They
    raise TokenStoreError while the server is not there, and the receiver then refuses requests.
    The server must not evict keys: a replay would pass (``maxmemory-policy noeviction``). Its
    methods' arguments are those of :class:`ExternalIds`: a ``key`` or a ``value`` is kept for so
    many ``seconds``, to the millisecond.

    Args:
        client_or_url: A URL (``redis://``, ``rediss://``, ``unix://``, ``valkey://``,
            ``valkeys://``), or a client of redis-py or valkey-py, which is used as it is.
        prefix: Begins the name of every key.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(self, client_or_url: Any, *, prefix: str = "permata-snap:") -> None:
        if _missing:
            raise ImportError(
                "RedisExternalIds needs redis and cryptography: pip install 'permata-auth[redis]'"
            ) from _missing
        self._ask = asking(client_of(client_or_url, "RedisExternalIds"))
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<RedisExternalIds {self._prefix!r}>"

    def add(self, key: str, seconds: float) -> bool:
        return bool(
            self._ask("eval", _ADD, 1, self._prefix + key, secrets.token_hex(8), _millis(seconds))
        )

    def keep(self, key: str, seconds: float) -> None:
        self._ask("pexpire", self._prefix + key, _millis(seconds))

    def release(self, key: str) -> None:
        self._ask("delete", self._prefix + key)

    def save(self, key: str, value: bytes, seconds: float) -> None:
        self._ask("set", self._prefix + key, value, px=_millis(seconds))

    def load(self, key: str) -> bytes | None:
        found = self._ask("get", self._prefix + key)
        return found.encode() if isinstance(found, str) else found


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))
