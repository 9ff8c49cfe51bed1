from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from permata_auth import RotatingCredentials

EXAMPLES = Path(__file__).parents[1] / "examples"
WITH_A_BANK = {
    "quickstart": ["'StatusCode': '00'", "1 logins"],
    "mutual_tls": ["'StatusCode': '00'"],
    "signed_request": ["200 {'StatusCode': '00'"],
    "callback_status": ["200 00 Success"],
    "webhook_forwarding": [
        "200 delivery_receipt True {'StatusCode': '00'",
        "200 ignored False {'StatusCode': '00'",
        "400 invalid False {'StatusCode': '06'",
        "b'5'",
    ],
}
WITHOUT = {
    "custom_scheduler": ["1 sessions, service", "2 sessions", "3 sessions"],
    "kubernetes_secret": ["2 logins, 0 refused"],
    "secret_manager": ["2 logins, 1 refused", "asked 2 times"],
    "wait_until_ready": ["health: cold", "health: ready"],
}
CLIENTS = {
    "httpx_client": ["200 {'StatusCode': '00'"],
    "asyncio_calls": ["200 00", "1 logins, token"],
    "many_merchants": ["TOKO_A 200 00 1 logins", "TOKO_B 200 00 1 logins"],
    "prometheus_metrics": [
        'permata_auth_logins_total{client="permata"} 1.0',
        "permata_auth_token_seconds_left",
    ],
}
NEEDS = {"httpx_client": "httpx", "prometheus_metrics": "prometheus_client"}


def run(name, env):
    """Run an example with no arguments, warnings being errors; return the lines it prints."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PERMATA_")}
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        env=outside | {"PYTHONPATH": str(EXAMPLES.parent)} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def matches(lines, expected):
    return len(lines) >= len(expected) and all(
        any(text in line for line in lines) for text in expected
    )


@pytest.mark.parametrize(("name", "expected"), (WITH_A_BANK | WITHOUT).items())
def test_an_example_runs_by_itself(name, expected):
    lines = run(name, {})
    assert matches(lines, expected), lines


@pytest.mark.parametrize(("name", "expected"), WITH_A_BANK.items())
def test_an_example_runs_against_the_environments_bank(bank, name, expected):
    lines = run(name, bank.environment())
    assert matches(lines, expected), lines
    assert bank.logins == 1
    assert bank.calls_by_status == {"200": 1}


SNAP = {
    "snap_balance": ["success 20", "'value': '200000.00'"],
    "snap_transfer_status": ["transfer: success"],
}


@pytest.mark.parametrize(("name", "expected"), SNAP.items())
def test_an_example_of_snap_runs_by_itself_and_against_a_bank(bank, name, expected):
    for environment in ({}, bank.environment("snap")):
        lines = run(name, environment)
        assert matches(lines, expected), lines
    assert bank.logins == 1
    assert bank.calls_by_status == {"200": 1}


@pytest.mark.parametrize(
    ("faults", "outcomes", "transfers"),
    [
        # Done, but its response is lost; and not done, though nobody can tell.
        ([("truncated", {})], ["unknown", "success"], 1),
        ([("drop", {})], ["unknown", "refused"], 0),
        ([("status", {"status": 500})], ["unknown", "refused"], 0),
        # The status is asked for again, the transfer is not sent again.
        (
            [("truncated", {}), ("drop", {}), ("status", {"status": 504})],
            ["unknown"] * 3 + ["success"],
            1,
        ),
    ],
)
def test_a_transfer_is_never_sent_again(bank, faults, outcomes, transfers):
    for fault, arguments in faults:
        bank.fail_next(1, fault, on="calls", **arguments)
    lines = run("snap_transfer_status", bank.environment("snap"))
    assert [line.split()[1] for line in lines] == outcomes
    assert bank.transfers == transfers
    sent = [request for request in bank.requests if request.path.endswith("/transfer-intrabank")]
    assert len(sent) == 1


@pytest.mark.parametrize("name", [*WITH_A_BANK, *WITHOUT, *CLIENTS, *SNAP, "wrong_clock"])
def test_an_example_is_small(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize(("name", "expected"), CLIENTS.items())
def test_an_example_of_another_client_runs_by_itself(name, expected):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    lines = run(name, {})
    assert matches(lines, expected), lines


def test_the_httpx_example_sends_a_rejected_call_once_more(bank, make_handler, monkeypatch):
    httpx = pytest.importorskip("httpx")
    handler = make_handler(bank.credentials())
    monkeypatch.setenv("PERMATA_TOKEN_URL", bank.url)  # so that the example starts no bank
    example = runpy.run_path(str(EXAMPLES / "httpx_client.py"))
    with httpx.Client(auth=example["PermataHttpxAuth"](handler)) as client:
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
        bank.revoke(handler.get_token())
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
        bank.reject_tokens_for(60)
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 403
    assert bank.calls_by_status == {"200": 2, "403": 3}
    assert bank.logins == 3


def test_the_httpx_example_corrects_a_wrong_clock(make_bank, make_handler, monkeypatch):
    httpx = pytest.importorskip("httpx")
    bank = make_bank(timestamp_tolerance=20.0)
    handler = make_handler(bank.credentials())
    monkeypatch.setenv("PERMATA_TOKEN_URL", bank.url)
    example = runpy.run_path(str(EXAMPLES / "httpx_client.py"))
    with httpx.Client(auth=example["PermataHttpxAuth"](handler)) as client:
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
        bank.clock_skew = 600.0
        for _ in range(2):
            assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
    assert bank.calls_by_status == {"200": 3, "403": 1}
    assert handler.info().clock_offset == pytest.approx(600, abs=20)


def test_the_httpx_example_signs_with_credentials_that_have_changed(
    bank, make_handler, monkeypatch, secrets
):
    httpx = pytest.importorskip("httpx")
    loaded = [bank.credentials()]
    handler = make_handler(RotatingCredentials(lambda: loaded[-1]))
    monkeypatch.setenv("PERMATA_TOKEN_URL", bank.url)
    example = runpy.run_path(str(EXAMPLES / "httpx_client.py"))
    with httpx.Client(auth=example["PermataHttpxAuth"](handler)) as client:
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
        secrets.add("example-new-key")
        bank.rotate(static_key="example-new-key")
        loaded.append(bank.credentials())
        assert client.post(f"{bank.url}/apiservice/x", json={}).status_code == 200
    assert bank.calls_by_status == {"200": 2, "403": 1}
    assert bank.logins == 1


@pytest.mark.parametrize(
    ("code", "faults", "more"),
    [(0, 0, {}), (75, 1, {}), (1, 0, {"PERMATA_TOKEN_URL": "nonsense"})],
)
def test_the_example_of_a_service_tells_whether_to_start_it_again(bank, code, faults, more):
    if faults:
        bank.fail_next(faults, status=429, retry_after=90, on="token")  # longer than it waits
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PERMATA_")}
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / "wait_until_ready.py")],
        env={**outside, "PYTHONPATH": str(EXAMPLES.parent), **bank.environment(), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_example_of_a_wrong_clock_costs_one_request(capsys):
    runpy.run_path(str(EXAMPLES / "wrong_clock.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["200"] * 3 + ["timestamps refused: 1", lines[-1]]
    assert lines[-1] in ("corrected by 599 s", "corrected by 600 s", "corrected by 601 s")


def test_four_calls_of_the_asyncio_example_share_one_login(bank):
    lines = run("asyncio_calls", bank.environment())
    assert lines[:4] == ["200 00"] * 4
    assert bank.logins == 1
    assert bank.calls_by_status == {"200": 4}


def test_the_example_of_users_tests_passes(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "-c", str(tmp_path / "pytest.ini"), str(EXAMPLES / "test_balance.py")],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout


def cron(bank, **more):
    """Run the script for cron; return its exit code."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PERMATA_")}
    url = {"BALANCE_URL": bank.url + "/apiservice/x"}
    env = {**outside, "PYTHONPATH": str(EXAMPLES.parent), **bank.environment(), **url, **more}
    arguments = more.get("ARGUMENTS", "701075323").split()
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / "cron_script.py"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    assert (ended.stderr == "") == (ended.returncode == 0)
    return ended.returncode


def test_the_script_for_cron_prints_what_the_bank_says(bank):
    assert cron(bank) == 0


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (75, {"on": "calls", "status": 503}),
        (75, {"on": "calls", "status": 429}),
        (75, {"on": "calls", "fault": "drop"}),
        (75, {"on": "calls", "fault": "truncated"}),
        (75, {"on": "token", "status": 503}),
        (75, {"on": "token", "fault": "reset"}),
        (1, {"on": "calls", "status": 400}),
        (1, {"on": "token", "status": 401}),
        (1, {"on": "token", "fault": "html"}),
    ],
)
def test_the_script_for_cron_tells_whether_to_try_later(bank, code, fault):
    bank.fail_for(60, **fault)
    assert cron(bank) == code


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (1, {"PERMATA_CLIENT_ID": ""}),
        (1, {"PERMATA_TOKEN_URL": "nonsense"}),
        (1, {"PERMATA_TOKEN_STORE": "ftp://x"}),
        (1, {"PERMATA_TOKEN_STORE": "redis://127.0.0.1?x=1"}),
        (1, {"BALANCE_URL": "nonsense"}),
        (1, {"BALANCE_URL": "http://bank.invalid/x"}),
        (1, {"ARGUMENTS": ""}),
        (75, {"BALANCE_URL": "https://127.0.0.1:1/x"}),
        (75, {"BALANCE_URL": "https://bank.invalid/x"}),
        (75, {"PERMATA_TOKEN_URL": "http://127.0.0.1:1/token"}),
    ],
)
def test_the_script_for_cron_has_no_traceback_for_wrong_settings(bank, code, more):
    assert cron(bank, **more) == code


def test_the_secret_of_a_mount_is_read_in_production_too(bank, tmp_path):
    for name, value in bank.environment().items():
        (tmp_path / name.lower()).write_text(value)
    [line] = run("kubernetes_secret", {"PERMATA_SECRETS_DIR": str(tmp_path)})
    assert "1 logins" in line
    assert bank.logins == 1
