"""The rules of the bank: requests accepted, refused and in which words; its records."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import time
from pathlib import Path

import pytest

from permata_auth.sandbox import Sandbox
from permata_auth.sandbox.bank import CANONICALIZERS, signature

from .client import CALLBACK_PATH, INQUIRY_PATH, LOGIN_PATH, Client, call, login, sign, stamp

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "classic.json").read_text())
RECEIPT = b'{"xid": "123", "name": "Kerry Fisher"}'
BAD_SIGNATURE = {"ErrorCode": "403", "ErrorDescription": "Signature Not Valid"}
BAD_TIMESTAMP = {"ErrorCode": "403", "ErrorDescription": "Invalid Timestamp Value"}
BAD_TOKEN = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:8]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_vectors(vector):
    if "message" in vector:
        parts = (vector["message"].encode(),)
    else:
        payload = CANONICALIZERS[vector["canonicalizer"]](vector["body"].encode())
        parts = (vector["token"].encode(), vector["timestamp"].encode(), payload)
    assert signature(vector["key"], *parts) == vector["signature"]


@pytest.mark.parametrize(
    ("canonicalizer", "body", "canonical"),
    [
        ("strip_all", b' {"a b": "c\td"}\r\n\v\f', b'{"ab":"cd"}'),
        ("strip_all", '{"a":"x\u00a0y"}'.encode(), '{"a":"x\u00a0y"}'.encode()),
        ("minify", b' {"a b" :\t"c  d"}\r\n', b'{"a b":"c  d"}'),
        ("minify", rb'{"a": "q\" : \\" , "b" : 1}', rb'{"a":"q\" : \\","b":1}'),
        ("minify", b'{"a": "no end ', b'{"a":"no end '),
        ("minify", b"\v1 \f2", b"\v1\f2"),
        ("raw", b' {"a": 1}\n', b' {"a": 1}\n'),
    ],
)
def test_canonicalizers(canonicalizer, body, canonical):
    assert CANONICALIZERS[canonicalizer](body) == canonical


# Logins


def test_a_good_login_gets_an_opaque_token(bank):
    answer = login(bank)
    document = answer.json()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert re.fullmatch(r"[\w-]{30,}", document.pop("access_token"))
    assert document == {
        "token_type": "Bearer",
        "expires_in": 900,
        "scope": "resource.READ resource.WRITE",
    }


def test_each_login_gets_a_new_token_and_is_counted(bank):
    with Client(bank) as client:
        tokens = [client.token() for _ in range(3)]
    assert len(set(tokens)) == 3
    assert (bank.logins, bank.login_attempts) == (3, 3)
    assert [issued.fingerprint for issued in bank.tokens_issued] == list(map(fingerprint, tokens))
    assert all(math.isclose(i.expires_at - i.issued_at, 900) for i in bank.tokens_issued)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"Authorization": None}, 401, "invalid_client"),
        ({"Authorization": "Basic bm9wZTpub3Bl"}, 401, "invalid_client"),
        ({"Authorization": "Bearer x"}, 401, "invalid_client"),
        ({"API_Key": "other"}, 401, "invalid_client"),
        ({"API_Key": None, "keyid": "example-api-key"}, 401, "invalid_client"),
        ({"Content_Type": "application/json"}, 400, "invalid_request"),
        ({"Content_Type": None}, 400, "invalid_request"),
        ({"body": b"grant_type=password"}, 400, "unsupported_grant_type"),
        ({"body": b"grant_type=client_credentials&scope=x"}, 400, "unsupported_grant_type"),
        ({"body": b""}, 400, "unsupported_grant_type"),
    ],
)
def test_a_wrong_login_gets_the_oauth_error_shape(bank, changes, status, error):
    answer = login(bank, **changes)
    assert (answer.status, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert (bank.logins, bank.login_attempts) == (0, 1)


@pytest.mark.parametrize(
    "at",
    [
        "2025-09-11T15:24:18.000+07:00",
        stamp()[:-6] + "Z",
        stamp()[:-10] + "+07:00",
        stamp()[:-6] + "000+07:00",
        stamp().replace("T", " "),
        "2025-13-41T15:24:18.000+07:00",
        "²025-09-11T15:24:18.000+07:00",
        "soon",
    ],
)
def test_a_login_with_a_bad_timestamp_is_refused(bank, at):
    answer = login(bank, at=at.encode().decode("latin-1"))
    assert (answer.status, answer.json()) == (403, BAD_TIMESTAMP)


# A pause of the machine makes a timestamp older: where that could matter there are 30 s for it.
@pytest.mark.parametrize(("offset", "status"), [(-270, 200), (299, 200), (-301, 403), (330, 403)])
def test_timestamps_are_fresh_within_the_tolerance_both_ways(bank, offset, status):
    assert login(bank, at=stamp(offset)).status == status


def test_utc_digits_labelled_as_wib_are_refused(bank):
    assert login(bank, at=stamp(-7 * 3600)).json() == BAD_TIMESTAMP


def test_freshness_is_judged_by_the_skewed_clock_of_the_bank(bank):
    bank.clock_skew = 3600.0
    assert login(bank).json() == BAD_TIMESTAMP
    assert login(bank, at=stamp(3600)).status == 200


@pytest.mark.parametrize("wrong", [None, "", "x", "é", sign("something else")])
def test_a_login_with_a_wrong_signature_is_refused(bank, wrong):
    answer = login(bank, OAUTH_Signature=wrong)
    assert (answer.status, answer.json()) == (403, BAD_SIGNATURE)


def test_the_signature_covers_key_timestamp_and_body(bank):
    at = stamp()
    for message in (f"x:{at}:grant_type=client_credentials", f"example-api-key:{stamp(1)}:"):
        assert login(bank, at=at, OAUTH_Signature=sign(message)).json() == BAD_SIGNATURE


def test_the_signature_is_compared_with_its_case(bank):
    at = stamp()
    good = sign(f"example-api-key:{at}:grant_type=client_credentials")
    assert login(bank, at=at, OAUTH_Signature=good.swapcase()).json() == BAD_SIGNATURE


def test_only_post_reaches_the_token_endpoint(bank):
    with Client(bank) as client:
        answer = client.send("GET", LOGIN_PATH)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_a_replayed_timestamp_and_signature_is_counted_but_served(bank):
    at = stamp()
    bank.fail_next(status=503, on="token")
    assert [login(bank, at=at).status for _ in range(2)] == [503, 200]
    assert bank.replays == 1
    assert login(bank, at=stamp(1)).status == 200
    assert bank.replays == 1


def test_the_lifetime_goes_out_as_it_is(bank):
    bank.token_lifetime = 1.5
    assert login(bank).json()["expires_in"] == 1.5
    bank.token_lifetime = 7.0
    assert login(bank).body.count(b'"expires_in": 7,') == 1


def test_reuse_gives_the_same_token_with_its_remaining_life(bank):
    bank.reuse_token = True
    first = login(bank).json()
    second = login(bank).json()
    assert second["access_token"] == first["access_token"]
    assert second["expires_in"] in (898, 899)
    assert (bank.logins, len(bank.tokens_issued)) == (2, 1)
    bank.revoke(first["access_token"])
    assert login(bank).json()["access_token"] != first["access_token"]


def test_reuse_never_tells_less_than_a_second(bank):
    bank.reuse_token, bank.token_lifetime = True, 0.9
    first, second = login(bank).json(), login(bank).json()
    assert second["access_token"] == first["access_token"]
    assert second["expires_in"] == 1


# Calls


def test_a_good_call_is_echoed(bank):
    with Client(bank) as client:
        token = client.token()
        answer = client.call(token, b'{"a": 1}', method="PUT")
    assert answer.json() == {
        "StatusCode": "00",
        "StatusDesc": "Success",
        "method": "PUT",
        "path": INQUIRY_PATH,
        "bytes": 8,
    }
    assert bank.requests[-1].token_fingerprint == fingerprint(token)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic x"])
def test_a_call_without_a_known_token_is_403(bank, authorization):
    answer = call(bank, "x", Authorization=authorization)
    assert (answer.status, answer.json()) == (403, BAD_TOKEN)


def test_a_token_expires(bank):
    bank.token_lifetime = 2.0
    with Client(bank) as client:
        token = client.token()
        assert client.call(token).status == 200
        deadline = time.monotonic() + 20
        while client.call(token).status == 200:
            assert time.monotonic() < deadline
    (issued,) = bank.tokens_issued
    last_good = max(request.at for request in bank.requests if request.status == 200)
    assert last_good < issued.expires_at <= bank.requests[-1].at + 0.2
    assert bank.requests[-1].reason == "token expired"


def test_revoked_tokens_are_refused(bank):
    with Client(bank) as client:
        one, two = client.token(), client.token()
        assert bank.revoke(one)
        assert not bank.revoke("unknown")
        assert [client.call(token).status for token in (one, two)] == [403, 200]
        assert bank.requests[-2].reason == "token revoked"
        bank.revoke_all_tokens()
        assert client.call(two).json() == BAD_TOKEN


def test_a_new_login_kills_the_old_token_only_if_told(bank):
    with Client(bank) as client:
        one, two = client.token(), client.token()
        assert client.call(one).status == 200
        bank.single_token = True
        three = client.token()
        assert [client.call(token).status for token in (one, two, three)] == [403, 403, 200]


def test_a_call_with_a_stale_timestamp_is_refused(bank):
    with Client(bank) as client:
        token = client.token()
        assert client.call(token, at=stamp(-400)).json() == BAD_TIMESTAMP
        assert client.call(token, permata_timestamp=None).json() == BAD_TIMESTAMP


def test_a_call_for_another_organization_is_refused(bank):
    with Client(bank) as client:
        answer = client.call(client.token(), organizationname="other")
    assert answer.json()["ErrorDescription"] == "Invalid Organization Name"


@pytest.mark.parametrize(
    "changes",
    [{"permata_signature": None}, {"permata_signature": "x"}, {"signed": b"{ }"}, {"signed": b""}],
)
def test_a_call_with_a_wrong_signature_is_refused(bank, changes):
    with Client(bank) as client:
        answer = client.call(client.token(), b"{}", **changes)
    assert (answer.status, answer.json()) == (403, BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("canonicalizer", "signed"),
    [
        ("strip_all", b'{"a":"bc"}'),
        ("minify", b'{"a":"b c"}'),
        ("raw", b'{"a": "b c"}'),
    ],
)
def test_the_call_signature_follows_the_canonicalizer_of_the_bank(canonicalizer, signed):
    others = {b'{"a":"bc"}', b'{"a":"b c"}', b'{"a": "b c"}'} - {signed}
    with Sandbox(canonicalizer=canonicalizer) as bank, Client(bank) as client:
        token = client.token()
        assert client.call(token, b'{"a": "b c"}', signed=signed).status == 200
        for other in others:
            assert client.call(token, b'{"a": "b c"}', signed=other).json() == BAD_SIGNATURE


def test_a_chunked_call_is_refused_with_411_and_the_connection_goes_on(bank):
    with Client(bank) as client:
        token = client.token()
        used = client.http.sock
        client.http.request("POST", INQUIRY_PATH, iter([b"{", b"}"]), encode_chunked=True)
        assert client.http.getresponse().read()
        assert bank.requests[-1].status == 411
        assert client.call(token).status == 200
        assert client.http.sock is used


def test_paths_outside_the_api_are_unknown(bank):
    with Client(bank) as client:
        assert client.send("GET", "/").status == 404
        assert client.send("GET", "/apiservice").status == 404


# The callback status endpoint


def test_a_callback_is_delivered_with_its_bytes_unchanged(bank):
    with Client(bank) as client:
        answer = client.call(client.token(), RECEIPT, path=CALLBACK_PATH)
    assert answer.json() == {"StatusCode": "00", "StatusDesc": "Success"}
    assert bank.deliveries == (RECEIPT,)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "PUT"}, 405),
        ({"Content_Type": "text/plain"}, 400),
        ({"body": b"{not json"}, 400),
        ({"body": b""}, 400),
        ({"body": b"[" * 200_000}, 400),
        ({"permata_signature": "x"}, 403),
    ],
)
def test_a_bad_callback_is_not_delivered(bank, changes, status):
    with Client(bank) as client:
        token = client.token()
        assert client.call(token, path=CALLBACK_PATH, **changes).status == status
    assert bank.deliveries == ()


def test_the_reply_to_callbacks_can_be_set_and_only_a_2xx_delivers(bank):
    with Client(bank) as client:
        token = client.token()
        bank.callback_reply = (502, b"<p>no</p>", "text/html")
        answer = client.call(token, RECEIPT, path=CALLBACK_PATH)
        assert (answer.status, answer.body) == (502, b"<p>no</p>")
        assert answer.headers["Content-Type"] == "text/html"
        assert bank.deliveries == ()
        bank.callback_reply = (202, b"{}", "application/json")
        assert client.call(token, RECEIPT, path=CALLBACK_PATH).status == 202
    assert bank.deliveries == (RECEIPT,)


# Its records


def test_requests_are_recorded_in_order(bank):
    with Client(bank) as client:
        token = client.token()
        client.call(token, RECEIPT)
        client.call("unknown")
    first, second, third = bank.requests
    assert (first.method, first.path, first.status, first.reason) == ("POST", LOGIN_PATH, 200, "ok")
    assert first.token_fingerprint == second.token_fingerprint == fingerprint(token)
    assert (second.body, second.headers["PERMATA-signature"] != "") == (RECEIPT, True)
    assert (third.status, third.reason) == (403, "token unknown")
    assert first.at <= second.at <= third.at
    assert bank.calls_by_status == {"200": 1, "403": 1}


def test_no_repr_shows_a_secret(bank):
    with Client(bank) as client:
        token = client.token()
        client.call(token)
    headers = [value for record in bank.requests for value in record.headers.values()]
    signatures = [value for value in headers if value.endswith("=")]
    text = repr(bank.requests) + repr(bank) + repr(bank.tokens_issued)
    assert len(signatures) >= 2
    for secret in (token, "example-api-key", "example-client-secret", *signatures):
        assert secret not in text
    assert "example-static-key" not in text


def test_resetting_counters_forgets_records_but_not_living_tokens(bank):
    with Client(bank) as client:
        dead, alive = client.token(), client.token()
        bank.revoke(dead)
        client.call(alive, RECEIPT, path=CALLBACK_PATH)
        bank.reset_counters()
        assert (bank.logins, bank.login_attempts, bank.requests) == (0, 0, ())
        assert (bank.deliveries, bank.tokens_issued, bank.calls_by_status) == ((), (), {})
        assert client.call(alive).status == 200
        assert client.call(dead).status == 403
        assert bank.requests[-1].reason == "token unknown"


def test_wait_until_wakes_up_with_the_request_that_makes_it_true(bank):
    assert not bank.wait_until(lambda: bank.logins, timeout=0)
    thread = threading.Thread(target=login, args=(bank,))
    thread.start()
    assert bank.wait_until(lambda: bank.logins == 1, timeout=30)
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "arguments",
    [
        {"token_lifetime": 0},
        {"token_lifetime": math.nan},
        {"token_lifetime": True},
        {"latency": -1},
        {"clock_skew": math.inf},
        {"canonicalizer": "sorted"},
        {"token_lifetime": "900"},
    ],
)
def test_bad_settings_are_refused_at_once(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Sandbox(**arguments)
    bank = Sandbox()
    ((name, value),) = arguments.items()
    before = getattr(bank, name)
    with pytest.raises(ValueError, match=name):
        setattr(bank, name, value)
    assert getattr(bank, name) == before


@pytest.mark.parametrize(
    "name", ["admin", "log_requests", "reuse_token", "single_token", "reject_tokens"]
)
@pytest.mark.parametrize("value", ["false", 0, None])
def test_flags_are_true_or_false(name, value):
    with pytest.raises(TypeError, match=name):
        Sandbox(**{name: value})
