"""One HTTP exchange by requests, held to a deadline and turned into our own errors."""

from __future__ import annotations

import email.utils
import functools
import http.client
import io
import math
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timezone
from typing import Any

import attrs
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar

from . import _clock, _process
from ._latch import Latch
from .exceptions import (
    CertificateError,
    ConfigurationError,
    PermataAuthError,
    RequestTimeoutError,
    TransportError,
)

LONGEST_REPLY = 1024 * 1024
_CHUNK = 16 * 1024
#: In seconds: sockets count the milliseconds of a wait in 31 bits.
_LONGEST_WAIT = 2_000_000.0


@attrs.frozen(kw_only=True)
class Reply:
    """An answer, read to its end or to :data:`LONGEST_REPLY` bytes."""

    status_code: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    is_complete: bool

    @property
    def retry_after(self) -> float | None:
        """The seconds that ``Retry-After`` asks for (RFC 9110 section 10.2.3), or None."""
        text = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"[0-9]+", text):
            return min(float(text), _LONGEST_WAIT)
        when = http_date(text)
        if when is None:
            return None
        # Measured by the server's own clock where it shows it, so that ours may be off.
        now = http_date(self.headers.get("Date", "")) or _clock.wall()
        return max(when - now, 0.0)


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: tuple[float, float],
    deadline: float,
) -> Reply:
    """Send one request and read its answer; no redirect, no retry, no ``.netrc``.

    Blocks until ``deadline`` (on :data:`_clock.now`) at the longest, apart from the look-up of
    the host's name, if the session comes from :func:`new_session`; with any other session each
    single wait for a byte is bounded by ``timeout`` instead. Raises errors of our tree, which
    keep neither the request nor the answer.
    """
    remaining = min(max(deadline - _clock.now(), 0.001), _LONGEST_WAIT)
    with _bounded_by(deadline):
        try:
            with session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                auth=_as_it_is,
                timeout=(min(timeout[0], remaining), min(timeout[1], remaining)),
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(response)
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as failure:
            error = _translate(failure)
    # Raised out here, so that it is chained to nothing: what requests raises holds the request.
    raise error


@attrs.frozen(eq=False)
class Connection:
    """What one process sends through; ``stopped`` ends its waits between attempts."""

    session: requests.Session
    stopped: Latch = attrs.Factory(Latch)


class Connections:
    """The connection of each process: a TLS session shared across a fork would corrupt both.

    An ancestor's connection is kept and left alone in a child: to collect it could mean to wait
    for a lock that a thread of the ancestor held at the fork.
    """

    def __init__(self, session: requests.Session | None, *, pool_size: int = 10) -> None:
        if session is not None and not isinstance(session, requests.Session):
            raise ConfigurationError("session must be a requests.Session")
        self._given = session
        self._home = _process.identity()
        self._pool_size = pool_size
        self._processes: dict[tuple[int, int], Connection] = {}

    def get(self) -> Connection:
        key = _process.identity()
        return self._processes.get(key) or self._processes.setdefault(key, Connection(self._new()))

    def close(self) -> None:
        connection = self._processes.pop(_process.identity(), None)
        if connection is not None:
            connection.stopped.set()
            if connection.session is not self._given:
                connection.session.close()

    def _new(self) -> requests.Session:
        if self._given is None:
            return new_session(self._pool_size)
        if _process.identity() == self._home:
            return self._given
        return _unconnected(self._given)


def new_session(pool_size: int) -> requests.Session:
    """Return a session whose exchanges keep to their deadline even when a server drips bytes."""
    session = requests.Session()
    for prefix in ("https://", "http://"):
        session.mount(prefix, _DeadlineAdapter(pool_maxsize=pool_size))
    return session


def _unconnected(session: requests.Session) -> requests.Session:
    """Copy a session with all of its settings and none of its connections.

    Not by :mod:`copy`: what sessions and adapters pickle leaves out what a subclass has added,
    such as the SSLContext of an adapter.
    """
    twin: requests.Session = _shallow_copy(session)
    twin.cookies = RequestsCookieJar()
    twin.cookies.update(session.cookies)
    twin.adapters = type(session.adapters)()
    for prefix, adapter in session.adapters.items():
        fresh = twin.adapters[prefix] = _shallow_copy(adapter)
        if isinstance(adapter, HTTPAdapter):
            fresh.proxy_manager = {}
            size = (fresh._pool_connections, fresh._pool_maxsize)
            fresh.init_poolmanager(*size, block=fresh._pool_block)
    return twin


def _shallow_copy(value: Any) -> Any:
    twin = object.__new__(type(value))
    twin.__dict__.update(value.__dict__)
    return twin


def connect_and_read(timeout: object) -> tuple[float, float]:
    """Check a timeout as requests takes it: seconds, or (connect, read)."""
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(pair) != 2 or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < math.inf
        for each in pair
    ):
        raise ConfigurationError("timeout must be seconds above zero, or (connect, read)")
    return pair


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Do nothing, as an ``auth``: with none, requests would put a ``.netrc`` entry in its place."""
    return request


def _read(response: requests.Response) -> Reply:
    response.raw.enforce_content_length = True  # urllib3 1 would take half a body for a whole one
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > LONGEST_REPLY:
            break
    return Reply(
        status_code=response.status_code,
        headers=response.headers,
        body=bytes(body[:LONGEST_REPLY]),
        is_complete=len(body) <= LONGEST_REPLY,
    )


def _translate(failure: Exception) -> PermataAuthError:
    """Return our error for what requests raised, in words that quote nothing of the request."""
    causes = list(_causes(failure))
    if any(isinstance(c, requests.Timeout | TimeoutError | _Timeouts) for c in causes):
        return RequestTimeoutError("no complete answer in the time allowed; wait, or allow more")
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateError(
                f"the server's certificate was refused ({cause.verify_message}); "
                "check the URL, the CA bundle and this machine's clock"
            )
    is_answered = any(isinstance(c, _MALFORMED) for c in causes) or type(failure) is ValueError
    if not is_answered and any(isinstance(c, _INVALID) for c in causes):
        return ConfigurationError("requests finds the URL, a header or the proxy's URL invalid")
    is_unusable = any(getattr(c, "reason", None) in _UNUSABLE for c in causes)
    if is_unusable or type(failure) in (OSError, FileNotFoundError, ssl.SSLError):
        return ConfigurationError(
            f"the request cannot be sent ({type(failure).__name__}); "
            "check the CA bundle and client certificate that are set"
        )
    kind = "the proxy" if isinstance(failure, requests.exceptions.ProxyError) else "the server"
    reason = next((c.strerror for c in causes if isinstance(c, OSError) and c.strerror), None)
    return TransportError(
        f"no answer from {kind} ({reason or type(causes[-1]).__name__}); "
        "wait, or check the network between here and the bank"
    )


# Not urllib3's TimeoutError: a refused connection is one of its kind.
_Timeouts = urllib3.exceptions.ReadTimeoutError
_INVALID = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,  # a SOCKS proxy, without the extra that requests needs
    requests.exceptions.InvalidHeader,
    urllib3.exceptions.LocationParseError,
    UnicodeError,  # a host that cannot be written in the way of RFC 3490
)
_MALFORMED = urllib3.exceptions.InvalidHeader  # found in the answer
_UNUSABLE = ("NO_CERTIFICATE_OR_CRL_FOUND", "PEM_LIB")  # of a CA bundle


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """Walk from what requests raised down to what really happened."""
    seen: list[BaseException] = []
    at: object = failure
    while isinstance(at, BaseException) and at not in seen:
        seen.append(at)
        yield at
        inner = [getattr(at, "reason", None), *at.args, at.__cause__, at.__context__]
        at = next((i for i in inner if isinstance(i, BaseException) and i not in seen), None)


def http_date(text: str) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(text)
        # Without a zone in it (asctime's form, RFC 9110 section 5.6.7) it is still UTC.
        return when.replace(tzinfo=when.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# A read timeout bounds one wait for one byte; a server that drips them can hold a request for
# days. So each wait is given no more than what is left until the deadline of its exchange.


class _Thread(threading.local):
    deadline = math.inf


_thread = _Thread()


@contextmanager
def _bounded_by(deadline: float) -> Iterator[None]:
    _thread.deadline = deadline
    try:
        yield
    finally:
        _thread.deadline = math.inf


def _shorten_wait(sock: Any) -> None:
    left = _thread.deadline - _clock.now()
    if left <= 0:
        raise TimeoutError
    if left < (getattr(sock, "timeout", None) or math.inf):
        sock.settimeout(left)


class _BoundedReads(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _shorten_wait(self._sock)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReads(self.fp.detach(), sock))


class _Bounded:
    response_class = _BoundedResponse  # a proxy's answer to CONNECT is read by it, too

    def _new_conn(self) -> Any:
        sock = super()._new_conn()  # type: ignore[misc]
        try:
            _shorten_wait(sock)  # for the TLS handshake
        except TimeoutError:
            sock.close()
            raise
        return sock


class _DeadlineAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _bound_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _bound_connections(manager)
        return manager


def _bound_connections(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme  # SOCKS proxies have pools of their own
    manager.pool_classes_by_scheme = {scheme: _bounded(pool) for scheme, pool in pools.items()}


@functools.cache
def _bounded(pool: Any) -> Any:
    if issubclass(pool.ConnectionCls, _Bounded):
        return pool
    connection = type(pool.ConnectionCls.__name__, (_Bounded, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
