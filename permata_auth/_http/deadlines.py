"""Deadlines inside urllib3: connecting, sending and reading end together at one moment.

urllib3's timeouts bound a single wait: for one address of a host that has eight, or for one byte
of a server that drips them for days. Here no wait lasts longer than the rest of the time.
"""

from __future__ import annotations

import functools
import http.client
import io
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import connection as urllib3_connection

from .. import _clock

#: Long enough for the packets of a far continent, one of them lost.
_MIN_ADDRESS_SECS = 1.0

#: A context variable and no thread-local: it is each greenlet's own, whenever gevent is patched in.
_deadline: ContextVar[float] = ContextVar("permata_auth_deadline", default=math.inf)


@contextmanager
def bounded_by(deadline: float) -> Iterator[None]:
    """Hold every connection of a :class:`DeadlineAdapter` to a deadline for a with-block.

    Args:
        deadline: On :func:`permata_auth._clock.now`.
    """
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections, to a server or to a proxy, keep to the deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _bound_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _bound_pools(manager)
        return manager


def _bound_pools(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme  # SOCKS proxies have pools of their own
    manager.pool_classes_by_scheme = {
        scheme: pool if issubclass(pool, _BoundedPool) else _mixed(_BoundedPool, pool)
        for scheme, pool in pools.items()
    }


@functools.lru_cache(maxsize=64)  # vcrpy makes classes for each of its cassettes
def _mixed(mixin: type, kind: type) -> type:
    return type(kind.__name__, (mixin, kind), {})


class _BoundedPool:
    @property
    def ConnectionCls(self) -> type:  # noqa: N802
        # Looked up for each connection: vcrpy replaces it while one of its cassettes is in use.
        return _mixed(_BoundedConnection, super().ConnectionCls)  # type: ignore[misc]


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReads(self.fp, sock))

    def begin(self) -> None:
        super().begin()
        # Interim responses (RFC 9110 section 15.2), of which http.client skips 100 alone.
        while 100 < self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]  # not begun
            super().begin()


class _BoundedReads(io.RawIOBase):
    def __init__(self, stream: io.BufferedIOBase, sock: Any) -> None:
        self._stream = stream
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _shorten_wait(self._sock)
        return self._stream.readinto1(buffer)  # waits once at most

    def close(self) -> None:
        self._stream.close()
        super().close()


class _BoundedConnection:
    response_class = _BoundedResponse  # a proxy's response to CONNECT is read by it, too
    sock: Any
    timeout: float
    _dns_host: str

    def send(self, data: Any) -> None:
        if self.sock is not None:
            _shorten_wait(self.sock)
        try:
            super().send(data)  # type: ignore[misc]
        except ssl.SSLError:
            self.sock.recv(1)  # raises the server's alert, which names the reason
            raise

    def _new_conn(self) -> Any:
        """Connect to one of the host's addresses, all tries together within the connect timeout."""
        host, allowed = self._dns_host, self.timeout
        until = min(_clock.now() + allowed, _deadline.get())
        try:
            sock = self._first_that_connects(_addresses(self), until)
        finally:
            self._dns_host, self.timeout = host, allowed
        try:
            sock.settimeout(allowed)
            _shorten_wait(sock)  # for the TLS handshake
        except TimeoutError:
            sock.close()
            raise
        return sock

    def _first_that_connects(self, addresses: list[str], until: float) -> Any:
        failed: Exception = TimeoutError()
        for tried, address in enumerate(addresses):
            left = until - _clock.now()
            if left <= 0:
                break
            share = left / (len(addresses) - tried)
            self._dns_host, self.timeout = address, min(left, max(share, _MIN_ADDRESS_SECS))
            try:
                return super()._new_conn()  # type: ignore[misc]
            except (NewConnectionError, ConnectTimeoutError) as failure:
                failed = failure
        raise failed


def _addresses(connection: Any) -> list[str]:
    host: str = connection._dns_host
    if hasattr(connection, "_socks_options"):  # the proxy may be the one to look the name up
        return [host]
    family = urllib3_connection.allowed_gai_family()
    found = socket.getaddrinfo(host.strip("[]"), connection.port, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found)) or [host]


def _shorten_wait(sock: Any) -> None:
    left = _deadline.get() - _clock.now()
    if left <= 0:
        raise TimeoutError
    if left < (sock.gettimeout() or math.inf):
        sock.settimeout(left)
