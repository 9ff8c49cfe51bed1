from __future__ import annotations

import gzip
import logging
import os
import socket
import time
import zlib
from email.utils import formatdate

import pytest
import requests
from requests.adapters import HTTPAdapter
from support.certificates import Authority
from support.scripts import run
from support.threads import Call, together
from support.wire import Forwarder, Proxy, RawServer, always, once, read_request, reply

from permata_auth import (
    CertificateError,
    ConfigurationError,
    PermataAuthError,
    RequestTimeoutError,
    TransportError,
    _clock,
)
from permata_auth._http import (
    MAX_RESPONSE_BYTES,
    Connections,
    Response,
    connect_and_read,
    exchange,
    new_session,
)

#: How late an answer may be on a machine that is busy with other things.
SLACK = 20.0


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Take away the machine's own proxies and certificates."""
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


def post(session, url, *, within=10.0, timeout=(5.0, 5.0), **headers):
    return exchange(
        session,
        "POST",
        url,
        headers=headers,
        body=b"example-body",
        timeout=timeout,
        deadline=_clock.now() + within,
    )


def failure(session, url, **arguments) -> PermataAuthError:
    """Return the error of an exchange, which must be one of our tree and chained to nothing."""
    with pytest.raises(PermataAuthError) as caught:
        post(session, url, **arguments)
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    return error


# The request and the response.


def test_an_answer_comes_back_whole(session):
    with RawServer(always(reply(b"\x00\xffbytes", head="X-Example: yes"))) as server:
        answer = post(session, server.url)
    assert (answer.status_code, answer.body, answer.is_complete) == (200, b"\x00\xffbytes", True)
    assert answer.headers["x-example"] == "yes"
    assert "bytes" not in repr(answer)


def test_the_request_goes_out_as_it_was_given(session):
    seen = []

    def handle(sock):
        seen.append(read_request(sock))
        sock.sendall(reply(b""))

    with RawServer(handle) as server:
        post(session, f"{server.url}/path?query=1", Authorization="Basic example", **{"X-A": "b"})
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /path?query=1 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Basic example" in head
    assert b"\r\nX-A: b" in head
    assert b"\r\nContent-Length: 12" in head
    assert body == b"example-body"


@pytest.mark.parametrize("length", [MAX_RESPONSE_BYTES - 1, MAX_RESPONSE_BYTES])
def test_an_answer_up_to_the_limit_is_complete(session, length):
    with RawServer(always(reply(b"x" * length))) as server:
        answer = post(session, server.url)
    assert (len(answer.body), answer.is_complete) == (length, True)


def test_an_answer_over_the_limit_is_cut_there(session):
    with RawServer(always(reply(b"x" * (MAX_RESPONSE_BYTES + 1)))) as server:
        answer = post(session, server.url)
    assert (len(answer.body), answer.is_complete) == (MAX_RESPONSE_BYTES, False)


def test_an_endless_answer_is_not_read_to_its_end(session):
    sent = []

    def handle(sock):
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while server.wait(0):
            sock.sendall(b"x" * 65536)
            sent.append(65536)

    with RawServer(handle) as server:
        answer = post(session, server.url)
        assert not answer.is_complete
    assert sum(sent) < 100 * MAX_RESPONSE_BYTES


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_unpacks_to_too_much_is_cut(session, coding):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](b" " * 200 * 2**20)
    assert len(packed) < MAX_RESPONSE_BYTES
    with RawServer(always(reply(packed, head=f"Content-Encoding: {coding}"))) as server:
        answer = post(session, server.url)
    assert (len(answer.body), answer.is_complete) == (MAX_RESPONSE_BYTES, False)


def test_packed_answers_are_unpacked(session):
    body = gzip.compress(b"example")
    with RawServer(always(reply(body, head="Content-Encoding: gzip"))) as server:
        assert post(session, server.url).body == b"example"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 9999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000,
        CHUNKED + b"zz\r\nbad",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        b"\0" * 100,
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_what_is_no_whole_http_answer_is_a_transport_error(session, answer):
    with RawServer(once(answer)) as server:
        error = failure(session, server.url)
    assert type(error) is TransportError
    assert error.retryable
    assert "the server" in str(error)


def test_a_refused_connection_names_its_reason(session):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = failure(session, f"http://127.0.0.1:{port}/")
    assert type(error) is TransportError
    assert str(error).startswith(
        f"no complete response from the server 127.0.0.1:{port}: connecting failed "
        "(ConnectionRefusedError: Connection refused); "
    )


def test_a_host_that_does_not_exist_is_a_transport_error(session, monkeypatch):
    def no_such_name(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    error = failure(session, "https://bank.invalid/")
    assert type(error) is TransportError
    assert "Name or service not known" in str(error)


@pytest.mark.parametrize(
    "url", ["https://[::1]bank.invalid/", "https://a..invalid/", f"https://{'a' * 64}.invalid/"]
)
def test_a_url_that_only_requests_finds_invalid_is_a_configuration_error(session, url):
    assert type(failure(session, url)) is ConfigurationError


def test_a_header_that_requests_finds_invalid_is_a_configuration_error(session):
    error = failure(session, "http://127.0.0.1:9/", Authorization="example-secret\nbreak")
    assert type(error) is ConfigurationError
    assert "example-secret" not in str(error)


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_redirect_is_an_answer_and_is_not_followed(session, status):
    with RawServer(always(reply())) as target:
        head = f"Location: {target.url}/"
        with RawServer(always(reply(b"", status=status, head=head))) as server:
            assert post(session, server.url).status_code == int(status[:3])
            assert server.connections == 1
        assert target.connections == 0


# Time.


def _drip(server, sock, data, interval=0.02):
    for index in range(len(data)):
        if not server.wait(interval):
            return
        sock.sendall(data[index : index + 1])


def _silent(server, sock):
    read_request(sock)
    server.wait(60)


def _drip_headers(server, sock):
    read_request(sock)
    _drip(server, sock, reply(b"", head="X: " + "x" * 10_000))


def _drip_body(server, sock):
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    _drip(server, sock, b"x" * 10_000)


def _drip_body_without_length(server, sock):
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    _drip(server, sock, b"x" * 10_000)


def _drip_chunks(server, sock):
    read_request(sock)
    sock.sendall(CHUNKED)
    _drip(server, sock, b"1\r\nx\r\n" * 2_000)


def _drip_gzip(server, sock):
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    _drip(server, sock, gzip.compress(os.urandom(10_000)))


def _endless_100_continue(server, sock):
    read_request(sock)
    while server.wait(0.02):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _after_the_answer(server, sock):
    read_request(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf")
    server.wait(60)


STALLS = [
    _silent,
    _drip_headers,
    _drip_body,
    _drip_body_without_length,
    _drip_chunks,
    _drip_gzip,
    _endless_100_continue,
    _after_the_answer,
]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_no_server_holds_an_exchange_beyond_its_deadline(authority, stall, is_tls):
    context = authority.context() if is_tls else None
    server = RawServer(lambda sock: stall(server, sock), context=context)
    with server, new_session(4) as session:
        session.verify = str(authority.bundle)
        began = time.monotonic()
        error = failure(session, server.url, within=0.5, timeout=(5.0, 5.0))
        took = time.monotonic() - began
    assert type(error) is RequestTimeoutError
    assert isinstance(error, TimeoutError)
    assert error.retryable
    assert 0.4 < took < 0.5 + SLACK


def test_a_kept_connection_is_held_to_the_deadline_too(session):
    def handle(sock):
        read_request(sock)
        sock.sendall(reply(b"first"))
        _drip_body(server, sock)

    with RawServer(handle) as server:
        assert post(session, server.url).body == b"first"
        began = time.monotonic()
        error = failure(session, server.url, within=0.5)
        assert time.monotonic() - began < 0.5 + SLACK
        assert server.connections == 1
    assert type(error) is RequestTimeoutError


def test_a_deadline_of_one_exchange_is_not_that_of_the_next(session):
    with RawServer(always(reply(b"fine"))) as server:
        post(session, server.url, within=0.4)
        time.sleep(0.5)
        assert post(session, server.url, within=10).body == b"fine"

        def slow(sock):
            read_request(sock)
            server.wait(0.7)
            sock.sendall(reply(b"slow"))

        server._handle = slow
        session.close()
        post(session, server.url, within=5)
        assert server.connections == 2


@pytest.mark.parametrize("where", ["handshake", "connect"])
def test_a_peer_that_drips_before_http_begins_is_held_to_the_deadline(where, session, monkeypatch):
    def handle(sock):
        if where == "connect":
            read_request(sock)
            _drip(server, sock, b"HTTP/1.1 200 " + b"x" * 10_000)
        else:
            sock.recv(65536)
            _drip(server, sock, b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + b"\x00" * 10_000)

    with RawServer(handle) as server:
        if where == "connect":
            monkeypatch.setenv("HTTPS_PROXY", server.url)
        began = time.monotonic()
        url = server.url.replace("http:", "https:") if where == "handshake" else "https://x.invalid"
        error = failure(session, url, within=0.5)
        assert time.monotonic() - began < 0.5 + SLACK
    assert type(error) is RequestTimeoutError


def test_a_silent_server_is_left_after_the_read_timeout(session):
    server = RawServer(lambda sock: _silent(server, sock))
    with server:
        began = time.monotonic()
        error = failure(session, server.url, within=60, timeout=(5.0, 0.3))
        assert time.monotonic() - began < 0.3 + SLACK
    assert type(error) is RequestTimeoutError


def test_a_deadline_that_has_passed_ends_at_once(session):
    server = RawServer(lambda sock: _silent(server, sock))
    with server:
        began = time.monotonic()
        assert type(failure(session, server.url, within=-5)) is RequestTimeoutError
        assert time.monotonic() - began < SLACK


@pytest.mark.parametrize("seconds", [1e7, 1e10, 1e300])
def test_no_deadline_and_no_timeout_is_too_far_away_for_a_socket(session, seconds):
    with RawServer(always(reply(b"fine"))) as server:
        answer = post(session, server.url, within=seconds, timeout=(seconds, seconds))
    assert answer.body == b"fine"


def test_a_given_session_is_bounded_by_its_timeouts():
    server = RawServer(lambda sock: _silent(server, sock))
    with server, requests.Session() as given:
        began = time.monotonic()
        error = failure(given, server.url, within=0.5, timeout=(5.0, 5.0))
        assert time.monotonic() - began < 0.5 + SLACK
    assert type(error) is RequestTimeoutError


@pytest.mark.parametrize(
    "timeout",
    [
        *(0, -1, None, True, "5", [5, 5], float("nan"), float("inf")),
        *((5,), (1, 2, 3), (0, 5), (5, None), (5, float("inf")), (True, 5)),
    ],
    ids=repr,
)
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigurationError, match="timeout must be seconds above zero"):
        connect_and_read(timeout)


def test_a_timeout_is_one_number_or_two():
    assert connect_and_read(3) == (3, 3)
    assert connect_and_read((0.5, 7)) == (0.5, 7)


# Retry-After.


def asked_for(text, **headers):
    headers = requests.structures.CaseInsensitiveDict({"Retry-After": text, **headers})
    return Response(status_code=503, headers=headers, body=b"", is_complete=True).retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("007", 7),
        ("999999999999", 2_000_000),
        ("9" * 1000, 2_000_000),
    ],
)
def test_seconds_to_wait_are_read(text, seconds):
    assert asked_for(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-0",
        "+5",
        "1.5",
        "1e3",
        "٣",
        "²",
        "0x10",
        "soon",
        "5 s",
        "5,6",
        "nan",
        "inf",
        "Wed, 99 Foo 2025 99:99:99 GMT",
        "Wed, 21 Oct 99999999999 07:28:00 GMT",
        "\x00",
        "{}",
    ],
    ids=repr,
)
def test_what_is_no_time_to_wait_is_none(text):
    assert asked_for(text) is None


def test_an_answer_without_the_header_asks_for_nothing():
    assert Response(status_code=503, headers={}, body=b"", is_complete=True).retry_after is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Jakarta", "America/New_York"])
@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 2033 08:49:37 GMT",
        "Sunday, 06-Nov-33 08:49:37 GMT",
        "Sun Nov  6 08:49:37 2033",
        "Sun, 06 Nov 2033 08:49:37 -0000",
        "Sun, 06 Nov 2033 15:49:37 +0700",
    ],
)
def test_dates_to_wait_for_are_read_in_every_form_and_zone(monkeypatch, zone, text):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert asked_for(text, Date="Sun, 06 Nov 2033 08:49:07 GMT") == 30
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_is_measured_by_the_clock_of_whoever_wrote_it(clock):
    theirs = clock.wall() + 5_000
    headers = {"Date": formatdate(theirs, usegmt=True)}
    assert asked_for(formatdate(theirs + 12, usegmt=True), **headers) == 12
    assert asked_for(formatdate(clock.wall() + 12, usegmt=True)) == pytest.approx(12)
    assert asked_for(formatdate(clock.wall() + 12, usegmt=True), Date="?") == pytest.approx(12)


def test_a_date_that_has_passed_means_now():
    assert asked_for("Wed, 21 Oct 2015 07:28:00 GMT") == 0


# Certificates.


def test_a_bundle_of_the_session_is_trusted(authority, session):
    with RawServer(always(reply(b"fine")), context=authority.context()) as server:
        session.verify = str(authority.bundle)
        assert post(session, server.url).body == b"fine"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_is_trusted(authority, session, monkeypatch, name):
    monkeypatch.setenv(name, str(authority.bundle))
    with RawServer(always(reply(b"fine")), context=authority.context()) as server:
        assert post(session, server.url).body == b"fine"


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ({"days": -1}, "certificate has expired"),
        ({"address": "127.0.0.9"}, "IP address mismatch"),
        ({"is_self_signed": True}, "self.signed certificate"),
    ],
)
def test_a_bad_certificate_is_refused_by_its_reason(authority, session, certificate, reason):
    session.verify = str(authority.bundle)
    with RawServer(always(reply()), context=authority.context(**certificate)) as server:
        error = failure(session, server.url)
    assert type(error) is CertificateError
    assert not error.retryable
    assert reason.replace(".", " ") in str(error).replace("-", " ")


def test_a_server_of_an_unknown_authority_is_refused(authority, session):
    with RawServer(always(reply()), context=authority.context()) as server:
        error = failure(session, server.url)
    assert type(error) is CertificateError
    assert "check the URL, the CA bundle and this machine's clock" in str(error)


@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate"], ids=["missing", "empty", "junk"]
)
@pytest.mark.parametrize("where", ["session", "environment"])
def test_a_bundle_that_cannot_be_used_is_a_configuration_error(
    session, monkeypatch, tmp_path, where, content
):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    if where == "session":
        session.verify = str(bundle)
    else:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        error = failure(session, f"https://127.0.0.1:{listening.getsockname()[1]}/", within=3)
    assert type(error) is ConfigurationError
    assert "CA bundle" in str(error)


def test_a_client_certificate_that_is_missing_is_a_configuration_error(session):
    session.cert = "/nonexistent/client.pem"
    error = failure(session, "https://127.0.0.1:9/")
    assert type(error) is ConfigurationError
    assert "client certificate" in str(error)


# Proxies and .netrc.


@pytest.mark.parametrize("way", ["environment", "session"])
def test_http_goes_through_the_proxy_that_is_set(session, monkeypatch, way):
    with RawServer(always(reply(b"fine"))) as server, Proxy() as proxy:
        if way == "environment":
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
        else:
            session.proxies["http"] = proxy.url
        assert post(session, f"{server.url}/path").body == b"fine"
        assert proxy.requests == [f"POST {server.url}/path HTTP/1.1"]


def test_https_goes_through_a_tunnel_of_the_proxy(authority, session, monkeypatch):
    session.verify = str(authority.bundle)
    with (
        RawServer(always(reply(b"fine")), context=authority.context()) as server,
        Proxy() as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert post(session, server.url).body == b"fine"
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.")


def test_no_proxy_is_honoured(session, monkeypatch):
    with RawServer(always(reply(b"fine"))) as server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert post(session, server.url).body == b"fine"
        assert proxy.connections == 0


def test_an_answer_through_a_proxy_is_held_to_the_deadline(session, monkeypatch):
    server = RawServer(lambda sock: _drip_body(server, sock))
    with server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        began = time.monotonic()
        error = failure(session, server.url, within=0.5)
        assert time.monotonic() - began < 0.5 + SLACK
    assert type(error) is RequestTimeoutError


def test_a_proxy_that_is_down_is_named(session, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://user:example-proxy-word@127.0.0.1:{port}")
    error = failure(session, "http://bank.invalid/")
    assert type(error) is TransportError
    assert f"from the proxy 127.0.0.1:{port}: connecting failed (Connection" in str(error)
    assert "example-proxy-word" not in str(error)


@pytest.mark.parametrize("url", ["http://:::", "nonsense://127.0.0.1:9", "http://"])
def test_a_proxy_whose_url_makes_no_sense_is_a_configuration_error(session, monkeypatch, url):
    monkeypatch.setenv("HTTP_PROXY", url)
    assert type(failure(session, "http://bank.invalid/")) is ConfigurationError


def test_a_socks_proxy_is_used(session, monkeypatch):
    pytest.importorskip("socks")
    seen = []

    def handle(sock):
        seen.append(sock.recv(3))
        sock.sendall(b"\x05\xff")  # no method is acceptable

    with RawServer(handle) as server:
        monkeypatch.setenv("ALL_PROXY", server.url.replace("http:", "socks5:"))
        assert type(failure(session, "http://192.0.2.1/")) is TransportError
    assert seen == [b"\x05\x01\x00"]


def test_a_socks_proxy_without_pysocks_is_a_configuration_error():
    code = """
        import sys
        sys.modules["socks"] = None  # as if it were not installed
        from permata_auth import ConfigurationError, LoginClient
        from support.clients import credentials
        try:
            LoginClient(credentials()).login()
        except ConfigurationError as error:
            print(error)
        """
    ended = run(code, env={"ALL_PROXY": "socks5://127.0.0.1:9"})
    assert (ended.status, ended.err) == (0, "")
    assert "SOCKS" in ended.out


def test_netrc_never_puts_its_own_credentials_in_place_of_ours(session, monkeypatch, tmp_path):
    text = "machine 127.0.0.1 login example-netrc-user password example-netrc-word\n"
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    seen = []

    def handle(sock):
        seen.append(read_request(sock))
        sock.sendall(reply(b""))

    with RawServer(handle) as server:
        requests.post(server.url, timeout=5)  # requests by itself would
        assert b"Authorization: Basic ZXhhbXBsZS1uZXRyYy" in seen.pop()
        post(session, server.url, Authorization="Basic example")
        server.wait_until_closed()
        session.auth = ("other-user", "other-word")
        post(session, server.url, Authorization="Basic example")
    for request in seen:
        assert request.count(b"Authorization:") == 1
        assert b"\r\nAuthorization: Basic example\r\n" in request


# Connections.


def test_a_connection_is_kept_and_used_again(session):
    with RawServer(always(reply(b"fine"))) as server:
        for _ in range(5):
            post(session, server.url)
        assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(session):
    with RawServer(once(reply(b"fine"))) as server:
        for _ in range(5):
            assert post(session, server.url).body == b"fine"
            server.wait_until_closed()
        assert server.connections == 5


def test_a_refusal_leaves_the_connection_fit_for_use(session):
    with RawServer(always(reply(b"no", status="401 x"))) as server:
        for _ in range(3):
            assert post(session, server.url).status_code == 401
        assert server.connections == 1


def test_many_threads_use_one_session():
    with RawServer(always(reply(b"fine"))) as server, new_session(16) as session:
        calls = together(16, lambda: [post(session, server.url).body for _ in range(5)])
        assert [call.value() for call in calls] == [[b"fine"] * 5] * 16
        assert server.connections <= 16


def test_deadlines_of_threads_do_not_mix(session):
    def handle(sock):
        request = read_request(sock)
        if b"X-Slow" in request:
            _drip_body(server, sock)
        else:
            server.wait(1.0)
            sock.sendall(reply(b"fine"))

    with RawServer(handle) as server:
        patient = [Call(post, session, server.url, within=20) for _ in range(3)]
        hasty = [Call(post, session, server.url, within=0.3, **{"X-Slow": "1"}) for _ in range(3)]
        assert [call.value().body for call in patient] == [b"fine"] * 3
        assert all(isinstance(call.join().error, RequestTimeoutError) for call in hasty)


def test_connections_are_made_once_and_anew_after_close():
    connections = Connections(None)
    first = connections.get()
    assert connections.get() is first
    connections.close()
    assert first.stopped.is_set()
    second = connections.get()
    assert second is not first
    assert second.session is not first.session
    assert not second.stopped.is_set()
    connections.close()
    connections.close()


def test_threads_that_race_for_the_first_connection_get_the_same():
    connections = Connections(None)
    calls = together(16, connections.get)
    assert len({id(call.value()) for call in calls}) == 1
    connections.close()


def test_a_given_session_is_used_and_not_closed():
    class Watched(requests.Session):
        closed = 0

        def close(self):
            self.closed += 1

    given = Watched()
    connections = Connections(given)
    assert connections.get().session is given
    connections.close()
    assert connections.get().session is given
    assert given.closed == 0
    connections.close()
    requests.Session.close(given)


@pytest.mark.parametrize("session", [requests, requests.Session, "session", 0, object()], ids=repr)
def test_what_is_no_session_is_refused(session):
    with pytest.raises(ConfigurationError, match=r"^session must be a requests\.Session$"):
        Connections(session)


FORK = """
    import os, ssl, sys, threading, warnings
    import requests
    from requests.adapters import HTTPAdapter
    from permata_auth import _clock
    from permata_auth._http import Connections, exchange

    url, bundle, kind = sys.argv[1:]

    class Pinned(HTTPAdapter):
        def __init__(self, context):
            self.context = context
            super().__init__()

        def init_poolmanager(self, *args, **kwargs):
            super().init_poolmanager(*args, ssl_context=self.context, **kwargs)

    given = None
    if kind == "given":
        given = requests.Session()
        given.verify = bundle
        given.cookies.set("example", "cookie")
        given.cookies._cookies_lock.acquire()  # as a thread might hold it at the fork
        given.label = "its own"
        given.mount("https://", Pinned(ssl.create_default_context(cafile=bundle)))
    else:
        os.environ["REQUESTS_CA_BUNDLE"] = bundle

    connections = Connections(given)

    def post():
        session = connections.get().session
        return exchange(session, "POST", url, headers={}, body=b"", timeout=(5, 5),
                        deadline=_clock.now() + 10).body

    assert post() == b"fine" and post() == b"fine"
    parents = connections.get()
    child = os.fork()
    if child == 0:
        assert post() == b"fine" and post() == b"fine"
        mine = connections.get()
        assert mine is not parents and mine.session is not parents.session
        if given is not None:
            assert mine.session.verify == bundle and mine.session.label == "its own"
            assert dict(mine.session.cookies) == {"example": "cookie"}
            assert mine.session.get_adapter("https://x").context
        connections.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not parents.stopped.is_set()
    assert connections.get() is parents
    assert post() == b"fine"
    connections.close()
    if given is not None:
        given.close()
    os._exit(0)
"""


@pytest.mark.parametrize("kind", ["own", "given"])
def test_a_forked_child_has_connections_of_its_own(authority, kind):
    # The cookies' lock is held, and reentrant: the parent's thread is the one that holds it.
    with RawServer(always(reply(b"fine")), context=authority.context()) as server:
        ended = run(FORK, server.url, str(authority.bundle), kind)
        assert (ended.status, ended.err) == (0, "")
        assert server.connections == 2, "one of the parent's, one of the child's"


def test_an_adapter_of_the_callers_own_is_used():
    class Counting(HTTPAdapter):
        sent = 0

        def send(self, *args, **kwargs):
            self.sent += 1
            return super().send(*args, **kwargs)

    with RawServer(always(reply(b"fine"))) as server, requests.Session() as given:
        adapter = Counting()
        given.mount("http://", adapter)
        assert post(given, server.url).body == b"fine"
        assert adapter.sent == 1


def test_tls_in_front_of_a_bank_changes_nothing(authority, make_bank, session):
    bank = make_bank()
    request = bank.credentials().token_request()
    session.verify = str(authority.bundle)
    port = int(bank.url.rpartition(":")[2])
    with Forwarder(port, context=authority.context()) as front:
        url = request.url.replace(bank.url, front.url)
        answer = exchange(
            session,
            "POST",
            url,
            headers=request.headers,
            body=request.body,
            timeout=(5, 5),
            deadline=_clock.now() + 10,
        )
    assert answer.status_code == 200
    assert bank.logins == 1


def test_what_urllib3_logs_is_the_path_alone(session, caplog, secrets):
    secrets.add("example-basic", "example-body")
    with RawServer(always(reply(b"fine"))) as server, caplog.at_level(logging.DEBUG):
        post(session, f"{server.url}/path", Authorization="Basic example-basic")
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("urllib3")]
    assert any("/path" in line for line in lines)
    assert not secrets.found_in(*lines)
