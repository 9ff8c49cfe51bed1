from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
WITH_A_BANK = {
    "quickstart": ["'StatusCode': '00'", "1 logins"],
    "signed_request": ["200 {'StatusCode': '00'"],
    "callback_status": ["200 00 Success"],
    "webhook_forwarding": [
        "200 delivery_receipt True {'StatusCode': '00'",
        "200 ignored False {'StatusCode': '00'",
        "400 invalid False {'StatusCode': '06'",
        "b'5'",
    ],
}
WITHOUT = {"custom_scheduler": ["1 sessions, service", "2 sessions", "3 sessions"]}


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


@pytest.mark.parametrize("name", WITH_A_BANK | WITHOUT | SNAP)
def test_an_example_is_small(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 40


def cron(bank, **more):
    """Run the script for cron; return its exit code and what it printed."""
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
