from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clients import credentials, token

from permata_auth import AccessToken, _clock
from permata_auth.stores import _document

values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    key=st.text(),
    fields=st.fixed_dictionaries(
        {"value": values, "token_type": st.text(), "scope": st.none() | st.text()}
    ),
    age=st.floats(0, 1e6),
    left=st.floats(1, 1e8),
)
def test_a_token_survives_the_round_trip(key, fields, age, left):
    now = _clock.wall()
    saved = AccessToken(
        issued_at=_clock.to_datetime(now - age),
        expires_at=_clock.to_datetime(now + left),
        **fields,
    )
    assert _document.parse(key, _document.dump(key, saved)) == saved


@given(data=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_no_document_is_a_value_error_that_quotes_nothing(data):
    with pytest.raises(ValueError, match=r"^it holds no token of these credentials$"):
        _document.parse("key", data)


@given(field=st.sampled_from(sorted(json.loads(_document.dump("key", token())))), value=json_values)
def test_a_document_with_a_spoilt_field_is_a_value_error_or_lives_no_longer(field, value):
    original = token()
    document = json.loads(_document.dump("key", original)) | {field: value}
    parsed = None
    with suppress(ValueError):
        parsed = _document.parse("key", json.dumps(document).encode())
    if parsed is not None and field != "deadline":
        assert parsed.deadline < original.deadline + 0.01


def test_keys_for_two_purposes_and_two_sets_of_secrets_differ():
    sets = [
        credentials(),
        credentials(client_secret="example-other"),
        credentials(static_key="example-other"),
        credentials(client_id="example-other"),
        credentials(token_url="https://other.invalid/token"),
    ]
    keys = {each.derive_key(purpose) for each in sets for purpose in ("one", "two")}
    assert len(keys) == 10
    assert {len(key) for key in keys} == {32}


def test_a_derived_key_is_hkdf_sha256():
    hkdf = pytest.importorskip("cryptography.hazmat.primitives.kdf.hkdf")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    known = credentials()
    derived = hkdf.HKDF(
        hashes.SHA256(), 32, salt=b"permata-auth", info=f"purpose\n{known.key}".encode()
    ).derive(b"example-static-key\nexample-client-secret")
    assert known.derive_key("purpose") == derived
