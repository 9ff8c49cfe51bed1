"""The pace of logins as the bank counts them: each row of the table, for both dialects."""

from __future__ import annotations

import pytest
import requests

from permata_auth import (
    InvalidClientError,
    InvalidTokenResponseError,
    LoginClient,
    PermataAuth,
    RetryPolicy,
    TokenEndpointUnavailableError,
)
from permata_auth.sandbox.snap.keys import private_pem

SCHEMES = ["classic", "snap"]
_CALLS = {
    "classic": "/apiservice/InquiryServices/BalanceInfo/inq",
    "snap": "/snap/v1.0/balance-inquiry",
}

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture
def credentials(scheme, bank):
    """Return what makes credentials: ``credentials(is_wrong=True)``."""

    def make(*, is_wrong=False):
        if scheme == "classic":
            return bank.credentials(**({"static_key": "example-other-key"} if is_wrong else {}))
        return bank.snap_credentials(**({"private_key": private_pem("bank")} if is_wrong else {}))

    return make


@pytest.fixture
def make(clock, make_handler):
    """Return what makes a handler whose logins are one request each."""
    clients = []

    def make(credentials, **arguments):
        clients.append(LoginClient(credentials, retry=RetryPolicy(attempts=1)))
        return make_handler(credentials, client=clients[-1], **arguments)

    yield make
    for client in clients:
        client.close()


def fails(handler, error) -> float:
    """Ask for a token and return the ``retry_after`` of the error."""
    with pytest.raises(error) as caught:
        handler.get_token()
    return caught.value.retry_after


def test_refused_credentials_are_not_tried_in_a_loop(bank, credentials, make, clock):
    handler = make(credentials(is_wrong=True), background=False)
    for pause in (5.0, 10.0, 20.0):
        before = bank.login_attempts
        for _ in range(10):
            left = fails(handler, Exception)
        assert bank.login_attempts == before + 1
        assert 0 < left <= pause
        clock.advance(pause)
    assert (bank.logins, bank.refused_logins) == (0, 3)


def test_a_locked_account_is_left_in_peace(bank, credentials, make):
    bank.lock_after = 1
    handlers = [make(credentials(is_wrong=is_wrong)) for is_wrong in (True, False)]
    for handler in handlers:
        fails(handler, Exception)
    for _ in range(10):
        assert fails(handlers[1], InvalidClientError) > 0
    assert (bank.login_attempts, bank.is_locked) == (2, True)


def test_a_limit_is_waited_for_as_long_as_the_bank_says(bank, credentials, make, clock):
    bank.login_limit, bank.login_limit_window = 1, 3600.0
    handler = make(credentials())
    token = handler.get_token()
    with pytest.raises(TokenEndpointUnavailableError):
        handler.refresh()
    with pytest.raises(TokenEndpointUnavailableError) as caught:
        handler.refresh()
    assert 270 < caught.value.retry_after <= 330
    assert handler.get_token() == token
    assert (bank.login_attempts, bank.limited_logins) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "error", "pauses"),
    [
        ({"status": 503}, TokenEndpointUnavailableError, (0.5, 1.0, 2.0, 4.0, 5.0, 5.0)),
        ({"status": 503, "retry_after": 40}, TokenEndpointUnavailableError, (44.0, 44.0)),
        ({"status": 429, "retry_after": 40}, TokenEndpointUnavailableError, (44.0, 44.0)),
        ({"fault": "html"}, InvalidTokenResponseError, (5.0, 10.0, 20.0, 40.0, 60.0)),
        ({"fault": "json", "body": {}}, InvalidTokenResponseError, (5.0, 10.0)),
    ],
)
def test_one_request_for_each_pause(bank, credentials, make, clock, fault, error, pauses):
    handler = make(credentials())
    bank.fail_next(100, **fault)
    for number, pause in enumerate(pauses, 1):
        for _ in range(10):
            assert 0 < fails(handler, error) <= pause
        assert bank.login_attempts == number
        clock.advance(pause)
    bank.clear_faults()
    handler.get_token()
    assert (bank.logins, bank.login_attempts) == (1, len(pauses) + 1)


def test_an_outage_of_the_whole_buffer_costs_few_requests(bank, credentials, make, clock):
    handler = make(credentials())
    token = handler.get_token()
    bank.fail_next(1000, status=503)
    for _ in range(59):
        clock.advance(15.0)
        if handler.info().seconds_left > 0:
            assert handler.get_token() == token
    assert 2 < bank.login_attempts - 1 <= 15


@pytest.mark.parametrize(("status", "most"), [(401, 7), (403, 7)])
def test_refusals_through_the_whole_buffer_cost_fewer(bank, credentials, make, clock, status, most):
    handler = make(credentials())
    handler.get_token()
    bank.fail_next(1000, status=status)
    for _ in range(59):
        clock.advance(15.0)
    assert 1 < bank.login_attempts - 1 <= most


def test_tokens_that_are_rejected_at_once_make_no_loop(bank, scheme, credentials, make, clock):
    handler = make(credentials())
    body, url = b'{"accountNo":"7001234567"}', bank.url + _CALLS[scheme]
    bank.reject_tokens = True
    with requests.Session() as session:
        session.auth = PermataAuth(handler)
        session.trust_env = False
        for _ in range(5):
            assert session.post(url, data=body, timeout=30).status_code in (401, 403)
        assert bank.logins == 2  # the first token, and the one that replaced it at once
        clock.advance(5.0)
        session.post(url, data=body, timeout=30)
        assert bank.logins == 3
        bank.reject_tokens = False
        clock.advance(10.0)
        assert session.post(url, data=body, timeout=30).status_code == 200
    assert bank.logins <= 4
