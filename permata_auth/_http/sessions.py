"""The session of each process, and a view of it that sends one request."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

import attrs
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.util import Retry

from .. import _process
from .._latch import Latch
from ..exceptions import ConfigurationError
from .deadlines import DeadlineAdapter

_T = TypeVar("_T")


@attrs.frozen(eq=False)
class Connection:
    """The session of one process, and the latch that ends its waits between attempts."""

    session: requests.Session
    stopped: Latch = attrs.Factory(Latch)


class Connections:
    """The connection of each process: a TLS session shared across a fork would corrupt both.

    Args:
        session: The caller's own session, which is used in the process that made it and never
            closed. A forked child uses a copy with the same settings. None: one of ours.
        pool_size: The number of connections to one host that are kept open at most.
    """

    def __init__(self, session: requests.Session | None, *, pool_size: int = 10) -> None:
        if session is not None and not isinstance(session, requests.Session):
            raise ConfigurationError("session must be a requests.Session")
        self._given = session
        self._processes = _process.PerProcess(
            functools.partial(_connection, session, _process.identity(), pool_size),
            retire=functools.partial(_retire, session),
        )

    def get(self) -> Connection:
        connection: Connection = self._processes.get()
        return connection

    def close(self) -> None:
        connection = self._processes.pop()
        if connection is not None:
            connection.stopped.set()
            if connection.session is not self._given:
                connection.session.close()


def new_session(pool_size: int) -> requests.Session:
    """Return a session whose exchanges keep to their deadline even when a server drips bytes.

    Args:
        pool_size: The number of connections to one host that are kept open at most.
    """
    session = requests.Session()
    for prefix in ("https://", "http://"):
        session.mount(prefix, DeadlineAdapter(pool_maxsize=pool_size))
    return session


def _connection(
    given: requests.Session | None, home: tuple[int, int], pool_size: int
) -> Connection:
    if given is None:
        return Connection(new_session(pool_size))
    return Connection(given if _process.identity() == home else _unconnected(given))


def _unconnected(session: requests.Session) -> requests.Session:
    """Copy a session with all of its settings and none of its connections.

    Not by :mod:`copy`: the pickled state of sessions and adapters lacks the attributes of
    subclasses, such as the SSLContext of an adapter.
    """
    twin = _shallow_copy(session)
    twin.cookies = RequestsCookieJar()
    twin.cookies.update(session.cookies)
    twin.adapters = type(session.adapters)()
    for prefix, adapter in session.adapters.items():
        fresh: Any = _shallow_copy(adapter)
        twin.adapters[prefix] = fresh
        if isinstance(adapter, HTTPAdapter):
            fresh.proxy_manager = {}
            size = (fresh._pool_connections, fresh._pool_maxsize)
            fresh.init_poolmanager(*size, block=fresh._pool_block)
    return twin


def _shallow_copy(value: _T) -> _T:
    twin = object.__new__(type(value))
    twin.__dict__.update(value.__dict__)
    return twin


# In a forked child.

#: The last ancestors' connections: to collect one at once could mean to wait for a lock (of its
#: TLS context, say) that a thread of the parent held at the fork.
_retired: deque[object] = deque(maxlen=4)


def _retire(given: requests.Session | None, connection: Connection) -> None:
    """Close the sockets inherited with an ancestor's connection; take no lock, send no byte."""
    if connection.session is given:
        return
    idle: list[Any] = []
    for pool in _pools(connection.session):
        queue = pool.pool
        if queue is not None:
            idle += [each for each in list(queue.queue) if each is not None]
            # urllib3 empties the queue when the pool is collected or the interpreter ends; a
            # thread of the parent may have held the queue's lock at the fork.
            queue.__init__(queue.maxsize)
    for each in idle:
        # Not each.close(): that of a TLS connection may write to the socket that is the parent's.
        if hasattr(each.sock, "detach") and (descriptor := each.sock.detach()) >= 0:
            os.close(descriptor)
    _retired.append((connection, idle))


def _pools(session: requests.Session) -> Iterator[Any]:
    for adapter in list(session.adapters.values()):
        if isinstance(adapter, HTTPAdapter):
            for manager in (adapter.poolmanager, *list(adapter.proxy_manager.values())):
                # The container's own methods take its lock.
                yield from list(manager.pools._container.values())


# One request, and no more.

_NO_RETRY = Retry(0, read=False)


def one_request(session: requests.Session) -> requests.Session:
    """Return a view of a session that sends one request, though its adapters may retry.

    A view has the state of the original and none of its own. A request that urllib3 sends again
    by itself is a replay: each attempt needs a timestamp and a signature of its own.

    Args:
        session: The session.
    """
    return _view(session, _OneRequestSession, [])


@functools.lru_cache(maxsize=64)
def _view_class(mixin: type, kind: type) -> type:
    return type(kind.__name__, (mixin, kind), {"__slots__": ("_sent",)})


def _view(original: _T, mixin: type, sent: list[bool]) -> _T:
    kind: Any = type(original)
    view: Any = object.__new__(_view_class(mixin, kind))
    view.__dict__ = original.__dict__
    view._sent = sent
    return view  # type: ignore[no-any-return]


class _OneRequestSession:
    __slots__ = ()
    _sent: list[bool]

    def get_adapter(self, url: str) -> BaseAdapter:
        adapter: BaseAdapter = super().get_adapter(url)  # type: ignore[misc]
        if isinstance(adapter, HTTPAdapter):
            return _view(adapter, _OneRequestAdapter, self._sent)
        return adapter


class _OneRequestAdapter:
    __slots__ = ()
    _sent: list[bool]
    max_retries = property(lambda self: _NO_RETRY, lambda self, value: None)

    def add_headers(self, request: requests.PreparedRequest, **how_sent: Any) -> None:
        """Count the request: ``HTTPAdapter.send`` calls this once for each that it sends."""
        if self._sent:
            raise ConfigurationError(
                "the session sends a request again by itself, with the timestamp and signature of "
                "the first; take that out of it: retry= of the client tries again, signed anew"
            )
        self._sent.append(True)
        super().add_headers(request, **how_sent)  # type: ignore[misc]
