from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import hmac
import json
import pickle
import re
import time
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.clients import credentials

from permata_auth import (
    ClockError,
    ConfigurationError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTokenResponseError,
    PermataCredentials,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
    _clock,
)
from permata_auth._settings import require_members
from permata_auth.schemes import classic
from permata_auth.schemes.base import Scheme
from permata_auth.schemes.classic import CANONICALIZERS, minify, raw, strip_all, timestamp

VECTORS = json.loads((Path(__file__).parent / "vectors" / "classic.json").read_text())
REQUIRED = ("token_url", "api_key", "client_id", "client_secret", "static_key")
TEXTS = ("api_key", "client_id", "client_secret", "static_key", "organization_name")
MARK = "example-marked-value"


def signature(key: str, message: bytes) -> str:
    return base64.b64encode(hmac.new(key.encode(), message, hashlib.sha256).digest()).decode()


@pytest.fixture
def wall(monkeypatch):
    """Set the wall clock to a moment of UTC and let it stand there."""

    def stand_at(moment: datetime | str) -> None:
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        monkeypatch.setattr(_clock, "wall", moment.timestamp)

    return stand_at


# The bank's golden vectors.


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_hmac_reproduces_the_golden_vectors(vector):
    if "message" in vector:
        message = vector["message"].encode()
    else:
        body = CANONICALIZERS[vector["canonicalizer"]](vector["body"].encode())
        message = f"{vector['token']}:{vector['timestamp']}:".encode() + body
    assert classic.hmac_sha256(vector["key"].encode(), message) == vector["signature"]


def test_a_login_is_signed_as_in_the_golden_vector(wall):
    vector = next(each for each in VECTORS if each["kind"] == "login")
    api_key, _, rest = vector["message"].partition(":")
    stamp = rest.removesuffix(":grant_type=client_credentials")
    wall(stamp)
    request = credentials(api_key=api_key, static_key=vector["key"]).token_request()
    assert request.headers["OAUTH-Timestamp"] == stamp
    assert request.headers["OAUTH-Signature"] == vector["signature"]
    assert request.body == b"grant_type=client_credentials"


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if "body" in v], ids=lambda vector: vector["name"]
)
def test_a_call_is_signed_as_in_the_golden_vectors(vector, wall):
    wall(vector["timestamp"])
    body = vector["body"].encode()
    for given_, asked in [(vector["canonicalizer"], None), ("raw", vector["canonicalizer"])]:
        scheme = credentials(static_key=vector["key"], canonicalizer=given_)
        headers = scheme.sign(vector["token"], "POST", "https://x", body, canonicalizer=asked)
        assert headers == {
            "Authorization": f"Bearer {vector['token']}",
            "organizationname": "example-organization",
            "permata-timestamp": vector["timestamp"],
            "permata-signature": vector["signature"],
        }


# The timestamp.


@pytest.mark.parametrize(
    ("utc", "wib"),
    [
        ("2025-09-11T08:24:18+00:00", "2025-09-11T15:24:18.000+07:00"),
        ("2025-09-11T08:24:18.007+00:00", "2025-09-11T15:24:18.007+07:00"),
        ("2025-09-11T08:24:18.999999+00:00", "2025-09-11T15:24:18.999+07:00"),
        ("2025-09-11T16:59:59.999+00:00", "2025-09-11T23:59:59.999+07:00"),
        ("2025-09-11T17:00:00+00:00", "2025-09-12T00:00:00.000+07:00"),
        ("2025-12-31T17:00:00+00:00", "2026-01-01T00:00:00.000+07:00"),
        ("2025-12-31T16:59:59.500+00:00", "2025-12-31T23:59:59.500+07:00"),
        ("2028-02-28T17:00:00+00:00", "2028-02-29T00:00:00.000+07:00"),
        ("2024-01-01T00:00:00+00:00", "2024-01-01T07:00:00.000+07:00"),
    ],
)
def test_the_timestamp_is_the_clock_on_a_wall_in_jakarta(wall, utc, wib):
    wall(utc)
    assert timestamp() == wib


@pytest.mark.parametrize("zone", ["UTC", "Asia/Jakarta", "America/New_York", "Pacific/Kiritimati"])
def test_the_zone_of_this_machine_does_not_matter(wall, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        wall("2025-09-11T08:24:18.120+00:00")
        assert timestamp() == "2025-09-11T15:24:18.120+07:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
@example(1_087_593_227_416)  # as a float, and times a thousand, it is less than itself
def test_any_millisecond_has_one_form_which_names_it(ms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_clock, "wall", lambda: ms / 1000)
        stamp = timestamp()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+07:00", stamp)
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert (datetime.fromisoformat(stamp) - epoch) / timedelta(milliseconds=1) == ms


def test_the_timestamp_is_now():
    stamped = datetime.fromisoformat(timestamp())
    assert abs(stamped - datetime.now(timezone.utc)) < timedelta(seconds=60)


@pytest.mark.parametrize("kind", ["login", "call"])
def test_header_and_signature_have_the_same_timestamp_on_a_racing_clock(monkeypatch, kind):
    readings = iter(range(1_700_000_000, 1_800_000_000, 7))
    monkeypatch.setattr(_clock, "wall", lambda: float(next(readings)))
    scheme = credentials()
    if kind == "login":
        headers = scheme.token_request().headers
        stamp, given_ = headers["OAUTH-Timestamp"], headers["OAUTH-Signature"]
        message = f"example-api-key:{stamp}:grant_type=client_credentials"
    else:
        headers = scheme.sign("example-token", "POST", "https://x", b"{}")
        stamp, given_ = headers["permata-timestamp"], headers["permata-signature"]
        message = f"example-token:{stamp}:{{}}"
    assert given_ == signature("example-static-key", message.encode())


# What of a body is signed.


def oracle(body: bytes) -> bytes:
    """Minify one byte after the other."""
    kept, is_string, is_escaped = bytearray(), False, False
    for byte in body:
        character = bytes([byte])
        if is_string:
            kept += character
            if is_escaped:
                is_escaped = False
            elif character == b"\\":
                is_escaped = True
            elif character == b'"':
                is_string = False
        elif character == b'"':
            is_string = True
            kept += character
        elif character not in b" \t\n\r":
            kept += character
    return bytes(kept)


json_like = st.lists(
    st.sampled_from([b'"', b"\\", b" ", b"\t", b"\n", b"\r", b"\v", b"\f", b"\0", b"{", b":", b"a"])
).map(b"".join)
bodies = st.one_of(json_like, st.binary())
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(bodies)
@example(b'"\\')
@example(b'" \\" "  "')
@example(b'"\\\\" x')
@example(b'{"a b": "c\\" d" , "e" : [1 , 2]}')
@example(b'\\" a b')
@example(b'\\\\ "a b" c')
@example(b'\xff\xfd "\\\\ a" 1')
def test_minify_does_as_a_reader_of_single_bytes_does(body):
    assert minify(body) == oracle(body)


@given(bodies)
def test_strip_all_drops_the_six_whitespace_bytes_and_nothing_else(body):
    assert strip_all(body) == bytes(byte for byte in body if byte not in b" \t\n\r\v\f")


@given(bodies)
def test_raw_is_the_body(body):
    assert raw(body) is body


@given(documents, st.sampled_from([None, 1, 4, "\t"]), st.booleans())
def test_minify_gives_what_compact_json_would_have_been(document, indent, is_ascii):
    pretty = json.dumps(document, indent=indent, ensure_ascii=is_ascii)
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=is_ascii)
    assert minify(pretty.encode("utf-8", "surrogatepass")) == compact.encode(
        "utf-8", "surrogatepass"
    )


def test_order_numbers_and_escapes_stay_as_they_are():
    body = b'{ "z" : 1.0e+05 , "a" : "\\u00e9\\/" , "a" : -0 }'
    assert minify(body) == b'{"z":1.0e+05,"a":"\\u00e9\\/","a":-0}'


MIB = 2**20


def seconds_of_work(canonicalize, body: bytes) -> float:
    """Return the processor's time that it takes, of which other programs take nothing."""
    began = time.thread_time()
    canonicalize(body)
    return time.thread_time() - began


@pytest.mark.parametrize("canonicalize", CANONICALIZERS.values(), ids=list(CANONICALIZERS))
@pytest.mark.parametrize(
    "unit",
    [b"a", b"\\", b'\\"', b" ", b'"', b'" ', b'"\\ ', b"\\\\\\", b'"a" ', b"\xff"],
    ids=repr,
)
@pytest.mark.parametrize("start", [b'"', b""], ids=["string", "outside"])
def test_megabytes_take_linear_time(canonicalize, unit, start):
    part = seconds_of_work(canonicalize, start + unit * (MIB // 8 // len(unit)))
    whole = seconds_of_work(canonicalize, start + unit * (4 * MIB // len(unit)))
    # Thirty-two times as long; a quadratic algorithm takes a thousand times as long.
    assert whole < 200 * max(part, 0.001)


# The credentials.


def refused(**fields) -> str:
    """Return the text of the error for credentials with these fields."""
    with pytest.raises(ConfigurationError) as caught:
        credentials(**fields)
    assert isinstance(caught.value, ValueError)
    text = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert MARK not in text
    return str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "value",
    [
        f" {MARK}",
        f"{MARK} ",
        f"{MARK}\n",
        f"\t{MARK}",
        f"{MARK}\r\nHost: other",
        f"{MARK}\0",
        f"{MARK}\x7f",
        f"{MARK}é",
        f"{MARK}\ud800",
        " ",
        1,
        0,
        True,
        MARK.encode(),
        [MARK],
        {"key": MARK},
    ],
    ids=repr,
)
def test_a_text_that_no_header_can_carry_is_refused_by_name_alone(name, value):
    assert refused(**{name: value}) == f"{name} must be printable ASCII with no space around it"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_required_is_missed_by_name(name, value):
    assert refused(**{name: value}) == f"{name} is missing"


def test_an_organization_is_needed_for_signing_alone():
    scheme = credentials(organization_name=None)
    assert scheme.token_request().url == scheme.token_url
    with pytest.raises(ConfigurationError, match=r"^organization_name is needed to sign calls$"):
        scheme.sign("example-token", "POST", "https://x", b"")
    assert refused(organization_name="") == "organization_name is missing"


def test_a_client_id_with_a_colon_would_change_the_secret():
    assert refused(client_id=f"{MARK}:more") == "client_id must have no colon in it"
    for name in ("api_key", "client_secret", "static_key"):
        assert getattr(credentials(**{name: "with:colon"}), name) == "with:colon"


@pytest.mark.parametrize("value", [None, "", 1, b"API-Key", "API Key", "API-Key:", "é", "a\n", []])
def test_the_header_of_the_api_key_has_a_header_name(value):
    assert refused(api_key_header=value) == "api_key_header must be the name of an HTTP header"


@pytest.mark.parametrize("value", [None, "", "STRIP_ALL", "none", 1, [], {}])
def test_a_canonicalizer_is_one_that_exists(value):
    assert refused(canonicalizer=value) == ("canonicalizer must be one of strip_all, minify, raw")


@pytest.mark.parametrize("value", [None, "", "true", "no", 1, 0, []])
def test_the_switch_for_plain_http_is_a_bool(value):
    url = "http://bank.invalid/"
    text = refused(allow_insecure_http=value, token_url=url)
    assert "allow_insecure_http must be true or false" in text
    assert "token_url must be https://" in text, "only True itself opens the door"


@pytest.mark.parametrize(
    "url",
    [f"http://{MARK}.invalid/", f"https://{MARK}:word@bank.invalid/", f"https://{MARK}.invalid/#x"],
)
def test_a_token_url_that_would_give_secrets_away_is_refused_unseen(url):
    assert refused(token_url=url).startswith("token_url must ")


def test_plain_http_needs_loopback_or_the_switch():
    assert credentials(token_url="http://127.0.0.1:1/").token_url == "http://127.0.0.1:1/"
    insecure = credentials(token_url="http://bank.invalid/", allow_insecure_http=True)
    assert insecure.token_request().url == "http://bank.invalid/"


def test_one_error_names_all_that_is_wrong():
    text = refused(
        token_url="bank.invalid",
        api_key=None,
        client_id=f"{MARK}:x",
        client_secret=f"{MARK}\n",
        static_key="",
        organization_name=7,
        api_key_header=":",
        canonicalizer="x",
        allow_insecure_http="x",
    )
    named = re.findall(r"(?:^|; )(\w+) ", text)
    assert sorted(named) == sorted(
        [*REQUIRED, "organization_name", "api_key_header", "canonicalizer", "allow_insecure_http"]
    )


def test_long_and_odd_but_printable_values_are_taken_unchanged():
    odd = "".join(map(chr, range(0x21, 0x7F)))
    for value in (odd, "inner space", "x" * 100_000, "~"):
        assert credentials(static_key=value, client_secret=value).static_key == value
    took = time.perf_counter()
    refused(static_key="x" * 1_000_000 + "\n")
    assert time.perf_counter() - took < 20, "the check of a long text is not linear"


def test_they_show_no_secret_and_no_query_of_the_url(secrets):
    url = "https://bank.invalid/oauth?tenant=example-tenant"
    secrets.add("example-tenant")
    shown = credentials(token_url=url)
    for text in (repr(shown), str(shown), f"{shown}", repr({"deep": [shown]})):
        assert not secrets.found_in(text)
    assert "https://bank.invalid/oauth" in repr(shown)
    request = shown.token_request()
    assert not secrets.found_in(repr(request.__class__(url="https://x", **_but_url(request))))


def _but_url(request):
    return {"headers": request.headers, "body": request.body}


def test_they_are_copied_by_reference_and_not_pickled():
    scheme = credentials()
    assert copy.copy(scheme) is copy.deepcopy(scheme) is scheme
    with pytest.raises(TypeError, match="PermataCredentials cannot be pickled: it holds secrets"):
        pickle.dumps(scheme)
    with pytest.raises(AttributeError):
        scheme.static_key = "example-other"


def test_their_key_tells_clients_apart_and_holds_nothing_of_them():
    key = credentials().key
    assert re.fullmatch(r"[0-9a-f]{32}", key)
    assert credentials(api_key="x", client_secret="y", static_key="z").key == key
    assert credentials(client_id="example-other").key != key
    assert credentials(token_url="https://other.invalid/").key != key


def test_they_are_a_scheme():
    require_members(Scheme, "credentials", credentials())


# The environment.

ENVIRONMENT = {
    "PERMATA_TOKEN_URL": "https://bank.invalid/apiservice/oauth/token",
    "PERMATA_API_KEY": "example-api-key",
    "PERMATA_CLIENT_ID": "example-client-id",
    "PERMATA_CLIENT_SECRET": "example-client-secret",
    "PERMATA_STATIC_KEY": "example-static-key",
    "PERMATA_ORGANIZATION_NAME": "example-organization",
}


def test_the_environment_gives_every_field(monkeypatch):
    assert PermataCredentials.from_env(ENVIRONMENT) == credentials()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert PermataCredentials.from_env() == credentials()
    full = ENVIRONMENT | {
        "PERMATA_TOKEN_URL": "http://bank.invalid/",
        "PERMATA_API_KEY_HEADER": "keyid",
        "PERMATA_CANONICALIZER": "minify",
        "PERMATA_ALLOW_INSECURE_HTTP": "true",
    }
    assert PermataCredentials.from_env(full) == credentials(
        token_url="http://bank.invalid/",
        api_key_header="keyid",
        canonicalizer="minify",
        allow_insecure_http=True,
    )


def test_another_prefix_finds_other_variables():
    other = {name.replace("PERMATA_", "BANK_"): value for name, value in ENVIRONMENT.items()}
    assert PermataCredentials.from_env(other, prefix="BANK_") == credentials()
    with pytest.raises(ConfigurationError, match="BANK_TOKEN_URL is missing"):
        PermataCredentials.from_env(ENVIRONMENT, prefix="BANK_")


def test_space_around_a_variable_and_an_empty_one_are_what_shells_leave_behind():
    environment = {name: f" {value}\n" for name, value in ENVIRONMENT.items()}
    assert PermataCredentials.from_env(environment) == credentials()
    empty = {"PERMATA_ORGANIZATION_NAME": " ", "PERMATA_API_KEY_HEADER": ""}
    found = PermataCredentials.from_env(ENVIRONMENT | empty)
    assert (found.organization_name, found.api_key_header) == (None, "API-Key")


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("1", True),
        ("on", True),
        ("OFF", False),
        ("TRUE", True),
        ("yes", True),
        ("0", False),
        ("False", False),
        ("No", False),
    ],
)
def test_a_flag_is_spelt_as_people_spell_it(text, flag):
    found = PermataCredentials.from_env(ENVIRONMENT | {"PERMATA_ALLOW_INSECURE_HTTP": text})
    assert found.allow_insecure_http is flag


def test_all_that_is_wrong_with_the_environment_is_in_one_error():
    environment = {
        "PERMATA_TOKEN_URL": f"http://{MARK}.invalid/",
        "PERMATA_CLIENT_ID": f"{MARK}:x",
        "PERMATA_CLIENT_SECRET": f"{MARK}é",
        "PERMATA_STATIC_KEY": " ",
        "PERMATA_ORGANIZATION_NAME": f"{MARK}\0",
        "PERMATA_API_KEY_HEADER": f"{MARK} x",
        "PERMATA_CANONICALIZER": MARK,
        "PERMATA_ALLOW_INSECURE_HTTP": MARK,
    }
    with pytest.raises(ConfigurationError) as caught:
        PermataCredentials.from_env(environment)
    named = re.findall(r"PERMATA_\w+", str(caught.value))
    assert sorted(named) == sorted([*environment, "PERMATA_API_KEY"])
    assert MARK not in str(caught.value)
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if frame.f_code.co_filename == classic.__file__:
            assert MARK not in repr(frame.f_locals), frame.f_code.co_name


def test_an_empty_environment_names_all_five_that_are_needed():
    with pytest.raises(ConfigurationError) as caught:
        PermataCredentials.from_env({})
    assert str(caught.value).count(" is missing") == 5


# The token request.


def test_a_token_request_has_what_the_bank_asks_for_and_nothing_more(wall):
    wall("2025-09-11T08:24:18+00:00")
    request = credentials(api_key_header="keyid").token_request()
    stamp = "2025-09-11T15:24:18.000+07:00"
    message = f"example-api-key:{stamp}:grant_type=client_credentials"
    basic = base64.b64encode(b"example-client-id:example-client-secret").decode()
    assert request.headers == {
        "Authorization": f"Basic {basic}",
        "keyid": "example-api-key",
        "OAUTH-Timestamp": stamp,
        "OAUTH-Signature": signature("example-static-key", message.encode()),
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    assert request.body == b"grant_type=client_credentials"
    assert request.url == "https://bank.invalid/apiservice/oauth/token"


# Answers.


def grant(**fields):
    answer = {"access_token": "example-token", "expires_in": 900} | fields
    return credentials().read_token_response(json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (1, 1),
        (900, 900),
        (10800, 10800),
        ("900", 900),
        ("0900", 900),
        (899.5, 899.5),
        (0.001, 0.001),
        ("+900", 900),
        ("9e2", 900),
        ("3.6E3", 3600),
        ("900.0", 900),
        ("900.", 900),
        ("899.5", 899.5),
        (" 900\n", 900),
        ("٩٠٠", 900),
        ("９００", 900),  # noqa: RUF001 - full-width digits
        ("9" * 401, 315576000),
        ("1e999", 315576000),
        (None, None),
        (1e300, 315576000),
        (float("inf"), 315576000),
        (10**30, 315576000),
        (10**400, 315576000),
        ("9" * 400, 315576000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_lifetime_that_means_something_is_read(expires_in, lifetime):
    assert grant(expires_in=expires_in).lifetime == lifetime


def test_an_answer_may_leave_the_lifetime_out():
    assert credentials().read_token_response(b'{"access_token":"x"}').lifetime is None
    assert credentials().default_lifetime == 900


@pytest.mark.parametrize(
    "expires_in",
    [
        0,
        -1,
        -0.0,
        0.0,
        float("nan"),
        -float("inf"),
        "0",
        True,
        False,
        [],
        {},
        [900],
        "",
        "abc",
        "-1",
        "0.0",
        "0e5",
        "0x384",
        "9_00",
        "3,600",
        "3600 s",
        "²",
        "nan",
        "Infinity",
        "9e-1",
        ". 5",
        b"900".hex() + "z",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_lifetime_that_means_nothing_is_no_token(expires_in):
    with pytest.raises(InvalidTokenResponseError, match="expires_in"):
        grant(expires_in=expires_in)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "two words", "line\nbreak", "x\r\nEvil: yes", "é", "\0", 7, True, [], {}, 1.5],
    ids=repr,
)
def test_a_token_that_cannot_stand_in_a_header_is_no_token(value):
    with pytest.raises(InvalidTokenResponseError, match="no usable access_token") as caught:
        grant(access_token=value)
    assert str(value).strip() == "" or repr(value) not in str(caught.value)


def test_type_and_scope_are_optional_and_may_be_nonsense():
    assert (grant().token_type, grant().scope) == ("Bearer", None)
    full = grant(token_type="bearer", scope="a b")
    assert (full.token_type, full.scope) == ("bearer", "a b")
    odd = grant(token_type=7, scope=["a"])
    assert (odd.token_type, odd.scope) == ("Bearer", None)
    assert grant(token_type="").token_type == "Bearer"
    assert "example-token" not in repr(grant())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"<html></html>",
        b"{",
        b'{"access_token": "x"',
        b"\xff",
        b"[" * 200000,
        b'{"a":' * 200000,
        b"\xef\xbb\xbf",
        b"{}x",
        b"9" * 5000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_object_is_no_token(body):
    with pytest.raises(InvalidTokenResponseError) as caught:
        credentials().read_token_response(body)
    assert caught.value.__cause__ is caught.value.__context__ is None


@given(st.binary())
def test_no_bytes_at_all_break_the_readers(body):
    scheme = credentials()
    with contextlib.suppress(InvalidTokenResponseError):
        scheme.read_token_response(body)
    assert isinstance(scheme.read_error_response(400, body), TokenEndpointError)
    assert scheme.is_token_rejected(403, body) is False


@given(st.integers(200, 599), documents, documents, documents)
def test_no_json_at_all_breaks_the_reader_of_refusals(status, error, words, more):
    body = {"error": error, "error_description": words, "ErrorDescription": more}
    refusal = credentials().read_error_response(status, json.dumps(body).encode())
    assert refusal.status_code == status
    assert str(refusal).isascii()
    assert str(refusal).isprintable()


@pytest.mark.parametrize(
    ("status", "body", "expected", "advice"),
    [
        (400, {"error": "invalid_request"}, InvalidRequestError, "check the token URL"),
        (401, {"error": "invalid_client"}, InvalidClientError, "check the client id"),
        (400, {"error": "invalid_client"}, InvalidClientError, "check the client id"),
        (400, {"error": "invalid_grant"}, InvalidGrantError, "ask the bank"),
        (400, {"error": "unauthorized_client"}, UnauthorizedClientError, "ask the bank"),
        (400, {"error": "unsupported_grant_type"}, UnsupportedGrantTypeError, "check the token"),
        (400, {"error": "invalid_scope"}, InvalidScopeError, "ask the bank"),
        (401, {"error": "invalid_scope"}, InvalidScopeError, "ask the bank"),
        (401, {"error": "something_else"}, InvalidClientError, "check the client id"),
        (401, {}, InvalidClientError, "check the client id"),
        (400, {"error": "something_else"}, TokenEndpointError, "check the token URL"),
        (
            403,
            {"ErrorCode": "403", "ErrorDescription": "Invalid Timestamp Value"},
            ClockError,
            "NTP",
        ),
        (
            403,
            {"ErrorCode": "403", "ErrorDescription": "Signature Not Valid"},
            TokenEndpointError,
            "",
        ),
        (403, {}, TokenEndpointError, "check the token URL and the credentials"),
        (404, {}, TokenEndpointError, "check the token URL"),
        (302, {}, TokenEndpointError, "redirect"),
        (308, {}, TokenEndpointError, "redirect"),
        (429, {}, TokenEndpointUnavailableError, "wait"),
        (429, {"error": "invalid_client"}, TokenEndpointUnavailableError, "wait"),
        (500, {}, TokenEndpointUnavailableError, "wait"),
        (503, {"ErrorCode": "503", "ErrorDescription": "x"}, TokenEndpointUnavailableError, "wait"),
    ],
)
def test_both_shapes_of_errors_become_the_class_that_says_who_can_help(
    status, body, expected, advice
):
    refusal = credentials().read_error_response(status, json.dumps(body).encode())
    assert type(refusal) is expected
    assert refusal.status_code == status
    assert refusal.retryable is (status == 429 or status >= 500)
    assert f"HTTP {status}" in str(refusal)
    assert advice in str(refusal)


def test_an_error_quotes_the_bank():
    body = {"error": "invalid_client", "error_description": "unknown client"}
    refusal = credentials().read_error_response(401, json.dumps(body).encode())
    assert (refusal.error, refusal.error_description) == ("invalid_client", "unknown client")
    assert "invalid_client, unknown client" in str(refusal)
    other = credentials().read_error_response(
        403, b'{"ErrorCode":"403","ErrorDescription":"No such"}'
    )
    assert (other.error, other.error_description) == (None, "No such")


@pytest.mark.parametrize("name", ["api_key", "client_id", "client_secret", "static_key"])
def test_each_of_our_secrets_is_cut_out_of_what_the_bank_says(name):
    scheme = credentials()
    body = json.dumps({"error_description": f"unknown: {getattr(scheme, name)} of yours"})
    refusal = scheme.read_error_response(400, body.encode())
    assert getattr(scheme, name) not in f"{refusal} {vars(refusal)}"
    assert "[redacted] of yours" in str(refusal)


def test_credentials_are_made_by_names_alone():
    with pytest.raises(TypeError):
        PermataCredentials("https://bank.invalid/token", "key", "id", "secret", "static")


def test_what_the_bank_echoes_of_our_secrets_is_cut_out(secrets):
    scheme = credentials(
        static_key="example-static", client_secret="example-static-and-more", api_key="example"
    )
    secrets.add("example-static", "and-more")
    sent = scheme.token_request().headers
    words = " ".join([*sent.values(), scheme.static_key, scheme.client_secret, scheme.client_id])
    body = json.dumps({"error": words, "error_description": f"you sent {words}"}).encode()
    for status in (400, 401, 500):
        refusal = scheme.read_error_response(status, body)
        assert not secrets.found_in_error(refusal)
        assert not secrets.found_in(str(vars(refusal)), *(v for v in sent.values() if len(v) > 20))
        assert "[redacted]" in str(refusal)


def test_the_words_of_the_bank_are_short_and_of_one_line():
    words = "line\r\n\x1b[31mred \u202e" + "word " * 1000
    body = json.dumps({"error_description": words}).encode()
    refusal = credentials().read_error_response(400, body)
    assert len(refusal.error_description) <= 200
    assert len(str(refusal)) < 400
    assert refusal.error_description.startswith("line [31mred")
    assert str(refusal).isprintable()


@pytest.mark.parametrize(
    ("status", "body", "is_rejected"),
    [
        (401, b"", True),
        (401, b"anything", True),
        (403, b'{"ErrorCode":"403","ErrorDescription":"Failed Authentication OAuth2"}', True),
        (403, b'{"ErrorCode":"403","ErrorDescription":"Signature Not Valid"}', False),
        (403, b'{"ErrorDescription":"failed authentication oauth2"}', False),
        (403, b'{"ErrorDescription":"Failed Authentication OAuth2 of another"}', False),
        (403, b'["Failed Authentication OAuth2"]', False),
        (403, b"Failed Authentication OAuth2", False),
        (403, b"", False),
        (400, b'{"ErrorDescription":"Failed Authentication OAuth2"}', False),
        (200, b'{"ErrorDescription":"Failed Authentication OAuth2"}', False),
        (500, b'{"ErrorDescription":"Failed Authentication OAuth2"}', False),
    ],
)
def test_only_a_rejected_token_is_a_rejected_token(status, body, is_rejected):
    assert credentials().is_token_rejected(status, body) is is_rejected


# Signing calls.


@given(bodies, st.sampled_from(list(CANONICALIZERS)))
def test_a_call_is_signed_over_its_canonical_bytes(body, canonicalizer):
    scheme = credentials(canonicalizer=canonicalizer)
    headers = scheme.sign("example-token", "PUT", "https://x/y?z", body)
    payload = {"strip_all": strip_all, "minify": oracle, "raw": raw}[canonicalizer](body)
    message = f"example-token:{headers['permata-timestamp']}:".encode() + payload
    assert headers["permata-signature"] == signature("example-static-key", message)


def test_a_canonicalizer_that_does_not_exist_signs_nothing():
    with pytest.raises(ConfigurationError, match="canonicalizer must be one of"):
        credentials().sign("example-token", "POST", "https://x", b"", canonicalizer="sorted")


# The bank's reason, in any shape.

SHAPES = {
    "RFC 6749": lambda code, words: {"error": code, "error_description": words},
    "the bank's": lambda code, words: {"ErrorCode": code, "ErrorDescription": words},
    "status": lambda code, words: {"StatusCode": code, "StatusDesc": words},
    "SNAP": lambda code, words: {"responseCode": code, "responseMessage": words},
    "another case": lambda code, words: {"ERROR_CODE": code, "error-Description": words},
    "an object": lambda code, words: {"error": {"code": code, "message": words}},
    "a list": lambda code, words: {"errors": [{"code": code, "message": words}]},
    "deeper": lambda code, words: {"XRs": {"MsgRsHdr": {"StatusCode": code, "StatusDesc": words}}},
    "a gateway's": lambda code, words: {
        "fault": {"faultstring": words, "detail": {"errorcode": code}}
    },
    "numbers beside it": lambda code, words: {
        "timestamp": 1700000000,
        "code": code,
        "title": words,
    },
}


def error_of(status, body):
    text = json.dumps(body).encode()
    if status >= 300:
        return credentials().read_error_response(status, text)
    with pytest.raises(TokenEndpointError) as caught:
        credentials().read_token_response(text)
    return caught.value


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ("invalid_client", "no such client", InvalidClientError),
        ("INVALID_SCOPE", "no such scope", InvalidScopeError),
        ("40", "Invalid Timestamp Value", ClockError),
        ("4017300", "Unauthorized. unauthorized_client", UnauthorizedClientError),
        ("E7", "Invalid API Key", InvalidClientError),
        ("temporarily_unavailable", "later", TokenEndpointUnavailableError),
    ],
)
def test_the_reason_is_quoted_and_decides_in_every_shape(shape, status, code, words, expected):
    error = error_of(status, shape(code, words))
    assert type(error) is expected
    assert (error.error, error.error_description) == (code, words)
    assert f"{code}, {words}" in str(error)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_status_stays_temporary_and_quotes_the_reason(shape, status):
    error = error_of(status, shape("invalid_client", "overloaded"))
    assert type(error) is TokenEndpointUnavailableError
    assert f"HTTP {status}, invalid_client, overloaded" in str(error)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("status", [200, 403])
def test_a_reason_that_means_nothing_to_us_is_quoted_all_the_same(shape, status):
    error = error_of(status, shape("77", "Kuota habis"))
    assert type(error) is (InvalidTokenResponseError if status == 200 else TokenEndpointError)
    assert "77, Kuota habis" in str(error)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("status", [200, 401, 503])
def test_a_reason_that_echoes_secrets_is_redacted_in_every_shape(shape, status, secrets):
    scheme = credentials()
    words = f"{scheme.client_secret} {scheme.static_key} {scheme.api_key} {scheme.client_id}"
    error = error_of(status, shape("7", words))
    assert not secrets.found_in(str(error), repr(vars(error)))
    assert "[redacted] [redacted] [redacted] [redacted]" in str(error)


def test_a_document_with_a_million_fields_is_read_in_part():
    body = {"data": [{"x": 1}] * 200_000, "message": "words"}
    assert (
        credentials().read_error_response(400, json.dumps(body).encode()).error_description
        == "words"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_id", "client"),
        ("client_secret", "secret"),
        ("api_key", "key"),
        ("static_key", "in"),
    ],
)
def test_short_credentials_take_nothing_out_of_the_words_of_the_bank(name, value):
    body = {"error": "invalid_client", "error_description": "the client_secret in api_key is bad"}
    error = credentials(**{name: value}).read_error_response(401, json.dumps(body).encode())
    assert type(error) is InvalidClientError
    assert (error.error, error.error_description) == (body["error"], body["error_description"])


@pytest.mark.parametrize(
    "value", ["hunter", "hunter2x", "p@ss.w", "exactly-12-c", "a-very-long-secret"]
)
@pytest.mark.parametrize("name", ["client_id", "client_secret", "api_key", "static_key"])
def test_credentials_that_are_words_are_cut_out(name, value):
    body = {"error": "denied", "error_description": f"you sent {value}, ({value}) and '{value}'"}
    error = credentials(**{name: value}).read_error_response(400, json.dumps(body).encode())
    assert value not in str(error)
    assert "you sent [redacted], ([redacted])" in str(error)


def test_the_basic_credentials_of_short_secrets_are_cut_out():
    scheme = credentials(client_id="client", client_secret="secret")
    basic = scheme.token_request().headers["Authorization"].partition(" ")[2]
    error = scheme.read_error_response(400, json.dumps({"message": f"bad {basic}"}).encode())
    assert basic not in str(error)


def test_advice_names_the_variables():
    def advice(status, **body):
        return str(credentials().read_error_response(status, json.dumps(body).encode()))

    assert "PERMATA_STATIC_KEY" in advice(403, ErrorDescription="Signature Not Valid")
    assert "PERMATA_TOKEN_URL" not in advice(403, ErrorDescription="Signature Not Valid")
    assert "PERMATA_API_KEY" in advice(401, error="invalid_client")
    assert "PERMATA_TOKEN_URL" in advice(404)


@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 404, 500])
@pytest.mark.parametrize(
    ("description", "signature", "timestamp"),
    [
        ("Signature Not Valid", 403, ()),
        ("Invalid Timestamp", None, (400, 401, 403)),
        ("Timestamp expired", None, (400, 401, 403)),
        ("Failed Authentication OAuth2", None, ()),
        (None, None, ()),
    ],
)
def test_a_refused_signature_and_a_refused_timestamp_are_told_from_others(
    status, description, signature, timestamp
):
    body = json.dumps({"ErrorCode": "403", "ErrorDescription": description}).encode()
    assert credentials().is_signature_rejected(status, body) is (status == signature)
    assert credentials().is_timestamp_rejected(status, body) is (status in timestamp)
    for odd in (b"", b"Invalid Timestamp", b'["Signature Not Valid"]'):
        assert not credentials().is_signature_rejected(status, odd)
        assert not credentials().is_timestamp_rejected(status, odd)


def test_derived_keys_are_those_of_both_secrets_and_the_purpose():
    pseudorandom = hmac.digest(
        b"permata-auth", b"example-static-key\nexample-client-secret", "sha256"
    )
    scheme = credentials(static_key="example-static-key", client_secret="example-client-secret")
    expected = hmac.digest(pseudorandom, f"x\n{scheme.key}".encode() + b"\x01", "sha256")
    assert scheme.derive_key("x") == expected
    assert scheme.derive_key("y") != expected
