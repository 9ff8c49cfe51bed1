from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from permata_auth import LoginHandler
from permata_auth.cli import cli
from permata_auth.stores import store_from_env


@pytest.fixture(autouse=True)
def _no_credentials_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def invoke(bank, *args, **env):
    return CliRunner().invoke(cli, ["wait", *args], env={**bank.environment(), **env})


def test_a_bank_that_is_up_makes_it_end_at_once(bank):
    result = invoke(bank)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("ready: token ")
    assert next(iter(bank._tokens)) not in result.output
    assert bank.logins == 1


def test_a_bank_that_comes_up_meanwhile_is_waited_for(bank):
    bank.fail_next(4, status=503, on="token")  # a login makes three attempts
    result = invoke(bank)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (bank.logins, bank.login_attempts) == (1, 5)


def test_the_store_keeps_the_token_for_the_program_that_comes_after(bank, tmp_path):
    store = {"PERMATA_TOKEN_STORE": f"file://{tmp_path}/tokens"}
    for _ in range(2):
        assert invoke(bank, **store).exit_code == 0
    with LoginHandler(bank.credentials(), store=store_from_env(store)) as handler:
        handler.get_token()
    assert bank.logins == 1


def test_a_bank_that_stays_down_is_a_temporary_failure(bank):
    with bank.down():
        result = invoke(bank, "--timeout", "2")
    assert result.exit_code == 75
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)


def test_a_pause_that_the_bank_asks_for_is_not_sat_out_beyond_the_timeout(bank):
    bank.fail_for(600, status=429, retry_after=90, on="token")
    assert invoke(bank, "--timeout", "60").exit_code == 75
    assert bank.login_attempts == 1


def test_refused_credentials_are_a_permanent_failure(bank):
    result = invoke(bank, "--timeout", "2", PERMATA_CLIENT_SECRET="example-wrong-secret")
    assert result.exit_code == 1
    assert "invalid_client" in result.stderr
    assert bank.refused_logins == 1, "the pause is longer than the time that is left"


def test_a_timeout_of_nothing_is_a_wrong_command_line(bank):
    assert invoke(bank, "--timeout", "0").exit_code == 2
    assert bank.login_attempts == 0
