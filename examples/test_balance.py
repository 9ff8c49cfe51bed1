"""Tests of a program that calls the bank, with the fixtures of permata-auth's pytest plugin.

    pip install 'permata-auth[sandbox]' pytest && pytest test_balance.py

The plugin is there as soon as permata-auth is installed. The bank is on this machine: it verifies
signatures, lets tokens expire, and fails as it is told to.
"""

from __future__ import annotations

import pytest
import requests

from permata_auth import LoginHandler, PermataAuth, TokenEndpointUnavailableError
from permata_auth.sandbox import Sandbox
from permata_auth.testing import PermataClock


def balance(handler: LoginHandler, bank_url: str) -> int:
    """The program under test."""
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": "701075323"}}}
    url = f"{bank_url}/apiservice/InquiryServices/BalanceInfo/inq"
    return requests.post(url, json=inquiry, auth=PermataAuth(handler), timeout=5).status_code


def test_two_calls_share_one_login(permata_sandbox: Sandbox, permata_handler: LoginHandler) -> None:
    assert [balance(permata_handler, permata_sandbox.url) for _ in range(2)] == [200, 200]
    assert permata_sandbox.logins == 1


def test_an_expired_token_is_replaced(
    permata_sandbox: Sandbox, permata_handler: LoginHandler, permata_clock: PermataClock
) -> None:
    balance(permata_handler, permata_sandbox.url)
    permata_clock.move(901)  # tokens of this bank live for 900 seconds
    assert balance(permata_handler, permata_sandbox.url) == 200
    assert permata_sandbox.logins == 2


@pytest.mark.usefixtures("no_backoff")
def test_the_bank_is_down(permata_sandbox: Sandbox, permata_handler: LoginHandler) -> None:
    permata_sandbox.fail_next(3, status=503)
    with pytest.raises(TokenEndpointUnavailableError):
        balance(permata_handler, permata_sandbox.url)
    assert permata_sandbox.login_attempts == 3
