"""Client certificates, CA bundles and proxies: files that change under connections that live."""

from __future__ import annotations

import base64
import copy
import gc
import logging
import os
import pickle
import re
import ssl
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from support.certificates import Authority
from support.clients import credentials
from support.privileges import file_modes_count
from support.scripts import run
from support.threads import Call, together, until
from support.wire import Forwarder, Proxy, RawServer, always, read_request, reply

from permata_auth import (
    CallbackStatusClient,
    CertificateError,
    ConfigurationError,
    LoginClient,
    LoginHandler,
    PermataAuth,
    PermataCredentials,
    RequestTimeoutError,
    RetryPolicy,
    Transport,
    TransportError,
    _clock,
)
from permata_auth.integrations._services import Services

PASSWORD = "example-key-password"
PROXY_PASSWORD = "example-proxy-password"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


@pytest.fixture(autouse=True)
def _environment(monkeypatch, secrets):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    secrets.add(PASSWORD, PROXY_PASSWORD)
    secrets.add(base64.b64encode(f"user:{PROXY_PASSWORD}".encode()).decode())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The one that has signed the bank's certificate and those of its clients."""
    return Authority(tmp_path_factory.mktemp("authority"))


class Files:
    """The files that an operator sets, in a folder of its own."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.cert, self.key = folder / "client.pem", folder / "client-key.pem"
        self.bundle = folder / "bundle.pem"
        self.bundle.write_bytes(authority.bundle.read_bytes())
        self.renew("one")

    def renew(self, name, **how):
        certificate, key = self.authority.client(name, **how)
        self.cert.write_bytes(certificate)
        self.key.write_bytes(key)

    def transport(self, **more):
        return Transport(self.cert, self.key, self.bundle, **more)

    def environment(self):
        return {
            "PERMATA_CLIENT_CERT": str(self.cert),
            "PERMATA_CLIENT_KEY": str(self.key),
            "PERMATA_CA_BUNDLE": str(self.bundle),
        }


@pytest.fixture
def files(tmp_path, authority):
    return Files(tmp_path, authority)


class Bank(RawServer):
    """Demands a client certificate; ``clients`` has the name in it for each request."""

    def __init__(self, authority, answer=None, **more):
        self.clients = []
        self.answer = reply() if answer is None else answer
        super().__init__(self._answer, context=authority.context(clients=authority, **more))

    def use(self, context):
        self._context = context

    def _answer(self, sock):
        while read_request(sock) is not None:
            self.clients.append(client_name(sock))
            sock.sendall(self.answer)


def client_name(sock):
    certificate = sock.getpeercert()
    return certificate["subject"][0][0][1] if certificate else None


@pytest.fixture
def server(authority):
    with Bank(authority) as server:
        yield server


@pytest.fixture
def closing(authority):
    """One that ends each connection after one response."""
    with Bank(authority, reply(head="Connection: close")) as server:
        yield server


ONCE = RetryPolicy(attempts=1)


def client(server, transport=None, **more):
    return LoginClient(
        credentials(token_url=server.token_url), retry=ONCE, transport=transport, **more
    )


def warnings(caplog):
    found = [r for r in caplog.records if r.name.startswith("permata_auth._http")]
    return [r.getMessage() for r in found if r.levelno >= logging.WARNING]


# A server that demands a client certificate.


def test_a_login_shows_the_certificate_that_the_bank_demands(server, files):
    with client(server, files.transport()) as own:
        assert own.login().value == "example-raw-token"
    assert server.clients == ["one"]


def test_without_one_the_error_names_the_settings(server, files):
    expected = "PERMATA_CLIENT_CERT and PERMATA_CLIENT_KEY"
    with (
        client(server, Transport(ca_bundle=files.bundle)) as own,
        pytest.raises(ConfigurationError, match=expected),
    ):
        own.login()
    assert server.clients == []


def test_a_certificate_of_strangers_is_named_by_its_file(server, files, tmp_path):
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    certificate, key = Authority(strangers).client("stranger")
    files.cert.write_bytes(certificate)
    files.key.write_bytes(key)
    with client(server, files.transport()) as own, pytest.raises(ConfigurationError) as caught:
        own.login()
    assert str(files.cert) in str(caught.value)
    assert "PERMATA_CLIENT_CERT" in str(caught.value)


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest.mark.parametrize("is_one_file", [False, True])
def test_a_key_may_be_encrypted_and_in_the_same_file(server, files, password, is_one_file):
    files.renew("either", password=password)
    if is_one_file:
        files.cert.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    key = None if is_one_file else files.key
    transport = Transport(files.cert, key, files.bundle, client_key_password=password)
    with client(server, transport) as own:
        own.login()
    assert server.clients == ["either"]


UNASKED = """
    import sys
    from permata_auth import ConfigurationError, Transport

    try:
        Transport(*sys.argv[1:])
    except ConfigurationError as error:
        print(error)
"""


def test_nobody_is_asked_for_the_password_of_an_encrypted_key(files):
    files.renew("locked", password=PASSWORD)
    ended = run(UNASKED, str(files.cert), str(files.key))
    assert ended.out == "client_key has an encrypted key; set client_key_password\n"
    assert ended.err == ""


# Arguments and variables.


def locked(files):
    files.renew("locked", password=PASSWORD)


def mismatched(files):
    files.cert.write_bytes(files.authority.client("two")[0])


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_fifo(path):
    path.unlink()
    os.mkfifo(path)


WRONG = {
    "missing certificate": (lambda f: f.cert.unlink(), "client_cert cannot be read"),
    "missing key": (lambda f: f.key.unlink(), "client_key cannot be read"),
    "missing bundle": (lambda f: f.bundle.unlink(), "ca_bundle cannot be read"),
    "folder": (lambda f: as_folder(f.key), "client_key is no file"),
    "empty certificate": (lambda f: f.cert.write_bytes(b""), "client_cert has no whole certif"),
    "empty key": (lambda f: f.key.write_bytes(b""), "client_key has no private key"),
    "empty bundle": (lambda f: f.bundle.write_bytes(b""), "ca_bundle has no certificates"),
    "half a certificate": (
        lambda f: f.cert.write_bytes(f.cert.read_bytes()[:300]),
        "client_cert has no whole certificate",
    ),
    "half a key": (lambda f: f.key.write_bytes(f.key.read_bytes()[:100]), "client_key has no priv"),
    "half a bundle": (
        lambda f: f.bundle.write_bytes(f.bundle.read_bytes()[:300]),
        "ca_bundle has no certificates",
    ),
    "not base64": (
        lambda f: f.cert.write_bytes(f.cert.read_bytes().replace(b"\nM", b"\n!", 1)),
        "client_cert has|client_key has",
    ),
    "key of another": (mismatched, "client_key has a key that does not belong"),
    "swapped": (lambda f: f.cert.write_bytes(f.key.read_bytes()), "client_cert has no whole"),
    "expired": (lambda f: f.renew("old", days=-1), "client_cert has expired"),
    "not yet valid": (lambda f: f.renew("new", begins=0.5), "client_cert is not valid before"),
    "encrypted": (locked, "client_key has an encrypted key; set client_key_password"),
}
if hasattr(os, "mkfifo"):
    WRONG["fifo"] = (lambda f: as_fifo(f.cert), "client_cert is no file")


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_named_at_once(files, kind):
    spoil, expected = WRONG[kind]
    spoil(files)
    with pytest.raises(ConfigurationError, match=f"^({expected})") as caught:
        files.transport()
    assert not re.search("; (client|ca)_", str(caught.value)), "one thing is wrong"


@pytest.mark.parametrize("kind", WRONG)
def test_the_same_is_named_by_the_variable_it_came_from(files, kind):
    spoil, expected = WRONG[kind]
    spoil(files)
    expected = re.sub("(client|ca)_[a-z_]+", lambda found: f"PERMATA_{found[0].upper()}", expected)
    with pytest.raises(ConfigurationError, match=f"^({expected})"):
        Transport.from_env(files.environment())


def test_a_wrong_password_is_named_and_not_shown(files, secrets):
    locked(files)
    wrong = PASSWORD.swapcase()
    secrets.add(wrong)
    with pytest.raises(ConfigurationError, match="client_key_password does not open") as caught:
        files.transport(client_key_password=wrong)
    assert secrets.found_in_error(caught.value) == set()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"client_key": "x"}, "client_key needs client_cert"),
        ({"client_key_password": PASSWORD}, "client_key_password needs client_cert"),
        ({"client_cert": ""}, "client_cert must be the path"),
        ({"client_cert": b"x"}, "client_cert must be the path"),
        ({"client_cert": 7}, "client_cert must be the path"),
        ({"client_cert": "x\0"}, "client_cert must be the path"),
        ({"client_cert": ("a", "b")}, "client_cert must be the path"),
        ({"ca_bundle": True}, "ca_bundle must be the path"),
        ({"ca_bundle": False}, "ca_bundle must be the path"),
        ({"client_cert": "x", "client_key_password": ""}, "client_key_password must be a str"),
        ({"client_cert": "x", "client_key_password": "p" * 1025}, "client_key_password must be a"),
        *[
            ({"proxy": url}, "proxy must be http://host:port")
            for url in (
                "",
                "proxy.invalid",
                "proxy.invalid:3128",
                "ftp://proxy.invalid",
                "http://",
                "http://:3128",
                f"http://user:{PROXY_PASSWORD}@",
                f"http://user:{PROXY_PASSWORD}@host:99999",
                f"http://user:{PROXY_PASSWORD}#@host:1",
                f"http://user:{PROXY_PASSWORD}/@host:1",
                "http://host:1/path",
                "http://host:1?query",
                "http://a b:1",
                "http://[::1:3128",
                b"http://host:1",
                7,
            )
        ],
    ],
)
def test_a_wrong_argument_is_named_and_not_shown(arguments, expected, secrets):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        Transport(**arguments)
    assert secrets.found_in_error(caught.value) == set()


def test_one_error_names_all_that_is_wrong(files, secrets):
    environment = {
        "X_CLIENT_CERT": str(files.cert) + "-missing",
        "X_CA_BUNDLE": "/nonexistent",
        "X_PROXY": f"user:{PROXY_PASSWORD}@host",
        "X_CLIENT_KEY_PASSWORD": PASSWORD * 100,
    }
    with pytest.raises(ConfigurationError) as caught:
        Transport.from_env(environment, prefix="X_")
    assert all(name in str(caught.value) for name in environment)
    assert secrets.found_in_error(caught.value) == set()


def test_variables_that_are_blank_are_not_set(files):
    blank = dict.fromkeys([*files.environment(), "PERMATA_PROXY"], " ")
    assert repr(Transport.from_env(blank)) == repr(Transport.from_env({})) == "Transport()"


def test_a_variable_is_read_without_the_space_around_it(server, files):
    environment = {name: f" {value}\n" for name, value in files.environment().items()}
    with client(server, Transport.from_env(environment)) as own:
        own.login()
    assert server.clients == ["one"]


def test_from_env_reads_the_environment(server, files, monkeypatch):
    files.renew("locked", password=PASSWORD)
    for name, value in files.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PERMATA_CLIENT_KEY_PASSWORD", PASSWORD)
    with client(server, Transport.from_env()) as own:
        own.login()
    assert server.clients == ["locked"]


def test_its_repr_shows_no_secret_and_it_is_not_pickled(files, secrets):
    files.renew("locked", password=PASSWORD)
    proxy = f"http://user:{PROXY_PASSWORD}@proxy.invalid:3128"
    transport = files.transport(proxy=proxy, client_key_password=PASSWORD)
    assert secrets.found_in(repr(transport)) == set()
    assert "proxy.invalid:3128" in repr(transport)
    assert copy.copy(transport) is copy.deepcopy(transport) is transport
    for value in (transport, transport.session()):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value)


def test_it_says_when_the_certificate_expires(files):
    assert Transport().expires_at is None
    files.renew("long", days=100)
    left = files.transport().expires_at.timestamp() - time.time()
    assert 99 * 86400 < left < 101 * 86400
    files.renew("centuries", days=36525)  # GeneralizedTime
    assert files.transport().expires_at.year > 2100


@pytest.mark.parametrize("transport", ["http://proxy:1", Transport, object(), {}, False])
def test_what_is_no_transport_is_refused(transport):
    with pytest.raises(ConfigurationError, match="transport must be a Transport"):
        LoginClient(credentials(), transport=transport)
    with pytest.raises(ConfigurationError, match="transport must be a Transport"):
        LoginHandler(credentials(), transport=transport)


def test_a_transport_beside_a_session_or_a_client_is_refused(make_handler):
    transport = Transport()
    with requests.Session() as session:
        with pytest.raises(ConfigurationError, match="transport= and session="):
            LoginClient(credentials(), session=session, transport=transport)
        handler = make_handler(credentials())
        with pytest.raises(ConfigurationError, match="transport= and session="):
            CallbackStatusClient(handler, "https://x/", session=session, transport=transport)
    with pytest.raises(ConfigurationError, match="transport= and client="):
        LoginHandler(credentials(), client=LoginClient(credentials()), transport=transport)
    with pytest.raises(ConfigurationError, match="session must be"):
        transport.mount(requests.Session)


# Files that change under connections that live.


def test_new_connections_use_a_new_pair_and_idle_old_ones_are_closed(server, files, caplog):
    with client(server, files.transport()) as own:
        own.login()
        own.login()
        assert (server.connections, server.clients) == (1, ["one", "one"])
        files.renew("two")
        own.login()
        own.login()
        assert (server.connections, server.clients) == (2, ["one", "one", "two", "two"])
    server.wait_until_closed()
    assert warnings(caplog) == []


def test_all_idle_connections_are_closed_when_one_call_has_seen_the_change(server, files):
    transport = files.transport()
    with transport.session(pool_size=8) as session:
        gate = threading.Barrier(5)

        def get():
            with session.get(server.url, stream=True) as response:
                gate.wait(20)
                return response.content

        assert len(together(5, get)) == 5
        assert server.connections == 5
        with session.get(server.url, stream=True) as under_way:  # it keeps the old pool alive
            files.renew("two")
            session.get(server.url)
            # Not by the end of their pool, nor by the server's own timeout.
            assert under_way.raw._pool.pool.empty()
            until(lambda: len(server._served) == 4, what="the idle ones are closed")
            assert under_way.json()
        del under_way
        gc.collect()
        until(lambda: len(server._served) == 5, what="that of the last call is closed")
        session.get(server.url)
        assert (server.connections, server.clients[-2:]) == (6, ["two", "two"])


def test_a_call_that_is_under_way_ends_as_it_began(authority, files):
    answered, go_on = threading.Event(), threading.Event()

    def handle(sock):
        name = client_name(sock)
        while request := read_request(sock):
            if b"slow" in request:
                answered.set()
                assert go_on.wait(20)
            sock.sendall(reply(name.encode()))

    context = authority.context(clients=authority)
    with RawServer(handle, context=context) as server, files.transport().session() as session:
        slow = Call(session.get, f"{server.url}/slow")
        assert answered.wait(20)
        files.renew("two")
        assert session.get(server.url).content == b"two"
        go_on.set()
        assert slow.value().content == b"one"
        assert session.get(server.url).content == b"two"
        assert server.connections == 2, "that of the slow call is not used again"


def test_one_context_is_made_for_a_change_however_many_connections(closing, files, monkeypatch):
    made = []
    original = ssl.SSLContext.load_cert_chain

    def counting(self, *args, **kwargs):
        made.append(threading.get_ident())
        return original(self, *args, **kwargs)

    transport = files.transport()
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", counting)
    with transport.session(pool_size=16) as session:
        for name in ("one", "two"):
            if name == "two":
                files.renew(name)
            calls = together(16, lambda: session.get(closing.url))
            assert [call.value().status_code for call in calls] == [200] * 16
            session.get(closing.url)
            assert closing.clients[-1] == name
    assert len(made) == 1


def test_a_context_in_use_is_never_changed(closing, files, monkeypatch):
    changed = []
    transport = files.transport()
    for name in ("set_alpn_protocols", "load_verify_locations", "load_cert_chain"):
        monkeypatch.setattr(ssl.SSLContext, name, lambda *a, name=name, **k: changed.append(name))
    with transport.session() as session:
        for _ in range(2):
            session.get(closing.url)
    assert closing.connections == 2
    assert changed == []


def test_files_that_change_while_they_are_read_are_read_again(server, files, monkeypatch):
    original = ssl.SSLContext.load_cert_chain
    renewals = ["three", "two"]

    def load(self, *args, **kwargs):
        loaded = original(self, *args, **kwargs)
        if renewals:
            files.renew(renewals.pop())
        return loaded

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    with client(server, files.transport()) as own:
        for _ in range(3):
            own.login()
    assert server.clients == ["two", "three", "three"]


HALVES = {
    "certificate first": ("cert", "key"),
    "key first": ("key", "cert"),
}


@pytest.mark.parametrize("order", HALVES)
def test_half_a_pair_is_not_used(server, files, caplog, order):
    certificate, key = files.authority.client("two")
    new = {"cert": certificate, "key": key}
    first, second = HALVES[order]
    with client(server, files.transport()) as own:
        own.login()
        getattr(files, first).write_bytes(new[first])
        for _ in range(3):
            own.login()
        assert server.connections == 1, "the old connection lives"
        own.close()
        own.login()
        assert server.clients == ["one"] * 5
        (warning,) = warnings(caplog)
        assert "does not belong to the client certificate" in warning
        getattr(files, second).write_bytes(new[second])
        own.login()
    assert server.clients[-1] == "two"
    assert len(warnings(caplog)) == 1


LATER = {k: v for k, v in WRONG.items() if k != "key of another"}


@pytest.mark.parametrize("kind", LATER)
def test_files_that_go_wrong_leave_the_old_ones_in_use(server, files, caplog, kind):
    spoil, expected = WRONG[kind]
    with client(server, files.transport()) as own:
        own.login()
        spoil(files)
        for _ in range(3):
            own.login()
        own.close()  # so that a new connection is made
        own.login()
        assert set(server.clients) == {"one"}
        (warning,) = warnings(caplog)
        assert expected.split("|")[0].split()[0] in warning
        for path in (files.cert, files.key, files.bundle):
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
        files.bundle.write_bytes(files.authority.bundle.read_bytes())
        files.renew("mended")
        own.login()
    assert server.clients[-1] == "mended"
    assert len(warnings(caplog)) == 1


@posix
def test_a_lost_permission_leaves_the_old_ones_in_use(server, files, caplog):
    with client(server, files.transport()) as own:
        own.login()
        files.key.chmod(0)
        with file_modes_count():
            own.login()
        assert "client_key cannot be read" in warnings(caplog)[0]
        files.key.chmod(0o600)
        own.login()
    assert server.clients == ["one"] * 3


def test_each_change_of_what_is_wrong_is_one_warning(server, files, caplog):
    with client(server, files.transport()) as own:
        for spoil in (
            lambda: None,
            files.key.unlink,
            lambda: files.key.write_bytes(b"half"),
            files.key.unlink,
        ):
            spoil()
            own.login()
            own.login()
    found = warnings(caplog)
    assert [("cannot be read" in text, "no private key" in text) for text in found] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_a_certificate_that_expires_in_use_stays_and_is_one_warning(
    server, files, caplog, monkeypatch
):
    with client(server, files.transport()) as own:
        own.login()
        wall = time.time
        monkeypatch.setattr(_clock, "wall", lambda: wall() + 2 * 86400)
        for _ in range(3):
            own.login()
        assert len(warnings(caplog)) == 1
        assert "client_cert has expired" in warnings(caplog)[0]
        files.renew("long", days=9)
        own.login()
    assert server.clients == ["one"] * 4 + ["long"]


def test_a_certificate_is_used_once_its_time_has_come(server, files):
    with client(server, files.transport()) as own:
        own.login()
        files.renew("soon", begins=0.00002)  # 1.7 s, which the server's own clock has to reach
        own.login()

        def is_used():
            own.login()
            return server.clients[-1] == "soon"

        until(is_used)
    assert server.clients[0] == "one"
    assert server.clients[-1] == "soon"


@posix
def test_a_mounted_secret_is_swapped_by_its_link(server, files, tmp_path):
    """As Kubernetes does it: files are links into ``..data``, which is a link that is replaced."""
    for version in ("one", "two"):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        certificate, key = files.authority.client(version)
        (folder / "tls.crt").write_bytes(certificate)
        (folder / "tls.key").write_bytes(key)
    data = tmp_path / "..data"
    data.symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    transport = Transport(tmp_path / "tls.crt", tmp_path / "tls.key", files.bundle)
    with client(server, transport) as own:
        own.login()
        (tmp_path / "..tmp").symlink_to("..two")
        (tmp_path / "..tmp").replace(data)
        own.login()
    assert server.clients == ["one", "two"]


def test_a_file_of_the_same_time_is_seen_to_be_another(server, files):
    before = files.cert.stat()
    certificate, key = files.authority.client("two")
    with client(server, files.transport()) as own:
        own.login()
        for path, content in ((files.cert, certificate), (files.key, key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
            new.replace(path)
        own.login()
    assert server.clients == ["one", "two"]


# Authorities.


@pytest.fixture
def other(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    return Authority(folder)


def test_a_roll_over_of_the_authority_fails_no_login(authority, other, files):
    with Bank(authority) as server, client(server, files.transport()) as own:
        own.login()
        files.bundle.write_bytes(authority.bundle.read_bytes() + other.bundle.read_bytes())
        own.login()
        server.use(other.context(clients=authority))
        own.close()
        own.login()
        files.bundle.write_bytes(other.bundle.read_bytes())
        own.login()
        assert (server.connections, server.clients) == (4, ["one"] * 4)
        server.use(authority.context(clients=authority))
        own.close()
        with pytest.raises(CertificateError, match="PERMATA_CA_BUNDLE") as caught:
            own.login()
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_bundle_is_all_that_is_trusted_however_many_connections(closing, files):
    transport = files.transport()
    with transport.session() as session:
        for _ in range(3):
            session.get(closing.url)
    assert closing.connections == 3
    context = transport._files.current().context
    assert context.cert_store_stats()["x509_ca"] == 1


def test_a_folder_of_authorities_is_a_bundle(server, files, tmp_path):
    folder = tmp_path / "authorities"
    folder.mkdir()
    transport = Transport(files.cert, files.key, folder)
    with client(server, transport) as own, pytest.raises(CertificateError):
        own.login()


def test_trust_is_as_requests_has_it_without_a_bundle(server, files, other, monkeypatch):
    transport = Transport(files.cert, files.key)
    with client(server, transport) as own:
        with pytest.raises(CertificateError):
            own.login()
        monkeypatch.setenv("CURL_CA_BUNDLE", str(files.bundle))
        own.login()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.bundle))
        with pytest.raises(CertificateError, match="REQUESTS_CA_BUNDLE"):
            own.login()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    with client(server, transport) as own, pytest.raises(CertificateError):
        own.login()  # the last one that could be read stays
    with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE cannot be read"):
        Transport(files.cert, files.key)


@pytest.mark.parametrize("kind", ["session", "call"])
def test_verify_and_cert_of_a_session_or_a_call_take_no_part(server, files, other, kind):
    given = {"verify": str(other.bundle), "cert": "/nonexistent/client.pem"}
    with files.transport().session() as session:
        if kind == "session":
            session.verify, session.cert = given["verify"], given["cert"]
        assert session.get(server.url, **(given if kind == "call" else {})).status_code == 200
    assert server.clients == ["one"]


@pytest.mark.filterwarnings("error")
def test_a_certificate_is_verified_though_a_session_would_not(authority, files, other):
    files.bundle.write_bytes(other.bundle.read_bytes())
    with Bank(authority) as server, files.transport().session() as session:
        session.verify = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(server.url)
        assert server.clients == []


# Proxies.


def through(proxy, credentials=f"user:{PROXY_PASSWORD}@"):
    return f"{'https' if proxy.url.startswith('https') else 'http'}://{credentials}127.0.0.1:{proxy.port}"


def test_a_login_goes_through_a_proxy_with_a_password(server, files, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    with (
        Proxy(credentials=f"user:{PROXY_PASSWORD}") as proxy,
        client(server, files.transport(proxy=through(proxy))) as own,
    ):
        own.login()
        own.login()
        assert (server.clients, server.connections) == (["one", "one"], 1)
        files.renew("two")
        own.login()
        assert (server.clients[-1], server.connections) == ("two", 2)
        tunnel = f"CONNECT 127.0.0.1:{server.port} "
        assert [line.startswith(tunnel) for line in proxy.requests] == [True, True]


def test_a_password_of_a_proxy_may_be_percent_encoded(server, files, secrets):
    secrets.add("p:@/word", "p%3A%40%2Fword")
    with (
        Proxy(credentials="user:p:@/word") as proxy,
        client(server, files.transport(proxy=through(proxy, "user:p%3A%40%2Fword@"))) as own,
    ):
        own.login()
    assert server.clients == ["one"]


def test_a_proxy_that_refuses_is_an_error_that_names_the_setting(server, files, secrets):
    with (
        Proxy(credentials="user:another") as proxy,
        client(server, files.transport(proxy=through(proxy))) as own,
    ):
        with pytest.raises(TransportError, match=r"HTTP 407.*PERMATA_PROXY") as caught:
            own.login()
        assert not caught.value.retryable
        assert f"127.0.0.1:{proxy.port}" in str(caught.value)
    assert secrets.found_in_error(caught.value) == set()
    assert server.connections == 0


def test_a_proxy_that_is_not_there_is_an_error_that_names_the_setting(server, files, secrets):
    transport = files.transport(proxy=f"http://user:{PROXY_PASSWORD}@127.0.0.1:1")
    with (
        client(server, transport) as own,
        pytest.raises(TransportError, match=r"the proxy 127\.0\.0\.1:1.*PERMATA_PROXY") as caught,
    ):
        own.login()
    assert secrets.found_in_error(caught.value) == set()


def test_a_callers_own_session_shows_no_password_of_a_proxy(server, files, secrets):
    transport = files.transport(proxy=f"http://user:{PROXY_PASSWORD}@127.0.0.1:1")
    with transport.session() as own, pytest.raises(requests.exceptions.ProxyError) as caught:
        own.get(server.url)
    assert secrets.found_in(str(caught.value), repr(caught.value)) == set()


def test_a_plain_call_goes_through_the_proxy_too():
    with RawServer(always(reply(b"fine"))) as server, Proxy() as proxy:
        with Transport(proxy=through(proxy)).session() as session:
            assert session.get(f"{server.url}/x").content == b"fine"
        assert proxy.requests == [f"GET {server.url}/x HTTP/1.1"]


def test_without_a_proxy_of_its_own_the_environments_is_used(server, files, monkeypatch):
    with Proxy() as proxy, client(server, files.transport()) as own:
        own.login()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        own.login()
        assert len(proxy.requests) == 1
    assert server.clients == ["one", "one"]


def test_a_proxy_by_tls_is_trusted_by_the_bundle_and_shown_no_certificate(authority, server, files):
    seen = []
    context = authority.context()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(authority.bundle)

    class Watching(Proxy):
        def _proxy(self, sock):
            seen.append(client_name(sock))
            super()._proxy(sock)

    with (
        Watching(context=context) as proxy,
        client(server, files.transport(proxy=through(proxy))) as own,
    ):
        own.login()
        own.login()
    assert server.clients == ["one", "one"]
    assert seen == [None]


@pytest.mark.parametrize("proxy", ["http://", "http://:1", "127.0.0.1:1"])
def test_a_malformed_proxy_of_the_environment_is_an_error_that_names_it(
    server, files, monkeypatch, proxy
):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    errors = (TransportError, ConfigurationError)
    with client(server, files.transport()) as own, pytest.raises(errors, match="HTTPS_PROXY"):
        own.login()


# What else goes by it.


@pytest.fixture
def front(bank, authority):
    """A server that demands a client certificate, before the bank; counts its connections."""
    with Forwarder(urlsplit(bank.url).port, context=authority.context(clients=authority)) as front:
        yield front


def environment(front, bank, files):
    return {
        **bank.environment(),
        **files.environment(),
        "PERMATA_TOKEN_URL": front.token_url,
        "PERMATA_CALLBACK_STATUS_URL": f"{front.url}/apiservice/callback",
    }


def scheme(front, bank):
    return PermataCredentials.from_env({**bank.environment(), "PERMATA_TOKEN_URL": front.token_url})


REJECTED = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


def test_callers_have_sessions_whose_calls_are_sent_by_it(front, bank, files, make_handler):
    handler = make_handler(scheme(front, bank), transport=files.transport())
    with handler.transport.session() as session:
        session.auth = PermataAuth(handler)
        bank.fail_next(1, "json", body=REJECTED, status=403, on="calls")
        for _ in range(2):
            response = session.post(f"{front.url}/apiservice/x", json={})
            assert response.status_code == 200, response.text
            files.renew("two")
    assert bank.logins == 2
    assert bank.calls_by_status == {"403": 1, "200": 2}
    assert front.connections == 3


def test_a_session_of_the_callers_own_is_joined_with_it(server, files):
    class Given(requests.Session):
        pass

    with Given() as session:
        session.headers["X-Example"] = "kept"
        assert files.transport().mount(session) is session
        with client(server, session=session) as own:
            own.login()
            files.renew("two")
            own.login()
    assert server.clients == ["one", "two"]


def test_a_session_joined_with_it_still_sends_one_request_an_attempt(server, files):
    class Looping(requests.Session):
        def send(self, *args, **kwargs):
            super().send(*args, **kwargs)
            return super().send(*args, **kwargs)

    with (
        files.transport().mount(Looping()) as session,
        client(server, session=session) as own,
        pytest.raises(ConfigurationError, match="sends a request again by itself"),
    ):
        own.login()
    assert server.clients == ["one"]


def test_a_handler_lends_its_transport_to_callback_statuses(front, bank, files, make_handler):
    transport = files.transport()
    url = f"{front.url}/apiservice/callback"
    for handler in (
        make_handler(scheme(front, bank), transport=transport),
        make_handler(
            scheme(front, bank), client=LoginClient(scheme(front, bank), transport=transport)
        ),
    ):
        assert handler.transport is transport
        with CallbackStatusClient(handler, url) as statuses:
            assert statuses.send({"a": 1}).http_status == 200
    handler = make_handler(bank.credentials())
    assert handler.transport is None
    with CallbackStatusClient(handler, url, transport=transport) as statuses:
        assert statuses.send({"a": 1}).http_status == 200


def test_a_rotation_under_a_handler_fails_no_call(front, bank, files, make_handler):
    """The certificate is renewed while sixteen threads call, and the token is refreshed."""
    handler = make_handler(scheme(front, bank), transport=files.transport())
    rounds = iter(range(10_000))
    with handler.transport.session(pool_size=16) as session:
        session.auth = PermataAuth(handler)

        def call():
            for _ in range(10):
                if next(rounds) % 20 == 5:
                    files.renew("next")
                if next(rounds) % 20 == 6:
                    handler.refresh()
                assert session.post(f"{front.url}/apiservice/x", json={}).status_code == 200

        for each in together(8, call):
            each.value()
    assert handler.info().failed_logins == 0


def test_a_dripping_server_is_held_to_the_deadline(authority, files):
    def drip(sock):
        read_request(sock)
        while server.wait(0.02):
            sock.sendall(b"H")

    context = authority.context(clients=authority)
    with RawServer(drip, context=context) as server:
        policy = RetryPolicy(attempts=1, timeout=0.5)
        own = LoginClient(
            credentials(token_url=server.token_url), retry=policy, transport=files.transport()
        )
        with own, pytest.raises(RequestTimeoutError):
            own.login()


def test_it_holds_no_connection_after_close(server, files):
    with client(server, files.transport()) as own:
        own.login()
    server.wait_until_closed()
    own.login()
    own.close()
    assert server.clients == ["one", "one"]


# Forks.

FORK = """
    import os, sys
    from permata_auth import LoginClient, PermataCredentials, Transport

    url, cert, key, bundle = sys.argv[1:]
    client = LoginClient(PermataCredentials(token_url=url, api_key="a", client_id="b",
                                            client_secret="c", static_key="d"),
                         transport=Transport(cert, key, bundle))

    def put(path):
        os.replace(path + ".new", path)

    def files():
        return len(os.listdir("/proc/self/fd"))

    client.login()
    opened = files()
    put(cert)
    child = os.fork()
    if child == 0:
        client.login()  # half a pair: by what the parent has loaded
        assert files() == opened, (files(), opened)
        put(key)
        client.login()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    client.login()
    os._exit(7)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_a_forked_child_has_its_own_connections_and_starts_with_what_its_parent_had(server, files):
    certificate, key = files.authority.client("two")
    Path(f"{files.cert}.new").write_bytes(certificate)
    Path(f"{files.key}.new").write_bytes(key)
    ended = run(FORK, server.token_url, str(files.cert), str(files.key), str(files.bundle))
    assert (ended.status, ended.err) == (7, "")
    assert server.clients == ["one", "one", "two", "two"]
    assert server.connections == 4


GENERATIONS = """
    import os, sys
    from permata_auth import LoginClient, PermataCredentials, Transport

    url, cert, key, bundle = sys.argv[1:]
    transport = Transport(cert, key, bundle)
    client = LoginClient(PermataCredentials(token_url=url, api_key="a", client_id="b",
                                            client_secret="c", static_key="d"),
                         transport=transport)
    for generation in range(20):
        client.login()
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            client.login()
            os._exit(status)
    assert len(transport._files._inherited) <= 4
    os._exit(7)
"""


def test_a_chain_of_forks_disturbs_no_connection(server, files):
    ended = run(GENERATIONS, server.token_url, str(files.cert), str(files.key), str(files.bundle))
    assert (ended.status, ended.err) == (7, "")
    assert (server.connections, len(server.clients)) == (20, 40)


# Settings of applications, and the command line.


@pytest.fixture
def services():
    made = []

    def make(settings):
        made.append(Services(settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_an_applications_settings_say_how_to_connect(front, bank, files, services):
    given = environment(front, bank, files) | {
        "PERMATA_CLIENT_CERT": files.cert,  # paths, too
        "PERMATA_ALLOW_UNSIGNED_WEBHOOKS": "on",
    }
    app = services(given)
    assert app.session.post(f"{front.url}/apiservice/x", json={}).status_code == 200
    assert app.callback_status.send({"a": 1}).http_status == 200
    assert app.webhooks
    examination = app.examination()
    found = {each.name: each for each in examination.run()}
    assert examination.exit_code == 0, list(map(str, found.values()))
    assert "client certificate until" in found["configuration"].sentence


def test_a_password_may_come_from_a_file(front, bank, files, services, tmp_path):
    files.renew("locked", password=PASSWORD)
    with Proxy(credentials=f"user:{PROXY_PASSWORD}") as proxy:
        given = environment(front, bank, files)
        for name, text in (("CLIENT_KEY_PASSWORD", PASSWORD), ("PROXY", through(proxy))):
            path = tmp_path / name
            path.write_text(f"{text}\n")
            given[f"PERMATA_{name}_FILE"] = str(path)
        assert services(given).callback_status.send({"a": 1}).http_status == 200
        assert len(proxy.requests) == 2


def test_a_handler_that_is_given_says_how_to_connect(front, bank, files, make_handler):
    handler = make_handler(scheme(front, bank), transport=files.transport())
    app = Services({}, handler=handler)
    assert app.session.post(f"{front.url}/apiservice/x", json={}).status_code == 200
    assert [each.verdict for each in app.examination().run()].count("ok") == 5


def test_settings_that_are_not_set_leave_all_to_the_environment(bank, services, monkeypatch):
    app = services(bank.environment())
    assert app.handler.transport is None
    monkeypatch.setenv("PERMATA_PROXY", " ")
    assert services(bank.environment()).handler.transport is None


def test_a_wrong_setting_is_named_by_the_application(front, bank, files, services, secrets):
    for name, value, expected in [
        ("PERMATA_CLIENT_KEY", "/nonexistent", "PERMATA_CLIENT_KEY cannot be read"),
        ("PERMATA_CLIENT_KEY", 7, "PERMATA_CLIENT_KEY must be a str"),
        ("PERMATA_PROXY", f"user:{PROXY_PASSWORD}@x", "PERMATA_PROXY must be"),
        ("PERMATA_PROXY", 7, "PERMATA_PROXY must be a str"),
        ("PERMATA_PROXY_FILE", "/nonexistent", "PERMATA_PROXY_FILE"),
    ]:
        app = services(environment(front, bank, files) | {name: value})
        with pytest.raises(ConfigurationError, match=expected) as caught:
            _ = app.handler
        assert secrets.found_in_error(caught.value) == set()
        assert app.health()[0] == 503


def test_the_example_connects_as_the_environment_says(front, bank, files):
    example = Path(__file__).parents[1] / "examples" / "mutual_tls.py"
    with Proxy(credentials=f"user:{PROXY_PASSWORD}") as proxy:
        env = environment(front, bank, files) | {"PERMATA_PROXY": through(proxy)}
        ended = run(example.read_text(), env=env)
        assert (ended.status, ended.err) == (0, "")
        assert "'StatusCode': '00'" in ended.out
        assert len(proxy.requests) == 2, "the login and the call"


def test_the_command_line_connects_as_the_environment_says(front, bank, files, tmp_path):
    pytest.importorskip("rich")
    from click.testing import CliRunner

    from permata_auth.cli import cli

    receipt = tmp_path / "receipt.json"
    receipt.write_text("{}")
    with Proxy(credentials=f"user:{PROXY_PASSWORD}") as proxy:
        env = environment(front, bank, files) | {"PERMATA_PROXY": through(proxy)}
        for arguments in (
            ["token"],
            ["call", "POST", f"{front.url}/apiservice/x", "--data", "{}"],
            ["send-status", str(receipt)],
            ["doctor"],
        ):
            asked = len(proxy.requests)
            result = CliRunner().invoke(cli, arguments, env=env)
            assert result.exit_code == 0, result.output
            assert len(proxy.requests) > asked
            assert PROXY_PASSWORD not in result.output
        assert f"through the proxy 127.0.0.1:{proxy.port}" in result.output
        assert "client certificate until" in result.output
        files.key.unlink()
        result = CliRunner().invoke(cli, ["token"], env=env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "PERMATA_CLIENT_KEY cannot be read" in result.output
