from __future__ import annotations

import os
import re
import socket

import pytest

pytest.importorskip("rich")
pytest.importorskip("filelock")

from click.testing import CliRunner
from support.clients import token

from permata_auth import FileTokenStore
from permata_auth.cli import cli

CHECKS = ["configuration", "name", "connection", "clock", "login", "signature", "store"]


@pytest.fixture(autouse=True)
def _no_credentials_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def environment(bank, tmp_path):
    return bank.environment() | {"PERMATA_TOKEN_STORE": (tmp_path / "tokens").as_uri()}


@pytest.fixture
def shared(tmp_path):
    """The store that the environment names."""
    return FileTokenStore(tmp_path / "tokens")


def invoke(*args, env=None):
    return CliRunner().invoke(cli, args, env=env)


def doctor(env, *args):
    """Return the exit code, and for each check its verdict and its sentence."""
    result = invoke("doctor", *args, env=env)
    lines = [re.split(r"\s+", line, maxsplit=2) for line in result.stdout.splitlines()]
    assert [name for _, name, _ in lines] == CHECKS, result.output
    return result.exit_code, {name: (verdict, sentence) for verdict, name, sentence in lines}


def verdicts(checks) -> str:
    return " ".join(verdict for verdict, _ in checks.values())


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_healthy_machine_passes_every_check_in_order(bank, environment, secrets):
    result = invoke("doctor", env=environment)
    assert result.exit_code == 0, result.output
    code, checks = doctor(environment)
    assert (code, verdicts(checks)) == (0, "ok ok ok ok ok ok ok")
    assert bank.logins == 2
    assert bank.calls_by_status["200"] == 2
    assert not secrets.found_in(result.output)


def test_the_new_token_is_left_to_the_others(bank, environment, shared):
    _, checks = doctor(environment)
    stored = shared.load(bank.credentials().key)
    assert stored.fingerprint in checks["login"][1]


def test_what_is_not_set_up_is_passed_over(bank):
    env = bank.environment()
    del env["PERMATA_CALLBACK_STATUS_URL"]
    code, checks = doctor(env)
    assert (code, verdicts(checks)) == (0, "ok ok ok ok ok - -")
    assert "--url" in checks["signature"][1]
    assert "PERMATA_TOKEN_STORE is not set" in checks["store"][1]
    code, checks = doctor(env, "--url", bank.callback_status_url)
    assert checks["signature"][0] == "ok"


def test_without_a_configuration_nothing_else_is_tried(bank):
    code, checks = doctor({"PERMATA_CLIENT_ID": "example"})
    assert (code, verdicts(checks)) == (1, "FAIL - - - - - -")
    assert "PERMATA_STATIC_KEY is missing" in checks["configuration"][1]
    code, checks = doctor(bank.environment(), "--url", "http://example.invalid/")
    assert "the URL for signed calls must be https" in checks["configuration"][1]


def test_an_unknown_host_name_is_named(environment):
    environment["PERMATA_TOKEN_URL"] = "https://bank.invalid/token"
    code, checks = doctor(environment)
    assert (code, verdicts(checks)) == (75, "ok FAIL FAIL - - - ok")
    assert "bank.invalid is not known here" in checks["name"][1]


def test_a_refused_connection_is_worth_waiting_for(environment):
    environment["PERMATA_TOKEN_URL"] = f"http://127.0.0.1:{closed_port()}/token"
    code, checks = doctor(environment)
    assert (code, verdicts(checks)) == (75, "ok ok FAIL - - - ok")
    assert "Connection refused" in checks["connection"][1]


def test_a_certificate_that_is_not_trusted_is_not_worth_waiting_for(environment, tmp_path):
    pytest.importorskip("cryptography")
    from support.certificates import Authority
    from support.wire import RawServer

    with RawServer(lambda sock: sock.recv(1), context=Authority(tmp_path).context()) as server:
        environment["PERMATA_TOKEN_URL"] = f"{server.url}/token"
        code, checks = doctor(environment)
    assert code == 1
    assert "certificate was refused" in checks["connection"][1]


def test_a_proxy_is_left_to_look_up_the_name(environment):
    environment["PERMATA_TOKEN_URL"] = "https://bank.invalid/token"
    environment["HTTPS_PROXY"] = f"http://127.0.0.1:{closed_port()}"
    _, checks = doctor(environment)
    assert checks["name"] == ("-", "left to the proxy that the environment names")
    assert "no complete response from the proxy" in checks["connection"][1]


@pytest.mark.parametrize(("skew", "words"), [(600.0, "behind"), (-600.0, "ahead of")])
def test_a_clock_that_is_off_is_the_operators_to_correct(make_bank, environment, skew, words):
    bank = make_bank(clock_skew=skew)
    code, checks = doctor(environment | bank.environment())
    assert code == 1
    verdict, sentence = checks["clock"]
    assert verdict == "FAIL"
    assert re.search(rf"(59|60|61)[0-9] s {words} the server's; its operator corrects it", sentence)
    assert checks["login"][0] == "FAIL"


def test_refused_credentials_are_named(environment, secrets):
    secrets.add("example-wrong-secret")
    environment["PERMATA_CLIENT_SECRET"] = "example-wrong-secret"
    code, checks = doctor(environment)
    assert (code, verdicts(checks)) == (1, "ok ok ok ok FAIL - ok")
    assert "check the client id" in checks["login"][1]
    assert not secrets.found_in(checks["login"][1])


def test_a_bank_that_is_down_for_now_is_worth_waiting_for(bank, environment):
    bank.fail_next(status=503, on="token")
    assert doctor(environment)[0] == 75
    bank.fail_next(status=503, on="any")
    bank.clear_faults()
    assert doctor(environment)[0] == 0


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"status": 403, "body": {"ErrorDescription": "Signature Not Valid"}}, 1, "STATIC_KEY"),
        ({"status": 401}, 1, "rejects a token"),
        ({"status": 403}, 1, "ORGANIZATION_NAME"),
        ({"status": 503}, 75, "(HTTP 503); wait"),
    ],
)
def test_a_signed_call_that_is_refused_says_who_can_change_that(
    make_bank, environment, fault, code, words
):
    bank = make_bank()
    environment |= bank.environment()
    # The front page is a call, too.
    bank.fail_next(1, "status", on="calls", status=404)
    bank.fail_next(1, "status", on="calls", **fault)
    ended, checks = doctor(environment)
    assert checks["signature"][0] == "FAIL"
    assert words in checks["signature"][1]
    assert ended == code


def test_a_bank_that_minds_the_empty_body_has_accepted_the_signature(bank, environment):
    bank.callback_reply = (400, b'{"StatusCode":"06"}', "application/json")
    code, checks = doctor(environment)
    assert (code, checks["signature"]) == (
        0,
        ("ok", "accepted, the signed call was answered with HTTP 400"),
    )


def test_a_store_that_fails_says_what_to_do(bank, environment, tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    folder.chmod(0o777)
    code, checks = doctor(environment)
    assert (code, checks["store"][0]) == (75, "FAIL")
    assert "chmod 700" in checks["store"][1]
    environment["PERMATA_TOKEN_STORE"] = "nonsense"
    code, checks = doctor(environment)
    assert code == 1
    assert "PERMATA_TOKEN_STORE must be" in checks["store"][1]


def test_a_store_without_its_extra_says_what_to_install(environment, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "filelock", None)
    monkeypatch.delitem(sys.modules, "permata_auth.stores.file", raising=False)
    code, checks = doctor(environment)
    assert code == 1
    assert "pip install 'permata-auth[file]'" in checks["store"][1]


def test_store_show_names_the_token_by_its_fingerprint(bank, environment, shared, secrets):
    saved = token(lifetime=500)
    secrets.add(saved.value)
    shared.save(bank.credentials().key, saved)
    result = invoke("store", "show", env=environment)
    assert result.exit_code == 0
    assert re.search(rf"Token: {saved.fingerprint}, (500|499) s left, until ", result.stdout)
    assert str(shared.path) in result.stdout
    assert not secrets.found_in(result.output)
    assert bank.login_attempts == 0


def test_store_show_of_an_empty_store_says_so(environment):
    assert "Token: none that lives" in invoke("store", "show", env=environment).stdout


def test_store_clear_removes_the_token(bank, environment, shared):
    saved = token()
    shared.save(bank.credentials().key, saved)
    result = invoke("store", "clear", env=environment)
    assert (result.exit_code, result.stdout) == (0, f"Removed token {saved.fingerprint}.\n")
    assert shared.load(bank.credentials().key) is None
    assert invoke("store", "clear", env=environment).stdout == "There was no token to remove.\n"


@pytest.mark.parametrize("command", ["show", "clear"])
def test_without_a_store_there_is_nothing_to_show(bank, command):
    result = invoke("store", command, env=bank.environment())
    assert result.exit_code == 1
    assert "PERMATA_TOKEN_STORE is not set" in result.stderr


def test_a_store_that_is_down_may_be_up_later(bank):
    pytest.importorskip("redis")
    url = f"redis://:example-password@127.0.0.1:{closed_port()}"
    result = invoke("store", "show", env=bank.environment() | {"PERMATA_TOKEN_STORE": url})
    assert result.exit_code == 75
    assert "example-password" not in result.output


def test_it_says_where_each_setting_came_from_and_shows_no_value(environment, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(environment.pop("PERMATA_CLIENT_SECRET"))
    key = tmp_path / "permata_static_key"
    key.write_text(environment.pop("PERMATA_STATIC_KEY"))
    files = {"PERMATA_CLIENT_SECRET_FILE": str(secret), "PERMATA_SECRETS_DIR": str(tmp_path)}
    code, checks = doctor(environment | files)
    assert code == 0
    _, sentence = checks["configuration"]
    assert f"PERMATA_CLIENT_SECRET from {secret}" in sentence
    assert f"PERMATA_STATIC_KEY from {key}" in sentence
    assert "PERMATA_API_KEY, PERMATA_CLIENT_ID" in sentence
    assert "from the environment" in sentence
    assert secret.read_text() not in sentence
    assert key.read_text() not in sentence
    secret.unlink()
    code, checks = doctor(environment | files)
    assert code == 1
    assert "PERMATA_CLIENT_SECRET_FILE" in checks["configuration"][1]
