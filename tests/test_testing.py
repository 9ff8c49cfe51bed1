"""The fixtures for users' tests, as a user's project has them."""

from __future__ import annotations

import subprocess
import sys

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


def test_the_fixtures_are_there_and_work(tmp_path):
    (tmp_path / "test_users_own.py").write_text(USER_TESTS)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_plugin_brings_no_server_along():
    code = "import sys, permata_auth.testing; assert 'werkzeug' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
