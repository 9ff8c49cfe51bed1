from __future__ import annotations

import hashlib
import hmac
import json
import logging
import queue
import re
import threading
import time
from collections import Counter
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.threads import Call, until

from permata_auth import (
    CallbackStatusClient,
    CallbackStatusResponse,
    ConfigurationError,
    LoginClient,
    RequestTimeoutError,
    RetryPolicy,
    SchedulerConfig,
    TokenScheduler,
    WebhookProcessor,
)

QUICK = RetryPolicy(attempts=2, wait_initial=0.001, wait_max=0.002, timeout=10)
RECEIPT = (
    b'{"xid":"123","entry":[{"id":"example","time":0,"changes":[{"field":"messages","value":'
    b'{"metadata":{},"statuses":[{"id":"wamid.example","errors":null,"status":"delivered"}],'
    b'"messaging_product":"whatsapp"}}]}]}'
)
ERROR = b'{"error":{"code":500,"message":"no  such\\tnumber"}}'
FLOW = (
    b'{"id":"4f3c","data":{"object":"whatsapp_business_account","entry":[{"id":"example",'
    b'"changes":[{"field":"messages","value":{"contacts":[{"profile":{"name":"Kerry Fisher"}}],'
    b'"messages":[{"id":"wamid.example","type":"interactive","interactive":{"type":"nfm_reply",'
    b'"nfm_reply":{"body":"Sent","response_json":"{}"}}}]}}]}]}}'
)
SECRETS = ["example-app-secret-old", "example-app-secret-new"]
REJECTED = {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"}


@pytest.fixture
def make_processor(make_handler):
    clients = []

    def make(bank, *, retry=QUICK, scheduler=None, **arguments):
        login = LoginClient(bank.credentials(), retry=retry)
        make.handler = make_handler(bank.credentials(), client=login, scheduler=scheduler)
        clients.append(CallbackStatusClient(make.handler, bank.callback_status_url, retry=retry))
        if "app_secrets" not in arguments:
            arguments.setdefault("allow_unsigned", True)
        return WebhookProcessor(clients[-1], **arguments)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def processor(bank, make_processor):
    return make_processor(bank)


def nested(*path, leaf):
    for step in reversed(path):
        leaf = [leaf] if step == 0 else {step: leaf}
    return leaf


# Which is which


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (RECEIPT, "delivery_receipt"),
        (ERROR, "delivery_receipt"),
        (b'{"error":null}', "delivery_receipt"),
        (b'{"entry":[1,{"changes":[null,{"value":{"statuses":null}}]}]}', "delivery_receipt"),
        (FLOW, "inbound_flow"),
        (b' \n{"error": 1e5 }\r\n', "delivery_receipt"),
        (b'{"error":' + b"9" * 4_000 + b"}", "delivery_receipt"),
    ],
)
def test_receipts_and_flows_are_forwarded_unchanged(bank, processor, body, kind):
    answer = processor.process(body)
    assert (answer.http_status, answer.kind, answer.forwarded) == (200, kind, True)
    assert answer.body == {"StatusCode": "00", "StatusDesc": "Success"}
    assert bank.deliveries == (body,)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"xid": "123", "data": {"error": 1}},
        nested("entry", 0, "changes", 0, "value", leaf={"messages": []}),
        nested("entry", "changes", 0, "value", "statuses", leaf=[]),
        nested("entry", 0, "changes", 0, "value", 0, "statuses", leaf=[]),
        nested("data", "entry", 0, "changes", 0, "value", "statuses", leaf=[]),
        nested("entry", 0, "changes", 0, "value", "messages", 0, "interactive", "type",
               leaf="nfm_reply"),
        nested("data", "entry", 0, "changes", 0, "value", "messages", 0, "interactive", "type",
               leaf="button_reply"),
        nested("data", "entry", 0, "changes", 0, "value", "messages", 0, "interactive", "type",
               leaf=["nfm_reply"]),
        nested("data", "entry", 0, "changes", 0, "value", "messages", 0, "type",
               leaf="nfm_reply"),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_everything_else_is_answered_and_not_forwarded(bank, processor, payload):
    answer = processor.process(json.dumps(payload).encode())
    assert (answer.http_status, answer.kind, answer.forwarded) == (200, "ignored", False)
    assert answer.body == {"StatusCode": "00", "StatusDesc": "Success"}
    assert bank.requests == ()


@pytest.mark.parametrize(
    ("fields", "request_id"),
    [
        ({"xid": "123", "id": "4f3c"}, "req-123"),
        ({"xid": "", "id": "4f3c"}, "req-4f3c"),
        ({"xid": 5, "id": "4f3c"}, "req-4f3c"),
        ({"id": "a b é"}, "req-a b é"),
    ],
)
def test_the_request_id_is_the_webhooks_own(processor, fields, request_id):
    assert processor.process(json.dumps(fields).encode()).request_id == request_id


@pytest.mark.parametrize(
    "fields",
    [{}, {"xid": 5}, {"xid": None, "id": ""}, {"id": ["4f3c"]}, {"xid": "a\nERROR forged"},
     {"xid": "\ud800"}, {"xid": "x" * 201}],
)  # fmt: skip
def test_without_a_usable_id_one_is_made_up(processor, fields):
    ids = {processor.process(json.dumps(fields).encode()).request_id for _ in range(2)}
    assert len(ids) == 2
    assert all(len(each) == len("req-") + 36 for each in ids)


# Refused webhooks

_DEEP = b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"not json", b"[]", b"1", b'"text"', b"null", b"true", b"[%b]" % RECEIPT,
        b'{"error":1,"error":2}', b'{"xid":"1","error":[{"a":1,"a":1}]}', b'{"error":NaN}',
        b'{"error":Infinity}', b'{"error":-Infinity}', _DEEP, b'{"error":"\xff"}',
        b'{"error":"\xed\xa0\x80"}', b"\xef\xbb\xbf" + RECEIPT, RECEIPT.decode().encode("utf-16"),
        RECEIPT.decode().encode("utf-32-le"), '{"error":"é"}'.encode("latin-1"), RECEIPT + b"\x00",
        RECEIPT + RECEIPT, b"{'error':1}", b'{"error":01}', b'{"error":"\n"}', b"\x1f\x8b\x08\x00",
        '{"error":"\ud800"}', None, 5, {"error": 1}, [RECEIPT],
    ],
    ids=lambda body: repr(body)[:30],
)  # fmt: skip
def test_bad_input_is_answered_with_400_and_not_forwarded(bank, processor, body):
    answer = processor.process(body)
    assert (answer.http_status, answer.kind, answer.forwarded) == (400, "invalid", False)
    assert answer.body["StatusCode"] == "06"
    assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.request_id)
    assert bank.requests == ()


@pytest.mark.parametrize("body", [bytearray(RECEIPT), memoryview(RECEIPT), RECEIPT.decode()])
def test_other_forms_of_the_same_bytes_are_taken(bank, processor, body):
    assert processor.process(body).forwarded
    assert bank.deliveries == (RECEIPT,)


def test_a_body_that_is_too_large_is_answered_with_413(bank, make_processor):
    processor = make_processor(bank)
    assert processor.max_body_bytes == 2**20
    ten_mebibytes = b'{"error":"' + b"x" * (10 * 2**20) + b'"}'
    answer = processor.process(ten_mebibytes)
    assert (answer.http_status, answer.kind, answer.body["StatusCode"]) == (413, "invalid", "06")
    assert bank.requests == ()


def test_the_limit_is_the_callers(bank, make_processor):
    processor = make_processor(bank, max_body_bytes=len(RECEIPT))
    assert processor.process(RECEIPT).http_status == 200
    assert processor.process(RECEIPT + b" ").http_status == 413


# Signatures


def signature(secret, body=RECEIPT):
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class NoMapping:
    """Headers as some frameworks have them: with items() and nothing else."""

    def items(self):
        return [("Host", "example"), ("X-HUB-SIGNATURE-256", signature(SECRETS[1]))]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Hub-Signature-256": signature(SECRETS[0])},
        {"x-hub-signature-256": signature(SECRETS[1]), "Host": "example"},
        NoMapping(),
    ],
)
def test_a_webhook_signed_with_one_of_the_secrets_is_forwarded(bank, make_processor, headers):
    assert make_processor(bank, app_secrets=SECRETS).process(RECEIPT, headers).forwarded


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signature("example-other-secret")},
        {"X-Hub-Signature-256": signature(SECRETS[0], RECEIPT + b" ")},
        {"X-Hub-Signature-256": signature(SECRETS[0]).removeprefix("sha256=")},
        {"X-Hub-Signature-256": signature(SECRETS[0]).replace("sha256", "sha1")},
        {"X-Hub-Signature-256": signature(SECRETS[0])[:-1]},
        {"X-Hub-Signature-256": "sha256=é\ud800"},
        {"X-Hub-Signature-256": None},
        {"X-Hub-Signature": signature(SECRETS[0])},
        {5: 6},
        "X-Hub-Signature-256",
    ],
    ids=repr,
)
def test_any_other_is_answered_with_401_and_not_forwarded(bank, make_processor, headers):
    answer = make_processor(bank, app_secrets=SECRETS).process(RECEIPT, headers)
    assert (answer.http_status, answer.kind, answer.forwarded) == (401, "invalid", False)
    assert answer.body["StatusCode"] == "06"
    assert bank.requests == ()


def test_the_signature_is_looked_at_before_the_json(bank, make_processor):
    processor = make_processor(bank, app_secrets=SECRETS)
    assert processor.process(b"not json").http_status == 401
    headers = {"X-Hub-Signature-256": signature(SECRETS[0], b"not json")}
    assert processor.process(b"not json", headers).http_status == 400


def test_an_app_secret_is_never_shown(bank, make_processor, secrets, caplog):
    secrets.add(*SECRETS)
    processor = make_processor(bank, app_secrets=SECRETS)
    processor.process(RECEIPT)
    assert secrets.found_in(repr(processor), caplog.text) == set()


@pytest.mark.parametrize(
    "arguments",
    [{"app_secrets": "example"}, {"app_secrets": b"example"}, {"app_secrets": bytearray(b"ex")},
     {"app_secrets": ""}, {"app_secrets": "  "}, {"app_secrets": [""]}, {"app_secrets": [b""]},
     {"app_secrets": ["example", "  "]}, {"app_secrets": [b" \n"]}, {"app_secrets": [5]},
     {"app_secrets": 5}, {"app_secrets": None}, {"app_secrets": {"name": "example"}},
     {"max_body_bytes": 0}, {"max_body_bytes": 1.5},
     {"max_body_bytes": True}, {"max_body_bytes": "100"}, {"client": None},
     {"client": CallbackStatusClient}, {"allow_unsigned": "false"}, {"allow_unsigned": 1},
     {"allow_unsigned": None}, {"verify_token": ""}, {"verify_token": " "}, {"verify_token": 5},
     {"verify_token": ["example"]}],
    ids=repr,
)  # fmt: skip
def test_wrong_settings_are_refused(processor, arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        WebhookProcessor(**{"client": processor._client, "app_secrets": SECRETS} | arguments)


@pytest.mark.parametrize("arguments", [{}, {"app_secrets": []}, {"app_secrets": iter(())},
                                       {"allow_unsigned": False}], ids=repr)  # fmt: skip
def test_without_a_secret_webhooks_are_closed_unless_unsigned_ones_are_allowed(
    processor, arguments
):
    with pytest.raises(ConfigurationError, match="app_secrets, or allow_unsigned=True"):
        WebhookProcessor(processor._client, **arguments)


def test_with_a_secret_an_unsigned_webhook_is_refused_even_where_they_are_allowed(
    bank, make_processor
):
    processor = make_processor(bank, app_secrets=SECRETS, allow_unsigned=True)
    assert processor.process(RECEIPT).http_status == 401
    assert bank.requests == ()


# The provider verifies the endpoint

TOKEN = "example-verify-token"
CHALLENGE = "1158201444"
GOOD = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": CHALLENGE}


class ManyValues:
    """A mapping as frameworks have it, whose items() shows one value of several."""

    def __init__(self, pairs):
        self._pairs = pairs

    def items(self):
        return dict(self._pairs).items()

    def lists(self):
        found = {}
        for name, value in self._pairs:
            found.setdefault(name, []).append(value)
        return found.items()


@pytest.mark.parametrize(
    "query",
    [GOOD, urlencode(GOOD), urlencode(GOOD).encode(), parse_qs(urlencode(GOOD)),
     GOOD | {"more": "1"}, ManyValues(list(GOOD.items()))],
    ids=lambda query: type(query).__name__,
)  # fmt: skip
def test_a_verification_with_the_token_is_answered_with_its_challenge(make_processor, bank, query):
    answer = make_processor(bank, verify_token=TOKEN).verify(query)
    assert (answer.http_status, answer.kind, answer.forwarded) == (200, "verification", False)
    assert (answer.challenge, answer.content) == (CHALLENGE, CHALLENGE.encode())
    assert answer.content_type.startswith("text/plain")
    assert make_processor(bank, verify_token=TOKEN).verify({}).content_type == "application/json"
    assert bank.requests == ()


@pytest.mark.parametrize(
    "query",
    [{}, "", b"", None, 5, [("hub.mode", "subscribe")], {5: 6}, "&&==%%%", "hub.mode",
     GOOD | {"hub.verify_token": "example-other"}, GOOD | {"hub.verify_token": TOKEN + " "},
     GOOD | {"hub.verify_token": ""}, GOOD | {"hub.verify_token": "\ud800é"},
     GOOD | {"hub.verify_token": None}, GOOD | {"hub.mode": "unsubscribe"},
     GOOD | {"hub.challenge": ""}, {name: GOOD[name] for name in GOOD if "mode" not in name},
     GOOD | {"hub.verify_token": [TOKEN, TOKEN]}, GOOD | {"hub.challenge": []},
     urlencode(GOOD) + "&hub.verify_token=example", "hub.verify_token=example&" + urlencode(GOOD),
     urlencode(GOOD) + "&hub.challenge=2", ManyValues([*GOOD.items(), ("hub.mode", "x")]),
     urlencode(GOOD | {"hub.challenge": "1" * 10_000})],
    ids=lambda query: repr(query)[:60],
)  # fmt: skip
def test_any_other_verification_is_answered_with_403(make_processor, bank, query, secrets):
    secrets.add(TOKEN)
    processor = make_processor(bank, verify_token=TOKEN)
    answer = processor.verify(query)
    assert (answer.http_status, answer.kind, answer.challenge) == (403, "invalid", None)
    assert json.loads(answer.content)["StatusCode"] == "06"
    assert secrets.found_in(repr(answer), repr(processor)) == set()


@pytest.mark.parametrize("token", ["", "None", TOKEN])
def test_without_a_verify_token_every_verification_is_refused(processor, token):
    assert processor.verify(GOOD | {"hub.verify_token": token}).http_status == 403


@settings(max_examples=200, deadline=None, database=None)
@given(query=st.binary() | st.text() | st.dictionaries(st.text(), st.text()) | st.none())
def test_no_query_raises(query):
    closed = WebhookProcessor(Recording(), app_secrets=["example"], verify_token=TOKEN)
    assert closed.verify(query).http_status == 403


# The bank's response, and none


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        ((200, b'{"StatusCode":"05","StatusDesc":"No"}', "application/json"),
         {"StatusCode": "05", "StatusDesc": "No"}),
        ((422, b'{"a":1}', "application/json"), {"a": 1}),
        ((503, b"busy", "text/plain"), {"StatusCode": "06", "StatusDesc": "busy"}),
    ],
)  # fmt: skip
def test_the_banks_status_and_body_come_back(bank, processor, reply, body):
    bank.callback_reply = reply
    answer = processor.process(RECEIPT)
    assert (answer.http_status, answer.body, answer.forwarded) == (reply[0], body, True)
    assert (answer.kind, answer.request_id) == ("delivery_receipt", "req-123")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_the_banks_status_has_no_content_where_http_allows_none(bank, processor, status):
    bank.callback_reply = (status, b"", "application/json")
    answer = processor.process(RECEIPT)
    assert (answer.http_status, answer.forwarded, answer.content) == (status, True, b"")


@pytest.mark.parametrize("status", [299, 599, 799, 999])
def test_a_status_that_http_does_not_know_comes_back_too(make_processor, bank, status):
    reply = CallbackStatusResponse(
        http_status=status, status_code="00", status_desc="", body={"StatusCode": "00"}
    )
    answer = WebhookProcessor(Answering(reply), allow_unsigned=True).process(RECEIPT)
    assert (answer.http_status, answer.forwarded) == (status, True)
    assert json.loads(answer.content) == {"StatusCode": "00"}


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_an_interim_status_is_no_response_of_the_bank(status):
    reply = CallbackStatusResponse(http_status=status, status_code="00", status_desc="", body={})
    answer = WebhookProcessor(Answering(reply), allow_unsigned=True).process(RECEIPT)
    assert (answer.http_status, answer.body["StatusCode"]) == (502, "06")
    assert not answer.forwarded


class Answering:
    def __init__(self, reply):
        self.reply = reply

    def send(self, payload, *, request_id=None):
        return self.reply


@pytest.mark.parametrize(
    ("fault", "on"),
    [("drop", "calls"), ("drop", "token"), ("status", "token"), ("clock", "token")],
)
def test_what_is_not_handed_over_is_asked_for_again(bank, processor, secrets, fault, on):
    bank.fail_next(99, fault, on=on)
    answer = processor.process(RECEIPT)
    assert (answer.http_status, answer.forwarded) == (502, False)
    assert (answer.kind, answer.request_id) == ("delivery_receipt", "req-123")
    assert answer.body["StatusCode"] == "06"
    assert secrets.found_in(repr(answer)) == set()
    assert bank.deliveries == ()


@pytest.mark.parametrize("on", ["token", "calls"])
def test_a_bank_that_does_not_answer_in_time_means_504(bank, make_processor, on):
    processor = make_processor(bank, retry=RetryPolicy(attempts=1, timeout=0.3))
    bank.fail_next(9, "slow", seconds=10, on=on)
    answer = processor.process(RECEIPT)
    assert (answer.http_status, answer.body["StatusCode"]) == (504, "06")


class Failing:
    def __init__(self, error):
        self.error = error

    def send(self, payload, *, request_id=None):
        raise self.error


@pytest.mark.parametrize(
    ("error", "http_status"),
    [(RuntimeError("example-secret"), 502), (ConfigurationError("wrong"), 502),
     (TimeoutError("example-secret"), 504), (RequestTimeoutError("late"), 504)],
)  # fmt: skip
def test_no_error_of_the_client_gets_through(secrets, error, http_status):
    secrets.add("example-secret")
    answer = WebhookProcessor(Failing(error), allow_unsigned=True).process(RECEIPT)
    assert (answer.http_status, answer.body["StatusCode"]) == (http_status, "06")
    assert secrets.found_in(repr(answer)) == set()


def test_every_record_of_a_webhook_carries_its_request_id(bank, processor, caplog):
    bank.fail_next(1, status=503, on="token")
    bank.fail_next(1, "json", body=REJECTED, status=403, on="calls")
    with caplog.at_level(logging.DEBUG):
        processor.process(RECEIPT)
    rooms = {}
    for record in caplog.records:
        room = record.name.removeprefix("permata_auth.")
        if room in ("webhook", "callback_status", "handler", "login"):
            rooms[room] = record.permata_request_id
    assert rooms == dict.fromkeys(("webhook", "callback_status", "handler", "login"), "req-123")


def test_the_record_of_a_refusal_carries_the_id_that_is_answered(processor, caplog):
    answer = processor.process(b"not json")
    (record,) = (each for each in caplog.records if each.name == "permata_auth.webhook")
    assert record.permata_request_id == answer.request_id


class Recording:
    """Stands in for the client in tests that look at the forwarded body alone."""

    def __init__(self):
        self.sent = []

    def send(self, payload, *, request_id=None):
        self.sent.append(payload)
        raise RequestTimeoutError("late")


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["entry", "changes", "value", "statuses", "data", "messages", "type", "id",
                         "error", "xid", "interactive"]), inner),
    max_leaves=15,
)  # fmt: skip


def test_a_number_of_any_length_is_no_obstacle():
    client = Recording()
    WebhookProcessor(client, allow_unsigned=True).process(b'{"error":' + b"9" * 500_000 + b"}")
    assert len(client.sent) == 1


@settings(max_examples=400, deadline=None, database=None)
@given(body=st.binary() | st.text() | _json.map(json.dumps), headers=_json)
@example(body=RECEIPT, headers={})
def test_no_input_raises(body, headers):
    client = Recording()
    answer = WebhookProcessor(client, allow_unsigned=True).process(body, headers)
    assert answer.http_status in (200, 400, 504)
    assert bool(client.sent) == (answer.kind in ("delivery_receipt", "inbound_flow"))
    signed = WebhookProcessor(client, app_secrets=["example"]).process(body, headers)
    assert signed.http_status in (400, 401)


# Many at once


def receipts(count):
    return [RECEIPT.replace(b'"123"', b'"%d"' % number) for number in range(count)]


def process_all(processor, bodies, *, seconds):
    """Process ``bodies`` with 32 threads, evenly spread over ``seconds``; return the answers."""
    began = time.monotonic()
    waiting = queue.SimpleQueue()
    for number, body in enumerate(bodies):
        waiting.put((began + seconds * number / len(bodies), body))
    answers = {}
    pause = threading.Event()

    def work():
        while True:
            try:
                at, body = waiting.get_nowait()
            except queue.Empty:
                return
            pause.wait(max(at - time.monotonic(), 0))
            answers[body] = processor.process(body)

    for call in [Call(work) for _ in range(32)]:
        call.join(60).value()
    return answers


@pytest.fixture
def _without_debug_records(caplog, secrets):
    caplog.set_level(logging.INFO)


@pytest.mark.usefixtures("_without_debug_records")
def test_two_thousand_webhooks_over_three_lifetimes(make_bank, make_processor):
    lifetime, buffer = 2.5, 0.5
    bank = make_bank(token_lifetime=lifetime)
    scheduler = TokenScheduler(SchedulerConfig(buffer, 0.0))
    processor = make_processor(bank, scheduler=scheduler)
    bodies = receipts(2000)
    began = time.monotonic()
    answers = process_all(processor, bodies, seconds=3 * (lifetime - buffer) + 0.5)
    scheduler.shutdown()
    elapsed = time.monotonic() - began
    assert {answer.body["StatusCode"] for answer in answers.values()} == {"00"}
    assert Counter(bank.deliveries) == Counter(bodies)
    # On a busy machine a call may arrive when its token has just died: it is sent once more.
    assert bank.calls_by_status.pop("200") == 2000
    assert bank.calls_by_status.keys() <= {"200", "403"}
    assert bank.logins == bank.login_attempts == len(bank.tokens_issued) >= 4
    # One login per lifetime: each token serves its whole life, less the buffer, before the next.
    assert bank.logins - 1 <= elapsed / (lifetime - buffer)


@pytest.mark.long
@pytest.mark.usefixtures("_without_debug_records")
def test_an_outage_of_five_seconds_loses_nothing(make_bank, make_processor):
    bank = make_bank(token_lifetime=2.5)
    retry = RetryPolicy(attempts=3, wait_initial=0.05, wait_max=0.2, timeout=3)
    processor = make_processor(bank, retry=retry)
    bodies = receipts(1000)
    running = Call(process_all, processor, bodies[:750], seconds=7)
    until(lambda: len(bank.deliveries) > 150)
    with bank.down():
        time.sleep(5)
    back_at = len(bank.deliveries)
    # These are held back until the outage is over, however far a busy machine got within it, and
    # so is the pause after the failed logins, which may outlast all of them.
    make_processor.handler.wait_until_ready(20)
    answers = process_all(processor, bodies[750:], seconds=2) | running.value(60)
    assert len(bank.deliveries) > back_at
    delivered = {body for body, answer in answers.items() if answer.body["StatusCode"] == "00"}
    assert delivered <= set(bank.deliveries)
    failed = set(bodies) - delivered
    assert failed
    assert {answers[body].http_status for body in failed} <= {502, 504}
    assert not any(answers[body].forwarded for body in failed)
    again = process_all(processor, sorted(failed), seconds=0)
    assert {answer.body["StatusCode"] for answer in again.values()} == {"00"}
    assert set(bank.deliveries) == set(bodies)
