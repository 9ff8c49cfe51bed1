"""The promises of an authorised call: its signature, its bytes, the unread body."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import requests
from support.clients import ScriptedClient, credentials
from support.threads import Call
from support.wire import RawServer, read_request

from permata_auth import PermataAuth, PermataCredentials, SignatureError, sign_request


class Recording(PermataCredentials):
    """Credentials that list the calls they signed; the bank looks at the body alone."""

    signed: list[tuple[str, str, bytes]] = []  # noqa: RUF012 - cleared by each test

    def sign(self, token, method, url, body, *, canonicalizer=None):
        self.signed.append((method, url, body))
        return super().sign(token, method, url, body, canonicalizer=canonicalizer)


@pytest.fixture
def make_session(make_handler):
    sessions = []

    def make(scheme=None) -> requests.Session:
        handler = make_handler(scheme or credentials(), client=ScriptedClient())
        session = requests.Session()
        session.trust_env = False
        session.auth = PermataAuth(handler)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


def test_the_body_of_a_streamed_success_is_left_to_the_caller(make_session):
    """It has not even arrived when the call returns: one that read it would wait for ever."""
    go_on = threading.Event()

    def handle(sock):
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        go_on.wait(60)
        sock.sendall(b"other")

    with RawServer(handle) as server:
        call = Call(make_session().get, server.url, stream=True, timeout=60)
        try:
            answer = call.value()
        finally:
            go_on.set()
        assert answer.content == b"firstother"


def test_method_address_and_body_are_given_to_the_scheme(bank, make_session):
    given = bank.credentials()
    fields = ("token_url", "api_key", "client_id", "client_secret", "static_key")
    scheme = Recording(
        **{name: getattr(given, name) for name in fields},
        organization_name="example-organization",
    )
    session = make_session(scheme)
    Recording.signed.clear()
    session.put(f"{bank.url}/apiservice/x", params={"q": "a b"}, data=b"example")
    assert Recording.signed[0] == ("PUT", f"{bank.url}/apiservice/x?q=a+b", b"example")


class Unmeasured:
    """A body that can be read and rewound, and does not say how long it is."""

    def __iter__(self):
        return iter([self.read()])

    def seekable(self):
        return True

    def read(self):
        return b'{"a": 1}'


def test_a_body_that_does_not_say_its_length_is_sent_with_one(bank, make_handler):
    handler = make_handler(bank.credentials())
    answer = requests.post(
        f"{bank.url}/apiservice/x", data=Unmeasured(), auth=PermataAuth(handler), timeout=20
    )
    assert (answer.status_code, answer.json()["bytes"]) == (200, 8)
    assert answer.request.headers["Content-Length"] == "8"


def test_a_scheme_that_does_not_speak_of_plain_http_does_not_allow_it(make_handler):
    given = credentials()
    names = (
        "key",
        "default_lifetime",
        "token_request",
        "read_token_response",
        "read_error_response",
        "sign",
    )
    scheme = SimpleNamespace(
        **{name: getattr(given, name) for name in (*names, "is_token_rejected", "derive_key")}
    )
    client = ScriptedClient()
    handler = make_handler(scheme, client=client)
    with pytest.raises(SignatureError, match="no token is sent to this URL"):
        sign_request(handler, "GET", "http://bank.invalid/x")
    assert sign_request(handler, "GET", "https://bank.invalid/x")
    assert len(client.calls) == 1
