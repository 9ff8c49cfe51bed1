"""SNAP over the wire: logins and calls of a handler, PermataAuth, sign_request, callbacks."""

from __future__ import annotations

import urllib.request

import pytest
import requests
from support.snap import SUCCESS, SnapBank, compact, credentials, expected_signature
from support.threads import PATIENCE, together
from support.wire import RawServer

from permata_auth import (
    CallbackStatusClient,
    ClockError,
    ConfigurationError,
    InvalidClientError,
    LoginClient,
    PermataAuth,
    RetryPolicy,
    TokenEndpointUnavailableError,
    sign_request,
)
from permata_auth.schemes.canonical import minify

PATH = "/snap/v1.0/balance-inquiry"
REJECTED = ("401 Unauthorized", {"responseCode": "4011101", "responseMessage": "Invalid Token"})
SIGNATURE = (
    "401 Unauthorized",
    {"responseCode": "4011100", "responseMessage": "Unauthorized. [Signature]"},
)
ADDED = {
    "authorization",
    "x-timestamp",
    "x-signature",
    "x-partner-id",
    "x-external-id",
    "channel-id",
}


@pytest.fixture
def snap_bank():
    with SnapBank() as bank:
        yield bank


@pytest.fixture
def session(snap_bank, make_handler):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(make_handler(snap_bank.credentials()))
        yield session


@pytest.fixture
def asymmetric(snap_bank, make_handler):
    scheme = snap_bank.credentials(transaction_signature="asymmetric", client_secret=None)
    return make_handler(scheme)


def post(session, bank, **arguments):
    arguments = arguments or {"json": {"partnerReferenceNo": "1"}}
    return session.post(bank.url + PATH, timeout=PATIENCE, **arguments)


def ids(bank):
    return [call.headers["x-external-id"] for call in bank.calls]


def test_a_call_logs_in_and_is_signed_over_the_bytes_that_are_sent(session, snap_bank):
    response = session.post(
        snap_bank.url + PATH,
        params={"b": "2 ä", "a": "/%2F"},
        json={"a": "b  c", "n": [1, 2]},
        timeout=PATIENCE,
    )
    assert response.json() == SUCCESS
    (call,) = snap_bank.calls
    assert b": " in call.body  # so that the signed bytes differ from the sent ones
    assert call.path == f"{PATH}?b=2+%C3%A4&a=%2F%252F"
    assert call.headers["x-signature"] == expected_signature(call, body=minify)
    assert call.headers["authorization"] == "Bearer example-snap-token-1"
    assert response.request.headers["X-EXTERNAL-ID"] == call.headers["x-external-id"]


@pytest.mark.parametrize(
    ("arguments", "content_type"),
    [
        ({"json": {}}, "application/json"),
        ({"data": b"{}"}, "application/json"),
        ({"data": "{}", "headers": {"Content-Type": "text/plain"}}, "application/json"),
        (
            {"data": b"{}", "headers": {"content-type": "application/json; charset=utf-8"}},
            "application/json",
        ),
        ({"data": b""}, None),
    ],
)
def test_the_content_type_has_no_charset(session, snap_bank, arguments, content_type):
    post(session, snap_bank, **arguments)
    (call,) = snap_bank.calls
    assert call.headers.get("content-type") == content_type


def test_many_calls_take_one_login_and_as_many_ids(session, snap_bank):
    for _ in range(5):
        post(session, snap_bank)
    calls = together(8, lambda: post(session, snap_bank).status_code)
    assert [call.result for call in calls] == [200] * 8
    assert snap_bank.logins == 1
    assert len(set(ids(snap_bank))) == len(snap_bank.calls) == 13


def test_a_rejected_token_is_replaced_and_the_call_sent_once_more(session, snap_bank):
    snap_bank.responses = [REJECTED]
    response = post(session, snap_bank)
    assert response.status_code == 200
    first, second = snap_bank.calls
    assert snap_bank.logins == 2
    assert first.headers["authorization"] == "Bearer example-snap-token-1"
    assert second.headers["authorization"] == "Bearer example-snap-token-2"
    assert first.headers["x-external-id"] != second.headers["x-external-id"]
    assert response.request.headers["X-EXTERNAL-ID"] == second.headers["x-external-id"]
    assert response.history[0].request.headers["X-EXTERNAL-ID"] == ids(snap_bank)[0]
    assert first.body == second.body  # the business reference stays
    for call in (first, second):
        assert call.headers["x-signature"] == expected_signature(call, body=minify)


def test_what_is_rejected_twice_is_the_callers(session, snap_bank):
    snap_bank.responses = [REJECTED, REJECTED]
    assert post(session, snap_bank).status_code == 401
    assert (snap_bank.logins, len(snap_bank.calls)) == (2, 2)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("401 Unauthorized", "4011100", "Unauthorized. [Signature]"),
        ("401 Unauthorized", "4011100", "Unauthorized. [Timestamp]"),
        ("401 Unauthorized", "4011102", "Invalid Customer Token"),
        ("403 Forbidden", "4031101", "Feature Not Allowed"),
        ("403 Forbidden", "4031104", "Activity Count Limit Exceeded"),
        ("409 Conflict", "4091100", "Conflict"),
        ("429 Too Many Requests", "4291100", "Too Many Requests"),
        ("500 Internal Server Error", "5001100", "General Error"),
        ("504 Gateway Timeout", "5041100", "Timeout"),
    ],
)
def test_nothing_else_is_sent_again_or_costs_a_login(session, snap_bank, status, code, message):
    answer = (status, {"responseCode": code, "responseMessage": message})
    for _ in range(6):
        snap_bank.responses = [answer]
        assert post(session, snap_bank).json()["responseCode"] == code
    assert (snap_bank.logins, len(snap_bank.calls)) == (1, 6)


def test_one_calls_headers_are_not_the_next_ones(session, snap_bank):
    given = {"X-DEVICE-ID": "example"}
    post(session, snap_bank, json={}, headers=given)
    assert given == {"X-DEVICE-ID": "example"}
    assert not ADDED & {name.lower() for name in session.headers}
    session.auth._handler.refresh()
    post(session, snap_bank)
    first, second = snap_bank.calls
    assert first.headers["x-device-id"] == "example"
    assert "x-device-id" not in second.headers
    assert second.headers["authorization"] == "Bearer example-snap-token-2"


def test_a_redirect_within_the_origin_is_signed_anew(session, snap_bank):
    snap_bank.responses = [("307 Temporary Redirect", {}, f"Location: {PATH}/other")]
    post(session, snap_bank)
    first, second = snap_bank.calls
    assert second.path == f"{PATH}/other"
    assert second.headers["x-signature"] == expected_signature(second, body=minify)
    assert first.headers["x-external-id"] != second.headers["x-external-id"]


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_a_redirect_to_another_origin_carries_nothing(kind, snap_bank, make_handler):
    handler = make_handler(
        snap_bank.credentials(transaction_signature=kind, origin="example.invalid")
    )
    with SnapBank() as other, requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        snap_bank.responses = [("307 Temporary Redirect", {}, f"Location: {other.url}{PATH}")]
        other.responses = [REJECTED]
        assert post(session, snap_bank).status_code == 401
        (call,) = other.requests
        assert not (ADDED | {"origin"}) & set(call.headers)
        assert call.body == snap_bank.calls[0].body


def test_sign_request_is_for_every_other_client(snap_bank, make_handler):
    handler = make_handler(snap_bank.credentials())
    url, body = f"{snap_bank.url}{PATH}?a=%2f", b'{ "a": "b c" }'
    for _ in range(2):
        headers = sign_request(handler, "POST", url, body)
        request = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 200
    first, second = snap_bank.calls
    assert first.headers["x-signature"] == expected_signature(first, body=minify)
    assert first.headers["content-type"] == "application/json"
    assert first.headers["x-external-id"] != second.headers["x-external-id"]
    assert snap_bank.logins == 1


# Calls that need no token.


def test_an_asymmetric_call_needs_no_login(asymmetric, snap_bank):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(asymmetric)
        assert post(session, snap_bank).status_code == 200
        assert "authorization" not in snap_bank.calls[0].headers
        # Nothing is sent again, and nothing that the caller adds is taken for a token of ours.
        snap_bank.responses = [REJECTED, REJECTED]
        assert post(session, snap_bank).status_code == 401
        theirs = {"Authorization": "Bearer example"}
        assert post(session, snap_bank, json={}, headers=theirs).status_code == 401
    headers = sign_request(asymmetric, "POST", snap_bank.url + PATH, b"{}")
    assert "Authorization" not in headers
    assert (snap_bank.logins, len(snap_bank.calls)) == (0, 3)
    assert len(set(ids(snap_bank))) == 3


def test_an_asymmetric_redirect_within_the_origin_is_signed_anew(asymmetric, snap_bank):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(asymmetric)
        snap_bank.responses = [("307 Temporary Redirect", {}, f"Location: {PATH}/other")]
        assert post(session, snap_bank).status_code == 200
    first, second = snap_bank.calls
    assert first.headers["x-signature"] != second.headers["x-signature"]
    assert first.headers["x-external-id"] != second.headers["x-external-id"]


def test_a_call_without_a_token_says_nothing_of_a_token(snap_bank, make_handler):
    handler = make_handler(snap_bank.credentials())
    for _ in range(2):
        assert handler.note_response("", 401, compact(REJECTED[1])) is False
        assert handler.get_token() == "example-snap-token-1"


def test_callbacks_need_no_login_either(asymmetric, snap_bank):
    snap_bank.responses = [REJECTED, ("503 Service Unavailable", {})]
    retry = RetryPolicy(wait_initial=0.0, wait_max=0.0)
    with CallbackStatusClient(asymmetric, snap_bank.url + PATH, retry=retry) as client:
        assert client.send({"a": 1}).http_status == 401
        assert client.send({"a": 1}).http_status == 200
    assert (snap_bank.logins, len(snap_bank.calls)) == (0, 3)
    assert len(set(ids(snap_bank))) == 3


def test_callbacks_replace_a_rejected_token(snap_bank, make_handler):
    snap_bank.responses = [REJECTED]
    handler = make_handler(snap_bank.credentials())
    with CallbackStatusClient(handler, snap_bank.url + PATH) as client:
        assert client.send({"a": 1}).http_status == 200
    assert (snap_bank.logins, len(set(ids(snap_bank)))) == (2, 2)


def test_without_a_channel_there_is_no_auth(snap_bank, make_handler):
    handler = make_handler(snap_bank.credentials(channel_id=None))
    with pytest.raises(ConfigurationError, match="channel_id"):
        PermataAuth(handler)
    assert handler.get_token() == "example-snap-token-1"


def test_making_an_auth_takes_no_id_of_the_callers(snap_bank, make_handler):
    made = []
    scheme = snap_bank.credentials(external_id=lambda: made.append(1) or f"{len(made):09d}")
    handler = make_handler(scheme)
    with requests.Session() as session:
        session.trust_env = False
        session.auth = PermataAuth(handler)
        assert made == []
        handler.get_token()
        assert made == []
        post(session, snap_bank)
    assert ids(snap_bank) == ["000000001"]


# Logins.


def test_a_token_is_used_for_its_life_but_not_longer(snap_bank, make_handler, clock):
    handler = make_handler(snap_bank.credentials())
    tokens = [handler.get_token() for _ in range(3)]
    assert handler.info().seconds_left == 900
    clock.advance(601)  # the refresh buffer of 300 s has begun
    assert handler.get_token() == "example-snap-token-2"
    assert set(tokens) == {"example-snap-token-1"}
    assert snap_bank.logins == 2


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        ("401 Unauthorized", "4017300", "Unauthorized. [Signature]", InvalidClientError),
        ("401 Unauthorized", "4017300", "Unauthorized. [Timestamp]", ClockError),
    ],
)
def test_a_refused_login_is_not_tried_again_at_once(
    snap_bank, make_handler, secrets, status, code, message, error
):
    snap_bank.refusal = (status, {"responseCode": code, "responseMessage": message})
    handler = make_handler(snap_bank.credentials())
    for _ in range(5):
        with pytest.raises(error) as caught:
            handler.get_token()
        assert f"{code}, {message}" in str(caught.value)
        assert not secrets.found_in_error(caught.value)
    assert snap_bank.logins == 1


def test_a_bank_that_is_down_is_tried_again(snap_bank, make_handler):
    snap_bank.refusal = ("503 Service Unavailable", {"responseCode": "5037300"})
    handler = make_handler(snap_bank.credentials())
    with pytest.raises(TokenEndpointUnavailableError, match="5037300"):
        handler.get_token()
    assert snap_bank.logins == 3


def test_errors_of_the_network_name_the_setting_of_the_url():
    with (
        RawServer(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server,
        LoginClient(credentials(token_url=f"https://127.0.0.1:{server.port}/")) as client,
        pytest.raises(ConfigurationError, match="scheme and port of PERMATA_SNAP_TOKEN_URL"),
    ):
        client.login(attempts=1)


@pytest.mark.parametrize("body", [{"responseCode": "4011101"}, compact({})])
def test_a_failure_within_a_success_is_the_callers(session, snap_bank, body):
    snap_bank.responses = [("200 OK", body)]
    assert post(session, snap_bank).status_code == 200
    assert (snap_bank.logins, len(snap_bank.calls)) == (1, 1)
