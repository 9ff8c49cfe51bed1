from __future__ import annotations

import io
import json
import os

import pytest
from click.testing import CliRunner
from support.scripts import run

from permata_auth.cli import cli

RUN = "from permata_auth.__main__ import run; raise SystemExit(run())"
RECEIPT = b'{ "xid": "123", "error": {"message": "no  such number"} }'
REJECTED = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


@pytest.fixture(autouse=True)
def _no_credentials_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def invoke(bank):
    return lambda *args, **options: CliRunner().invoke(cli, args, env=bank.environment(), **options)


@pytest.fixture
def url(bank):
    return f"{bank.url}/apiservice/InquiryServices/BalanceInfo/inq"


@pytest.fixture
def receipt(tmp_path):
    path = tmp_path / "receipt.json"
    path.write_bytes(RECEIPT)
    return str(path)


def calls_of(bank):
    return [request for request in bank.requests if not request.path.endswith("/token")]


def test_call_prints_the_answer(bank, invoke, url, receipt):
    result = invoke("call", "post", url, "--data", f"@{receipt}")

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["bytes"] == len(RECEIPT)
    (request,) = calls_of(bank)
    assert (request.method, request.body) == ("POST", RECEIPT)
    assert request.headers["Content-Type"] == "application/json"


def test_call_without_a_body(bank, invoke, url):
    assert invoke("call", "GET", url).exit_code == 0
    (request,) = calls_of(bank)
    assert (request.method, request.body) == ("GET", b"")
    assert "Content-Type" not in request.headers


def test_call_signs_as_it_is_told(bank, invoke, url):
    bank.canonicalizer = "raw"
    assert invoke("call", "POST", url, "--data", '{"a": 1}').exit_code == 1
    options = ["--canonicalizer", "raw", "--content-type", "text/plain"]
    assert invoke("call", "POST", url, "--data", '{"a": 1}', *options).exit_code == 0
    assert calls_of(bank)[-1].headers["Content-Type"] == "text/plain"


def test_call_replaces_a_rejected_token_once(bank, invoke, url):
    bank.fail_next(1, "json", body=REJECTED, status=403, on="calls")
    assert invoke("call", "GET", url).exit_code == 0
    bank.fail_next(9, "json", body=REJECTED, status=403, on="calls")
    result = invoke("call", "GET", url)
    assert (result.exit_code, json.loads(result.stdout)) == (1, REJECTED)
    assert len(calls_of(bank)) == 4


def test_call_corrects_a_wrong_clock_once(bank, invoke, url):
    bank.clock_skew = 3600.0
    assert invoke("call", "GET", url).exit_code == 0
    bank.clock_skew = 0.0
    bank.fail_next(1, "headers", fields={"Date": None}, on="token")
    bank.fail_for(600, "clock", on="calls")
    result = invoke("call", "GET", url)
    assert (result.exit_code, json.loads(result.stdout)["ErrorCode"]) == (1, "403")
    assert [request.status for request in bank.requests] == [403, 200, 200, 200, 403]


def test_calls_whose_new_tokens_are_rejected_too_ask_for_a_new_one_twice(
    bank, invoke, url, tmp_path, monkeypatch
):
    """As from a cron job, with a store: the second rejection counts, in every process."""
    monkeypatch.setenv("PERMATA_TOKEN_STORE", tmp_path.as_uri())
    bank.fail_for(600, "json", body=REJECTED, status=403, on="calls")
    for _ in range(4):
        assert invoke("call", "GET", url).exit_code == 1
    assert bank.logins == 2
    assert len(calls_of(bank)) == 5


@pytest.mark.parametrize(
    ("status", "code"), [(200, 0), (204, 0), (307, 1), (400, 1), (404, 1), (429, 75), (503, 75)]
)
@pytest.mark.parametrize("command", ["call", "send-status"])
def test_the_status_is_in_the_exit_code(bank, invoke, url, receipt, command, status, code):
    bank.fail_next(9, status=status, retry_after=0, on="calls")
    arguments = ("call", "POST", url) if command == "call" else ("send-status", receipt)
    result = invoke(*arguments)
    assert result.exit_code == code
    assert (f"HTTP {status}" in result.stderr) == (code != 0)


def test_call_is_not_sent_again_without_an_answer(bank, invoke, url):
    bank.fail_next(9, "drop", on="calls")
    result = invoke("call", "POST", url)
    assert (result.exit_code, result.stdout) == (75, "")
    assert len(calls_of(bank)) == 1


def test_call_waits_no_longer_than_it_may(bank, invoke, url):
    bank.fail_next(1, "slow", seconds=20, on="calls")
    result = invoke("call", "GET", url, "--timeout", "0.3")
    assert result.exit_code == 75
    assert "no complete response" in result.stderr


@pytest.mark.parametrize("where", ["http://bank.invalid/x", "bank.invalid", "ftp://127.0.0.1/"])
def test_call_to_a_wrong_url_is_a_wrong_command_line(bank, invoke, where):
    assert invoke("call", "GET", where).exit_code == 2
    assert bank.requests == ()


def test_send_status_sends_a_file_unchanged(bank, invoke, receipt):
    result = invoke("send-status", receipt)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"StatusCode": "00", "StatusDesc": "Success"}
    assert bank.deliveries == (RECEIPT,)


def test_send_status_sends_stdin_and_retries(bank, invoke):
    bank.fail_next(1, status=503, retry_after=0, on="calls")
    assert invoke("send-status", "-", input=io.BytesIO(RECEIPT)).exit_code == 0
    assert bank.deliveries == (RECEIPT,)


def test_send_status_needs_a_url(bank, receipt):
    env = bank.environment()
    url = env.pop("PERMATA_CALLBACK_STATUS_URL")
    missing = CliRunner().invoke(cli, ["send-status", receipt], env=env)
    assert missing.exit_code == 2
    assert "PERMATA_CALLBACK_STATUS_URL" in missing.stderr
    assert CliRunner().invoke(cli, ["send-status", receipt, "--url", url], env=env).exit_code == 0


def test_both_from_a_shell(bank, url, receipt):
    for arguments in (["call", "GET", url], ["send-status", receipt]):
        ended = run(f"import sys; sys.argv = ['permata-auth', *{arguments!r}]\n{RUN}",
                    env=bank.environment())  # fmt: skip
        assert (ended.status, ended.err) == (0, "")
        assert json.loads(ended.out)["StatusCode"] == "00"
    bank.fail_next(1, status=503, on="calls")
    ended = run(f"import sys; sys.argv = ['permata-auth', 'call', 'GET', {url!r}]\n{RUN}",
                env=bank.environment())  # fmt: skip
    assert ended.status == 75
    assert ended.err == "Error: the bank answered with HTTP 503\n"
