"""The promises of one login about responses that are cut, and of errors that are not ours."""

from __future__ import annotations

import logging

import pytest
from support.clients import credentials

from permata_auth import (
    InvalidTokenResponseError,
    LoginClient,
    PermataCredentials,
    RetryPolicy,
    login,
)

QUICK = RetryPolicy(attempts=3, wait_initial=0.01, wait_max=0.01)
GRANT = b'{"access_token": "example-token", "expires_in": 900}'


def test_a_response_that_was_cut_is_refused_though_what_is_left_is_sound(bank):
    """A mebibyte of it is kept, which ends in the white space after a whole JSON object."""
    bank.fail_next(fault="json", raw=GRANT + b" " * 2**20, on="token")
    with LoginClient(bank.credentials(), retry=QUICK) as client:  # noqa: SIM117 - two things
        with pytest.raises(InvalidTokenResponseError, match="1 MiB") as caught:
            client.login()
    assert caught.value.status_code == 200
    assert bank.login_attempts == 1


def test_a_response_of_just_a_mebibyte_is_whole(bank):
    bank.fail_next(fault="json", raw=GRANT.ljust(2**20), on="token")
    with LoginClient(bank.credentials(), retry=QUICK) as client:
        assert client.login().value == "example-token"


def test_an_attempt_may_take_five_seconds_to_connect_and_fifteen_for_each_byte(bank, monkeypatch):
    def exchange(*arguments, **request):
        timeouts.append(request["timeout"])
        return real(*arguments, **request)

    timeouts, real = [], login.exchange
    monkeypatch.setattr(login, "exchange", exchange)
    with LoginClient(bank.credentials()) as client:
        client.login()
    assert timeouts == [(5.0, 15.0)]


@pytest.mark.parametrize("error", [OSError, ConnectionError, TimeoutError, ValueError])
def test_a_foreign_error_is_not_tried_again(caplog, error):
    """Whoever raised it has not said that another attempt may do better."""
    calls = []

    class Broken(PermataCredentials):
        def token_request(self):
            calls.append(1)
            raise error("example")

    given = credentials()
    fields = ("token_url", "api_key", "client_id", "client_secret", "static_key")
    scheme = Broken(**{name: getattr(given, name) for name in fields})
    with LoginClient(scheme, retry=QUICK) as client, pytest.raises(error):
        client.login()
    assert len(calls) == 1
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
