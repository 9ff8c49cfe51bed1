"""The faults, the gates and the pace of the bank work on its SNAP side as on the classic one."""

from __future__ import annotations

import http.client
import json
import threading

import pytest

from permata_auth.sandbox import Sandbox
from permata_auth.sandbox.faults import FAULTS

from .snap_client import SnapClient, call, login

WRONG_LOGINS = [{"X_CLIENT_KEY": "other"}, {"signed": "something else"}, {"X_SIGNATURE": "****"}]

# What replaces the bank's work, and the status that is answered.
INSTEAD = {
    "status": ({"status": 503}, 503),
    "clock": ({}, 401),
    "redirect": ({"location": "/elsewhere"}, 307),
    "huge": ({"bytes": 100_000}, 200),
    "gzip_bomb": ({"bytes": 100_000}, 200),
    "html": ({}, 200),
    "empty": ({"status": 200}, 200),
    "json": ({"body": {"accessToken": "x"}}, 200),
    "wrong_type": ({"raw": "[" * 1000}, 200),
}
# What spoils a response after the work, or breaks the connection.
BREAKING = {"drop": ({}, 0), "reset": ({"at": "body"}, 1), "truncated": ({}, 1)}
SLOWING = {"slow": {"seconds": 0.01}, "drip": {"interval": 0.0}, "encoding": {}}


def test_every_fault_is_tried_here():
    assert {*INSTEAD, *BREAKING, *SLOWING} == set(FAULTS)


@pytest.mark.parametrize("name", INSTEAD)
def test_a_fault_in_place_of_the_work(bank, name):
    arguments, status = INSTEAD[name]
    bank.fail_next(2, name, **arguments)
    assert [login(bank).status, call(bank, "x").status] == [status, status]
    assert (bank.logins, bank.login_attempts, bank.rejected_calls) == (0, 1, 0)
    assert login(bank).status == 200


@pytest.mark.parametrize("name", BREAKING)
def test_a_fault_that_breaks_the_connection(bank, name):
    arguments, logins = BREAKING[name]
    bank.fail_next(1, name, on="token", **arguments)
    with pytest.raises((OSError, http.client.HTTPException)):
        login(bank)
    assert bank.logins == logins


@pytest.mark.parametrize("name", SLOWING)
def test_a_fault_that_lets_the_work_be_done(bank, name):
    bank.fail_next(1, name, on="token", **SLOWING[name])
    answer = login(bank)
    token = json.loads(answer.body.decode("latin-1"))["accessToken"]
    assert call(bank, token).status == 200


def test_errors_of_faults_have_the_shape_of_the_dialect(bank):
    bank.fail_next(2, status=503, retry_after=3)
    answers = login(bank), call(bank, "x")
    assert [answer.json() for answer in answers] == [
        {"responseCode": "5037300", "responseMessage": "Service Unavailable"},
        {"responseCode": "5031100", "responseMessage": "Service Unavailable"},
    ]
    assert answers[0].headers["Retry-After"] == "3"
    bank.fail_next(fault="clock")
    assert login(bank).json() == {
        "responseCode": "4017300",
        "responseMessage": "Unauthorized. [Timestamp]",
    }


@pytest.mark.parametrize("value", ["900", 900, 1e300, None, True, [], -1, "0"])
def test_fields_of_a_token_response_can_be_replaced_or_left_out(bank, value):
    bank.fail_next(fault="json", json_fields={"expiresIn": value})
    assert login(bank).json()["expiresIn"] == value
    bank.fail_next(fault="json", drop_fields=("responseCode", "expiresIn"))
    assert set(login(bank).json()) == {"responseMessage", "accessToken", "tokenType"}


def test_gates_outages_and_latency(bank):
    results = []
    with bank.hold_next(on="token") as gate:
        thread = threading.Thread(target=lambda: results.append(login(bank).status))
        thread.start()
        assert gate.arrived.wait(10)
        assert (bank.login_attempts, bank.logins, results) == (1, 0, [])
    thread.join(10)
    assert results == [200]
    with bank.down(), pytest.raises(OSError, match="refused"):
        login(bank)
    bank.latency = 0.01
    assert login(bank).status == 200


@pytest.mark.parametrize("wrong", WRONG_LOGINS)
def test_refused_logins_lock_the_account(wrong):
    with Sandbox(lock_after=2) as bank, SnapClient(bank) as client:
        for left in (1, 0):
            assert client.login(**wrong).status == 401
            assert bank.is_locked == (left == 0)
        assert client.login().json() == {
            "responseCode": "4017300",
            "responseMessage": "Unauthorized. [Account locked]",
        }
        assert (bank.logins, bank.login_attempts, bank.refused_logins) == (0, 3, 3)
        bank.unlock()
        assert client.login().status == 200


def test_only_a_refusal_of_credentials_counts():
    with Sandbox(lock_after=1) as bank, SnapClient(bank) as client:
        for wrong in ({"Content_Type": "text/plain"}, {"at": "soon"}, {"body": b""}):
            assert client.login(**wrong).status == 400
        assert (bank.refused_logins, bank.is_locked) == (0, False)


def test_logins_beyond_the_limit_are_told_how_long_to_wait():
    with Sandbox(login_limit=1) as bank, SnapClient(bank) as client:
        assert client.login().status == 200
        limited = client.login()
        assert limited.json()["responseCode"] == "4297300"
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        assert (bank.logins, bank.limited_logins) == (1, 1)


def test_tokens_die_as_on_the_classic_side(bank):
    with SnapClient(bank) as client:
        first, second = client.token(), client.token()
        assert bank.revoke(first)
        assert [client.call(token).status for token in (first, second)] == [401, 200]
        bank.reject_tokens_for(60)
        assert client.call(second).json()["responseCode"] == "4011101"
        bank.reject_tokens_for(0)
        bank.reject_tokens = True
        assert client.call(second).status == 401
        bank.reject_tokens = False
        assert client.call(second).status == 200
        bank.single_token = True
        third = client.token()
        assert [client.call(token).status for token in (second, third)] == [401, 200]
        bank.revoke_all_tokens()
        assert client.call(third).status == 401
        bank.reuse_token = True
        tokens = {client.token() for _ in range(3)}
        assert len(tokens) == 1
        assert (bank.rejected_calls, bank.calls_by_status) == (5, {"401": 5, "200": 3})


def test_a_token_expires():
    with Sandbox(token_lifetime=0.001) as bank, SnapClient(bank) as client:
        token = client.token()
        while client.call(token).status == 200:
            pass
        assert bank.requests[-1].reason == "token expired"
        assert bank.requests[-1].status == 401


def test_an_error_inside_the_bank_has_the_shape_too(bank, monkeypatch):
    monkeypatch.setattr(type(bank), "_snap_login", lambda *_: 1 / 0)
    answer = login(bank)
    assert answer.json()["responseCode"] == "5007300"
    with pytest.raises(ZeroDivisionError):
        bank.check()
