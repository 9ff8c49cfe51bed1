from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import ScriptedClient, credentials
from support.threads import Call, until

from permata_auth import (
    CallbackStatusClient,
    CallbackStatusError,
    ConfigurationError,
    InvalidClientError,
    LoginClient,
    RequestTimeoutError,
    RetryPolicy,
    TokenEndpointUnavailableError,
    TransportError,
)

QUICK = RetryPolicy(attempts=3, wait_initial=0.001, wait_max=0.002, timeout=10)
RECEIPT = (
    b'{ "xid": "123",\n "entry": [{"changes": [{"value": {"statuses": [{"name": "a  b"}]}}]}]}'
)
REJECTED = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


@pytest.fixture
def make_client(make_handler):
    clients = []

    def make(bank, *, handler=None, **arguments):
        handler = handler or make_handler(
            bank.credentials(), client=LoginClient(bank.credentials(), retry=QUICK)
        )
        arguments = {"retry": QUICK} | arguments
        clients.append(CallbackStatusClient(handler, bank.callback_status_url, **arguments))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(bank, make_client):
    return make_client(bank)


def statuses(bank):
    return [call.status for call in bank.requests if not call.path.endswith("/token")]


# The request and the response


@pytest.mark.parametrize("payload", [RECEIPT, bytearray(RECEIPT), memoryview(RECEIPT)])
def test_bytes_go_out_unchanged(bank, client, payload):
    answer = client.send(payload)
    assert bank.deliveries == (RECEIPT,)
    assert (answer.http_status, answer.status_code, answer.status_desc) == (200, "00", "Success")
    assert answer.body == {"StatusCode": "00", "StatusDesc": "Success"}


def test_text_goes_out_unchanged_as_utf8(bank, client):
    text = '{"name": "Kérry  Fisher"}'
    client.send(text)
    assert bank.deliveries == (text.encode(),)


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        ({"b": 1, "a": "é  c"}, b'{"b":1,"a":"\\u00e9  c"}'),
        ([1, "2", None], b'[1,"2",null]'),
        ({}, b"{}"),
    ],
)
def test_objects_are_serialised_compactly_in_their_order(bank, client, payload, sent):
    client.send(payload)
    assert bank.deliveries == (sent,)


def _circle():
    circle: list = []
    circle.append(circle)
    return circle


def _deep():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "payload",
    [{"a": float("nan")}, {"a": float("inf")}, {"a": object()}, {("a",): 1}, _circle(), _deep(),
     None, 5, {"a"}, "\ud800"],
    ids=lambda payload: type(payload).__name__,
)  # fmt: skip
def test_what_is_no_json_is_not_sent(bank, client, payload):
    with pytest.raises(CallbackStatusError, match="cannot be written as JSON") as caught:
        client.send(payload)
    assert not caught.value.retryable
    assert bank.requests == ()


@pytest.mark.parametrize(
    ("reply", "words", "body"),
    [
        ((200, b'{"StatusCode":"05","StatusDesc":"No","more":[1]}', "application/json"),
         ("05", "No"), {"StatusCode": "05", "StatusDesc": "No", "more": [1]}),
        ((200, b"<html>so</html>", "text/html"),
         ("06", "<html>so</html>"), {"StatusCode": "06", "StatusDesc": "<html>so</html>"}),
        ((200, b"", "text/plain"), ("06", ""), {"StatusCode": "06", "StatusDesc": ""}),
        ((200, b"[1]", "application/json"),
         ("06", "[1]"), {"StatusCode": "06", "StatusDesc": "[1]"}),
        ((202, b"caf\xe9", "text/plain"),
         ("06", "caf\ufffd"), {"StatusCode": "06", "StatusDesc": "caf\ufffd"}),
        ((400, b'{"ErrorCode":"400","ErrorDescription":"Bad"}', "application/json"),
         ("400", "Bad"), {"ErrorCode": "400", "ErrorDescription": "Bad"}),
        ((200, b"{}", "application/json"), ("06", ""), {}),
    ],
)  # fmt: skip
def test_the_banks_answer_comes_back_as_it_is(bank, client, reply, words, body):
    bank.callback_reply = reply
    answer = client.send(RECEIPT)
    assert answer.http_status == reply[0]
    assert ((answer.status_code, answer.status_desc), answer.body) == (words, body)


def test_a_long_text_is_cut(bank, client):
    bank.callback_reply = (200, b"x" * 50_000, "text/plain")
    assert client.send(RECEIPT).status_desc == "x" * 1000


def test_an_answer_over_a_mebibyte_is_cut(bank, client):
    bank.fail_next(1, "huge", bytes=3 * 2**20, on="calls")
    answer = client.send(RECEIPT)
    assert (answer.http_status, answer.status_code, len(answer.status_desc)) == (200, "06", 1000)


# Retries


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_overload_is_tried_again_with_a_new_signature(bank, client, status):
    bank.fail_next(2, status=status, retry_after=0.0, on="calls")
    assert client.send(RECEIPT).http_status == 200
    calls = [call for call in bank.requests if not call.path.endswith("/token")]
    assert [call.status for call in calls] == [status, status, 200]
    assert len({call.headers["permata-signature"] for call in calls}) == 3
    assert bank.deliveries == (RECEIPT,)


def test_the_last_answer_comes_back_when_attempts_run_out(bank, client):
    bank.fail_next(9, status=503, body="busy", content_type="text/plain", on="calls")
    answer = client.send(RECEIPT)
    assert (answer.http_status, answer.status_desc) == (503, "busy")
    assert statuses(bank) == [503] * 3


def test_retry_after_is_honoured(bank, client):
    bank.fail_next(1, status=429, retry_after=1, on="calls")
    began = time.monotonic()
    assert client.send(RECEIPT).http_status == 200
    assert time.monotonic() - began >= 1


def test_a_retry_after_beyond_the_budget_is_not_waited_for(bank, client):
    bank.fail_next(1, status=429, retry_after=3600, on="calls")
    assert client.send(RECEIPT).http_status == 429


@pytest.mark.parametrize("status", [307, 400, 403, 404, 409, 422])
def test_other_refusals_are_not_tried_again(bank, client, status):
    bank.fail_next(9, status=status, on="calls")
    assert client.send(RECEIPT).http_status == status
    assert statuses(bank) == [status]
    assert bank.logins == 1


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [("drop", {}), ("reset", {}), ("truncated", {}), ("reset", {"at": "headers"})],
)
def test_a_broken_connection_is_tried_again(bank, client, fault, arguments):
    bank.fail_next(1, fault, on="calls", **arguments)
    assert client.send(RECEIPT).http_status == 200


def test_no_answer_at_all_raises(bank, client, secrets):
    client.send(RECEIPT)
    bank.fail_next(9, "drop", on="calls")
    with pytest.raises(TransportError) as caught:
        client.send(RECEIPT)
    assert caught.value.retryable
    assert statuses(bank) == [200, 0, 0, 0]
    assert secrets.found_in_error(caught.value) == set()


def test_an_answer_before_a_broken_connection_is_not_the_answer(bank, client):
    bank.fail_next(2, status=503, on="calls")
    bank.fail_next(1, "drop", on="calls")
    with pytest.raises(TransportError):
        client.send(RECEIPT)


def test_a_bank_that_drips_is_left_at_the_budgets_end(bank, make_client):
    client = make_client(bank, retry=RetryPolicy(timeout=1.0))
    bank.fail_next(9, "drip", interval=0.05, part="headers", on="calls")
    with pytest.raises(RequestTimeoutError):
        client.send(RECEIPT)


def test_a_read_timeout_is_tried_again(bank, make_client):
    client = make_client(bank, timeout=(5.0, 0.3))
    bank.fail_next(1, "slow", seconds=5, on="calls")
    assert client.send(RECEIPT).http_status == 200


def test_close_ends_a_wait_between_attempts(bank, make_client):
    client = make_client(bank, retry=RetryPolicy(attempts=2, timeout=60))
    bank.fail_next(1, status=503, retry_after=30, on="calls")
    sending = Call(client.send, RECEIPT)
    until(lambda: statuses(bank) == [503])
    client.close()
    sending.join(5)
    assert isinstance(sending.error, TransportError)
    assert client.send(RECEIPT).http_status == 200


# Tokens


def test_a_rejected_token_is_replaced_without_an_attempt(bank, make_client):
    client = make_client(bank, retry=RetryPolicy(attempts=1))
    client.send(RECEIPT)
    bank.revoke_all_tokens()
    assert client.send(RECEIPT).http_status == 200
    assert (statuses(bank), bank.logins) == ([200, 403, 200], 2)


def test_a_bank_that_goes_on_rejecting_gets_one_login(bank, client):
    bank.fail_next(9, "json", body=REJECTED, status=403, on="calls")
    answer = client.send(RECEIPT)
    assert (answer.http_status, answer.body) == (403, REJECTED)
    assert (statuses(bank), bank.logins) == ([403, 403], 2)


def test_a_token_is_replaced_once_in_all_attempts(bank, client):
    bank.fail_next(1, "json", body=REJECTED, status=403, on="calls")
    bank.fail_next(1, status=503, on="calls")
    bank.fail_next(9, "json", body=REJECTED, status=403, on="calls")
    assert client.send(RECEIPT).http_status == 403
    assert (statuses(bank), bank.logins) == ([403, 503, 403], 2)


def test_fifty_rejections_at_once_make_one_login(bank, make_client):
    client = make_client(bank, pool_size=50)
    client.send(RECEIPT)
    bank.revoke_all_tokens()
    gate = bank.hold_next(50, on="calls")
    with ThreadPoolExecutor(50) as threads:
        sending = [threads.submit(client.send, RECEIPT) for _ in range(50)]
        assert gate.arrived.wait(20)
        gate.release()
        assert {call.result(20).http_status for call in sending} == {200}
    assert (bank.logins, bank.calls_by_status) == (2, {"200": 51, "403": 50})


def test_a_login_that_fails_is_not_repeated_by_the_call(bank, client, secrets):
    bank.fail_next(99, status=503, on="token")
    with pytest.raises(TokenEndpointUnavailableError) as caught:
        client.send(RECEIPT)
    assert bank.login_attempts == QUICK.attempts
    assert secrets.found_in_error(caught.value) == set()


def test_refused_credentials_pass_through(bank, make_client, make_handler):
    client = make_client(bank, handler=make_handler(bank.credentials(client_secret="example-old")))
    with pytest.raises(InvalidClientError):
        client.send(RECEIPT)


# Records, settings, threads


def test_every_record_of_a_call_carries_its_request_id(bank, client, caplog):
    bank.fail_next(1, status=503, on="token")
    bank.fail_next(1, status=503, on="calls")
    with caplog.at_level(logging.DEBUG):
        client.send(RECEIPT, request_id="req-example")
        bank.revoke_all_tokens()
        client.send(RECEIPT, request_id="req-example")
    records = [r for r in caplog.records
               if r.name.startswith("permata_auth.") and "sandbox" not in r.name
               and "scheduler" not in r.name]  # fmt: skip
    assert {record.permata_request_id for record in records} == {"req-example"}
    assert {record.name.rpartition(".")[2] for record in records} == {
        "callback_status", "handler", "login"}  # fmt: skip


def test_a_request_id_is_made_up_for_each_call(client, caplog):
    with caplog.at_level(logging.DEBUG, "permata_auth.callback_status"):
        client.send(RECEIPT)
        client.send(RECEIPT)
    first, second = (record.permata_request_id for record in caplog.records
                     if record.name == "permata_auth.callback_status")  # fmt: skip
    assert first.startswith("req-")
    assert first != second


@pytest.mark.parametrize(
    "arguments",
    [{"url": "http://bank.invalid/"}, {"url": None}, {"timeout": 0}, {"pool_size": 0},
     {"pool_size": True}, {"session": "s"}, {"retry": 3}, {"handler": None},
     {"url": "http://bank.invalid/", "allow_insecure_http": "no"}, {"allow_insecure_http": 1}],
    ids=repr,
)  # fmt: skip
def test_wrong_settings_are_refused(make_handler, arguments):
    handler = make_handler(credentials(), client=ScriptedClient())
    given_ = {"handler": handler, "url": "https://bank.invalid/callback"} | arguments
    with pytest.raises(ConfigurationError):
        CallbackStatusClient(given_.pop("handler"), given_.pop("url"), **given_)


def test_a_handler_that_cannot_sign_is_refused(make_handler):
    handler = make_handler(credentials(organization_name=None), client=ScriptedClient())
    with pytest.raises(ConfigurationError, match="organization_name"):
        CallbackStatusClient(handler, "https://bank.invalid/callback")


def test_plain_http_may_be_allowed(make_handler):
    handler = make_handler(credentials(), client=ScriptedClient())
    CallbackStatusClient(handler, "http://bank.invalid/callback", allow_insecure_http=True)


def test_a_given_session_is_used_and_left_open(bank, make_client):
    with requests.Session() as session:
        session.headers["X-Example"] = "yes"
        with make_client(bank, session=session) as client:
            assert client.send(RECEIPT).http_status == 200
        assert session.get(bank.admin_url + "counters", timeout=5).json()["deliveries"] == 1
    assert bank.requests[-1].headers["X-Example"] == "yes"


def test_it_shows_no_query_and_is_not_pickled(make_handler):
    handler = make_handler(credentials(), client=ScriptedClient())
    client = CallbackStatusClient(handler, "https://bank.invalid/callback?key=example-secret")
    assert "example-secret" not in repr(client)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


def test_thirty_two_threads_keep_their_connections(bank, client, caplog):
    barrier = threading.Barrier(32)

    def send(_):
        barrier.wait(20)
        return [client.send(RECEIPT).http_status for _ in range(5)]

    with ThreadPoolExecutor(32) as threads, caplog.at_level(logging.WARNING, "urllib3"):
        assert list(threads.map(send, range(32))) == [[200] * 5] * 32
    assert "pool is full" not in caplog.text
    assert len(bank.deliveries) == 160


def test_any_object_arrives_as_it_was(bank, client):
    texts = st.text(st.characters(exclude_categories=["Cs"]))
    leaves = st.none() | st.booleans() | texts | st.integers()
    leaves |= st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(leaves, lambda v: st.lists(v) | st.dictionaries(texts, v), max_leaves=9)

    @settings(max_examples=100, deadline=None, database=None)
    @given(payload=st.dictionaries(texts, values) | st.lists(values))
    def check(payload):
        assert client.send(payload).http_status == 200
        assert json.loads(bank.deliveries[-1]) == payload

    check()
