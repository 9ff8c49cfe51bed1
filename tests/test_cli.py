from __future__ import annotations

import base64
import contextlib
import fcntl
import hmac
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from support.scripts import Script, run

from permata_auth.cli import cli
from permata_auth.cli.screen import Screen
from permata_auth.sandbox import Sandbox

RUN = "from permata_auth.__main__ import run; raise SystemExit(run())"
TRACE = "Traceback"
URL = "https://bank.invalid/apiservice/x/add"
OFFLINE = {
    "PERMATA_TOKEN_URL": "https://bank.invalid/token",
    "PERMATA_API_KEY": "example-api-key",
    "PERMATA_CLIENT_ID": "example-client-id",
    "PERMATA_CLIENT_SECRET": "example-client-secret",
    "PERMATA_STATIC_KEY": "example-static-key",
    "PERMATA_ORGANIZATION_NAME": "example-organization",
    "MY_TOKEN": "example-token-of-mine",
}


@pytest.fixture(autouse=True)
def _no_credentials_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def invoke(*args, env=None, **options):
    return CliRunner().invoke(cli, args, env=env, **options)


def eventually(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def token_of(bank):
    (value,) = bank._tokens
    return value


def lines_until(script, text):
    """Read output up to the line with ``text``; the script's own end ends it too."""
    lines = [script.line()]
    while text not in lines[-1]:
        assert lines[-1], lines
        lines.append(script.line())
    return lines


class Terminal:
    """A program that runs on a terminal of 100 x 35; all that it draws is in ``text``."""

    def __init__(self, *args, env):
        self.text = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 35, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *args],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **env}
            | {"TERM": "xterm-256color"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.communicate(timeout=60)
        self._reader.join(10)
        os.close(self._ours)

    def _read(self):
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while data := os.read(self._ours, 65536):
                self.text += data.decode(errors="replace")

    def end(self, timeout=30.0):
        _, err = self.process.communicate(timeout=timeout)
        self._reader.join(timeout)
        return self.process.returncode, err


def test_token_prints_one_token_and_nothing_else(bank):
    result = invoke("token", env=bank.environment())

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == token_of(bank) + "\n"
    assert bank.logins == 1


@pytest.mark.bank(token_lifetime=600.0)
def test_token_as_json_says_type_scope_and_expiry(bank):
    result = invoke("token", "--json", env=bank.environment())

    answer = json.loads(result.stdout)
    expires_in, expires_at = answer.pop("expires_in"), answer.pop("expires_at")
    assert 570 <= expires_in <= 600
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", expires_at)
    assert answer == {
        "access_token": token_of(bank),
        "token_type": "Bearer",
        "scope": "resource.READ resource.WRITE",
    }


def test_every_missing_setting_is_named_in_one_line():
    result = invoke("token")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    for name in ("TOKEN_URL", "API_KEY", "CLIENT_ID", "CLIENT_SECRET", "STATIC_KEY"):
        assert f"PERMATA_{name} is missing" in result.stderr


@pytest.mark.parametrize("command", [["token"], ["watch"], ["sign", "GET", URL]])
def test_a_refusal_is_permanent_and_an_outage_is_temporary(bank, secrets, command):
    environment = bank.environment()
    secrets.add("example-wrong-secret")
    refused = run(
        RUN, *command, env={**environment, "PERMATA_CLIENT_SECRET": "example-wrong-secret"}
    )
    bank.go_down()
    unreachable = run(RUN, *command, env=environment)

    assert (refused.status, unreachable.status) == (1, 75)
    for ended in (refused, unreachable):
        assert ended.out == ""
        assert re.fullmatch(r"Error: .+\n", ended.err)
        assert not secrets.found_in(ended.err)


@pytest.mark.parametrize(
    "command",
    [
        ["bogus"],
        ["token", "--bogus"],
        ["demo", "--seconds", "1"],
        ["demo", "--threads", "0"],
        ["sandbox", "--token-lifetime", "nan"],
        ["sandbox", "--latency", "-1"],
        ["sandbox", "--port", "65536"],
        ["sign", "POST"],
        ["sign", "POST", "nonsense", "--token-env", "MY_TOKEN"],
        ["sign", "POST", URL, "--token-env", "UNSET"],
        ["sign", "POST", URL, "--token-env", "SPACED"],
        ["sign", "POST", URL, "--token-env", "MY_TOKEN", "--data", "@/nowhere/at/all"],
        ["sign", "POST", URL, "--token-env", "MY_TOKEN", "--canonicalizer", "bogus"],
    ],
)
def test_a_wrong_command_line_ends_with_2(command):
    ended = run(RUN, *command, env={**OFFLINE, "SPACED": "not a token"})

    assert (ended.status, ended.out) == (2, "")
    assert "Error: " in ended.err
    assert TRACE not in ended.err
    assert "not a token" not in ended.err


@pytest.mark.parametrize("command", ["demo", "token", "watch", "sandbox", "sign"])
def test_help_has_an_example(command):
    result = invoke(command, "--help")

    assert result.exit_code == 0
    assert f"permata-auth {command}" in result.stdout.partition("Example:")[2]


def test_the_module_and_the_console_script_are_the_same_command():
    script = Path(sys.executable).with_name("permata-auth")
    for command in ([sys.executable, "-m", "permata_auth"], [str(script)]):
        ended = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
        assert re.fullmatch(r"permata-auth, version \S+\n", ended.stdout)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_command_says_what_to_install(missing):
    ended = run(f"import sys; sys.modules[{missing!r}] = None\n{RUN}", "token")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "permata-auth needs click and rich: pip install 'permata-auth[cli]'\n"


@pytest.mark.parametrize("command", ["demo", "sandbox"])
def test_without_the_sandbox_extra_the_command_says_what_to_install(command):
    ended = run(f"import sys; sys.modules['werkzeug'] = None\n{RUN}", command)

    assert (ended.status, ended.out) == (2, "")
    assert re.fullmatch(r"Error: .+ pip install 'permata-auth\[sandbox\]'\n", ended.err)


def test_another_missing_module_is_not_taken_for_the_extra():
    ended = run(f"import sys; sys.modules['requests'] = None\n{RUN}", "token")

    assert ended.status == 1
    assert "import of requests halted" in ended.err


@pytest.mark.parametrize(("flag", "level"), [("-v", "INFO"), ("-vv", "DEBUG")])
def test_log_records_go_to_stderr_when_asked_for(bank, secrets, flag, level):
    bank.fail_next(1, status=503, retry_after=0, on="token")
    verbose = run(RUN, "token", flag, env=bank.environment())

    assert verbose.out == token_of(bank) + "\n"
    assert "INFO permata_auth.handler: Logged in" in verbose.err
    assert "WARNING permata_auth.login: Attempt 1 failed" in verbose.err
    assert ("DEBUG" in verbose.err) <= (level == "DEBUG")
    assert not secrets.found_in(verbose.err)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_ends_a_login_at_once_and_quietly(bank, signum, status):
    bank.hold_next(on="token")
    with Script(RUN, "token", env=bank.environment()) as script:
        eventually(lambda: bank.login_attempts)
        script.process.send_signal(signum)
        ended = script.end(timeout=20)  # a login's budget is longer

    assert (ended.status, ended.out, ended.err.strip()) == (status, "", "")


@pytest.mark.parametrize("command", [["token"], ["demo", "--seconds", "5"]])
def test_a_closed_pipe_ends_it_quietly(bank, command):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *command],
            env={**os.environ, **bank.environment()},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (1, "")


def signature(token, stamp, payload):
    message = f"{token}:{stamp}:".encode() + payload
    return base64.b64encode(hmac.digest(b"example-static-key", message, "sha256")).decode()


def sign_offline(*args, **options):
    result = invoke("sign", "post", URL, "--token-env", "MY_TOKEN", *args, env=OFFLINE, **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return dict(re.findall(r"^ *([^:\n]+): *(.*)$", result.stdout, re.MULTILINE)), result.stdout


def test_sign_shows_what_is_signed_and_masks_the_token_and_the_keys(secrets):
    secrets.add(OFFLINE["MY_TOKEN"])
    shown, output = sign_offline("--data", '{"name": "Kerry Fisher"}')

    stamp = shown["permata-timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+07:00", stamp)
    assert shown["Timestamp"] == stamp
    assert shown["Canonicalizer"] == "strip_all"
    assert shown["Payload"] == '{"name":"KerryFisher"}'
    assert shown["String to sign"] == f'<token 23d5be7d>:{stamp}:{{"name":"KerryFisher"}}'
    assert shown["Authorization"] == "Bearer <token 23d5be7d>"
    assert shown["organizationname"] == "example-organization"
    assert shown["permata-signature"] == signature(
        OFFLINE["MY_TOKEN"], stamp, b'{"name":"KerryFisher"}'
    )
    assert not secrets.found_in(output)


def test_sign_shows_the_token_only_when_asked_to(secrets):
    shown, output = sign_offline("--show-token")

    assert shown["Authorization"] == f"Bearer {OFFLINE['MY_TOKEN']}"
    assert shown["String to sign"].startswith(f"{OFFLINE['MY_TOKEN']}:")
    assert not secrets.found_in(output)


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_sign_takes_the_bytes_of_a_body_as_they_are(tmp_path, source):
    body = b'{"a": "\xff \xc3\xa9"}\n'
    path = tmp_path / "body.json"
    path.write_bytes(body)
    shown, _ = sign_offline(
        "--data", f"@{path}" if source == "file" else "@-", "--canonicalizer", "raw", input=body
    )

    assert shown["Canonicalizer"] == "raw"
    assert shown["permata-signature"] == signature(
        OFFLINE["MY_TOKEN"], shown["permata-timestamp"], body
    )


def test_sign_logs_in_when_no_token_is_given_and_the_bank_takes_what_it_shows(bank, secrets):
    target = f"{bank.url}/apiservice/x/add"
    masked = run(RUN, "sign", "POST", target, "--data", "{}", env=bank.environment())
    shown = run(RUN, "sign", "POST", target, "--data", "{}", "--show-token", env=bank.environment())

    assert (masked.status, bank.logins) == (0, 2)
    assert not secrets.found_in(masked.out, masked.err)
    headers = dict(re.findall(r"^  ([^:\n]+): (.*)$", shown.out, re.MULTILINE))
    with requests.post(target, data=b"{}", headers=headers, timeout=10) as answer:
        assert answer.status_code == 200


def test_sign_without_an_organization_name_is_a_matter_of_configuration():
    environment = {**OFFLINE, "PERMATA_ORGANIZATION_NAME": ""}
    result = invoke("sign", "GET", URL, "--token-env", "MY_TOKEN", env=environment)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "organization_name" in result.stderr


def test_the_sandbox_prints_what_a_shell_can_export_and_serves_until_it_is_stopped(tmp_path):
    options = ["--token-lifetime", "7.5", "--latency", "0.01", "--clock-skew", "-2"]
    options += ["--single-token", "--reuse-token", "--reject-tokens"]
    options += ["--lock-after", "10", "--login-limit", "20"]
    with Script(RUN, "sandbox", *options) as script:
        exports = lines_until(script, "PERMATA_CALLBACK_STATUS_URL")
        (tmp_path / "bank.env").write_text("\n".join(exports))
        code = f". {tmp_path}/bank.env; exec {shlex.quote(sys.executable)} -m permata_auth token"
        token = subprocess.run(
            ["sh", "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
        base = exports[0].partition("=")[2].partition("/apiservice")[0]
        with requests.get(f"{base}/__sandbox__/settings", timeout=10) as answer:
            settings = answer.json()
        script.process.send_signal(signal.SIGTERM)
        ended = script.end()

    assert all(re.fullmatch(r"export PERMATA_[A-Z_]+=\S+", line) for line in exports)
    assert re.fullmatch(r"[\w-]{43}\n", token.stdout)
    assert settings["token_lifetime"] == 7.5
    assert (settings["latency"], settings["clock_skew"]) == (0.01, -2.0)
    assert settings["single_token"] is settings["reuse_token"] is settings["reject_tokens"] is True
    assert (settings["lock_after"], settings["login_limit"]) == (10, 20)
    assert (ended.status, ended.out) == (143, "")
    assert ended.err == f"The bank is open at {base}; Ctrl-C closes it.\n"


def test_the_sandbox_listens_on_the_port_asked_for_and_says_when_it_cannot(bank):
    taken = run(RUN, "sandbox", "--port", str(bank.url.rpartition(":")[2]))
    with Sandbox() as other:
        port = other.url.rpartition(":")[2]
    with Script(RUN, "sandbox", "--port", port) as script:
        assert f":{port}/" in script.line()
        script.process.send_signal(signal.SIGINT)
        ended = script.end()

    assert (taken.status, taken.out) == (1, "")
    assert re.fullmatch(r"Error: cannot listen on port \d+: .+ in use\n", taken.err)
    assert ended.status == 130
    assert TRACE not in ended.err


@pytest.mark.bank(token_lifetime=2.0)
def test_watch_keeps_a_token_fresh_through_an_outage_and_ends_on_ctrl_c(bank, secrets):
    with Script(RUN, "watch", env=bank.environment()) as script:
        lines = lines_until(script, "new token")
        lines += lines_until(script, "new token")
        with bank.down():
            lines += lines_until(script, "login failed")
            # Once the token has died the refresh has given up, and the next is on demand.
            eventually(lambda: time.monotonic() > bank.tokens_issued[-1].expires_at + 0.5)
        lines += lines_until(script, "new token")
        script.process.send_signal(signal.SIGINT)
        ended = script.end()

    assert (ended.status, ended.err.strip()) == (130, "")
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d  "
    assert all(re.match(stamp, line) for line in lines)
    assert [t.fingerprint for t in bank.tokens_issued][:3] == [
        line.split()[4].rstrip(",") for line in lines if "new token" in line
    ]
    assert sum("login failed" in line for line in lines) == 1  # not one line for each attempt
    assert not secrets.found_in(*lines, ended.out, ended.err)


@pytest.mark.bank(token_lifetime=1.0)
def test_watch_gives_up_when_the_credentials_are_refused_and_no_token_is_left(bank):
    with Script(RUN, "watch", env=bank.environment()) as script:
        lines_until(script, "new token")
        bank.fail_for(60, status=401, body=b'{"error": "invalid_client"}', on="token")
        ended = script.end()

    assert ended.status == 1
    assert re.fullmatch(r"Error: .*invalid_client.*\n", ended.err)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_watch_on_a_terminal_is_a_live_view_that_leaves_the_terminal_in_order(
    bank, secrets, signum, status
):
    with Terminal("watch", env=bank.environment()) as terminal:
        eventually(lambda: "expires in" in terminal.text)
        terminal.process.send_signal(signum)
        code, err = terminal.end()

    assert (code, err.strip()) == (status, "")
    assert bank.tokens_issued[0].fingerprint in terminal.text
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l") > -1  # the cursor
    assert not secrets.found_in(terminal.text)


def test_the_sandbox_runs_a_command_for_as_long_as_that_lasts(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    code = "import sys; from permata_auth.__main__ import run; sys.exit(run() or 7)"
    ended = run(RUN, "sandbox", sys.executable, "-c", code, "token", "--json")
    assert (ended.status, ended.err) == (7, "")
    assert json.loads(ended.out)["token_type"] == "Bearer"
    killed = run(RUN, "sandbox", "sh", "-c", "kill -9 $$")
    assert killed.status == 137
    missing = run(RUN, "sandbox", "/nowhere/at/all")
    assert (missing.status, missing.out) == (2, "")
    assert "cannot run /nowhere/at/all" in missing.err


@pytest.mark.parametrize("command", ["sandbox"])
def test_the_example_in_the_help_works(command, monkeypatch):
    lines = invoke(command, "--help").stdout.partition("Example:\n")[2].splitlines()
    assert lines
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in filter(str.strip, lines):
        ended = subprocess.run(
            ["sh", "-ec", line],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, TRACE in ended.stderr) == (0, False), ended.stderr


def test_the_request_log_names_what_was_asked_on_one_line_each():
    with Script(RUN, "sandbox", "-v") as script:
        exports = lines_until(script, "PERMATA_CALLBACK_STATUS_URL")
        url = exports[0].partition("=")[2].strip("'")
        requests.get(url, timeout=10).close()
        requests.get(url.replace("/oauth/token", "/a%0Ab%C3%A9%1B"), timeout=10).close()
        script.process.send_signal(signal.SIGINT)
        ended = script.end()
    log = [line for line in ended.err.splitlines() if "Sandbox answered" in line]
    assert len(log) == 2
    assert log[0].endswith("Sandbox answered GET /apiservice/oauth/token: 405 (Method Not Allowed)")
    assert r"GET /apiservice/a\nb\xe9\x1b: 403 (token missing)" in log[1]


@pytest.mark.parametrize("command", [["token"], ["sign", "POST", URL], ["watch"]])
def test_a_timeout_ends_a_login_that_does_not_end(bank, command):
    with bank.hold_next(10, on="token"):
        ended = run(RUN, *command, "--timeout", "0.3", env=bank.environment())
    assert (ended.status, ended.out) == (75, "")
    assert re.fullmatch(r"Error: .+\n", ended.err)
    assert ended.seconds < 20


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_stdout_of_few_characters_gets_no_traceback(bank, encoding):
    env = {**bank.environment(), "PYTHONIOENCODING": encoding}
    signed = run(RUN, "sign", "POST", URL, "--data", '{"a":"\u540d"}', env=env)
    assert (signed.status, signed.err) == (0, "")
    assert re.search(r'^Payload: +{"a":"[^"]+"}$', signed.out, re.MULTILINE)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_live_view_is_drawn_with_the_characters_there_are(bank, encoding):
    with Terminal("watch", env={**bank.environment(), "PYTHONIOENCODING": encoding}) as terminal:
        eventually(lambda: "expires in" in terminal.text)
        terminal.process.send_signal(signal.SIGINT)
        code, err = terminal.end()
    assert (code, err.strip()) == (130, "")


def test_a_program_without_metadata_knows_its_version():
    code = f"""
        import importlib.metadata
        def nothing(name):
            raise importlib.metadata.PackageNotFoundError(name)
        importlib.metadata.distribution = importlib.metadata.version = nothing
        {RUN}
        """
    ended = run(code, "--version")
    assert ended.status == 0
    assert re.fullmatch(r"permata-auth, version \d+\.\d+\S*\n", ended.out)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_a_summary(signum, status):
    with Script(RUN, "demo") as script:
        lines_until(script, "first login")
        script.process.send_signal(signum)
        ended = script.end()
    assert (ended.status, ended.err.strip()) == (status, "")
    assert re.search(r"^Calls +\d", ended.out, re.MULTILINE)
    assert re.search(r"^Result +interrupted; so far no call failed", ended.out, re.MULTILINE)


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_no_width_cuts_a_line_of_a_summary(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    Screen().summarise([("Result", "no call failed, no call waited for a login")])
    assert "\nResult        no call failed, no call waited for a login\n" in capsys.readouterr().out


def test_a_narrow_width_does_not_cut_the_summary_of_the_demo():
    ended = run(RUN, "demo", "--seconds", "5", env={"COLUMNS": "20"})
    assert ended.status == 0
    assert "no call failed, no call waited for a login\n" in ended.out
    assert "\u2026" not in ended.out
    assert all(line == line.rstrip() for line in ended.out.splitlines())


def no_token_in(text):
    return not re.search(r"[\w-]{40,}", text)


def test_the_demo_passes_and_prints_plain_lines_where_there_is_no_terminal(secrets):
    # Though the environment asks for colours: an escape sequence in a file is of no use.
    ended = run(RUN, "demo", "--seconds", "5", env={"FORCE_COLOR": "1"})

    assert (ended.status, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert ended.out.count("new token") >= 3
    down, failed, back, new = (
        ended.out.index(text)
        for text in ("the bank goes DOWN", "login failed", "the bank is back", "new token")
    )
    assert new < down < failed < back < ended.out.rindex("new token")
    assert re.search(r"^Calls +\d+,\d{3}", ended.out, re.MULTILINE)
    assert re.search(r"^Failed calls +0 *$", ended.out, re.MULTILINE)
    assert re.search(r"^Signed calls +\d+ accepted", ended.out, re.MULTILINE)
    assert "refused" not in ended.out.rpartition("Signed calls")[2]
    assert "no call failed, no call waited for a login" in ended.out
    assert no_token_in(ended.out)
    assert not secrets.found_in(ended.out)


def test_the_demo_is_a_live_view_on_a_terminal(secrets):
    with Terminal("demo", "--seconds", "5", "--threads", "4", env={}) as terminal:
        code, err = terminal.end()

    assert (code, err) == (0, "")
    for text in ("permata-auth demo, 4 of 5 s", "expires in", "DOWN", "from 4 threads"):
        assert text in terminal.text
    assert "no call failed" in terminal.text.rpartition("\x1b[?25h")[2]
    assert no_token_in(terminal.text)
    assert not secrets.found_in(terminal.text)


def test_the_demo_fails_when_a_call_waited_for_a_login():
    code = f"""
        import functools
        from permata_auth.cli import demo
        demo._Witness = functools.partial(demo._Witness, background=False)
        {RUN}
    """
    ended = run(code, "demo", "--seconds", "5")

    assert (ended.status, ended.err) == (1, "")
    assert re.search(r"^Failed calls +0 *$", ended.out, re.MULTILINE)
    assert re.search(r"^Waited calls +[1-9]", ended.out, re.MULTILINE)
    assert "no call failed" not in ended.out


def test_the_demo_fails_when_the_bank_stays_down_for_longer_than_the_token_lives():
    code = f"""
        from permata_auth.cli import demo
        demo._Demo._take_down = lambda self: self.over.wait(1.0) or self.bank.go_down()
        {RUN}
    """
    ended = run(code, "demo", "--seconds", "5")

    assert (ended.status, ended.err) == (1, "")
    assert re.search(r"^Failed calls +[1-9]", ended.out, re.MULTILINE)
    assert "no call failed" not in ended.out


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_ends_the_demo_at_once_and_quietly(signum, status):
    with Script(RUN, "demo", "--seconds", "600") as script:
        lines_until(script, "first login")
        script.process.send_signal(signum)
        ended = script.end()

    assert (ended.status, ended.err.strip()) == (status, "")
