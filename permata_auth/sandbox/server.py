"""The bank on a socket: listener, connections, and how replies and faults reach the wire."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.client import responses
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request

from . import bank as rules
from .admin import administer
from .faults import FaultBook, Gate
from .messages import ADMIN_PREFIX, CALLBACK_PATH, TOKEN_PATH, Inbound, Reply, bank_error

if TYPE_CHECKING:
    from typing_extensions import Self

    from permata_auth.schemes.classic import PermataCredentials

_log = logging.getLogger("permata_auth.sandbox")

_BACKLOG = 1024
_POLL_SECS = 0.05
_JOIN_SECS = 5.0


class _Handler(WSGIRequestHandler):
    """One connection. Writes replies itself: Werkzeug's writer closes after each one."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        try:
            # The body is read to its end before anything else: the next request follows it.
            environ = Request(self.make_environ())
            request = Inbound(
                method=environ.method,
                path=environ.path,
                headers=Headers(self.headers.items()),
                body=environ.get_data(),
            )
            self._transmit(self.server.serve(request), is_head=request.method == "HEAD")
        except (OSError, HTTPException):
            self.close_connection = True

    def _transmit(self, reply: Reply, *, is_head: bool) -> None:
        self.server.pause(reply.delay)
        head = self._head(reply)
        body = b"" if is_head else reply.body
        if reply.wire is None:
            self.wfile.write(head + body)
            return
        self.close_connection = True
        for piece in reply.wire.pieces(head, body):
            self.connection.sendall(piece)
            self.server.pause(reply.wire.interval)
        if reply.wire.reset:
            self._reset()

    def _head(self, reply: Reply) -> bytes:
        fields = {
            "Date": formatdate(self.server.bank.now(), usegmt=True),
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.body)),
            **dict(reply.headers),
        }
        if reply.wire:
            fields["Connection"] = "close"
        if reply.status in (204, 304):
            del fields["Content-Length"], fields["Content-Type"]
        lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # Closed here and now: the server's own way out would send an orderly FIN first.
        os.close(self.connection.detach())

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        _log.debug("Sandbox refused what is no HTTP request")


class _Listener(ThreadedWSGIServer):
    """The open phase of a bank: one accept thread and one thread for each connection."""

    def __init__(self, bank: Sandbox, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        self.bank = bank
        self._halt = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        # No WSGI application: the handler asks the bank directly.
        super().__init__(host, port, bank, _Handler, fd=listening.fileno())  # type: ignore[arg-type]
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_SECS,), daemon=True
        )
        self._accepting.name = f"permata-sandbox-{port}"
        self._accepting.start()

    def serve(self, request: Inbound) -> Reply:
        """Ask the bank, as long as it is open."""
        return self.bank._serve(request, self._halt)

    def pause(self, seconds: float) -> None:
        """Wait, unless the bank closes meanwhile: then the connection ends here."""
        if self._halt.wait(seconds) if seconds else self._halt.is_set():
            raise ConnectionAbortedError

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        thread.name = "permata-sandbox-connection"
        with self._lock:
            self._open = {sock: old for sock, old in self._open.items() if old.is_alive()}
            # Started under the lock: a thread in the table that is not alive has ended.
            thread.start()
            self._open[request] = thread

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Swallow what would be printed: the bank keeps its own errors for ``check()``."""

    def halt(self) -> None:
        """Let no request go on: neither one that waits nor one that comes now."""
        self._halt.set()

    def close(self) -> None:
        """Refuse new connections, drop the open ones and join the threads, within a bound."""
        self.halt()
        # Shutting down, unlike closing, also acts on copies of the socket in forked children.
        _shut(self.socket)
        self.shutdown()
        with self._lock:
            connections = dict(self._open)
        for connection in connections:
            _shut(connection)
        deadline = time.monotonic() + _JOIN_SECS
        for thread in (self._accepting, *connections.values()):
            thread.join(max(0.0, deadline - time.monotonic()))


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that owns the address but refuses connections, for it does not listen."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


@attrs.define(kw_only=True, eq=False)
class Sandbox(rules.Bank):
    """A bank on loopback, for tests and demonstrations.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Every method may be called
    from any thread. A forked child that inherits the object can neither stop nor silence the bank;
    it asks for counters over the admin HTTP path.
    """

    host: str = attrs.field(default="127.0.0.1")
    port: int = attrs.field(default=0)
    admin: bool = attrs.field(default=True)
    log_requests: bool = attrs.field(default=False)
    _faults: FaultBook = attrs.field(factory=FaultBook, init=False, repr=False)
    _address: tuple[str, int] | None = attrs.field(default=None, init=False, repr=False)
    _listener: _Listener | None = attrs.field(default=None, init=False, repr=False)
    _reserved: socket.socket | None = attrs.field(default=None, init=False, repr=False)
    _owner: int = attrs.field(default=0, init=False, repr=False)
    _switching: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _errors: list[Exception] = attrs.field(factory=list, init=False, repr=False)

    def start(self) -> Self:
        """Open the bank and return it; does nothing if it is open or down. Raises OSError."""
        with self._switching:
            if self._reserved is None:
                self._reserved = _bound(self.host, self.port)
                self._address = self._reserved.getsockname()[:2]
                self._owner = os.getpid()
                self._listen()
        return self

    def stop(self) -> None:
        """Close the bank, drop all connections and release all gates; takes at most 5 seconds."""
        if os.getpid() != self._owner:
            return
        with self._switching:
            self._close()
            self._faults.clear()
            if self._reserved:
                self._reserved.close()
            self._reserved = None

    def go_down(self) -> None:
        """Refuse connections and drop the open ones until :meth:`come_up`; the port stays ours."""
        if os.getpid() != self._owner:
            return
        with self._switching:
            if self._reserved and self._listener:
                self._close()
                self._reserved.close()
                self._reserved = _bound(*self._running_address())

    def come_up(self) -> None:
        """Listen again on the same port; does nothing if the bank is not down."""
        with self._switching:
            if self._reserved and os.getpid() == self._owner:
                self._listen()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Be down for the length of the with-block."""
        self.go_down()
        try:
            yield
        finally:
            self.come_up()

    def _listen(self) -> None:
        if self._listener is None and self._reserved:
            self._reserved.listen(_BACKLOG)
            self._listener = _Listener(self, self._reserved)

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            # In this order: a request that a gate lets go finds the bank closed and is not judged.
            listener.halt()
            self._faults.release()
            listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the first error that happened inside the bank itself, once."""
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def _running_address(self) -> tuple[str, int]:
        if self._address is None:
            raise RuntimeError("The sandbox has no address before it is started.")
        return self._address

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; known from the first start on."""
        host, port = self._running_address()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint."""
        return self.url + TOKEN_PATH

    @property
    def callback_status_url(self) -> str:
        """The URL of the callback status endpoint."""
        return self.url + CALLBACK_PATH

    @property
    def admin_url(self) -> str:
        """The base URL of the admin path, with a slash at its end."""
        return self.url + ADMIN_PREFIX

    def credentials(self, **overrides: Any) -> PermataCredentials:
        """Return credentials that this bank accepts; overrides replace single arguments."""
        # The only thing taken from the client, and it signs nothing on this side.
        from permata_auth.schemes.classic import PermataCredentials  # noqa: PLC0415

        arguments: dict[str, Any] = {
            name.removeprefix("PERMATA_").lower(): value
            for name, value in self.environment().items()
            if name != "PERMATA_CALLBACK_STATUS_URL"
        }
        return PermataCredentials(**(arguments | overrides))

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a client at this bank."""
        return {
            "PERMATA_TOKEN_URL": self.token_url,
            "PERMATA_API_KEY": rules.API_KEY,
            "PERMATA_CLIENT_ID": rules.CLIENT_ID,
            "PERMATA_CLIENT_SECRET": rules.CLIENT_SECRET,
            "PERMATA_STATIC_KEY": rules.STATIC_KEY,
            "PERMATA_ORGANIZATION_NAME": rules.ORGANIZATION_NAME,
            "PERMATA_CALLBACK_STATUS_URL": self.callback_status_url,
        }

    def fail_next(
        self, n: int = 1, fault: str = "status", *, on: str = "any", **fault_arguments: Any
    ) -> None:
        """Inject a fault into the next ``n`` requests (``on``: "any", "token" or "calls").

        Faults queue up, first in, first out. Raises ValueError for an unknown name or argument.
        """
        self._faults.fail(fault, on, fault_arguments, left=n)

    def fail_for(
        self, seconds: float, /, fault: str = "status", *, on: str = "any", **fault_arguments: Any
    ) -> None:
        """Inject a fault into every request of the next ``seconds``; else like ``fail_next``."""
        self._faults.fail(fault, on, fault_arguments, seconds=seconds)

    def hold_next(self, n: int = 1, *, on: str = "any") -> Gate:
        """Hold the next ``n`` requests, unjudged, until the returned gate is released."""
        return self._faults.hold(n, on)

    def clear_faults(self) -> None:
        """Forget all faults to come and release all gates."""
        self._faults.clear()

    def _serve(self, request: Inbound, closing: threading.Event) -> Reply:
        at = time.monotonic()
        try:
            if self.admin and request.path.startswith(ADMIN_PREFIX):
                return administer(self, request)
            self._note_arrival(request)
            self._faults.hold_back(request)
            if closing.is_set():
                reply = Reply(status=0, reason="the bank went down")
            else:
                reply = self._faults.apply(request, lambda: self._answer(request))
        except Exception as error:
            self._errors.append(error)
            reply = bank_error(500, "Internal Server Error", reason="internal error")
        self._record(request, reply, at)
        level = logging.INFO if self.log_requests else logging.DEBUG
        _log.log(level, "Sandbox answered %s: %s (%s)", request.method, reply.status, reply.reason)
        return attrs.evolve(reply, delay=reply.delay + self.latency)
