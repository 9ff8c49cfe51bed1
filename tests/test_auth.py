from __future__ import annotations

import io
import json
import os
import threading
import time
import urllib.request
from datetime import timedelta

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import ScriptedClient, credentials, token
from support.threads import PATIENCE, together

from permata_auth import (
    ConfigurationError,
    PermataAuth,
    SignatureError,
    TokenEndpointUnavailableError,
    sign_request,
)
from permata_auth.auth import _AuthorisedHeaders

PATH = "/apiservice/InquiryServices/BalanceInfo/inq"
SIGNED = {"authorization", "organizationname", "permata-timestamp", "permata-signature"}
REJECTED = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


@pytest.fixture
def handler(bank, make_handler):
    return make_handler(bank.credentials())


@pytest.fixture
def session(handler):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        yield session


@pytest.fixture
def url(bank):
    return bank.url + PATH


def calls_of(bank):
    return [request for request in bank.requests if not request.path.endswith("/token")]


def signed_headers(request):
    return SIGNED & {name.lower() for name in dict(request.headers)}


# The signed bytes


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"json": {"a b": ["c  d", "\t", 1.5, 10**40, None, "é€𝄞", "/"]}},
        {"json": {}},
        {"data": "text with ünicode and spaces"},
        {"data": b"\x00\xff \r\n\x0b"},
        {"data": {"name": "Kerry Fisher", "note": "a+b&c"}},
        {"data": bytearray(b"a bytearray")},
        {"data": memoryview(b"a memoryview")},
        {"data": ""},
        {"files": {"attachment": ("a.txt", b"a file in a form")}},
        {"json": {"a": 1}, "params": {"q": "a b"}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_the_bank_accepts_every_kind_of_body(session, url, method, arguments):
    reply = session.request(method, url, **arguments)
    assert reply.status_code == 200, reply.text
    assert reply.json()["bytes"] == len(reply.request.body or b"")


@pytest.mark.parametrize("canonicalizer", ["strip_all", "minify", "raw"])
def test_the_canonicalizer_may_be_overridden(make_bank, make_handler, canonicalizer):
    bank = make_bank(canonicalizer=canonicalizer)
    handler = make_handler(bank.credentials(canonicalizer="raw"))
    auth = PermataAuth(handler, canonicalizer=canonicalizer)
    reply = requests.post(bank.url + PATH, json={"name": "Kerry  Fisher"}, auth=auth, timeout=5)
    assert reply.status_code == 200


def test_a_file_is_sent_from_where_it_stands(session, url, tmp_path):
    path = tmp_path / "body.json"
    path.write_bytes(b'skipped {"name": "Kerry Fisher"}')
    with path.open("rb") as file:
        file.seek(8)
        reply = session.post(url, data=file)
    assert (reply.status_code, reply.json()["bytes"]) == (200, 24)
    assert "Transfer-Encoding" not in reply.request.headers


def test_an_empty_file_is_no_body(session, url):
    reply = session.post(url, data=io.BytesIO())
    assert (reply.status_code, reply.json()["bytes"]) == (200, 0)
    assert reply.request.headers["Content-Length"] == "0"


def test_a_file_goes_out_whole_a_second_time(session, bank, handler, url):
    handler.get_token()
    bank.revoke_all_tokens()
    assert session.post(url, data=io.BytesIO(b'{"a": 1}')).status_code == 200
    assert [call.body for call in calls_of(bank)] == [b'{"a": 1}'] * 2


def _pipe():
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize(
    "stream",
    [lambda: (b"x" for _ in range(3)), lambda: iter([b"x"]), lambda: io.StringIO("text"), _pipe],
    ids=["generator", "iterator", "text file", "pipe"],
)
def test_a_stream_is_refused_and_not_sent(session, bank, url, stream):
    body = stream()
    with pytest.raises(SignatureError, match="neither signed nor sent twice"):
        session.post(url, data=body)
    getattr(body, "close", int)()
    assert bank.requests == ()


@pytest.mark.parametrize("where", ["http://bank.invalid/x", "ftp://bank.invalid/x", "bank.invalid"])
def test_no_token_goes_where_it_could_be_read(session, handler, bank, where):
    with pytest.raises(SignatureError, match="no token is sent to this URL"):
        sign_request(handler, "GET", where)
    with pytest.raises((SignatureError, requests.RequestException)):
        session.get(where)
    assert bank.requests == ()


def test_other_clients_sign_by_a_function(bank, handler, url):
    body = json.dumps({"name": "Kerry Fisher"}).encode()
    request = urllib.request.Request(url, body, sign_request(handler, "POST", url, body))
    with urllib.request.urlopen(request, timeout=5) as reply:
        assert reply.status == 200


def test_only_bytes_are_signed(handler, url):
    with pytest.raises(SignatureError, match="only bytes"):
        sign_request(handler, "POST", url, "text")


@pytest.mark.parametrize(
    ("override", "canonicalizer"), [({}, "sort_keys"), ({"organization_name": None}, None)]
)
def test_what_cannot_sign_is_refused_at_once(make_handler, override, canonicalizer):
    handler = make_handler(credentials(**override), client=ScriptedClient())
    with pytest.raises(ConfigurationError):
        PermataAuth(handler, canonicalizer=canonicalizer)
    with pytest.raises(ConfigurationError) as caught:
        sign_request(handler, "GET", "https://bank.invalid/", canonicalizer=canonicalizer)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("handler", [None, "token", object()])
def test_a_handler_is_needed(handler):
    with pytest.raises(ConfigurationError):
        PermataAuth(handler)


# A rejected token


def test_a_rejected_token_is_replaced_once(session, bank, handler, url):
    rejected = handler.get_token()
    bank.revoke(rejected)
    began = time.monotonic()
    reply = session.post(url, json={"name": "Kerry Fisher"})
    assert timedelta(0) < reply.elapsed < timedelta(seconds=time.monotonic() - began)
    assert reply.status_code == 200
    assert [past.status_code for past in reply.history] == [403]
    first, second = calls_of(bank)
    assert bank.logins == 2
    assert first.headers["Authorization"] == f"Bearer {rejected}"
    assert (
        second.headers["Authorization"] == f"Bearer {handler.get_token()}" != f"Bearer {rejected}"
    )
    assert first.headers["permata-signature"] != second.headers["permata-signature"]


def test_a_401_counts_as_a_rejected_token(session, bank, url):
    bank.fail_next(1, status=401, on="calls")
    assert session.get(url).status_code == 200
    assert bank.logins == 2


def test_a_bank_that_goes_on_rejecting_is_asked_twice(session, bank, url):
    bank.fail_next(10, "json", body=REJECTED, status=403, on="calls")
    reply = session.post(url, json={})
    assert (reply.status_code, reply.json()) == (403, REJECTED)
    assert (len(calls_of(bank)), bank.logins) == (2, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_any_other_refusal_is_the_callers(make_bank, make_handler, stream):
    bank = make_bank(canonicalizer="raw")
    auth = PermataAuth(make_handler(bank.credentials(canonicalizer="strip_all")))
    with requests.post(
        bank.url + PATH, json={"a": "b c"}, auth=auth, stream=stream, timeout=5
    ) as reply:
        assert reply.status_code == 403
        body = b"".join(reply.iter_content(7))
    assert json.loads(body)["ErrorDescription"] == "Signature Not Valid"
    assert (len(calls_of(bank)), bank.logins) == (1, 1)


def test_fifty_rejections_at_once_make_one_login(session, bank, handler, url):
    rejected = handler.get_token()
    bank.revoke(rejected)
    gate = bank.hold_next(50, on="calls")
    replies = []

    def call():
        with requests.Session() as own:
            own.auth = session.auth
            replies.append(own.post(url, json={"name": "Kerry Fisher"}).status_code)

    releasing = threading.Thread(target=lambda: (gate.arrived.wait(PATIENCE), gate.release()))
    releasing.start()
    together(50, call)
    releasing.join(PATIENCE)
    assert replies == [200] * 50
    assert bank.calls_by_status == {"403": 50, "200": 50}
    assert bank.logins == 2


def test_a_straggler_makes_no_login(session, bank, handler, url):
    bank.revoke(handler.get_token())
    straggler = session.prepare_request(requests.Request("POST", url, json={}))
    assert session.post(url, json={}).status_code == 200
    assert bank.logins == 2
    reply = session.send(straggler)
    assert (reply.status_code, len(reply.history)) == (200, 1)
    assert bank.logins == 2


def test_a_prepared_request_may_be_sent_and_signed_again(session, bank, url):
    prepared = session.prepare_request(requests.Request("POST", url, json={"a": "b c"}))
    assert [session.send(prepared).status_code for _ in range(2)] == [200, 200]
    prepared.prepare_auth(session.auth)
    bank.fail_next(10, "json", body=REJECTED, status=403, on="calls")
    assert session.send(prepared).status_code == 403
    assert len(calls_of(bank)) == 4  # two sent before, this one, and its second try


def test_a_login_that_fails_is_raised_without_secrets(session, bank, handler, url, secrets):
    handler.get_token()
    bank.revoke_all_tokens()
    bank.fail_next(3, status=503, retry_after=0, on="token")
    with pytest.raises(TokenEndpointUnavailableError) as caught:
        session.post(url, json={})
    assert secrets.found_in(str(caught.value), repr(caught.value)) == set()


def test_signing_that_fails_shows_no_token(make_handler, secrets):
    client = ScriptedClient(token(value="example-token-that-must-not-show"))
    handler = make_handler(credentials(), client=client)
    secrets.add("example-token-that-must-not-show")
    with pytest.raises(ConfigurationError) as caught:
        sign_request(handler, "GET", "https://bank.invalid/", canonicalizer="sort_keys")
    assert secrets.found_in_error(caught.value) == set()


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_origin_gets_neither_bearer_nor_signature(session, bank, make_bank, url, status):
    elsewhere = make_bank()
    bank.fail_next(1, "redirect", location=elsewhere.url + PATH, status=status, on="calls")
    reply = session.post(url, json={"name": "Kerry Fisher"})
    (call,) = calls_of(elsewhere)
    assert signed_headers(call) == set()
    assert reply.status_code == 403  # which over there is answered with no token, either
    assert (elsewhere.logins, bank.logins) == (0, 1)


def test_another_origin_gets_nothing_after_a_rejected_token(session, bank, make_bank, url):
    elsewhere = make_bank()
    bank.fail_next(1, status=401, on="calls")
    bank.fail_next(1, "redirect", location=elsewhere.url + PATH, on="calls")
    session.post(url, json={})
    assert [signed_headers(call) for call in calls_of(elsewhere)] == [set()]
    assert len(calls_of(bank)) == 2


def test_another_origin_gets_nothing_after_a_redirect_within_the_first(
    session, bank, make_bank, url
):
    elsewhere = make_bank()
    bank.fail_next(1, "redirect", location="/apiservice/there", on="calls")
    bank.fail_next(1, "redirect", location=elsewhere.url + PATH, on="calls")
    session.post(url, json={})
    assert [signed_headers(call) for call in calls_of(elsewhere)] == [set()]
    assert [call.path for call in calls_of(bank)] == [PATH, "/apiservice/there"]


def test_a_redirect_that_comes_back_carries_nothing(session, bank, make_bank, url):
    elsewhere = make_bank()
    bank.fail_next(1, "redirect", location=elsewhere.url + PATH, on="calls")
    elsewhere.fail_next(1, "redirect", location=bank.url + "/apiservice/chosen/elsewhere")
    session.post(url, json={})
    assert [bool(signed_headers(call)) for call in calls_of(bank)] == [True, False]


def test_a_redirect_that_is_not_followed_is_ready_without_secrets(session, bank, make_bank, url):
    elsewhere = make_bank()
    bank.fail_next(1, "redirect", location=elsewhere.url + PATH, on="calls")
    reply = session.post(url, json={}, allow_redirects=False)
    assert reply.is_redirect
    assert signed_headers(reply.next) == set()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [b'{"name": "Kerry Fisher"}', None, "file"])
def test_a_redirect_within_the_origin_is_signed_anew(session, bank, url, status, body):
    data = io.BytesIO(b'{"a": "b c"}') if body == "file" else body
    bank.fail_next(1, "redirect", location="/apiservice/there?x=y", status=status, on="calls")
    reply = session.post(url, data=data)
    assert reply.status_code == 200, reply.text
    assert reply.json()["method"] == ("POST" if status in (307, 308) else "GET")
    assert [past.status_code for past in reply.history] == [status]


def test_a_token_rejected_after_a_redirect_is_replaced(session, bank, url):
    bank.fail_next(1, "redirect", location="/apiservice/there", on="calls")
    bank.fail_next(1, status=401, on="calls")
    assert session.post(url, json={}).status_code == 200
    assert bank.logins == 2


# Any body

_text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(' \t\n\r\v\f"\\/\0'))
_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers() | st.integers(min_value=10**30) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_the_bank_accepts_every_json_value(session, url):
    @settings(max_examples=200, deadline=None, database=None)
    @given(value=_values, is_compact=st.booleans(), is_ascii=st.booleans(), method=st.sampled_from(
        ["POST", "PUT", "GET"]))  # fmt: skip
    def check(value, is_compact, is_ascii, method):
        separators = (",", ":") if is_compact else None
        text = json.dumps(value, ensure_ascii=is_ascii, separators=separators)
        reply = session.request(method, url, data=text.encode())
        assert (reply.status_code, reply.json()["bytes"]) == (200, len(text.encode()))
        assert session.request(method, url, json=value).status_code == 200

    check()


@pytest.mark.parametrize("canonicalizer", ["strip_all", "minify", "raw"])
def test_the_bank_accepts_any_bytes(make_bank, make_handler, canonicalizer):
    bank = make_bank(canonicalizer=canonicalizer)
    auth = PermataAuth(make_handler(bank.credentials()), canonicalizer=canonicalizer)
    pieces = st.sampled_from([b'"', b"\\", b" ", b"\n", b"\x00", b"\xff", b"\x0b", b"{", b"a"])
    bodies = st.binary(max_size=200) | st.lists(pieces, max_size=40).map(b"".join)

    with requests.Session() as session:
        session.auth = auth

        @settings(max_examples=120, deadline=None, database=None)
        @given(body=bodies)
        def check(body):
            reply = session.post(bank.url + PATH, data=body)
            assert (reply.status_code, reply.json()["bytes"]) == (200, len(body))

        check()


# Responses and requests of others


@pytest.mark.parametrize("status", [301, 307])
def test_netrc_takes_no_bearers_place_at_a_redirect(
    session, bank, url, monkeypatch, tmp_path, status
):
    file = tmp_path / "netrc"
    file.write_text("default login example-netrc-user password example-netrc-word\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    session.trust_env = True
    for place in ("/apiservice/one", "/apiservice/two"):
        bank.fail_next(1, "redirect", location=place, status=status, on="calls")
    assert session.post(url, json={}).status_code == 200
    sent = [call.headers["Authorization"] for call in calls_of(bank)]
    assert len(sent) == 3
    assert all(each.startswith("Bearer ") for each in sent)


def test_only_the_authorization_of_a_followed_redirect_is_kept():
    headers = _AuthorisedHeaders({"Authorization": "Bearer x", "Accept": "a", "Cookie": "c"})
    for kept in (headers, headers.copy()):
        kept.update({"authorization": "Basic y", "Accept": "b", "Cookie": "d", "Zone": "e"})
        assert dict(kept) == {
            "Authorization": "Bearer x",
            "Accept": "b",
            "Cookie": "d",
            "Zone": "e",
        }


@pytest.mark.parametrize("where", ["elsewhere", "within"])
def test_a_prepared_request_stays_as_it_is_whatever_redirect_it_meets(
    session, bank, make_bank, url, handler, where
):
    target = make_bank().url + PATH if where == "elsewhere" else "/apiservice/there"
    prepared = session.prepare_request(requests.Request("POST", url, json={"a": 1}))
    headers, hooks = dict(prepared.headers), list(prepared.hooks["response"])
    for follow in (False, True):
        bank.fail_next(1, "redirect", location=target, status=307, on="calls")
        session.send(prepared, allow_redirects=follow)
        assert dict(prepared.headers) == headers
        assert prepared.hooks["response"] == hooks
    assert session.send(prepared).status_code == 200
    bank.revoke(handler.get_token())
    second = session.send(prepared)  # its hook is still there, too
    assert [past.status_code for past in second.history] == [403]


def test_a_rejection_out_of_a_cache_is_the_callers(bank, handler, url):
    requests_cache = pytest.importorskip("requests_cache")
    bank.fail_next(2, "json", body=REJECTED, status=403, on="calls")
    options = {"backend": "memory", "allowable_codes": (200, 403)}
    with requests_cache.CachedSession(**options) as cached:
        cached.trust_env = False
        cached.auth = PermataAuth(handler)
        replies = [cached.get(url) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [403, 403, 403]
        assert (len(calls_of(bank)), bank.logins) == (2, 2)
        cached.cache.clear()
        assert cached.get(url).status_code == 200
