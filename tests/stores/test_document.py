from __future__ import annotations

import json
import logging
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clients import credentials, token
from support.clock import FakeClock

from permata_auth import AccessToken, _clock
from permata_auth.stores import _document
from permata_auth.stores.failures import StoredFailure

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
    # With real clocks, a thread that is stopped between reading the two gets another date.
    with FakeClock() as clock:
        saved = AccessToken(
            issued_at=_clock.to_datetime(clock.wall() - age),
            expires_at=_clock.to_datetime(clock.wall() + left),
            **fields,
        )
        assert _document.parse(key, _document.dump(key, saved)) == saved


@given(data=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_no_document_is_a_value_error_that_quotes_nothing(data):
    with pytest.raises(ValueError, match=r"^it holds no token of these credentials$") as caught:
        _document.parse("key", data)
    assert caught.value.__cause__ is caught.value.__context__ is None


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


FAILURE = StoredFailure(
    row="asked",
    pause=60.0,
    kind="TokenEndpointUnavailableError",
    message="the bank is overloaded (HTTP 429)",
    status_code=429,
    proof="example-proof",
    count=2,
    expires_in=100,
)


def test_a_failure_of_this_boot_is_counted_down_by_the_running_clock(clock):
    data = _document.dump_failure("key", FAILURE)
    clock.step_wall(-1_000_000)
    clock.advance(40)
    assert _document.parse_failure("key", data).expires_in == pytest.approx(60)
    assert _document.parse_failure("key", data, time_to_live=5.0).expires_in == 5.0
    clock.advance(60)
    assert _document.parse_failure("key", data) is None


def test_a_failure_of_another_host_lasts_no_longer_than_it_was_meant_to(clock, monkeypatch):
    monkeypatch.setattr(_document, "_running_clock", lambda: None)
    data = _document.dump_failure("key", FAILURE)
    clock.step_wall(-500)
    assert _document.parse_failure("key", data).expires_in == pytest.approx(100)
    clock.step_wall(530)
    assert _document.parse_failure("key", data).expires_in == pytest.approx(70)
    clock.step_wall(70)
    assert _document.parse_failure("key", data) is None


def spoilt_failures():
    genuine = json.loads(_document.dump_failure("key", FAILURE))
    yield b""
    yield b"\xff\x00"
    yield b"[]"
    yield b"[" * 50_000
    for change in [
        {"version": 2},
        {"key": "other"},
        {"deadline": "soon"},
        {"deadline": float("nan")},
        {"deadline": None},
        {"clock": "another", "expires_at": float("nan")},
        {"failure": None},
        {"failure": {}},
    ]:
        yield json.dumps(genuine | change).encode()
    for change in [
        {"count": "2"},
        {"count": True},
        {"row": 1},
        {"pause": "60"},
        {"rejected": 1},
        {"kind": None},
        {"status_code": "429"},
        {"expires_in": float("inf")},
        {"expires_in": -1},
        {"expires_in": "60"},
        {"more": 1},
    ]:
        yield json.dumps(genuine | {"failure": genuine["failure"] | change}).encode()


@pytest.mark.parametrize("data", list(spoilt_failures()))
def test_whatever_is_no_failure_is_none(data):
    assert _document.parse_failure("key", data) is None


def test_a_failure_of_one_key_is_none_of_another():
    assert _document.parse_failure("other", _document.dump_failure("key", FAILURE)) is None


def test_a_forged_deadline_does_not_prolong_a_pause(clock):
    forged = json.loads(_document.dump_failure("key", FAILURE)) | {"deadline": 1e12}
    data = json.dumps(forged).encode()
    assert _document.parse_failure("key", data).expires_in == 100


def test_a_record_of_a_spoilt_document_holds_none_of_it(tmp_path, caplog):
    """Its error does: the parser's own error, and the frames in which it was raised."""
    stores = pytest.importorskip("permata_auth.stores.file", exc_type=ImportError)
    store = stores.FileTokenStore(tmp_path)
    store.save("key", token())
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.load("key") is None
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.name == stores.__name__
    assert record.getMessage().startswith("Stored token passed over: ")
    assert all(isinstance(arg, str) for arg in record.args)
