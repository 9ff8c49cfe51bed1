"""The pace that the bank enforces: locked accounts, a limit of logins, tokens that it rejects."""

from __future__ import annotations

import email.utils
import math
import time

import pytest

from permata_auth.sandbox import Sandbox
from permata_auth.sandbox.limits import SlidingWindow

from .client import CALLBACK_PATH, Client, call, login, sign

WRONG = [
    {"Authorization": "Basic bm9wZTpub3Bl"},
    {"API_Key": "other"},
    {"OAUTH_Signature": sign("something else")},
]


def test_a_window_counts_what_happened_in_its_seconds():
    window = SlidingWindow()
    for moment in (0.0, 1.0, 2.0):
        window.add(moment)
    assert window.seconds_until_below(3, 10.0, 2.0) == 8.0
    assert window.seconds_until_below(2, 10.0, 2.0) == 9.0
    assert window.seconds_until_below(4, 10.0, 2.0) == 0.0
    assert window.seconds_until_below(3, 10.0, 9.9) == pytest.approx(0.1)
    assert window.seconds_until_below(3, 10.0, 10.0) == 0.0
    assert window.seconds_until_below(2, 10.0, 10.0) == 1.0
    window.clear()
    assert window.seconds_until_below(1, 10.0, 10.0) == 0.0


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_logins_lock_the_account_also_for_right_credentials(wrong):
    with Sandbox(lock_after=3) as bank, Client(bank) as client:
        token = client.token()
        for left in (2, 1, 0):
            assert client.login(**wrong).json().get("error_description") != "account locked"
            assert bank.is_locked == (left == 0)
        locked = client.login()
        assert (locked.status, locked.json()) == (
            401,
            {"error": "invalid_client", "error_description": "account locked"},
        )
        assert client.call(token).status == 200
        assert (bank.logins, bank.login_attempts, bank.refused_logins) == (1, 5, 4)


def test_an_unlocked_account_has_all_its_tries_again():
    with Sandbox(lock_after=2) as bank, Client(bank) as client:
        for _ in range(2):
            client.login(API_Key="other")
        bank.unlock()
        assert client.login().status == 200
        client.login(API_Key="other")
        assert not bank.is_locked
        client.login(API_Key="other")
        assert bank.is_locked


def test_refusals_outside_the_window_do_not_lock():
    with Sandbox(lock_after=2, lock_window=0.05) as bank, Client(bank) as client:
        for _ in range(3):
            client.login(API_Key="other")
            time.sleep(0.06)
        assert (bank.refused_logins, bank.is_locked) == (3, False)


def test_only_a_refusal_of_credentials_counts():
    with Sandbox(lock_after=1) as bank, Client(bank) as client:
        bank.fail_next(status=401, on="token")
        for wrong in ({}, {"Content_Type": "text/plain"}, {"at": "soon"}, {"body": b""}):
            client.login(**wrong)
        client.call("unknown")
        assert (bank.refused_logins, bank.is_locked) == (0, False)


def test_logins_beyond_the_limit_are_told_how_long_to_wait():
    with Sandbox(login_limit=2, login_limit_window=30.0) as bank, Client(bank) as client:
        assert [client.login().status, client.login(API_Key="other").status] == [200, 401]
        limited = [client.login() for _ in range(2)]
        assert [answer.status for answer in limited] == [429, 429]
        assert all(1 <= int(answer.headers["Retry-After"]) <= 30 for answer in limited)
        assert limited[0].json()["ErrorCode"] == "429"
        assert (bank.logins, bank.login_attempts, bank.limited_logins) == (1, 4, 2)
        bank.login_limit = None
        assert client.login().status == 200


def test_the_limit_lets_logins_through_again_after_what_it_announced():
    with Sandbox(login_limit=1, login_limit_window=0.2) as bank, Client(bank) as client:
        began = time.monotonic()
        assert client.login().status == 200
        while client.login().status == 429:
            assert time.monotonic() - began < 60
        assert time.monotonic() - began >= 0.2


def test_every_token_can_be_rejected_while_logins_succeed(bank):
    with Client(bank) as client:
        old = client.token()
        bank.reject_tokens = True
        fresh = client.token()
        answers = [client.call(old), client.call(fresh), client.call(fresh, path=CALLBACK_PATH)]
        assert {answer.status for answer in answers} == {403}
        assert answers[1].json() == {
            "ErrorCode": "403",
            "ErrorDescription": "Failed Authentication OAuth2",
        }
        assert (bank.logins, bank.rejected_calls, bank.deliveries) == (2, 3, ())
        bank.reject_tokens = False
        assert [client.call(token).status for token in (old, fresh)] == [200, 200]
        client.call("unknown")
        assert bank.rejected_calls == 4


def test_tokens_can_be_rejected_for_a_while(bank):
    with Client(bank) as client:
        token = client.token()
        start = time.monotonic()
        bank.reject_tokens_for(0.3)
        assert client.call(token).status == 403
        while client.call(token).status == 403:
            assert time.monotonic() < start + 60
        assert time.monotonic() - start >= 0.3
        bank.reject_tokens_for(math.inf)
        assert client.call(token).status == 403
        bank.reject_tokens_for(0)
        assert client.call(token).status == 200


def test_resetting_counters_leaves_the_lock_and_the_limit():
    with Sandbox(lock_after=1, login_limit=2) as bank:
        login(bank, API_Key="other")
        bank.reset_counters()
        assert (bank.refused_logins, bank.limited_logins, bank.is_locked) == (0, 0, True)
        assert [login(bank).status, login(bank).status] == [401, 429]


@pytest.mark.parametrize(
    "retry_after",
    [0, 3, 60, 3600, "120", email.utils.formatdate(4102444800, usegmt=True)],
)
@pytest.mark.parametrize("is_for_a_while", [False, True])
def test_a_429_tells_how_long_to_wait(bank, retry_after, is_for_a_while):
    if is_for_a_while:
        bank.fail_for(60, status=429, retry_after=retry_after, on="token")
    else:
        bank.fail_next(status=429, retry_after=retry_after, on="token")
    answer = login(bank)
    assert (answer.status, answer.headers["Retry-After"]) == (429, str(retry_after))
    assert call(bank, "unknown").status == 403
    bank.clear_faults()
    assert login(bank).status == 200


@pytest.mark.parametrize(
    "arguments",
    [
        {"lock_after": 0},
        {"lock_after": True},
        {"lock_after": 2.0},
        {"lock_window": 0},
        {"login_limit": 0},
        {"login_limit": "3"},
        {"login_limit_window": math.inf},
    ],
)
def test_bad_limits_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Sandbox(**arguments)


@pytest.mark.parametrize("seconds", [-1, math.nan, "3", None, True])
def test_a_bad_while_is_refused(bank, seconds):
    with pytest.raises(ValueError, match="seconds"):
        bank.reject_tokens_for(seconds)


def test_the_remote_control_locks_limits_and_rejects(bank):
    with Client(bank) as client:
        token = client.token()
        settings = {"lock_after": 1, "login_limit": 3, "reject_tokens": True}
        assert client.admin("POST", "settings", settings).json().items() >= settings.items()
        assert client.call(token).status == 403
        client.admin("POST", "settings", {"reject_tokens": False})
        client.admin("POST", "reject", {"seconds": 60})
        assert client.call(token).status == 403
        client.admin("POST", "reject", {"seconds": 0})
        assert client.call(token).status == 200
        assert client.login(API_Key="other").status == 401
        counters = client.admin("GET", "counters").json()
        assert (counters["is_locked"], counters["refused_logins"]) == (True, 1)
        assert client.admin("POST", "unlock").status == 200
        assert [client.login().status for _ in range(3)] == [200, 200, 429]
        counters = client.admin("GET", "counters").json()
        assert (counters["rejected_calls"], counters["limited_logins"]) == (2, 1)
        assert client.admin("POST", "reject", {"seconds": "x"}).status == 400
        assert client.admin("POST", "reject").status == 400
