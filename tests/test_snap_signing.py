import base64
import hashlib
import hmac
import json
import subprocess

import pytest
from fuzz import oracles
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import keys
from support.keys import SNAP

from permata_auth import _clock
from permata_auth.schemes import _snap_signing as signing
from permata_auth.schemes.canonical import CANONICALIZERS, minify, strip_all
from permata_auth.schemes.jakarta import timestamp

SECRET = SNAP["client_secret"].encode()


def signers(*secrets):
    return [signing.SymmetricSigner(secret) for secret in secrets]


CALLS = {vector["name"]: vector for vector in SNAP["calls"]}
H2 = CALLS["H2"]


def named(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


def message(vector, **changes):
    found = {**SNAP, **vector, **changes}
    body = minify(found["body"].encode())
    return signing.call_message(
        found["method"], found["path"], found["token"], body, found["timestamp"]
    )


# The golden vectors.


@named(SNAP["rsa"])
def test_rsa_signatures_are_those_of_the_vectors(vector):
    signed = signing.asymmetric_signature(keys.KEY, vector["message"].encode())
    assert signing.encoded(signed, "base64") == vector["signature"]
    public = keys.KEY.public_key()
    other = keys.another().public_key()
    text = vector["message"].encode()
    assert signing.is_asymmetric_signature(signed, text, [other, public])
    assert not signing.is_asymmetric_signature(signed, text, [other])
    assert not signing.is_asymmetric_signature(signed, text, [])
    assert not signing.is_asymmetric_signature(signed, text + b"\n", [public])
    assert not signing.is_asymmetric_signature(signed[:-1], text, [public])
    assert not signing.is_asymmetric_signature(b"", text, [public])


def test_the_message_of_a_token_request_is_that_of_the_vectors():
    for vector in [*SNAP["rsa"], *SNAP["token_hmac"]]:
        client_id, _, stamp = vector["message"].partition("|")
        if vector["name"].startswith("T"):
            assert signing.token_message(client_id, stamp) == vector["message"].encode()


@named(SNAP["token_hmac"])
def test_the_symmetric_token_signature_is_that_of_the_vector(vector):
    signed = signing.symmetric_signature(SECRET, vector["message"].encode())
    assert signing.encoded(signed, "base64") == vector["signature"]


@named(SNAP["calls"])
def test_calls_are_signed_as_in_the_vectors(vector):
    assert signing.body_hash(minify(vector["body"].encode())) == vector["sha256"]
    signed = signing.symmetric_signature(SECRET, message(vector))
    assert signing.encoded(signed, "base64") == vector["signature"]
    assert signing.is_symmetric_signature(signed, message(vector), signers(b"other", SECRET))
    assert not signing.is_symmetric_signature(signed, message(vector), signers(b"other"))
    assert not signing.is_symmetric_signature(signed, message(vector), [])
    assert not signing.is_symmetric_signature(signed[:-1], message(vector), signers(SECRET))


@pytest.mark.parametrize(("rsa", "call"), [("A1", "H2"), ("A2", "H10")])
def test_the_message_of_an_asymmetric_call_has_no_token(rsa, call):
    vector = next(vector for vector in SNAP["rsa"] if vector["name"] == rsa)
    assert message(CALLS[call], token=None) == vector["message"].encode()


def test_hex_and_strip_all_are_those_of_the_vectors():
    signed = signing.symmetric_signature(SECRET, message(H2))
    assert signing.encoded(signed, "hex") == SNAP["hex"]["signature"]
    body = strip_all(H2["body"].encode())
    assert signing.body_hash(body) == SNAP["strip_all"]["sha256"]
    text = signing.call_message("POST", H2["path"], SNAP["token"], body, SNAP["timestamp"])
    signed = signing.symmetric_signature(SECRET, text)
    assert signing.encoded(signed, "base64") == SNAP["strip_all"]["signature"]


@pytest.mark.parametrize("vector", SNAP["published"], ids=range(len(SNAP["published"])))
def test_what_others_have_published_is_reproduced(vector):
    assert signing.body_hash(minify(vector["body"].encode())) == vector["sha256"]
    if "signature" in vector:
        signed = signing.symmetric_signature(vector["secret"].encode(), message(vector))
        assert signing.encoded(signed, "base64") == vector["signature"]


#: What other implementations are known to sign.
WRONG = {
    "upper-case hash": lambda parts: {**parts, "hash": parts["hash"].upper()},
    "Bearer in token": lambda parts: {**parts, "token": f"Bearer {parts['token']}"},
    "host in path": lambda parts: {**parts, "path": f"https://merchant.invalid{parts['path']}"},
    "raw H3 hashed": lambda parts: {**parts, "hash": sha256(CALLS["H3"]["body"])},
    "body+LF": lambda parts: {**parts, "hash": sha256(H2["body"] + "\n")},
    "keys sorted": lambda parts: {
        **parts,
        "hash": sha256(json.dumps(json.loads(H2["body"]), sort_keys=True, separators=(",", ":"))),
    },
    "python default separators": lambda parts: {
        **parts,
        "hash": sha256(json.dumps(json.loads(H2["body"]))),
    },
    "base64 body hash": lambda parts: {
        **parts,
        "hash": base64.b64encode(hashlib.sha256(H2["body"].encode()).digest()).decode(),
    },
    "ts ms": lambda parts: {**parts, "stamp": "2025-09-11T15:24:18.000+07:00"},
    "ts Z": lambda parts: {**parts, "stamp": "2025-09-11T08:24:18Z"},
    "no token": lambda parts: {name: text for name, text in parts.items() if name != "token"},
    "sha512 body": lambda parts: {
        **parts,
        "hash": hashlib.sha512(H2["body"].encode()).hexdigest(),
    },
    "lower method": lambda parts: {**parts, "method": "post"},
    "trailing slash": lambda parts: {**parts, "path": f"{parts['path']}/"},
}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", SNAP["wrong"])
def test_no_wrong_form_verifies(name):
    parts = {
        "method": "POST",
        "path": H2["path"],
        "token": SNAP["token"],
        "hash": H2["sha256"],
        "stamp": SNAP["timestamp"],
    }
    text = ":".join(WRONG[name](parts).values())
    signed = hmac.digest(SECRET, text.encode(), "sha512")
    assert signing.encoded(signed, "base64").startswith(SNAP["wrong"][name])
    assert not signing.is_symmetric_signature(signed, message(H2), signers(SECRET))


@pytest.mark.parametrize("vector", SNAP["paths"], ids=range(len(SNAP["paths"])))
def test_the_signed_path_is_that_of_the_vectors(vector):
    arguments = {name: vector[name] for name in vector if name not in ("url", "path")}
    assert signing.signed_path(vector["url"], **arguments) == vector["path"]


@pytest.mark.parametrize(
    ("url", "arguments", "path"),
    [
        ("https://bank.invalid/", {}, "/"),
        ("https://bank.invalid?a=/v1.0/b", {}, "/?a=/v1.0/b"),
        ("https://bank.invalid?a=/v1.0/b", {"signed_prefix": "/"}, "/?a=/v1.0/b"),
        ("https://bank.invalid/x?", {}, "/x?"),
        ("https://bank.invalid/x?b=2&a=1&b=%2f%2F", {}, "/x?b=2&a=1&b=%2f%2F"),
        ("https://bank.invalid#/x?y", {}, "/"),
        ("HTTPS://USER@bank.invalid:8443//x//./../y", {}, "//x//./../y"),
        ("https://[::1]:8443/v1.0/x", {}, "/v1.0/x"),
        ("/v1.0/x?y=http://z/", {}, "/v1.0/x?y=http://z/"),
        ("/v1.0/x:y", {}, "/v1.0/x:y"),
        ("/a/b/v1.0/x", {"signed_prefix": "/snap"}, "/snap/v1.0/x"),
        ("/a/b/v1.0/x", {"signed_prefix": "/snap/"}, "/snap/v1.0/x"),
        ("/a/b/v1.0/x", {"signed_prefix": "/"}, "/v1.0/x"),
        ("/a/v2/x/v1.0/y", {"signed_prefix": "/"}, "/v2/x/v1.0/y"),
        ("/a/v1.0", {"signed_prefix": "/"}, "/v1.0"),
        ("/av1.0/v1.x/vv1/x", {"signed_prefix": "/snap"}, "/av1.0/v1.x/vv1/x"),
        ("/a/v1.0\n/x", {"signed_prefix": "/"}, "/a/v1.0\n/x"),
        ("https:", {}, "/"),
        ("", {}, "/"),
    ],
)
def test_the_signed_path_is_what_is_sent(url, arguments, path):
    assert signing.signed_path(url, **arguments) == path


def test_the_method_is_signed_in_upper_case():
    assert message(H2, method="post") == message(H2)


# The signature on the wire.


@pytest.mark.parametrize(
    "text",
    [
        "****",
        "QUJD\n",
        "QUJ\nD",
        " QUJD",
        "QUJD=",
        "QUI",
        "QUJ=",  # a spelling of two bytes that no encoder writes
        "QU-_",
        "QUJDé",
        "\ud800",
    ],
    ids=repr,
)
def test_base64_of_a_signature_is_read_strictly(text):
    assert signing.decoded("QUJD", "base64") == b"ABC"
    assert signing.decoded(text, "base64") is None


@pytest.mark.parametrize(
    "text", ["", "4", "414", "41 42", "0x41", "\uff14\uff11", "41\n", "xx"], ids=repr
)
def test_hex_of_a_signature_is_read_strictly(text):
    assert signing.decoded("4142Ff", "hex") == b"AB\xff"
    assert signing.decoded(text, "hex") is None


@given(st.binary(max_size=600), st.sampled_from(signing.ENCODINGS))
def test_a_signature_comes_back_as_it_went(signature, encoding):
    text = signing.encoded(signature, encoding)
    assert "\n" not in text
    if signature:
        assert signing.decoded(text, encoding) == signature


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    path.write_text(keys.PEM)
    return str(path)


def openssl(text, *arguments):
    return subprocess.run(
        ["openssl", "dgst", "-binary", *arguments], input=text, capture_output=True, check=True
    ).stdout


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=3000),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
)
def test_symmetric_signatures_are_those_of_openssl(text, secret):
    expected = openssl(
        text, "-sha512", "-mac", "HMAC", "-macopt", f"hexkey:{secret.encode().hex()}"
    )
    assert signing.symmetric_signature(secret.encode(), text) == expected


@given(st.binary(max_size=300), st.binary(max_size=300))
@example(b"x" * 127, b"")
@example(b"x" * 128, b"")
@example(b"x" * 129, b"")
def test_a_signer_signs_as_the_standard_library_does(secret, text):
    signer = signing.SymmetricSigner(secret)
    for message_ in (text, b"", text):
        assert signer.signature(message_) == hmac.digest(secret, message_, "sha512")
    signer = signing.SymmetricSigner(secret, hashlib.sha256)
    assert signer.signature(text) == hmac.digest(secret, text, "sha256")


@settings(max_examples=15, deadline=None)
@given(text=st.binary(max_size=3000))
def test_asymmetric_signatures_are_those_of_openssl(key_file, text):
    expected = openssl(text, "-sha256", "-sign", key_file)
    assert signing.asymmetric_signature(keys.KEY, text) == expected


@settings(max_examples=15, deadline=None)
@given(body=st.binary(max_size=3000))
def test_body_hashes_are_those_of_openssl(body):
    assert signing.body_hash(body) == openssl(body, "-sha256").hex()


# The timestamp.


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("seconds", "2025-09-11T15:24:18+07:00"),
        ("milliseconds", "2025-09-11T15:24:18.007+07:00"),
        ("utc", "2025-09-11T08:24:18Z"),
    ],
)
def test_the_timestamp_has_three_forms(monkeypatch, form, text):
    monkeypatch.setattr(_clock, "wall", lambda: 1757579058.007)
    assert timestamp(form=form) == text
    monkeypatch.setattr(_clock, "wall", lambda: 1757579058.007 + 7200.5)
    assert timestamp(-7200.5, form) == text


@pytest.mark.parametrize(
    ("posix", "text"),
    [
        (1757609999, "2025-09-11T23:59:59+07:00"),
        (1757610000, "2025-09-12T00:00:00+07:00"),
        (1757613600, "2025-09-12T01:00:00+07:00"),
        (1757635200, "2025-09-12T07:00:00+07:00"),
    ],
)
def test_hours_turn_over_at_midnight_in_jakarta(monkeypatch, posix, text):
    monkeypatch.setattr(_clock, "wall", lambda: float(posix))
    assert timestamp(form="seconds") == text


pieces = st.lists(
    st.sampled_from(
        [b'"', b"\\", b" ", b"\t", b"\r\n", b"\f", b"\xff", b"\xfe", b"\xfd", b"'", b"{", b"a b"]
    )
).map(b"".join)


@settings(max_examples=2000, deadline=None)
@given(pieces)
@example(b'"\\\\" x')
@example(b'"\\\\\' " x')
@example(b'"\\\\\\" " x')
@example(b'\\" x " y')
@example(b'"\xff\xfe \\\\" x')
def test_minify_does_as_a_reader_of_single_bytes_does(body):
    assert minify(body) == oracles.minify(body)


@given(pieces)
def test_a_body_is_minified_in_one_go(body):
    assert minify(minify(body)) == minify(body)


def test_every_canonicaliser_leaves_nothing_as_it_is():
    for canonicalize in CANONICALIZERS.values():
        assert signing.body_hash(canonicalize(b"")) == CALLS["H10"]["sha256"]
