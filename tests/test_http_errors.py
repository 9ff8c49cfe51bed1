"""Errors that an operator can use: where, which step, the cause in safe words, and who mends it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from support.certificates import Authority
from support.wire import RawServer, always, once, read_request, reply

from permata_auth import (
    CertificateError,
    ConfigurationError,
    PermataAuthError,
    RequestTimeoutError,
    TransportError,
    _clock,
)
from permata_auth._http import exchange, new_session


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def session():
    with new_session(4) as session:
        yield session


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


def failure(session, url, *, within=10.0, timeout=(5.0, 5.0)) -> PermataAuthError:
    """Return the error of an exchange, which shows nothing of the request."""
    with pytest.raises(PermataAuthError) as caught:
        exchange(
            session,
            "POST",
            f"{url}/path?example-query=1",
            headers={"Authorization": "Basic example-secret"},
            body=b"example-body",
            timeout=timeout,
            deadline=_clock.now() + within,
            setting="PERMATA_TOKEN_URL",
        )
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    for secret in ("example-query", "example-secret", "example-body", "example-proxy-word"):
        assert secret not in str(error) + repr(vars(error))
    return error


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def expect(error, kind, *texts, retryable):
    assert type(error) is kind, error
    assert error.retryable is retryable
    assert [text for text in texts if text not in str(error)] == [], str(error)


# Steps.


def test_a_name_that_is_not_known(session, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    expect(
        failure(session, "https://bank.example:8443"),
        TransportError,
        "bank.example:8443",
        "the look-up of the host's name failed (gaierror: Name or service not known)",
        "PERMATA_TOKEN_URL",
        "DNS",
        retryable=True,
    )


def test_the_default_port_is_named_too(session, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "server bank.example:443:" in str(failure(session, "https://bank.example"))
    assert "server bank.example:80:" in str(failure(session, "http://bank.example"))


def test_a_port_that_is_closed(session):
    expect(
        failure(session, f"http://[::ffff:127.0.0.1]:{closed_port()}"),
        TransportError,
        "server [::ffff:127.0.0.1]:",
        "connecting failed (ConnectionRefusedError: Connection refused)",
        retryable=True,
    )


def silent(server, after=0):
    def handle(sock):
        if after:
            read_request(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        server().wait(60)

    return handle


@pytest.mark.parametrize(
    ("url", "after", "step"),
    [
        ("http", 0, "waiting for the response"),
        ("http", 1, "reading the response"),
        ("https", 0, "the TLS handshake"),
    ],
)
def test_what_takes_too_long_names_its_step_and_what_was_allowed(session, url, after, step):
    with RawServer(silent(lambda: server, after)) as server:
        error = failure(session, f"{url}://127.0.0.1:{server.port}", timeout=(0.3, 0.4))
    expect(
        error,
        RequestTimeoutError,
        f"127.0.0.1:{server.port}",
        f"{step} took too long (connect 0.3 s, read 0.4 s, 10 s in all)",
        "timeout=",
        retryable=True,
    )


def test_a_connection_that_is_closed_without_a_response(session):
    with RawServer(read_request) as server:
        error = failure(session, server.url)
    text = "waiting for the response failed (RemoteDisconnected: the other side closed"
    expect(error, TransportError, text, retryable=True)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.9 example-secret\r\n", "what came is no HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "is TLS, which wants https://"),
    ],
)
def test_a_port_that_speaks_something_else(session, answer, text):
    with RawServer(once(answer)) as server:
        error = failure(session, server.url)
    expect(error, TransportError, text, "PERMATA_TOKEN_URL", retryable=True)


# TLS.


def test_a_port_that_speaks_no_tls(session):
    with RawServer(
        lambda sock: (sock.recv(9999), sock.sendall(b"HTTP/1.0 400 No\r\n\r\n"))
    ) as plain:
        error = failure(session, f"https://127.0.0.1:{plain.port}")
    expect(
        error,
        ConfigurationError,
        f"127.0.0.1:{plain.port}",
        "the TLS handshake failed",
        "does not speak TLS",
        "PERMATA_TOKEN_URL",
        retryable=False,
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate(session, authority, version):
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.bundle)
    session.verify = str(authority.bundle)
    with RawServer(always(reply()), context=context) as server:
        error = failure(session, server.url)
    expect(error, ConfigurationError, server.url[8:], "client certificate", retryable=False)


def test_a_certificate_that_is_refused(session, authority):
    with RawServer(always(reply()), context=authority.context()) as server:
        error = failure(session, server.url)
    expect(
        error,
        CertificateError,
        server.url[8:],
        "PERMATA_TOKEN_URL",
        "REQUESTS_CA_BUNDLE",
        retryable=False,
    )


@pytest.mark.parametrize("setting", ["verify", "cert"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty"])
def test_a_file_that_cannot_be_used_is_named(session, tmp_path, setting, kind):
    path = tmp_path / "example.pem"
    if kind == "folder" and setting == "cert":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"")
    setattr(session, setting, str(path))
    with RawServer(lambda sock: sock.recv(9999)) as server:
        error = failure(session, f"https://127.0.0.1:{server.port}")
    expect(error, ConfigurationError, f"{setting}={str(path)!r}", "cannot be sent", retryable=False)


# This machine.


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EMFILE, "too many open files"),
        (errno.ENFILE, "too many open files"),
        (errno.EADDRNOTAVAIL, "no local address or port"),
        (errno.ENOMEM, "no memory"),
        (errno.EACCES, "a firewall or policy of this machine"),
        (errno.EPERM, "a firewall or policy of this machine"),
    ],
)
def test_what_this_machine_denies_is_not_blamed_on_the_network(session, monkeypatch, number, text):
    def denied(self, address):
        raise OSError(number, "example words")

    monkeypatch.setattr(socket.socket, "connect", denied)
    error = failure(session, "http://127.0.0.1:9")
    expect(error, TransportError, "127.0.0.1:9", text, retryable=True)
    assert "the network" not in str(error)


# Proxies.


@pytest.mark.parametrize(
    ("status", "retryable", "text"),
    [
        (407, False, "user and password"),
        (403, False, "its operator"),
        (400, False, "its operator"),
        (429, True, "wait"),
        (502, True, "wait"),
        (503, True, "wait"),
    ],
)
def test_a_proxy_that_refuses_a_tunnel(session, monkeypatch, status, retryable, text):
    with RawServer(always(reply(b"", status=f"{status} x"))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:example-proxy-word@127.0.0.1:{proxy.port}")
        error = failure(session, "https://bank.example")
        assert proxy.connections == 1
    expect(
        error,
        TransportError,
        f"the proxy refused (HTTP {status})",
        f"127.0.0.1:{proxy.port}",
        "bank.example:443",
        text,
        retryable=retryable,
    )


@pytest.mark.parametrize("status", [403, 407])
@pytest.mark.parametrize("body", [b"<html>no</html>", b""])
def test_a_proxy_that_refuses_a_plain_request(session, monkeypatch, status, body):
    with RawServer(always(reply(body, status=f"{status} x"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        error = failure(session, "http://bank.example")
    expect(error, TransportError, f"the proxy refused (HTTP {status})", retryable=False)


def test_a_refusal_by_the_bank_through_a_proxy_is_the_banks(session, monkeypatch):
    body = {"ErrorCode": "403", "ErrorDescription": "Signature Not Valid"}
    with RawServer(always(reply(body, status="403 x"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        arguments = {"headers": {}, "body": b"", "timeout": (5, 5), "deadline": _clock.now() + 5}
        answer = exchange(session, "POST", "http://bank.example/", **arguments)
    assert answer.status_code == 403


def test_a_proxy_that_speaks_no_tls_is_blamed_itself(session, monkeypatch):
    with RawServer(
        lambda sock: (sock.recv(9999), sock.sendall(b"HTTP/1.0 400 x\r\n\r\n"))
    ) as plain:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{plain.port}")
        error = failure(session, "https://bank.example")
    expect(
        error,
        ConfigurationError,
        f"the proxy 127.0.0.1:{plain.port}",
        "HTTPS_PROXY",
        retryable=False,
    )
