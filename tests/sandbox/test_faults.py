"""Each fault as a raw client sees it, and the queue in which they wait."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time

import pytest

from permata_auth.sandbox import Sandbox
from permata_auth.sandbox.faults import FAULTS

from .client import CALLBACK_PATH, LOGIN_BODY, Client, call, login, login_headers

MIB = 2**20


def raw_login(bank) -> tuple[bytes, bool]:
    """Log in on a bare socket; return all that came and whether a TCP reset ended it."""
    host, _, port = bank.url.removeprefix("http://").rpartition(":")
    head = [f"POST /apiservice/oauth/token HTTP/1.1\r\nHost: {host}"]
    head += [f"{name}: {value}" for name, value in login_headers().items()]
    head += [f"Content-Length: {len(LOGIN_BODY)}\r\n\r\n"]
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall("\r\n".join(head).encode() + LOGIN_BODY)
        try:
            while piece := sock.recv(65536):
                received += piece
        except ConnectionResetError:
            return received, True
    return received, False


def test_status_gives_the_error_shape_of_the_bank(bank):
    bank.fail_next(3, status=503, retry_after=2)
    answers = [login(bank) for _ in range(3)]
    assert {answer.status for answer in answers} == {503}
    assert answers[0].headers["Retry-After"] == "2"
    assert answers[0].json() == {"ErrorCode": "503", "ErrorDescription": "Service Unavailable"}
    assert login(bank).status == 200
    assert (bank.logins, bank.login_attempts) == (1, 4)
    assert [request.reason for request in bank.requests] == ["fault: status"] * 3 + ["ok"]


@pytest.mark.parametrize(
    ("status", "on_login", "on_call"),
    [
        (400, "error", "ErrorCode"),
        (401, "error", "ErrorCode"),
        (403, "ErrorCode", "ErrorCode"),
        (429, "ErrorCode", "ErrorCode"),
        (500, "ErrorCode", "ErrorCode"),
    ],
)
def test_the_shape_of_a_status_depends_on_where_it_happens(bank, status, on_login, on_call):
    bank.fail_next(2, status=status)
    answers = login(bank), call(bank, "x")
    assert [answer.status for answer in answers] == [status, status]
    assert [next(iter(answer.json())) for answer in answers] == [on_login, on_call]


def test_status_takes_a_body_a_type_and_a_date_to_retry_after(bank):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    bank.fail_next(status=502, body="<p>é</p>", content_type="text/html", retry_after=date)
    answer = login(bank)
    assert (answer.status, answer.body) == (502, "<p>é</p>".encode())
    assert (answer.headers["Content-Type"], answer.headers["Retry-After"]) == ("text/html", date)


def test_a_204_has_no_body_and_keeps_the_connection(bank):
    bank.fail_next(status=204)
    with Client(bank) as client:
        answer = client.login()
        used = client.http.sock
        assert (answer.status, answer.body) == (204, b"")
        assert client.login().status == 200
        assert client.http.sock is used


def test_clock_says_that_the_timestamp_is_invalid(bank):
    bank.fail_next(fault="clock")
    answer = login(bank)
    assert answer.status == 403
    assert answer.json() == {"ErrorCode": "403", "ErrorDescription": "Invalid Timestamp Value"}


@pytest.mark.parametrize("status", [302, 307, 308])
def test_redirect(bank, status):
    bank.fail_next(fault="redirect", location="http://other.invalid/x", status=status)
    answer = login(bank)
    assert (answer.status, answer.headers["Location"]) == (status, "http://other.invalid/x")
    assert bank.logins == 0


def test_drop_closes_without_a_byte(bank):
    bank.fail_next(fault="drop")
    assert raw_login(bank) == (b"", False)
    assert (bank.logins, bank.requests[0].status) == (0, 0)


@pytest.mark.parametrize(
    ("at", "logins", "is_in_body"), [("start", 0, False), ("headers", 1, False), ("body", 1, True)]
)
def test_reset_breaks_the_connection_at_each_stage(bank, at, logins, is_in_body):
    bank.fail_next(fault="reset", at=at)
    received, is_reset = raw_login(bank)
    assert is_reset
    assert bool(received) == (at != "start")
    assert (b'{"access_token"' in received, received.endswith(b"}")) == (is_in_body, False)
    assert bank.logins == logins


def test_slow_waits_before_the_first_byte_after_the_work_is_done(bank):
    bank.fail_next(fault="slow", seconds=30)
    with Client(bank, timeout=0.3) as client, pytest.raises(TimeoutError):
        client.login()
    assert bank.logins == 1
    bank.fail_next(fault="slow", seconds=0.3)
    start = time.monotonic()
    assert login(bank).status == 200
    assert time.monotonic() - start >= 0.3


def test_latency_is_added_to_every_reply(bank):
    bank.latency = 0.2
    start = time.monotonic()
    token = login(bank).json()["access_token"]
    assert call(bank, token).status == 200
    assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize(("part", "at_once"), [("body", True), ("headers", False)])
def test_drip_sends_one_byte_at_a_time(bank, part, at_once):
    bank.fail_next(fault="drip", interval=0.05, part=part)
    with Client(bank, timeout=0.4) as client:
        client.http.request("POST", "/apiservice/oauth/token", LOGIN_BODY, login_headers())
        if at_once:
            response = client.http.getresponse()
            assert [len(response.read1(100)) for _ in range(2)] == [1, 1]
            response.close()
        else:
            assert len(client.http.sock.recv(100)) == 1
            assert len(client.http.sock.recv(100)) == 1
    bank.fail_next(fault="drip", interval=0.0, part=part)
    assert login(bank).json()["expires_in"] == 900


def test_headers_take_the_place_of_the_banks_own(bank):
    fields = {"Date": None, "Age": "120", "Content-Type": "text/plain"}
    bank.fail_next(fault="headers", fields=fields)
    answer = login(bank)
    assert (answer.status, answer.json()["expires_in"]) == (200, 900)
    assert (answer.headers["Date"], answer.headers["Age"]) == (None, "120")
    assert answer.headers["Content-Type"] == "text/plain"
    assert login(bank).headers["Date"] is not None


def test_truncated_announces_more_than_it_sends(bank):
    bank.fail_next(fault="truncated")
    with pytest.raises(http.client.IncompleteRead) as caught:
        login(bank)
    assert caught.value.partial.startswith(b'{"access_token"')
    assert caught.value.expected > 0


def test_huge_is_as_long_as_it_announces(bank):
    bank.fail_next(fault="huge", bytes=3 * MIB)
    answer = login(bank)
    assert len(answer.body) == int(answer.headers["Content-Length"]) >= 3 * MIB
    assert len(answer.json()["access_token"]) >= 3 * MIB


def test_a_client_that_leaves_a_huge_reply_does_no_harm(bank):
    bank.fail_next(fault="huge")
    with Client(bank) as client:
        client.http.request("POST", "/apiservice/oauth/token", LOGIN_BODY, login_headers())
        assert client.http.getresponse().read(10) == b'{"access_t'
    assert login(bank).status == 200


def test_a_gzip_bomb_is_small_on_the_wire(bank):
    bank.fail_next(fault="gzip_bomb", bytes=5 * MIB)
    answer = login(bank)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.body) < 20_000
    assert len(gzip.decompress(answer.body)) == 5 * MIB


def test_html_and_empty(bank):
    bank.fail_next(fault="html")
    bank.fail_next(fault="empty")
    page, nothing = login(bank), login(bank)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html")
    assert page.body.startswith(b"<!doctype html>")
    assert (nothing.status, nothing.body, nothing.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("body", [[], "abc", None, 7, {"access_token": "a\nb"}, {"expires_in": 1}])
@pytest.mark.parametrize("fault", ["json", "wrong_type"])
def test_json_answers_any_value(bank, fault, body):
    bank.fail_next(fault=fault, body=body)
    answer = login(bank)
    assert (answer.status, json.loads(answer.body)) == (200, body)
    assert bank.logins == 0


def test_json_answers_raw_text(bank):
    bank.fail_next(fault="json", raw='{"expires_in": NaN')
    assert login(bank).body == b'{"expires_in": NaN'


@pytest.mark.parametrize("value", ["900", 1e300, None, True, [], float("inf"), -1])
def test_json_replaces_fields_of_a_good_reply(bank, value):
    bank.fail_next(fault="json", json_fields={"expires_in": value})
    document = login(bank).json()
    assert document["expires_in"] == value
    assert call(bank, document["access_token"]).status == 200
    assert bank.logins == 1


def test_json_leaves_fields_out(bank):
    bank.fail_next(2, "json", drop_fields=("expires_in", "scope"))
    assert set(login(bank).json()) == {"access_token", "token_type"}
    refused = login(bank, API_Key="wrong")
    assert (refused.status, refused.json()["error"]) == (401, "invalid_client")


def test_encoding_uses_another_one_than_it_declares(bank):
    bank.fail_next(fault="encoding")
    answer = login(bank)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    with pytest.raises(UnicodeDecodeError):
        answer.body.decode("utf-8")
    assert json.loads(answer.body.decode("latin-1"))["note"] == "é"


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        ("nonsense", {}),
        ("status", {"status": 99}),
        ("status", {"statuss": 503}),
        ("status", {"on": "login"}),
        ("redirect", {}),
        ("redirect", {"location": "/x", "status": 200}),
        ("redirect", {"location": "/x\r\nSet-Cookie: a"}),
        ("reset", {"at": "end"}),
        ("slow", {"seconds": float("nan")}),
        ("slow", {"seconds": True}),
        ("drip", {"part": "tail"}),
        ("drip", {"interval": -1}),
        ("headers", {}),
        ("headers", {"fields": {"Date": "a\nb"}}),
        ("headers", {"fields": {"Dåte": "a"}}),
        ("huge", {"bytes": 0}),
        ("gzip_bomb", {"bytes": "1"}),
        ("json", {}),
        ("json", {"body": 1, "raw": "1"}),
        ("encoding", {"encoding": "klingon"}),
        ("encoding", {"encoding": "ascii"}),
    ],
)
def test_an_unknown_fault_or_argument_is_refused_at_once(fault, arguments):
    bank = Sandbox()
    with pytest.raises(ValueError, match=r"\w"):
        bank.fail_next(1, fault, **arguments)
    with pytest.raises(ValueError, match=r"\w"):
        bank.fail_for(1, fault, **arguments)


def test_bounds_are_checked():
    bank = Sandbox()
    with pytest.raises(ValueError, match="n must"):
        bank.fail_next(0)
    with pytest.raises(ValueError, match="n must"):
        bank.hold_next(0)
    with pytest.raises(ValueError, match="seconds must"):
        bank.fail_for(0)


def test_the_documentation_names_every_fault():
    import permata_auth.sandbox

    documented = permata_auth.sandbox.__doc__
    assert [name for name in FAULTS if f"\n{name} " not in documented] == []


def test_faults_wait_in_line_each_for_its_kind_of_request(bank):
    bank.fail_next(status=500, on="calls")
    bank.fail_next(status=501, on="token")
    bank.fail_next(status=502)
    with Client(bank) as client:
        assert [client.login().status for _ in range(3)] == [501, 502, 200]
        token = client.token()
        assert [client.call(token).status for _ in range(2)] == [500, 200]


def test_a_fault_for_a_while_ends_by_itself(bank):
    start = time.monotonic()
    bank.fail_for(1.0, status=503)
    while login(bank).status == 503:
        assert time.monotonic() < start + 20
    assert time.monotonic() - start >= 1.0
    assert bank.login_attempts >= 2


def test_a_slow_fault_for_a_while_has_its_own_seconds(bank):
    bank.fail_for(60, "slow", seconds=0.2)
    start = time.monotonic()
    assert [login(bank).status, login(bank).status] == [200, 200]
    assert time.monotonic() - start >= 0.4


def test_clear_faults_forgets_them(bank):
    bank.fail_next(5)
    bank.fail_for(60, "drop")
    bank.clear_faults()
    assert login(bank).status == 200


def test_faults_replace_the_delivery_or_only_its_answer(bank):
    token = login(bank).json()["access_token"]
    bank.fail_next(status=503)
    assert call(bank, token, path=CALLBACK_PATH).status == 503
    assert bank.deliveries == ()
    bank.fail_next(fault="truncated")
    with pytest.raises(http.client.IncompleteRead):
        call(bank, token, path=CALLBACK_PATH)
    assert bank.deliveries == (b"{}",)


def in_thread(function, *arguments) -> tuple[threading.Thread, list]:
    results: list = []

    def run():
        try:
            results.append(function(*arguments))
        except (OSError, http.client.HTTPException) as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_a_held_request_waits_unjudged_until_it_is_released(bank):
    gate = bank.hold_next(on="token")
    thread, results = in_thread(login, bank)
    assert gate.arrived.wait(30)
    assert (bank.login_attempts, bank.logins, bank.requests, results) == (1, 0, (), [])
    assert login(bank).status == 200
    bank.fail_next(status=418)
    gate.release()
    thread.join(30)
    assert results[0].status == 418


def test_a_gate_for_several_has_arrived_when_all_have(bank):
    with bank.hold_next(2) as gate:
        first = in_thread(login, bank)
        assert not gate.arrived.wait(0.2)
        second = in_thread(login, bank)
        assert gate.arrived.wait(30)
    for thread, results in (first, second):
        thread.join(30)
        assert results[0].status == 200


@pytest.mark.parametrize("close", ["stop", "go_down"])
def test_closing_the_bank_drops_held_requests_unjudged(close):
    with Sandbox() as bank:
        gate = bank.hold_next()
        thread, results = in_thread(login, bank)
        assert gate.arrived.wait(30)
        start = time.monotonic()
        getattr(bank, close)()
        assert time.monotonic() - start < 30
        thread.join(30)
        assert isinstance(results[0], (OSError, http.client.HTTPException))
        assert (bank.login_attempts, bank.logins) == (1, 0)


def test_clear_faults_releases_gates(bank):
    gate = bank.hold_next()
    thread, results = in_thread(login, bank)
    assert gate.arrived.wait(30)
    bank.clear_faults()
    thread.join(30)
    assert results[0].status == 200
