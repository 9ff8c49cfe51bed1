"""``sign --explain``: the string that was signed, and the known wrong form of a signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

import pytest

pytest.importorskip("click")
pytest.importorskip("cryptography")

from click.testing import CliRunner
from support import keys
from test_snap_signing import CALLS, H2, WRONG

from permata_auth.cli import cli

SNAP = keys.SNAP
STAMP, TOKEN, SECRET = SNAP["timestamp"], SNAP["token"], SNAP["client_secret"]
KEY = SECRET.encode()
HOST = "https://merchant.invalid"
ENVIRONMENT = {
    "PERMATA_SCHEME": "snap",
    "PERMATA_SNAP_TOKEN_URL": "https://bank.invalid/snap/v1.0/access-token/b2b",
    "PERMATA_SNAP_CLIENT_ID": SNAP["client_id"],
    "PERMATA_SNAP_CLIENT_SECRET": SECRET,
    "PERMATA_SNAP_PRIVATE_KEY": SNAP["private_key"],
    "PERMATA_SNAP_CHANNEL_ID": "12345",
    "MY_TOKEN": TOKEN,
}
CLASSIC = {
    "PERMATA_TOKEN_URL": "https://bank.invalid/token",
    "PERMATA_API_KEY": "example-api-key",
    "PERMATA_CLIENT_ID": "example-client-id",
    "PERMATA_CLIENT_SECRET": "example-client-secret-7",
    "PERMATA_STATIC_KEY": "example-static-key-7",
    "MY_TOKEN": TOKEN,
}
#: For each wrong form of the vectors, what it is called.
SENTENCES = {
    "upper-case hash": "a hash in upper case",
    "Bearer in token": "Bearer before the token",
    "host in path": "the host in the path",
    "raw H3 hashed": "the body's hash after raw",
    "body+LF": "a line feed after the minified body or a line feed after the body",
    "keys sorted": "the body's keys sorted",
    "python default separators": "the body with Python's default separators "
    "or the same, without \\u escapes",
    "base64 body hash": "a hash in base64",
    "ts ms": "a timestamp with milliseconds",
    "ts Z": "a timestamp in UTC (Z)",
    "no token": "no token",
    "sha512 body": "a hash by SHA-512",
    "lower method": "the method in lower case",
    "trailing slash": "a slash after the path",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch, secrets):
    for name in list(os.environ):
        if name.startswith("PERMATA_"):
            monkeypatch.delenv(name)
    secrets.add(TOKEN, SECRET, CLASSIC["PERMATA_STATIC_KEY"], CLASSIC["PERMATA_CLIENT_SECRET"])


@pytest.fixture
def explain(secrets, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("a request was sent")

    def explain(*arguments, call=H2, env=ENVIRONMENT, url=None, token=True):
        monkeypatch.setattr("socket.socket.connect", connect)
        words = ["sign", call["method"], url or HOST + call["path"], "--explain", *arguments]
        words += ["--data", call["body"]] if call["body"] else []
        words += ["--token-env", "MY_TOKEN"] if token else []
        result = CliRunner().invoke(cli, words, env=env)
        assert result.exit_code == 0, result.output
        assert not secrets.found_in(result.output)
        return dict(re.findall(r"^([A-Z][a-z ]+): *(.*)$", result.stdout, re.MULTILINE))

    return explain


def hmac_of(text, key=KEY, digest="sha512"):
    return hmac.digest(key, text.encode(), digest)


def base64_of(signature):
    return base64.b64encode(signature).decode()


def message(**changes):
    parts = {
        "method": "POST",
        "path": H2["path"],
        "token": TOKEN,
        "hash": H2["sha256"],
        "stamp": STAMP,
        **changes,
    }
    return ":".join(text for text in parts.values() if text is not None)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_string_of_every_vector_is_shown_and_its_signature_right(explain, call):
    shown = explain("--timestamp", STAMP, "--expected", call["signature"], call=call)
    mask = f"<token {hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}>"
    expected = f"{call['method']}:{call['path']}:{mask}:{call['sha256']}:{STAMP}"
    assert shown["String to sign"] == expected
    assert shown["Body hash"] == call["sha256"]
    assert shown["Expected"].startswith("right")


@pytest.mark.parametrize("name", SENTENCES)
def test_every_wrong_form_of_the_vectors_has_its_name(explain, name):
    assert SENTENCES.keys() == SNAP["wrong"].keys()
    call = CALLS["H3"] if name == "raw H3 hashed" else H2
    parts = {"method": "POST", "path": H2["path"], "token": TOKEN, "hash": H2["sha256"]}
    text = ":".join(WRONG[name]({**parts, "stamp": STAMP}).values())
    given = base64_of(hmac_of(text))
    assert given.startswith(SNAP["wrong"][name])
    for signature in (given, SNAP["wrong"][name]):  # a log may have cut it off
        shown = explain("--timestamp", STAMP, "--expected", signature, call=call)
        assert shown["Expected"] == f"wrong: {SENTENCES[name]}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (message(hash=SNAP["strip_all"]["sha256"]), "the body's hash after strip_all"),
        (message(hash=None), "no hash"),
        (message(hash=""), "an empty hash"),
        (message(token=""), "an empty token"),
        (message(path=f"merchant.invalid{H2['path']}"), "the host without its scheme in the path"),
        (message(stamp="2025-09-11T08:24:18+07:00"), "a timestamp of UTC labelled +07:00"),
        (f"{SNAP['client_id']}|{STAMP}", "the string of a login, signed with the client secret"),
    ],
)
def test_further_wrong_strings_have_their_names(explain, text, sentence):
    given = base64_of(hmac_of(text))
    assert explain("--timestamp", STAMP, "--expected", given)["Expected"] == f"wrong: {sentence}"


@pytest.mark.parametrize(
    ("url", "path", "sentence"),
    [
        ("/snap/v1.0/x?b=2&a=1%2F", "/snap/v1.0/x", "the path without its query"),
        ("/snap/v1.0/x?b=2&a=1%2F", "/snap/v1.0/x?a=1%2F&b=2", "the query sorted"),
        ("/snap/v1.0/x?b=2&a=1%2F", "/snap/v1.0/x?b=2&a=1/", "the path and query decoded"),
        ("/snap/v1.0/x?b=2&a=1%2F", "/v1.0/x?b=2&a=1%2F", "the path from its version on"),
    ],
)
def test_wrong_paths_have_their_names(explain, url, path, sentence):
    given = base64_of(hmac_of(message(path=path)))
    shown = explain("--timestamp", STAMP, "--expected", given, url=HOST + url)
    assert shown["Expected"] == f"wrong: {sentence}"


def test_a_signature_may_be_written_otherwise(explain):
    right = base64.b64decode(H2["signature"])
    broken = "\n".join([H2["signature"][:64], H2["signature"][64:]])
    url_safe = base64.urlsafe_b64encode(right).decode()
    for given in (broken, url_safe, H2["signature"].rstrip("=")):
        assert explain("--timestamp", STAMP, "--expected", given)["Expected"].startswith("right")
    for given in (SNAP["hex"]["signature"], SNAP["hex"]["signature"].upper()):
        shown = explain("--timestamp", STAMP, "--expected", given)
        assert shown["Expected"] == "wrong: the right one, written in hex in place of base64"
    given = hmac_of(message(token=None)).hex()
    shown = explain("--timestamp", STAMP, "--expected", given)
    assert shown["Expected"] == "wrong: no token, written in hex"


@pytest.mark.parametrize("secret", ["example+c2VjcmV0", "0123456789abcdef"])
def test_wrong_secrets_have_their_names(explain, secret, secrets):
    secrets.add(secret)
    env = {**ENVIRONMENT, "PERMATA_SNAP_CLIENT_SECRET": secret}
    wrong = {
        "a + of the client secret as a space": secret.replace("+", " ").encode(),
        "a line feed after the client secret": secret.encode() + b"\n",
    }
    if secret.isalnum():
        del wrong["a + of the client secret as a space"]
        wrong["the client secret decoded from base64"] = base64.b64decode(secret)
        wrong["the client secret decoded from hex"] = bytes.fromhex(secret)
    for sentence, key in wrong.items():
        given = base64_of(hmac_of(message(), key))
        shown = explain("--timestamp", STAMP, "--expected", given, env=env)
        assert shown["Expected"] == f"wrong: {sentence}"
    given = base64_of(hmac_of(message(), secret.encode(), "sha256"))
    shown = explain("--timestamp", STAMP, "--expected", given, env=env)
    assert shown["Expected"] == "wrong: an HMAC by SHA-256"


def test_asymmetric_signatures_are_explained_without_a_token(explain):
    env = {**ENVIRONMENT, "PERMATA_SNAP_TRANSACTION_SIGNATURE": "asymmetric"}
    rsa = {vector["name"]: vector for vector in SNAP["rsa"]}
    given = ["--timestamp", STAMP, "--expected"]
    shown = explain(*given, rsa["A1"]["signature"], env=env, token=False)
    assert shown["String to sign"] == rsa["A1"]["message"]
    assert shown["Expected"].startswith("right")
    shown = explain(*given, rsa["T1"]["signature"], env=env, token=False)
    assert shown["Expected"] == "wrong: the string of a login, signed with the private key"
    shown = explain(*given, H2["signature"], env=env)
    assert shown["Expected"] == "wrong: the symmetric signature"
    shown = explain(*given, rsa["A1"]["signature"])
    assert shown["Expected"] == "wrong: the asymmetric signature"


def test_what_is_no_known_form_is_said_to_be_none(explain):
    shown = explain("--timestamp", STAMP, "--expected", base64_of(hmac_of("example")))
    assert re.match(r"unknown: neither right nor one of \d+ known wrong forms", shown["Expected"])
    shown = explain("--timestamp", "nonsense", "--expected", H2["signature"])
    assert shown["Expected"].startswith("unknown")
    assert shown["Timestamp"] == "nonsense"
    assert explain("--expected", "7UWV")["Expected"].startswith("needs")
    body = {**H2, "body": "[" * 5000}
    assert explain("--expected", H2["signature"], call=body)["Expected"].startswith("unknown")


def test_without_a_token_the_string_is_shown_and_nothing_is_sent(explain):
    shown = explain("--timestamp", STAMP, token=False)
    assert shown["String to sign"] == message(token="<token>")
    assert "Headers" not in shown


def test_the_classic_string_is_explained_too(explain):
    stamp, call = "2025-09-11T15:24:18.007+07:00", {**H2, "body": '{"a": "b c"}'}
    arguments = ["--timestamp", stamp, "--expected"]
    key = CLASSIC["PERMATA_STATIC_KEY"].encode()
    text = f'{TOKEN}:{stamp}:{{"a":"bc"}}'
    mask = f"<token {hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}>"
    for signed, sentence in {
        text: "right: it is that of the string above",
        f'{TOKEN}:{stamp}:{{"a":"b c"}}': "wrong: the body after minify",
        f'{TOKEN}:{stamp}:{{"a": "b c"}}': "wrong: the body after raw",
        text.replace(".007", ""): "wrong: a timestamp without milliseconds",
        f"Bearer {text}": "wrong: Bearer before the token",
        text.removeprefix(f"{TOKEN}:"): "wrong: no token",
    }.items():
        given = base64_of(hmac_of(signed, key, "sha256"))
        shown = explain(*arguments, given, call=call, env=CLASSIC)
        assert shown["String to sign"] == text.replace(TOKEN, mask)
        assert shown["Expected"].startswith(sentence)
    given = base64_of(hmac_of(text, CLASSIC["PERMATA_CLIENT_SECRET"].encode(), "sha256"))
    shown = explain(*arguments, given, call=call, env=CLASSIC)
    assert shown["Expected"] == "wrong: client_secret in place of static_key"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--expected", H2["signature"]], "need --explain"),
        (["--timestamp", STAMP], "need --explain"),
        (["--explain", "--expected", H2["signature"]], "--token-env"),
    ],
)
def test_a_wrong_command_line_says_what_is_missing(arguments, text):
    result = CliRunner().invoke(cli, ["sign", "POST", HOST, *arguments], env=ENVIRONMENT)
    assert result.exit_code == 2
    assert text in result.stderr
