"""The commands that speak to the bank, with ``PERMATA_SCHEME=snap``."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

pytest.importorskip("click")
pytest.importorskip("cryptography")

import requests
from click.testing import CliRunner
from support.scripts import Script, run

from permata_auth.cli import cli
from permata_auth.sandbox import SnapRules

RUN = "from permata_auth.__main__ import run; raise SystemExit(run())"
BODY = '{ "accountNo" : "7001234567", "note" : "two  spaces" }'


@pytest.fixture(autouse=True)
def _no_credentials_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["inline", "files"])
def environment(request, bank, tmp_path):
    """The environment of the SNAP side, with its secrets in it or in files."""
    environ = bank.snap_environment()
    if request.param == "files":
        for name in ("PRIVATE_KEY", "CLIENT_SECRET", "CLIENT_ID"):
            (tmp_path / f"permata_snap_{name.lower()}").write_text(
                environ.pop(f"PERMATA_SNAP_{name}")
            )
        environ["PERMATA_SECRETS_DIR"] = str(tmp_path)
    return environ


@pytest.fixture
def invoke(environment, secrets):
    def invoke(*arguments, code=0, **more):
        result = CliRunner().invoke(cli, arguments, env=environment | more)
        assert result.exit_code == code, result.output
        if arguments[0] != "token":
            assert not secrets.found_in(result.output)
        return result.stdout + result.stderr

    return invoke


@pytest.fixture
def url(bank):
    return f"{bank.snap_url}/v1.0/balance-inquiry"


def test_a_token_is_printed_and_waited_for(bank, invoke):
    token = invoke("token").strip()
    assert bank.revoke(token)
    assert json.loads(invoke("token", "--json"))["token_type"] == "Bearer"
    assert re.fullmatch(r"ready: token \w{8}, \d+ s left\n", invoke("wait"))
    assert bank.logins == 3


def test_a_call_is_signed_and_sent(bank, invoke, url):
    assert json.loads(invoke("call", "POST", url, "--data", BODY))["responseCode"] == "2001100"
    assert bank.requests[-1].headers["Content-Type"] == "application/json"
    assert (bank.logins, bank.calls_by_status) == (1, {"200": 1})


def test_a_call_of_an_asymmetric_partner_costs_no_login(bank, invoke, url):
    bank.snap_rules = SnapRules(transaction_signature="asymmetric")
    kind = {"PERMATA_SNAP_TRANSACTION_SIGNATURE": "asymmetric"}
    assert "2001100" in invoke("call", "POST", url, "--data", BODY, **kind)
    shown = invoke("sign", "POST", url, "--data", "{}", **kind)
    assert "Authorization" not in shown
    assert "POST:/snap/v1.0/balance-inquiry" in shown
    assert bank.logins == 0


def test_a_call_with_a_wrong_clock_is_sent_once_more(bank, invoke, url):
    bank.clock_skew = -3600.0
    assert "2001100" in invoke("call", "POST", url, "--data", BODY)
    assert [each.status for each in bank.requests] == [401, 200, 200]


def test_what_sign_shows_is_what_the_bank_takes(bank, invoke, url):
    masked = invoke("sign", "POST", url, "--data", BODY)
    assert re.search(
        r"^String to sign: POST:/snap/v1.0/balance-inquiry:<token \w{8}>:", masked, re.MULTILINE
    )
    environ = {"MY_TOKEN": invoke("token").strip()}
    shown = CliRunner().invoke(
        cli,
        ["sign", "POST", url, "--data", BODY, "--show-token", "--token-env", "MY_TOKEN"],
        env=bank.snap_environment() | environ,
    )
    headers = dict(re.findall(r"^  ([^:\n]+): (.*)$", shown.stdout, re.MULTILINE))
    with requests.post(url, data=BODY, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200
    shown = invoke(
        *("sign", "POST", url, "--data", BODY, "--explain", "--token-env", "MY_TOKEN"),
        *("--timestamp", headers["X-TIMESTAMP"], "--expected", headers["X-SIGNATURE"]),
        **environ,
    )
    assert re.search(r"^Expected: +right", shown, re.MULTILINE)


def test_the_doctor_passes_every_check(bank, invoke, url, tmp_path):
    store = {"PERMATA_TOKEN_STORE": (tmp_path / "tokens").as_uri()}
    shown = invoke("doctor", "--url", url, **store)
    names = ["configuration", "name", "connection", "clock", "login", "signature", "store"]
    assert [line.split()[:2] for line in shown.splitlines()] == [["ok", name] for name in names]
    assert "PERMATA_SNAP_PRIVATE_KEY" in shown


def test_the_doctor_names_the_settings_of_snap(bank, invoke, url):
    shown = invoke("doctor", "--url", url, code=1, PERMATA_SNAP_CHANNEL_ID="1")
    assert "check PERMATA_SNAP_PARTNER_ID and PERMATA_SNAP_CHANNEL_ID" in shown
    shown = invoke("doctor", "--url", url, code=1, PERMATA_SNAP_SIGNED_PREFIX="/other")
    assert "check PERMATA_SNAP_CLIENT_SECRET" in shown
    bank.snap_rules = SnapRules(signature_encoding="hex", token_signature="symmetric")
    shown = invoke("doctor", "--url", url, code=1)
    assert "PERMATA_SNAP_CLIENT_ID" in shown
    assert "PERMATA_STATIC_KEY" not in shown


def test_a_refusal_is_permanent_and_an_outage_is_temporary(bank, invoke):
    assert "PERMATA_SNAP_CLIENT_ID" in invoke(
        "token", code=1, PERMATA_SNAP_TOKEN_SIGNATURE="symmetric"
    )
    bank.fail_next(9, status=503)
    invoke("token", "--timeout", "1", code=75)


@pytest.mark.bank(token_lifetime=2.0)
@pytest.mark.parametrize("scheme", ["classic", "snap"])
def test_watch_keeps_a_token_fresh(bank, secrets, scheme):
    with Script(RUN, "watch", env=bank.environment(scheme)) as script:
        lines = []
        while sum("new token" in line for line in lines) < 3:
            lines.append(script.line())
            assert lines[-1], script.end()
        script.process.send_signal(signal.SIGINT)
        ended = script.end()
    assert (ended.status, ended.err.strip()) == (130, "")
    assert not secrets.found_in(*lines, ended.out)
    assert bank.refused_logins == 0


def test_the_demo_refreshes_snap_tokens_under_load(secrets):
    ended = run(RUN, "demo", "--seconds", "5", "--scheme", "snap", "--threads", "4")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("new token") >= 3
    assert re.search(r"^Failed calls +0 *$", ended.out, re.MULTILINE)
    assert re.search(r"^Signed calls +\d+ accepted", ended.out, re.MULTILINE)
    assert "no call failed, no call waited for a login" in ended.out
    assert not secrets.found_in(ended.out)
