"""The remote control, as another process would use it."""

from __future__ import annotations

import pytest

from permata_auth.sandbox import Sandbox

from .client import CALLBACK_PATH, Client, login


@pytest.fixture
def client(bank):
    with Client(bank) as client:
        yield client


def test_counters_can_be_read_and_reset(client):
    token = client.token()
    client.call(token, path=CALLBACK_PATH)
    client.call("unknown")
    assert client.admin("GET", "counters").json() == {
        "logins": 1,
        "login_attempts": 1,
        "refused_logins": 0,
        "limited_logins": 0,
        "replays": 0,
        "deliveries": 1,
        "calls": {"200": 1, "403": 1},
        "rejected_calls": 1,
        "duplicates": 0,
        "transfers": 0,
        "is_locked": False,
    }
    assert client.admin("DELETE", "counters").status == 200
    assert client.admin("GET", "counters").json()["logins"] == 0


def test_requests_are_listed_without_secrets(client):
    token = client.token()
    client.call(token, b'{"a": 1}')
    answer = client.admin("GET", "requests")
    first, second = answer.json()["requests"]
    assert (first["method"], first["status"], first["reason"]) == ("POST", 200, "ok")
    assert second["token_fingerprint"] == first["token_fingerprint"]
    assert second["headers"]["permata-signature"] == "***"
    for secret in (token, "example-api-key", '"a"'):
        assert secret not in answer.body.decode()


def test_deliveries_are_listed(client):
    client.call(client.token(), b'{"xid":"1"}', path=CALLBACK_PATH)
    assert client.admin("GET", "deliveries").json() == {"deliveries": ['{"xid":"1"}']}


def test_faults_can_be_injected_and_cleared(client):
    fault = {"n": 2, "on": "token", "arguments": {"status": 429, "retry_after": 3}}
    assert client.admin("POST", "faults", fault).status == 200
    answer = client.login()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert client.admin("DELETE", "faults").status == 200
    assert client.login().status == 200


def test_a_fault_can_last_for_a_while(client):
    client.admin("POST", "faults", {"fault": "html", "seconds": 60})
    assert [client.login().headers["Content-Type"] for _ in range(3)] == ["text/html"] * 3


def test_settings_can_be_read_and_changed(bank, client):
    answer = client.admin("POST", "settings", {"token_lifetime": 2.5, "single_token": True})
    assert answer.json() == client.admin("GET", "settings").json()
    assert (bank.token_lifetime, bank.single_token) == (2.5, True)
    assert client.login().json()["expires_in"] == 2.5


def test_tokens_can_be_revoked(client):
    one, two = client.token(), client.token()
    assert client.admin("POST", "revoke", {"token": one}).json() == {"known": True}
    assert [client.call(token).status for token in (one, two)] == [403, 200]
    assert client.admin("POST", "revoke").status == 200
    assert client.call(two).status == 403


@pytest.mark.parametrize(
    ("method", "action", "document", "status"),
    [
        ("GET", "nothing", None, 404),
        ("PUT", "faults", None, 404),
        ("POST", "faults", {"fault": "nonsense"}, 400),
        ("POST", "faults", {"arguments": {"statuss": 1}}, 400),
        ("POST", "faults", {"n": 0}, 400),
        ("POST", "faults", {"n": "1"}, 400),
        ("POST", "faults", {"times": 2}, 400),
        ("POST", "faults", [1], 400),
        ("POST", "settings", {"host": "x"}, 400),
        ("POST", "settings", {"latency": -1}, 400),
        ("POST", "settings", {"latency": 1, "token_lifetime": -1}, 400),
    ],
)
def test_bad_admin_requests_change_nothing(bank, method, action, document, status):
    with Client(bank) as client:
        answer = client.admin(method, action, document)
    assert answer.status == status
    assert answer.json()["error"]
    assert (bank.latency, login(bank).status) == (0, 200)


def test_admin_requests_are_neither_recorded_nor_delayed_nor_faulted(bank, client):
    bank.latency = 60
    bank.fail_next()
    bank.hold_next()
    assert client.admin("GET", "counters").status == 200
    assert bank.requests == ()


def test_the_admin_path_can_be_switched_off():
    with Sandbox(admin=False) as bank, Client(bank) as client:
        assert client.admin("GET", "counters").status == 404
        assert login(bank).status == 200
