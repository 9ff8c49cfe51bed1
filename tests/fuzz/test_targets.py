"""The checks of the loop, with Hypothesis as the one who makes the cases, and shrinks them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .mutate import MARKER
from .targets import _KEY, FIELDS, SECRETS, TARGETS, TOKEN, checked

_QUICK = settings(max_examples=100, deadline=None)

_KEYS = [
    *("access_token", "token_type", "expires_in", "scope", "error", "error_description"),
    *("ErrorCode", "ErrorDescription", "StatusCode", "StatusDesc", "xid", "id", "data", "entry"),
    *("changes", "value", "statuses", "messages", "interactive", "type"),
    *("version", "key", "token", "issued_at", "expires_at", "clock", "deadline"),
]
_WORDS = [TOKEN, *SECRETS, "nfm_reply", "Invalid Timestamp Value", "900", "Bearer", _KEY]
_text = st.text(st.characters(), max_size=30) | st.sampled_from(_WORDS)
_numbers = st.integers() | st.floats()
_scalars = st.none() | st.booleans() | _numbers | _text
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS) | _text, inner, max_size=5)
    ),
    max_leaves=20,
)


def _nested(*path: str):
    """Values at the end of a path through objects and lists, as webhooks have them."""

    def put(value):
        for step in reversed(path):
            value = [value] if step == "*" else {step: value}
        return value

    return _values.map(put)


_receipts = _nested("entry", "*", "changes", "*", "value", "statuses")
_flows = _nested("data", "entry", "*", "changes", "*", "value", "messages", "*", "interactive")
_webhooks = st.builds(
    lambda base, given: base | given,
    _receipts | _flows | st.just({}),
    st.dictionaries(st.sampled_from(_KEYS), _values, max_size=3),
)


@st.composite
def _written(draw, values=_values):
    """JSON bytes: as one writer or another would, sound or with a hole in them."""
    text = json.dumps(
        draw(values), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    data = text.encode(errors="surrogatepass")
    if draw(st.booleans()):
        return data
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=4)) + data[draw(st.integers(at, len(data))) :]


_bodies = _written() | st.binary(max_size=200)
_statuses = st.integers(100, 599)
_settings_ = st.builds(lambda a, b, c: a + b + c, _text, st.sampled_from(["", MARKER]), _text)
_urls = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["http", "https", "://", "localhost", "127.0.0.1", "[::1]", ".", "@", ":", "/"]
        )
        | st.sampled_from(
            ["\\", "#", "?", "%", "bank.invalid", "80", "file:", "redis", "~", "[", "]"]
        )
        | st.text(max_size=3),
        max_size=9,
    ),
)
_dates = st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT"))

CASES = {
    "grant": _written(
        st.fixed_dictionaries({"access_token": _scalars}, optional={"expires_in": _scalars})
    )
    | _bodies,
    "refusal": st.tuples(_statuses, _bodies),
    "rejection": st.tuples(_statuses, _bodies),
    "webhook": _written(_webhooks) | _bodies,
    "signature": st.tuples(_bodies, _text | st.from_regex(r"sha256=[0-9a-f]{64}", fullmatch=True)),
    "canonicaliser": _bodies | st.text('"\\ \n\ta', max_size=20).map(str.encode),
    "headers": st.tuples(st.sampled_from([n for n in FIELDS if n != "canonicalizer"]), _settings_),
    "token": _settings_,
    "url": _urls,
    "environment": st.dictionaries(
        st.sampled_from([f"PERMATA_{name.upper()}" for name in [*FIELDS, "allow_insecure_http"]]),
        _settings_ | _urls,
    ),
    "store_url": _urls,
    "retry_after": st.tuples(_text | _dates | st.integers().map(str), _text | _dates),
    "callback_answer": _bodies,
    "store_file": _bodies,
    "sealed_token": _text | st.binary(max_size=100).map(lambda data: data.hex()),
}


def test_every_target_has_cases_here():
    assert set(TARGETS) <= set(CASES)


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_hold_holds(name, caplog):
    caplog.set_level("CRITICAL", "permata_auth")  # thousands of refused webhooks

    @_QUICK
    @given(CASES[name])
    def check(case):
        checked(TARGETS[name], case)

    check()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("url", "http://bank.invalid\\.localhost/token"),
        ("refusal", (400, b'{"error_description": "id\\tzqxj7wvk"}')),
        ("store_url", "file:~nobody-here/tokens"),
        ("store_url", "file:~%00"),
        ("retry_after", ("Sat, 01 Jan 0050 00:00:00 GMT", "Fri, 31 Dec 0049 00:00:00 GMT")),
        ("retry_after", ("Wed, 01 Jan 1000 00:00:00 GMT", "Sat, 01 Jan 0050 00:00:00 GMT")),
    ],
)
def test_what_was_found_once_stays_mended(name, case):
    TARGETS[name].check(case)
