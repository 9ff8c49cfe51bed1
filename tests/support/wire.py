"""Servers on bare sockets, with more than the sandbox can do: connections, TLS, proxies."""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .threads import PATIENCE, until


class RawServer:
    """A TCP server on loopback that hands each connection to ``handle``; a context manager.

    ``connections`` counts them, a failed TLS handshake included. On the way out every connection
    is closed, and errors of a handler (but for closed sockets) are raised again.
    """

    def __init__(
        self, handle: Callable[[Any], object], *, context: ssl.SSLContext | None = None
    ) -> None:
        self.connections = 0
        self.errors: list[BaseException] = []
        self._handle = handle
        self._context = context
        self._sockets: list[socket.socket] = []
        self._served: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closed.set()
        self._end([self._listening], self._threads[:1])
        # Not before the last connection is accepted: it would be left out.
        self._end(self._sockets, self._threads[1:])
        self._listening.close()
        if self.errors and exc_info[1] is None:
            raise self.errors[0]

    @staticmethod
    def _end(sockets: list[socket.socket], threads: list[threading.Thread]) -> None:
        for sock in sockets:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection of the test's server goes on"

    @property
    def token_url(self) -> str:
        return f"{self.url}/apiservice/oauth/token"

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than the server lives; return whether it lives."""
        return not self._closed.wait(seconds)

    def wait_until_closed(self) -> None:
        """Wait until the server has closed every connection that it has accepted."""
        # Not until fileno() is -1: another thread sees that before the system call has closed it.
        until(lambda: len(self._served) == self.connections)

    @staticmethod
    def pump(one: socket.socket, other: socket.socket) -> None:
        """Pass bytes both ways until either side ends."""
        # In one thread: OpenSSL lets no two threads read and write one connection at once.
        with suppress(OSError):
            ended = False
            while not ended:
                for source in select.select((one, other), (), (), PATIENCE)[0]:
                    target = other if source is one else one
                    data = received(source)
                    target.sendall(b"".join(data))
                    ended = ended or b"" in data
        for sock in (one, other):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        other.close()

    def connect(self, port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._sockets.append(sock)
        return sock

    def _start(self, function: Callable[..., object], *args: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=args, name="test-server", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closed.is_set():
                sock, _ = self._listening.accept()
                self.connections += 1
                self._sockets.append(sock)
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(PATIENCE)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            self._handle(sock)
        except OSError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            self._served.append(sock)


def received(sock: socket.socket) -> list[bytes]:
    """Return all that is here without waiting; the last piece is empty if the sender has ended."""
    pieces: list[bytes] = []
    sock.settimeout(0)
    try:
        while b"" not in pieces[-1:]:
            pieces.append(sock.recv(65536))
    except (BlockingIOError, ssl.SSLWantReadError):
        pass
    finally:
        sock.settimeout(PATIENCE)
    return pieces


def read_request(sock: socket.socket) -> bytes | None:
    """Read one request, head and body; None at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line[15:])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length:
        piece = sock.recv(65536)
        if not piece:
            return None
        body += piece
    return head + b"\r\n\r\n" + body


def reply(
    body: Any = None, *, status: str = "200 OK", head: str = "", length: bool = True
) -> bytes:
    """Build a reply; a body that is not bytes goes out as JSON, none is a good token."""
    if body is None:
        body = {"access_token": "example-raw-token", "expires_in": 900}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", *head.splitlines()]
    if length:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def always(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a handler that keeps the connection alive and answers every request with this."""

    def handle(sock: socket.socket) -> None:
        while read_request(sock) is not None:
            sock.sendall(answer)

    return handle


def once(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a handler that answers one request, and closes."""

    def handle(sock: socket.socket) -> None:
        if read_request(sock) is not None:
            sock.sendall(answer)

    return handle


class Forwarder(RawServer):
    """Passes each connection on to a port of this machine: TLS in front of a bank, say."""

    def __init__(self, port: int, *, context: ssl.SSLContext | None = None) -> None:
        super().__init__(lambda sock: self.pump(sock, self.connect(port)), context=context)


class Proxy(RawServer):
    """An HTTP proxy; ``requests`` lists the request lines that it was asked for.

    With ``credentials`` (``user:password``) it refuses others.
    """

    def __init__(
        self, *, credentials: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(self._proxy, context=context)
        self.requests: list[str] = []
        self._credentials = credentials

    def _proxy(self, sock: socket.socket) -> None:
        request = read_request(sock)
        if request is None:
            return
        line, _, rest = request.partition(b"\r\n")
        self.requests.append(line.decode())
        if self._credentials is not None:
            wanted = base64.b64encode(self._credentials.encode())
            if b"Proxy-Authorization: Basic " + wanted not in rest:
                sock.sendall(reply(b"", status="407 Proxy Authentication Required"))
                return
        method, target, version = line.decode().split(" ")
        if method == "CONNECT":
            other = self.connect(int(target.rpartition(":")[2]))
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            host, slash, path = target.removeprefix("http://").partition("/")
            other = self.connect(int(host.rpartition(":")[2]))
            other.sendall(f"{method} {slash}{path} {version}\r\n".encode() + rest)
        self.pump(sock, other)
