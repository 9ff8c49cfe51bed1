"""The bank's socket: listener, connections, and how replies and faults reach the wire."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.client import responses
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request

from .messages import Inbound, Reply

_log = logging.getLogger("permata_auth.sandbox")

_POLL_SECS = 0.05
_JOIN_SECS = 5.0


class _Handler(WSGIRequestHandler):
    """One connection. Writes replies itself: Werkzeug's writer closes after each one."""

    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        try:
            # The body is read to its end before anything else: the next request follows it.
            environ = Request(self.make_environ())
            request = Inbound(
                method=environ.method,
                path=environ.path,
                target=self.path,
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
        fields: dict[str, str | None] = {
            "Date": formatdate(self.server.now(), usegmt=True),
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.body)),
            **dict(reply.headers),
        }
        if reply.wire:
            fields["Connection"] = "close"
        if reply.status in (204, 304):
            del fields["Content-Length"], fields["Content-Type"]
        lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # Closed here and now: the server's own way out would send an orderly FIN first.
        os.close(self.connection.detach())

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        _log.debug("Sandbox refused what is no HTTP request")


class Listener(ThreadedWSGIServer):
    """The open phase of a bank: one accept thread and one thread for each connection.

    Args:
        serve: Gives the reply to a request; the event is set once the listener closes.
        now: The bank's wall clock in POSIX seconds, for the header ``Date``.
        listening: The socket to accept connections from; it stays the caller's.
    """

    def __init__(
        self,
        serve: Callable[[Inbound, threading.Event], Reply],
        now: Callable[[], float],
        listening: socket.socket,
    ) -> None:
        host, port = listening.getsockname()[:2]
        self.now = now
        self._serve = serve
        self._halt = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        # No WSGI application: the handler asks the bank directly.
        super().__init__(host, port, serve, _Handler, fd=listening.fileno())  # type: ignore[arg-type]
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_SECS,), daemon=True
        )
        self._accepting.name = f"permata-sandbox-{port}"
        self._accepting.start()

    def serve(self, request: Inbound) -> Reply:
        """Ask the bank, as long as it is open."""
        return self._serve(request, self._halt)

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
        """Print nothing: the bank keeps its own errors for ``check()``."""

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


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that owns the address but refuses connections, for it does not listen.

    Args:
        host: The address.
        port: 0 takes a free one.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
