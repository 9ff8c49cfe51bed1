"""What SNAP's responses mean: of a call, and of the token endpoint."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.keys import PASSPHRASE
from support.snap import CLIENT_ID, SECRET, compact, credentials

from permata_auth import (
    ClockError,
    InvalidClientError,
    InvalidRequestError,
    InvalidTokenResponseError,
    SnapCredentials,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
    _clock,
)

OUTCOMES = {
    "success",
    "pending",
    "malformed",
    "clock",
    "unauthorized",
    "token_rejected",
    "customer_token_rejected",
    "rate_limited",
    "refused",
    "already_done",
    "duplicate_request",
    "unknown",
}

#: Code, message, their meaning, with the HTTP status that the code begins with.
CASES = [
    ("2001100", "Successful", "success"),
    ("2021800", "Request In Progress", "pending"),
    ("4001800", "Bad Request", "malformed"),
    ("4001801", "Invalid Field Format amount.value", "malformed"),
    ("4001802", "Invalid Mandatory Field partnerReferenceNo", "malformed"),
    ("4001801", "Invalid Field Format [X-TIMESTAMP]", "clock"),
    ("4001802", "Invalid Mandatory Field {x-timestamp}", "clock"),
    ("4011800", "Unauthorized. [Signature]", "unauthorized"),
    ("4011800", "Unauthorized. stringToSign", "unauthorized"),
    ("4011800", "Unauthorized. [Unknown client]", "unauthorized"),
    ("4011800", "Unauthorized. [Connection not allowed]", "unauthorized"),
    ("4011800", "Unauthorized. Verify Client Secret Fail.", "unauthorized"),
    ("4011800", "Unauthorized", "unauthorized"),
    ("4011800", "Unauthorized. tokenization", "unauthorized"),
    ("4011800", "Unauthorized. [Timestamp]", "clock"),
    ("4011800", "Unauthorized. Invalid X-TIMESTAMP of token", "clock"),
    ("4011800", "Unauthorized. Token expired", "token_rejected"),
    ("4011800", "accessToken is not valid", "token_rejected"),
    ("4011800", "Invalid Customer Token", "customer_token_rejected"),
    ("4011800", "Token (B2B2C) expired", "customer_token_rejected"),
    ("4011801", "Invalid Token (B2B)", "token_rejected"),
    ("4011801", "Access Token Invalid", "token_rejected"),
    ("4011803", "Token Not Found (B2B)", "token_rejected"),
    ("4011802", "Invalid Customer Token", "customer_token_rejected"),
    ("4011804", "Token Not Found (B2B2C)", "customer_token_rejected"),
    ("4011805", "Something else", "unauthorized"),
    ("4031804", "Activity Count Limit Exceeded", "rate_limited"),
    ("4291800", "Too Many Requests", "rate_limited"),
    ("4291801", "", "rate_limited"),
    *((f"40318{case:02d}", "", "refused") for case in range(24) if case != 4),
    *((f"40411{case:02d}", "", "refused") for case in range(20)),
    ("4051800", "Requested Function Is Not Supported", "malformed"),
    ("4051801", "Requested Operation Is Not Allowed", "malformed"),
    ("4091800", "Conflict", "duplicate_request"),
    ("4091801", "Duplicate partnerReferenceNo", "already_done"),
    ("5001800", "General Error", "unknown"),
    ("5001801", "Internal Server Error", "unknown"),
    ("5001802", "External Server Error", "unknown"),
    ("5041800", "Timeout", "unknown"),
    ("5031800", "", "unknown"),
    ("401AB01", "letters for a service", "token_rejected"),
]


def of(code, message=""):
    return compact({"responseCode": code, "responseMessage": message})


@pytest.mark.parametrize(("code", "message", "outcome"), CASES)
@pytest.mark.parametrize("kind", [str, int], ids=["string", "number"])
def test_every_code_has_its_outcome(code, message, outcome, kind):
    code = kind(code) if code.isdigit() else code
    body = of(code, message)
    status = int(str(code)[:3])
    assert SnapCredentials.outcome(status, body) == outcome
    assert credentials().is_token_rejected(status, body) == (outcome == "token_rejected")
    assert credentials().is_timestamp_rejected(status, body) == (outcome == "clock")
    asymmetric = credentials(transaction_signature="asymmetric")
    assert asymmetric.is_token_rejected(status, body) is False


def test_every_outcome_is_in_the_table():
    assert {outcome for _, _, outcome in CASES} == OUTCOMES


DONE_BEFORE = ["17", "18", "22", "23", "25", "33", "58", "78"]


@pytest.mark.parametrize("service", [*DONE_BEFORE, "54", "60", "63", "66", "11", "36", "AB"])
def test_an_inconsistent_request_is_done_for_some_services(service):
    expected = "already_done" if service in DONE_BEFORE else "refused"
    assert SnapCredentials.outcome(404, of(f"404{service}18")) == expected


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (None, "unknown"),
        (200, "success"),
        (202, "pending"),
        (400, "malformed"),
        (401, "token_rejected"),
        (403, "refused"),
        (404, "refused"),
        (405, "malformed"),
        (408, "unknown"),
        (409, "duplicate_request"),
        (429, "rate_limited"),
        (302, "unknown"),
        (500, "unknown"),
        (502, "unknown"),
        (504, "unknown"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"responseCode":null}', of("401"), of("40118010"), of(True)],
    ids=repr,
)
def test_without_a_code_the_status_decides(status, body, outcome):
    assert SnapCredentials.outcome(status, body) == outcome


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        # In a 2xx response the code may say otherwise.
        (200, of("4011801"), "token_rejected"),
        (200, of("4041811"), "refused"),
        (200, of("4041818"), "already_done"),
        (200, of("5001800"), "unknown"),
        (202, of("4091800"), "duplicate_request"),
        (200, of("2021800"), "pending"),
        (202, of("2001800"), "pending"),
        (200, of("9991800"), "unknown"),
        # Otherwise the status is right.
        (500, of("2001800"), "unknown"),
        (500, of("4011801"), "unknown"),
        (403, of("4011801"), "refused"),
        (403, of("4291800"), "refused"),
        (404, of("4031804"), "refused"),
        (400, of("4011801", "Invalid Token (B2B)"), "malformed"),
        (401, of("4001802", "Invalid Mandatory Field X-TIMESTAMP"), "clock"),
        (401, of("4001800", "Unauthorized. [Signature]"), "unauthorized"),
    ],
)
def test_where_status_and_code_disagree(status, body, outcome):
    assert SnapCredentials.outcome(status, body) == outcome


@pytest.mark.parametrize("code", [code for code, _, _ in CASES if code.startswith("403")])
def test_a_403_never_rejects_a_token(code):
    for message in ("Invalid Token (B2B)", "token", "Failed Authentication OAuth2"):
        assert credentials().is_token_rejected(403, of(code, message)) is False


@given(st.integers(100, 599), st.one_of(st.binary(), st.text().map(compact)))
def test_whatever_comes_has_an_outcome(status, body):
    found = SnapCredentials.outcome(status, body)
    assert found in OUTCOMES
    assert (found == "success") <= (200 <= status < 300)


document = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["responseCode", "responseMessage", "x"]), inner)
    ),
    max_leaves=6,
)


@given(st.integers(100, 599), document)
def test_whatever_json_comes_has_an_outcome_and_an_error(status, body):
    data = json.dumps(body).encode()
    assert SnapCredentials.outcome(status, data) in OUTCOMES
    assert isinstance(credentials().read_error_response(status, data), TokenEndpointError)


# The token endpoint.


@pytest.fixture(autouse=True)
def _stands_still(monkeypatch):
    monkeypatch.setattr(_clock, "wall", lambda: 1757579058.007)


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (400, "4007300", "Bad Request", InvalidRequestError),
        (400, "4007301", "Invalid Field Format [X-SIGNATURE]", InvalidRequestError),
        (400, 4007302, "Invalid Mandatory Field [X-SIGNATURE]", InvalidRequestError),
        (400, "4007302", "Invalid Mandatory Field clientId", InvalidClientError),
        (400, "4007302", "Invalid Mandatory Field clientSecret", InvalidClientError),
        (400, "4007302", "Invalid Mandatory Field [X-CLIENT-KEY]", InvalidClientError),
        (400, "4007301", "Invalid Field Format grantType", UnsupportedGrantTypeError),
        (400, "4007300", "Connection not allowed", UnauthorizedClientError),
        (400, "4007301", "Invalid Field Format [X-TIMESTAMP]", ClockError),
        (400, "4007302", "invalid timestamp", ClockError),
        (401, "4017300", "Unauthorized. [Timestamp]", ClockError),
        (401, "4017300", "Unauthorized. [Signature]", InvalidClientError),
        (401, "4017300", "Unauthorized. [Unknown client]", InvalidClientError),
        (401, "4017300", "Unauthorized. [Connection not allowed]", UnauthorizedClientError),
        (401, "4017301", "Invalid Token", InvalidClientError),
        (401, None, None, InvalidClientError),
        (403, "4037301", "Feature Not Allowed", UnauthorizedClientError),
        (403, None, None, UnauthorizedClientError),
        (403, "4037304", "Activity Count Limit", TokenEndpointUnavailableError),
        (429, "4297300", "Too Many Requests", TokenEndpointUnavailableError),
        (429, None, None, TokenEndpointUnavailableError),
        (500, "5007300", "General Error", TokenEndpointUnavailableError),
        (503, None, None, TokenEndpointUnavailableError),
        (504, "5047300", "Timeout", TokenEndpointUnavailableError),
        (404, "4047301", "Not found", TokenEndpointError),
        (404, None, None, TokenEndpointError),
        (405, "4057300", "Function not supported", TokenEndpointError),
        (302, None, None, TokenEndpointError),
        (409, "4097300", "Conflict", TokenEndpointError),
    ],
)
def test_every_refusal_of_a_login_has_its_error(status, code, message, error):
    body = {"responseCode": code, "responseMessage": message} if code else None
    found = credentials().read_error_response(status, compact(body) if body else b"<html>")
    assert type(found) is error
    assert found.status_code == status
    assert found.retryable is (error is TokenEndpointUnavailableError)
    assert f"HTTP {status}" in str(found)
    if code:
        assert (found.error, found.error_description) == (str(code), message)
        assert f"{code}, {message}" in str(found)
    assert "PERMATA_TOKEN_URL" not in str(found)


def test_refused_credentials_say_what_to_look_at():
    found = str(credentials().read_error_response(401, of("4017300", "Unauthorized. [Signature]")))
    for word in ("client id", "public half", "clock", "PERMATA_SNAP_TIMESTAMP_FORM"):
        assert word in found


@pytest.mark.parametrize("status", [404, 405, 302])
def test_where_the_url_may_be_wrong_it_is_named(status):
    assert "PERMATA_SNAP_TOKEN_URL" in str(credentials().read_error_response(status, b""))


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"X-TIMESTAMP": "2025-09-11T15:34:18+07:00", "Date": "x"}, "2025-09-11T15:34:18+07:00"),
        ({"x-timestamp": "2025-09-11T15:34:18+07:00"}, "2025-09-11T15:34:18+07:00"),
        ({"DATE": "Thu, 11 Sep 2025 08:34:18 GMT"}, "Thu, 11 Sep 2025 08:34:18 GMT"),
        ({}, None),
        (None, None),
    ],
)
def test_a_refused_time_shows_both_clocks_and_the_form(headers, shown):
    scheme = credentials(timestamp_form="milliseconds")
    body = of("4017300", "Unauthorized. [Timestamp]")
    found = str(scheme.read_error_response(401, body, headers))
    assert "this machine's clock reads 2025-09-11T15:24:18.007+07:00" in found
    assert "milliseconds (PERMATA_SNAP_TIMESTAMP_FORM)" in found
    assert (
        f"the bank's response shows {shown}" if shown else "the response shows no time"
    ) in found


@pytest.mark.parametrize(
    "body",
    [
        {"responseCode": "2007300", "responseMessage": "Successful"},
        {"responseCode": "2007300", "accessToken": ""},
        {"responseCode": "2007300", "accessToken": 5},
        {"responseCode": "2007300", "accessToken": "a b"},
        {"responseCode": "2007300", "access_token": "x"},
    ],
)
def test_a_success_without_a_token_quotes_its_code(body):
    with pytest.raises(InvalidTokenResponseError) as caught:
        credentials().read_token_response(compact(body))
    assert "2007300" in str(caught.value)
    assert "PERMATA_SNAP_TOKEN_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("4017300", "Unauthorized. [Signature]", InvalidClientError),
        ("4017300", "Unauthorized. [Timestamp]", ClockError),
        ("4037304", "Activity Count Limit", TokenEndpointUnavailableError),
        ("4297300", "Too Many Requests", TokenEndpointUnavailableError),
        ("5007300", "General Error", TokenEndpointUnavailableError),
        ("5047300", "Timeout", TokenEndpointUnavailableError),
    ],
)
def test_an_error_with_a_status_of_success_is_classed_by_its_code(code, message, error):
    with pytest.raises(error, match=rf"no token \({code}, {re.escape(message)}\)") as caught:
        credentials().read_token_response(of(code, message))
    assert type(caught.value) is error
    assert caught.value.retryable is (error is TokenEndpointUnavailableError)


@pytest.mark.parametrize("code", ["4017300", "5007300", "0000000"])
def test_a_usable_token_counts_more_than_a_code(code):
    body = compact({"responseCode": code, "accessToken": "x", "expiresIn": "900"})
    assert credentials().read_token_response(body).value == "x"


@pytest.mark.parametrize("body", [b"<html>", b"[]", of("0000000", "x"), of("3027300", "x")])
def test_a_success_that_is_none_names_the_url(body):
    with pytest.raises(InvalidTokenResponseError, match="PERMATA_SNAP_TOKEN_URL"):
        credentials().read_token_response(body)


def test_no_message_quotes_a_secret(secrets):
    secrets.add(SECRET, CLIENT_ID, PASSPHRASE, "A" * 30)
    scheme = credentials(private_key_passphrase=PASSPHRASE)
    message = f"no {SECRET} {CLIENT_ID} {PASSPHRASE} {'A' * 30}"
    for status in (400, 401, 403, 404, 500):
        error = scheme.read_error_response(
            status, of(f"{status}7300", f"timestamp {message}"), {"Date": message}
        )
        assert not secrets.found_in_error(error)
    with pytest.raises(InvalidTokenResponseError) as caught:
        scheme.read_token_response(of("2007300", message))
    assert not secrets.found_in(str(caught.value))
