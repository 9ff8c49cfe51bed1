"""Servers for the faults that a bank which speaks HTTP cannot show: TLS, and dead ends."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@contextmanager
def tls(
    folder: Path, *, host: str = "127.0.0.1", days: int = 1, is_trusted: bool = True
) -> Iterator[str]:
    """Serve TLS with a self-signed certificate for ``host`` that ends in ``days``; yield its URL.

    With ``is_trusted`` it is written to ``folder/ca.pem``, the CA bundle of the test.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    if is_trusted:
        (folder / "ca.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")

    def handshake(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)

    with _listener(handshake) as port:
        yield f"https://127.0.0.1:{port}/apiservice/oauth/token"


@contextmanager
def plain_text() -> Iterator[str]:
    """Answer a TLS handshake with a line of text, as a plain http port does."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with _listener(answer) as port:
        yield f"https://127.0.0.1:{port}/apiservice/oauth/token"


@contextmanager
def no_http() -> Iterator[str]:
    """Answer a request with a line that is no HTTP."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with _listener(answer) as port:
        yield f"http://127.0.0.1:{port}/apiservice/oauth/token"


@contextmanager
def silence() -> Iterator[str]:
    """Accept connections in the kernel and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/apiservice/oauth/token"


@contextmanager
def full_backlog() -> Iterator[str]:
    """Let connections wait for ever: the queue of those to be accepted is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(address)
        try:
            yield f"http://127.0.0.1:{address[1]}/apiservice/oauth/token"
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def _listener(serve) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError, ssl.SSLError):
                        connection.settimeout(5)
                        serve(connection)

        thread = threading.Thread(target=accept, name="test-server", daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
