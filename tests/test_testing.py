"""The fixtures for users' tests, as a user's project has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

USER_TESTS = """
import pytest
from permata_auth import LoginHandler, PermataAuthError

def test_a_bank_and_a_handler(permata_sandbox, permata_handler):
    assert isinstance(permata_handler, LoginHandler)
    assert permata_handler.get_token()
    assert permata_sandbox.logins == 1

def test_no_wait_between_attempts(permata_sandbox, permata_handler, no_backoff):
    permata_sandbox.fail_next(2, status=503, retry_after=20)  # twice, which no budget allows
    assert permata_handler.get_token()
    assert permata_sandbox.login_attempts == 3

def test_the_waits_are_back(permata_sandbox, permata_handler):
    permata_sandbox.fail_next(1, status=503, retry_after=3600)
    with pytest.raises(PermataAuthError):
        permata_handler.get_token()
"""


AGEING = """
import datetime
import os
import pytest
from permata_auth import LoginHandler, PermataAuth
import requests

def check(bank, handler, tick):
    first = handler.get_token()
    tick(890)
    assert handler.get_token() == first
    tick(11)
    second = handler.get_token()
    assert second != first
    assert handler.info().seconds_left > 800
    tick(100)
    assert handler.get_token() == second
    assert bank.logins == 2
    with requests.post(bank.url + "/apiservice/x", json={}, auth=PermataAuth(handler)) as answer:
        assert answer.status_code == 200

def test_moved(permata_sandbox, permata_handler, permata_clock):
    check(permata_sandbox, permata_handler, permata_clock.move)

def test_unmoved(permata_handler, permata_clock):
    token = permata_handler.get_access_token()
    assert 870 < token.expires_in() <= 900
    assert abs(token.expires_at.timestamp() - datetime.datetime.now().timestamp() - 900) < 30

@pytest.mark.parametrize("moment", ["now", "2031-01-01"])
def test_freezegun(permata_sandbox, permata_handler, permata_clock, moment):
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time(datetime.datetime.utcnow() if moment == "now" else moment) as time:
        check(permata_sandbox, permata_handler, time.tick)

@pytest.mark.parametrize("ticks", [True, False])
@pytest.mark.parametrize("moment", ["now", "2031-01-01"])
def test_time_machine(permata_sandbox, permata_handler, permata_clock, ticks, moment):
    time_machine = pytest.importorskip("time_machine")
    moment = datetime.datetime.now() if moment == "now" else moment
    with time_machine.travel(moment, tick=ticks) as time:
        check(permata_sandbox, permata_handler, time.shift)

def test_the_clock_is_back(permata_sandbox, permata_handler):
    permata_handler.get_token()
    assert permata_sandbox.logins == 1

def test_the_environment(permata_environment, permata_sandbox):
    assert "PERMATA_TOKEN_STORE" not in os.environ
    assert permata_environment == permata_sandbox.environment()
    with LoginHandler.from_env() if hasattr(LoginHandler, "from_env") else handler() as each:
        assert each.get_token()
    assert permata_sandbox.logins == 1

def handler():
    from permata_auth import PermataCredentials
    return LoginHandler(PermataCredentials.from_env())
"""


def pytest_run(path, tests, *arguments, code="import pytest", env=None):
    """Run a user's tests in a session of their own; return how it ended, in its own words."""
    (path / "test_users_own.py").write_text(tests)
    arguments = ["-q", "-p", "no:cacheprovider", *arguments, str(path)]
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nraise SystemExit(pytest.main({arguments!r}))"],
        cwd=path,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ended.stdout + ended.stderr


def test_the_fixtures_are_there_and_work(tmp_path):
    assert "3 passed" in (text := pytest_run(tmp_path, USER_TESTS)), text


@pytest.mark.parametrize(
    ("name", "excepted"),
    [("HTTP_PROXY", {}), ("http_proxy", {"NO_PROXY": "example.invalid"}), ("ALL_PROXY", {})],
)
def test_a_proxy_of_the_environment_is_not_asked(tmp_path, name, excepted):
    env = {name: "http://127.0.0.1:9"} | excepted
    assert "3 passed" in (text := pytest_run(tmp_path, USER_TESTS, env=env)), text


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("import pytest, permata_auth", ["-W", "error"]),
        ("import pytest, permata_auth.sandbox, permata_auth.testing", ["-W", "error"]),
        ("import pytest", ["-p", "permata_auth.testing"]),
        ("import pytest", ["-p", "permata_auth.testing", "-W", "error"]),
    ],
)
def test_it_may_be_imported_or_asked_for_before(tmp_path, code, arguments):
    text = pytest_run(tmp_path, USER_TESTS, *arguments, code=code)
    assert "3 passed" in text, text
    assert "warning" not in text.lower()


def test_a_conftest_may_name_it(tmp_path):
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['permata_auth.testing']")
    assert "3 passed" in (text := pytest_run(tmp_path, USER_TESTS)), text


def test_tokens_age_as_the_clock_is_moved(tmp_path):
    env = {"PERMATA_TOKEN_STORE": "file:///nowhere/at/all"}
    text = pytest_run(tmp_path, AGEING, env=env)
    assert "failed" not in text, text
    assert "error" not in text, text
    assert re.search(r"(10|[4-9]) passed", text), text


def test_the_plugin_brings_no_server_along():
    code = "import sys, permata_auth.testing; assert 'werkzeug' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
