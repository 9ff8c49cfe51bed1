"""SnapCredentials: settings, the login's signature, a call's headers, ids."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import itertools
import os
import pickle
import threading
import time

import attrs
import pytest
from fuzz import oracles
from hypothesis import given
from hypothesis import strategies as st
from support import keys
from support.keys import SNAP
from support.scripts import run
from support.snap import CLIENT_ID, SECRET, compact, credentials
from test_pem import PRIVATE_MISTAKES

from permata_auth import (
    ConfigurationError,
    InvalidTokenResponseError,
    SignatureError,
    SnapCredentials,
    _clock,
)
from permata_auth._settings import require_members
from permata_auth.schemes.base import Scheme, signed_names

MARK = "EXAMPLE-MARK"
TOKEN = SNAP["token"]
URL = "https://bank.invalid"
JSON_LIKE = st.lists(
    st.sampled_from([b'"', b"\\", b" ", b"\t", b"\n", b"\r", b"{", b":", b"a"])
).map(b"".join)
POSIX = 1757579058.007  # of the vectors, and a few milliseconds


@pytest.fixture
def stands_still(monkeypatch):
    monkeypatch.setattr(_clock, "wall", lambda: POSIX)


def sign(scheme, *, method="POST", path="/v1.0/balance-inquiry", body=b"{}", **arguments):
    return scheme.sign(TOKEN, method, URL + path, body, **arguments)


# The login.


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize(
    ("form", "vector"), [("seconds", "T1"), ("milliseconds", "T2"), ("utc", "T3")]
)
def test_a_login_is_signed_as_in_the_vectors(form, vector):
    (found,) = [each for each in SNAP["rsa"] if each["name"] == vector]
    request = credentials(timestamp_form=form).token_request()
    assert request.headers == {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "X-TIMESTAMP": found["message"].partition("|")[2],
        "X-CLIENT-KEY": CLIENT_ID,
        "X-SIGNATURE": found["signature"],
    }
    assert request.body == b'{"grantType":"client_credentials"}'
    assert request.url == credentials().token_url


@pytest.mark.usefixtures("stands_still")
def test_a_login_may_be_signed_with_the_secret():
    scheme = credentials(token_signature="symmetric", private_key=None)
    (vector,) = SNAP["token_hmac"]
    assert scheme.token_request().headers["X-SIGNATURE"] == vector["signature"]


@pytest.mark.usefixtures("stands_still")
def test_a_login_may_be_signed_in_hex():
    request = credentials(signature_encoding="hex").token_request()
    signature = base64.b64decode(SNAP["rsa"][0]["signature"])
    assert request.headers["X-SIGNATURE"] == signature.hex()


def test_the_clock_offset_moves_every_time_that_is_signed(monkeypatch):
    monkeypatch.setattr(_clock, "wall", lambda: POSIX + 7200.0)
    request = credentials().token_request(clock_offset=-7200.0)
    assert request.headers["X-TIMESTAMP"] == SNAP["timestamp"]
    headers = sign(credentials(), clock_offset=-7200.0)
    assert headers["X-TIMESTAMP"] == SNAP["timestamp"]
    assert headers["X-EXTERNAL-ID"].startswith("20250911152418")


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        ("900", 900.0),
        (900, 900.0),
        (900.5, 900.5),
        ("9e2", 900.0),
        (" 900 ", 900.0),
        (None, None),
        (10**100, 10 * 365.25 * 86_400),
        ("1" + "0" * 100, 10 * 365.25 * 86_400),
    ],
)
def test_a_lifetime_may_be_written_in_these_ways(expires_in, lifetime):
    body = {"accessToken": TOKEN, "expiresIn": expires_in}
    assert credentials().read_token_response(compact(body)).lifetime == lifetime


def test_a_lifetime_may_be_missing():
    response = credentials().read_token_response(compact({"accessToken": TOKEN}))
    assert response.lifetime is None
    assert credentials().default_lifetime == 900.0


@pytest.mark.parametrize(
    "expires_in", ["0", "-1", 0, -1, True, False, "", "x", "NaN", [900], {}, "0x10", "9 00"]
)
def test_a_token_with_any_other_lifetime_is_of_no_use(expires_in):
    body = {"accessToken": TOKEN, "expiresIn": expires_in}
    with pytest.raises(InvalidTokenResponseError):
        credentials().read_token_response(compact(body))


def test_nan_is_no_lifetime():
    with pytest.raises(InvalidTokenResponseError):
        credentials().read_token_response(b'{"accessToken":"x","expiresIn":NaN}')


@pytest.mark.parametrize("type_", ["Bearer", "bearer", "BearerToken", "Mac", "", None, 1])
def test_the_type_of_a_token_is_of_no_account(type_):
    body = {"accessToken": TOKEN, "tokenType": type_, "expiresIn": "900"}
    response = credentials().read_token_response(compact(body))
    assert (response.value, response.token_type) == (TOKEN, "Bearer")
    assert sign(credentials())["Authorization"] == f"Bearer {TOKEN}"


# Calls.


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize("vector", SNAP["calls"], ids=lambda vector: vector["name"])
def test_a_call_is_signed_as_in_the_vectors(vector):
    scheme = credentials()
    body = vector["body"].encode()
    headers = sign(scheme, method=vector["method"], path=vector["path"], body=body)
    assert len(headers.pop("X-EXTERNAL-ID")) == 32
    assert headers == {
        "X-TIMESTAMP": SNAP["timestamp"],
        "X-SIGNATURE": vector["signature"],
        "X-PARTNER-ID": CLIENT_ID,
        "CHANNEL-ID": "12345",
        "Authorization": f"Bearer {TOKEN}",
        **({"Content-Type": "application/json"} if body else {}),
    }


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize(("vector", "call"), [("A1", "H2"), ("A2", "H10")])
def test_an_asymmetric_call_is_signed_as_in_the_vectors(vector, call):
    (expected,) = [each for each in SNAP["rsa"] if each["name"] == vector]
    (found,) = [each for each in SNAP["calls"] if each["name"] == call]
    scheme = credentials(transaction_signature="asymmetric", client_secret=None)
    body = found["body"].encode()
    headers = sign(scheme, method=found["method"], path=found["path"], body=body)
    assert headers["X-SIGNATURE"] == expected["signature"]
    assert "Authorization" not in headers
    assert scheme.needs_token is False
    assert credentials().needs_token is True


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize("name", ["hex", "strip_all"])
def test_encoding_and_canonicaliser_are_settings(name):
    (call,) = [each for each in SNAP["calls"] if each["name"] == "H2"]
    arguments = {"path": call["path"], "body": call["body"].encode()}
    setting = {"hex": {"signature_encoding": "hex"}, "strip_all": {"canonicalizer": "strip_all"}}
    headers = sign(credentials(**setting[name]), **arguments)
    assert headers["X-SIGNATURE"] == SNAP[name]["signature"]
    if name == "strip_all":
        headers = sign(credentials(), canonicalizer=name, **arguments)
        assert headers["X-SIGNATURE"] == SNAP[name]["signature"]


@given(
    st.one_of(JSON_LIKE, st.binary()),
    st.sampled_from(["GET", "post", "Put"]),
    st.sampled_from(["", "/", "/v1.0/x", "/snap/v1.0/x?b=%2B&a=", "/x?v1.0"]),
    st.sampled_from(["minify", "strip_all", "raw"]),
)
def test_a_call_is_signed_as_the_rules_read(body, method, path, rule):
    headers = sign(credentials(canonicalizer=rule), method=method, path=path, body=body)
    payload = getattr(oracles, rule, bytes)(body)
    digest = hashlib.sha256(payload).hexdigest()
    parts = [method.upper(), path or "/", TOKEN, digest, headers["X-TIMESTAMP"]]
    expected = hmac.digest(SECRET.encode(), ":".join(parts).encode(), "sha512")
    assert base64.b64decode(headers["X-SIGNATURE"], validate=True) == expected


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/proxy/v1.0/x?b=2&a=1"),
        ({"sign_query": False}, "/proxy/v1.0/x"),
        ({"signed_prefix": "/"}, "/v1.0/x?b=2&a=1"),
        ({"signed_prefix": "/snap", "sign_query": False}, "/snap/v1.0/x"),
    ],
)
def test_the_path_is_signed_as_the_settings_say(settings, path):
    found = sign(credentials(**settings), path="/proxy/v1.0/x?b=2&a=1")
    plain = sign(credentials(), path=path)
    assert found["X-SIGNATURE"] == plain["X-SIGNATURE"]


@pytest.mark.usefixtures("stands_still")
@pytest.mark.parametrize("secret", ["MTIzNA==", "a+b/c=", "616263", "a b"])
def test_the_secret_is_used_as_text(secret):
    scheme = credentials(client_secret=secret)
    digest = hashlib.sha256(b"{}").hexdigest()
    text = f"POST:/x:{TOKEN}:{digest}:{SNAP['timestamp']}"
    expected = hmac.digest(secret.encode(), text.encode(), "sha512")
    found = sign(scheme, path="/x")["X-SIGNATURE"]
    assert base64.b64decode(found) == expected


def test_partner_and_origin_are_settings():
    headers = sign(credentials(partner_id="example-partner", origin="example.invalid"))
    assert headers["X-PARTNER-ID"] == "example-partner"
    assert headers["ORIGIN"] == "example.invalid"
    scheme = credentials(origin="example.invalid", origin_header="X-ORIGIN")
    headers = sign(scheme)
    assert headers["X-ORIGIN"] == "example.invalid"
    assert {"X-ORIGIN", "CHANNEL-ID", "X-SIGNATURE"} <= set(signed_names(scheme))
    assert "ORIGIN" not in headers
    assert "ORIGIN" not in sign(credentials())


def test_without_a_channel_one_can_log_in_but_not_call():
    scheme = credentials(channel_id=None)
    assert scheme.token_request()
    for call in (lambda: sign(scheme), lambda: signed_names(scheme)):
        with pytest.raises(ConfigurationError, match=r"^channel_id is needed to sign calls$"):
            call()


def test_a_canonicaliser_that_does_not_exist_is_refused():
    for call in (sign, signed_names):
        with pytest.raises(ConfigurationError, match=r"^canonicalizer must be one of"):
            call(credentials(), canonicalizer="example")


@pytest.mark.parametrize("kind", ["token", "symmetric", "asymmetric"])
def test_header_and_signature_have_the_same_timestamp_on_a_racing_clock(monkeypatch, kind):
    seconds = itertools.count(1_757_579_058)
    monkeypatch.setattr(_clock, "wall", lambda: float(next(seconds)))
    if kind == "token":
        scheme = credentials(token_signature="symmetric")
        headers = scheme.token_request().headers
        text = f"{CLIENT_ID}|{headers['X-TIMESTAMP']}"
    else:
        scheme = credentials(transaction_signature=kind)
        headers = sign(scheme, path="/x")
        bearer = f"{TOKEN}:" if kind == "symmetric" else ""
        digest = hashlib.sha256(b"{}").hexdigest()
        text = f"POST:/x:{bearer}{digest}:{headers['X-TIMESTAMP']}"
    if kind == "asymmetric":
        keys.KEY.public_key().verify(
            base64.b64decode(headers["X-SIGNATURE"]), text.encode(), *keys.RSA_SHA256
        )
    else:
        expected = hmac.digest(SECRET.encode(), text.encode(), "sha512")
        assert base64.b64decode(headers["X-SIGNATURE"]) == expected
    # Made anew each time.
    again = scheme.token_request().headers if kind == "token" else sign(scheme, path="/x")
    assert again["X-TIMESTAMP"] != headers["X-TIMESTAMP"]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Jakarta", "Asia/Kathmandu"])
@pytest.mark.usefixtures("stands_still")
def test_the_zone_of_this_machine_does_not_matter(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        headers = sign(credentials())
        assert headers["X-TIMESTAMP"] == SNAP["timestamp"]
        assert headers["X-EXTERNAL-ID"].startswith("20250911152418")
    finally:
        monkeypatch.undo()
        time.tzset()


# External ids.


def ids_of(scheme, count):
    return [sign(scheme)["X-EXTERNAL-ID"] for _ in range(count)]


def test_ids_are_the_time_in_jakarta_and_random_digits(monkeypatch):
    monkeypatch.setattr(_clock, "wall", lambda: 1757609999.9)
    for length in (24, 32, 36):
        found = ids_of(credentials(external_id_length=length), 20)
        assert len(set(found)) == 20
        for each in found:
            assert len(each) == length
            assert each.isascii()
            assert each.isdigit()
            assert each.startswith("20250911235959")


def test_ten_thousand_ids_of_eight_threads_are_distinct():
    scheme = credentials()
    found = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def make(into):
        barrier.wait(20)
        into.extend(ids_of(scheme, 1250))

    threads = [threading.Thread(target=make, args=(each,)) for each in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(itertools.chain(*found))) == 10_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("fork", ["hooked", "in_c"])
def test_forked_processes_make_ids_of_their_own(tmp_path, fork):
    code = """
        import sys
        from pathlib import Path
        from permata_auth import _clock
        from support.forking import in_child, reap
        from support.snap import credentials

        _clock.wall = lambda: 1757579058.0  # so that nothing but chance tells them apart
        scheme = credentials()

        def ids(count):
            url = "https://bank.invalid/v1.0/balance-inquiry"
            signed = (scheme.sign("example-token", "POST", url, b"{}") for _ in range(count))
            return [headers["X-EXTERNAL-ID"] for headers in signed]

        def write(name):
            Path(sys.argv[2], name).write_text(" ".join(ids(500)))

        ids(10)
        reap(*[in_child(lambda: write(str(number)), sys.argv[1]) for number in range(4)])
        write("parent")
        """
    ended = run(code, fork, str(tmp_path))
    assert (ended.status, ended.err) == (0, "")
    found = [each for file in tmp_path.iterdir() for each in file.read_text().split()]
    assert len(set(found)) == 2500


def test_ids_may_come_from_the_caller():
    numbers = itertools.count(1)
    scheme = credentials(external_id=lambda: f"{next(numbers):09d}", external_id_length=9)
    assert ids_of(scheme, 3) == ["000000001", "000000002", "000000003"]


def test_an_id_is_made_for_a_real_call_alone():
    made = []
    scheme = credentials(external_id=lambda: made.append(1) or "1")
    assert set(signed_names(scheme)) >= set(sign(scheme)) - {"Content-Type"}
    scheme.token_request()
    assert len(made) == 1
    with pytest.raises(ConfigurationError):
        sign(scheme, canonicalizer="example")
    assert len(made) == 1


@pytest.mark.parametrize("made", ["", "1" * 37, "a b", "é", "1\r\nX: y", "1\n", 1, None, b"1"])
def test_an_id_of_the_caller_that_no_bank_takes_is_refused(made):
    scheme = credentials(external_id=lambda: made)
    with pytest.raises(SignatureError, match=r"^external_id must return letters, digits"):
        sign(scheme)


# Settings.


def refused(make=credentials, **settings):
    """Return the text of the error for credentials with these settings."""
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert MARK not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    return str(caught.value)


TEXT = "must be printable ASCII with no space around it"
FLAG = "must be true or false"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"token_url": None}, "token_url is missing"),
        ({"token_url": "http://bank.invalid/x"}, "token_url must be https://"),
        ({"client_id": ""}, "client_id is missing"),
        ({"client_id": f"{MARK}\n"}, f"client_id {TEXT}"),
        ({"client_secret": None}, "client_secret is missing"),
        ({"client_secret": f"{MARK}é"}, f"client_secret {TEXT}"),
        ({"partner_id": f" {MARK}"}, f"partner_id {TEXT}"),
        ({"channel_id": f"{MARK}\r\nX: y"}, f"channel_id {TEXT}"),
        ({"channel_id": 12345}, f"channel_id {TEXT}"),
        ({"origin": f"{MARK}\0"}, f"origin {TEXT}"),
        ({"origin_header": f"{MARK}:"}, "origin_header must be the name of an HTTP header"),
        ({"timestamp_form": MARK}, "timestamp_form must be one of seconds, milliseconds, utc"),
        ({"timestamp_form": [MARK]}, "timestamp_form must be one of seconds, milliseconds, utc"),
        (
            {"transaction_signature": MARK},
            "transaction_signature must be one of symmetric, asymmetric",
        ),
        ({"token_signature": MARK}, "token_signature must be one of asymmetric, symmetric"),
        ({"signature_encoding": MARK}, "signature_encoding must be one of base64, hex"),
        ({"canonicalizer": MARK}, "canonicalizer must be one of strip_all, minify, raw"),
        ({"sign_query": "true"}, f"sign_query {FLAG}"),
        ({"allow_insecure_http": 1}, f"allow_insecure_http {FLAG}"),
        ({"allow_short_key": None}, f"allow_short_key {FLAG}"),
        ({"signed_prefix": MARK}, "signed_prefix must be a path that begins with /"),
        ({"signed_prefix": f"/{MARK}?x"}, "signed_prefix must be a path that begins with /"),
        ({"signed_prefix": ""}, "signed_prefix must be a path that begins with /"),
        ({"external_id": MARK}, "external_id must be a function that returns an id"),
        ({"external_id_length": 23}, "external_id_length must be a whole number from 24 to 36;"),
        ({"external_id_length": 37}, "external_id_length must be a whole number from 24 to 36;"),
        ({"external_id_length": True}, "external_id_length must be a whole number from 24 to 36;"),
        ({"external_id_length": "32"}, "external_id_length must be a whole number from 24 to 36;"),
        ({"private_key": None}, "private_key is missing, and so is a file of it"),
        ({"private_key": ""}, "private_key is missing, and so is a file of it"),
        ({"private_key": 5}, "private_key must be text"),
        ({"private_key_passphrase": 5}, "private_key_passphrase must be text"),
        (
            {"private_key_file": "key.pem"},
            (
                "private_key and a file of it are both given; leave one of the two; "
                "private_key_file and the key itself are both given; leave one of the two"
            ),
        ),
    ],
    ids=repr,
)
def test_each_setting_is_refused_by_name_alone(settings, sentence):
    found = refused(**settings)
    assert found.startswith(sentence)
    if not sentence.endswith(("https://", ";")):
        assert found == sentence


@pytest.mark.parametrize("case", PRIVATE_MISTAKES)
def test_each_mistake_with_the_key_is_named(case):
    text, passphrase, sentence = PRIVATE_MISTAKES[case]
    found = refused(private_key=text, private_key_passphrase=passphrase)
    expected = "is missing, and so is a file of it" if text == "" else sentence
    assert found == f"private_key {expected}"


def test_one_error_names_all_that_is_wrong():
    found = refused(
        token_url=MARK, client_id=None, client_secret=f"{MARK} ", private_key="/x", sign_query=MARK
    )
    names = [sentence.partition(" ")[0] for sentence in found.split("; ")]
    assert names == ["token_url", "client_id", "client_secret", "private_key", "the", "sign_query"]


def test_only_what_is_used_is_needed():
    assert credentials(token_signature="symmetric", private_key=None)
    assert credentials(transaction_signature="asymmetric", client_secret=None)


def test_a_short_key_and_plain_http_may_be_allowed():
    short = keys.private_pem(keys.short())
    assert "too short" in refused(private_key=short)
    assert "too short" in refused(private_key=keys.short())
    scheme = credentials(
        private_key=short,
        allow_short_key=True,
        token_url="http://bank.invalid/v1.0/access-token/b2b",
        allow_insecure_http=True,
    )
    assert len(base64.b64decode(scheme.token_request().headers["X-SIGNATURE"])) == 128


def test_the_key_may_come_from_a_file_or_be_loaded_already(tmp_path):
    file = tmp_path / "key.pem"
    file.write_bytes(b"\xef\xbb\xbf" + keys.ENCRYPTED.replace("\n", "\r\n").encode())
    from_file = credentials(
        private_key=None, private_key_file=file, private_key_passphrase=keys.PASSPHRASE
    )
    file.unlink()  # it is read once
    loaded = credentials(private_key=keys.KEY)
    assert from_file == loaded == credentials(private_key=keys.PKCS1)
    assert from_file != credentials(private_key=keys.another())
    assert from_file.derive_key("x") == loaded.derive_key("x")
    assert attrs.evolve(loaded, channel_id="54321").channel_id == "54321"


def test_a_file_that_holds_no_key_is_named(tmp_path):
    def of(path):
        return refused(private_key=None, private_key_file=path)

    file = tmp_path / MARK
    assert of(file) == "private_key_file names no file"
    assert of(tmp_path) == "private_key_file names no file"
    assert of(f"{MARK}\0") in (
        "private_key_file names a file that cannot be read",
        "private_key_file names no file",
    )
    assert of(["x"]) == "private_key_file names a file that cannot be read"
    file.write_bytes(keys.DER)
    assert of(file) == "private_key_file names a file that holds no text"
    file.write_bytes(b" " * 70_000)
    assert of(file) == "private_key_file names a file of more than 64 KiB"
    file.write_text(keys.PUBLIC)
    assert of(file) == "private_key_file is a public key; the private key is needed"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        assert of(tmp_path / "fifo") == "private_key_file names no file"


ENVIRONMENT = {
    "PERMATA_SNAP_TOKEN_URL": "https://bank.invalid/v1.0/access-token/b2b",
    "PERMATA_SNAP_CLIENT_ID": CLIENT_ID,
    "PERMATA_SNAP_CLIENT_SECRET": SECRET,
    "PERMATA_SNAP_PRIVATE_KEY": keys.PEM.replace("\n", r"\n"),
}


def test_the_environment_gives_every_setting(monkeypatch):
    for name, value in {
        **ENVIRONMENT,
        "PERMATA_SNAP_PRIVATE_KEY": keys.ENCRYPTED,
        "PERMATA_SNAP_PRIVATE_KEY_PASSPHRASE": keys.PASSPHRASE,
        "PERMATA_SNAP_PARTNER_ID": "example-partner",
        "PERMATA_SNAP_CHANNEL_ID": " 12345\n",
        "PERMATA_SNAP_ORIGIN": "example.invalid",
        "PERMATA_SNAP_ORIGIN_HEADER": "X-ORIGIN",
        "PERMATA_SNAP_TIMESTAMP_FORM": "utc",
        "PERMATA_SNAP_TRANSACTION_SIGNATURE": "asymmetric",
        "PERMATA_SNAP_TOKEN_SIGNATURE": "symmetric",
        "PERMATA_SNAP_SIGNATURE_ENCODING": "hex",
        "PERMATA_SNAP_CANONICALIZER": "raw",
        "PERMATA_SNAP_SIGN_QUERY": "No",
        "PERMATA_SNAP_SIGNED_PREFIX": "/x",
        "PERMATA_SNAP_EXTERNAL_ID_LENGTH": "24",
        "PERMATA_SNAP_ALLOW_INSECURE_HTTP": "true",
        "PERMATA_SNAP_ALLOW_SHORT_KEY": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert SnapCredentials.from_env() == SnapCredentials(
        token_url=ENVIRONMENT["PERMATA_SNAP_TOKEN_URL"],
        client_id=CLIENT_ID,
        client_secret=SECRET,
        private_key=keys.PEM,
        partner_id="example-partner",
        channel_id="12345",
        origin="example.invalid",
        origin_header="X-ORIGIN",
        timestamp_form="utc",
        transaction_signature="asymmetric",
        token_signature="symmetric",
        signature_encoding="hex",
        canonicalizer="raw",
        sign_query=False,
        signed_prefix="/x",
        external_id_length=24,
        allow_insecure_http=True,
        allow_short_key=True,
    )


def test_blank_is_unset():
    names = [field.name for field in attrs.fields(SnapCredentials) if field.init]
    blank = {f"PERMATA_SNAP_{name.upper()}": " \n" for name in names}
    plain = SnapCredentials.from_env(ENVIRONMENT)
    assert SnapCredentials.from_env({**blank, **ENVIRONMENT}) == plain
    assert plain == credentials(token_url=plain.token_url, channel_id=None)


def test_another_prefix_a_file_and_a_function(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(keys.PEM)
    environ = {
        "X_TOKEN_URL": ENVIRONMENT["PERMATA_SNAP_TOKEN_URL"],
        "X_CLIENT_ID": CLIENT_ID,
        "X_CLIENT_SECRET": SECRET,
        "X_PRIVATE_KEY_FILE": str(file),
        "X_CHANNEL_ID": "12345",
        "X_EXTERNAL_ID_LENGTH": "9",
    }
    scheme = SnapCredentials.from_env(environ, prefix="X_", external_id=lambda: "000000001")
    assert sign(scheme)["X-EXTERNAL-ID"] == "000000001"


def test_one_error_names_every_variable_that_is_wrong(tmp_path):
    file = tmp_path / MARK
    environ = {
        "PERMATA_SNAP_TOKEN_URL": MARK,
        "PERMATA_SNAP_PRIVATE_KEY_FILE": str(file),
        "PERMATA_SNAP_CHANNEL_ID": f"{MARK}é",
        "PERMATA_SNAP_SIGN_QUERY": MARK,
        "PERMATA_SNAP_EXTERNAL_ID_LENGTH": MARK,
        "PERMATA_SNAP_CANONICALIZER": MARK,
    }
    found = refused(lambda: SnapCredentials.from_env(environ))
    for name in (*environ, "PERMATA_SNAP_CLIENT_ID", "PERMATA_SNAP_CLIENT_SECRET"):
        assert f"{name} " in found


def test_an_error_of_the_environment_has_no_secret_in_its_frames(secrets):
    secrets.add(SECRET, keys.PASSPHRASE, keys.ENCRYPTED[100:140])
    environ = {
        **ENVIRONMENT,
        "PERMATA_SNAP_PRIVATE_KEY": keys.ENCRYPTED,
        "PERMATA_SNAP_PRIVATE_KEY_PASSPHRASE": f"not {keys.PASSPHRASE}",
    }
    with pytest.raises(ConfigurationError) as caught:
        SnapCredentials.from_env(environ)
    assert str(caught.value) == (
        "PERMATA_SNAP_PRIVATE_KEY is encrypted, and the passphrase does not open it"
    )
    assert not secrets.found_in_error(caught.value)


# Its place among schemes.


def test_it_is_a_scheme():
    require_members(Scheme, "credentials", credentials())


def test_it_shows_no_secret_and_cannot_be_pickled(secrets):
    scheme = credentials(private_key_passphrase=MARK, partner_id=MARK)
    text = repr(scheme)
    assert MARK not in text
    assert not [each for each in (SECRET, CLIENT_ID, keys.PEM[60:90]) if each in text]
    assert "token_url='https://bank.invalid/snap/v1.0/access-token/b2b'" in text
    with pytest.raises(TypeError, match="SnapCredentials cannot be pickled"):
        pickle.dumps(scheme)
    assert copy.copy(scheme) is copy.deepcopy(scheme) is scheme
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        scheme.client_secret = "x"


def test_its_key_is_the_token_url_and_the_client_id():
    key = credentials().key
    assert len(key) == 32
    assert credentials(client_secret="another", private_key=keys.another()).key == key
    assert credentials(channel_id=None, canonicalizer="raw").key == key
    assert credentials(client_id="another").key != key
    assert credentials(token_url="https://other.invalid/").key != key


def test_keys_are_derived_from_both_secrets():
    derived = credentials().derive_key("x")
    assert len(derived) == 32
    assert credentials(private_key=keys.PKCS1, channel_id=None).derive_key("x") == derived
    others = [
        credentials().derive_key("y"),
        credentials(client_secret="another").derive_key("x"),
        credentials(private_key=keys.another()).derive_key("x"),
        credentials(client_id="another").derive_key("x"),
    ]
    assert len({derived, *others}) == 5


def test_without_the_extra_it_can_be_imported_and_says_what_is_missing():
    ended = run(
        f"""
        import sys
        sys.modules["cryptography"] = None
        import permata_auth
        from permata_auth import SnapCredentials

        given = dict(token_url="https://bank.invalid/", client_id="x", client_secret="y")
        try:
            SnapCredentials(private_key={keys.PEM!r}, **given)
        except ImportError as error:
            print(error)
        scheme = SnapCredentials(token_signature="symmetric", channel_id="1", **given)
        print(len(scheme.sign("t", "GET", "https://bank.invalid/", b"")))
        """
    )
    out = "RSA keys need cryptography: pip install 'permata-auth[snap]'\n6\n"
    assert (ended.status, ended.out, ended.err) == (0, out, "")


def test_checks_do_not_depend_on_assertions():
    ended = run(
        f"""
        from permata_auth import ConfigurationError, SnapCredentials

        assert not __debug__, "would be raised without -O"
        url, key = "https://bank.invalid/", {keys.PUBLIC!r}
        try:
            SnapCredentials(token_url=url, client_id="x", private_key=key)
        except ConfigurationError as error:
            print(error)
        """,
        env={"PYTHONOPTIMIZE": "1"},
    )
    out = "client_secret is missing; private_key is a public key; the private key is needed\n"
    assert (ended.status, ended.out, ended.err) == (0, out, "")
