"""The promises of a webhook processor at its limits, and its log records."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging

import pytest

from permata_auth import (
    ConfigurationError,
    RequestTimeoutError,
    TransportError,
    WebhookProcessor,
    WebhookResponse,
)
from permata_auth.callback_status import CallbackStatusResponse

SECRET = "example-app-secret"
RECEIPT = b'{"xid":"123","error":null}'
ACCEPTED = CallbackStatusResponse(
    http_status=200, status_code="00", status_desc="Success", body={"StatusCode": "00"}
)


class Client:
    """Stands in for the client; answers, or raises ``error``. ``ids`` are those it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.ids: list[str | None] = []

    def send(self, payload, *, request_id=None):
        self.ids.append(request_id)
        if self.error is not None:
            raise self.error
        return ACCEPTED


def process(body: bytes, client: Client | None = None, **arguments) -> WebhookResponse:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    processor = WebhookProcessor(client or Client(), app_secrets=[SECRET], **arguments)
    return processor.process(body, {"X-Hub-Signature-256": f"sha256={digest}"})


def the_record(caplog) -> logging.LogRecord:
    (record,) = [each for each in caplog.records if each.name == "permata_auth.webhook"]
    return record


@pytest.mark.parametrize(("more", "http_status"), [(0, 200), (1, 413)])
def test_a_mebibyte_is_taken_and_one_byte_more_is_not(more, http_status):
    body = b'{"error":"' + b"x" * (1_048_576 - 12 + more) + b'"}'
    assert len(body) == 2**20 + more
    assert process(body).http_status == http_status


def test_the_smallest_limit_is_one_byte():
    assert process(b"1", max_body_bytes=1).http_status == 400
    assert process(b"12", max_body_bytes=1).http_status == 413
    with pytest.raises(ConfigurationError):
        process(b"", max_body_bytes=0)


@pytest.mark.parametrize("length", [1, 2, 199, 200])
def test_an_id_of_up_to_two_hundred_characters_is_kept(length):
    body = json.dumps({"error": None, "xid": "x" * length}).encode()
    assert process(body).request_id == "req-" + "x" * length


def test_the_request_id_is_handed_to_the_client():
    client = Client()
    assert process(RECEIPT, client).request_id == "req-123"
    assert client.ids == ["req-123"]


@pytest.mark.parametrize(
    ("error", "http_status", "text"),
    [
        (RequestTimeoutError("example words"), 504, "RequestTimeoutError: example words"),
        (TransportError("example words"), 502, "TransportError: example words"),
        (ConfigurationError("example words"), 502, "ConfigurationError: example words"),
        (TimeoutError("example-foreign"), 504, "TimeoutError"),
        (ValueError("example-foreign"), 502, "ValueError"),
    ],
)
def test_what_was_not_handed_over_is_an_error_that_says_why(caplog, error, http_status, text):
    """Of an error that is not ours the class alone is said: its text may show anything."""
    caplog.set_level(logging.DEBUG)
    assert process(RECEIPT, Client(error)).http_status == http_status
    record = the_record(caplog)
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith(f"answered with HTTP {http_status} after {text}")
    assert (record.permata_kind, record.permata_http_status) == ("delivery_receipt", http_status)


@pytest.mark.parametrize(
    ("body", "level", "text"),
    [
        (RECEIPT, logging.INFO, "Webhook forwarded, the bank answered with HTTP 200"),
        (b'{"xid":"123"}', logging.DEBUG, "Webhook ignored"),
        (b"not json", logging.WARNING, "Webhook refused with HTTP 400"),
    ],
)
def test_every_webhook_is_one_record(caplog, body, level, text):
    caplog.set_level(logging.DEBUG)
    process(body)
    record = the_record(caplog)
    assert record.levelno == level
    assert record.getMessage().startswith(text)


def test_an_answer_is_made_by_names_alone():
    with pytest.raises(TypeError):
        WebhookResponse(200, {}, False, "ignored", "req-1")
