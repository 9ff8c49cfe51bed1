"""The bank as it calls a merchant: it signs by itself, right or wrong, and reads the answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from permata_auth import _clock
from permata_auth.snap_inbound import SnapReceiver, SnapResponse

from . import keys

CLIENT_KEY = keys.SNAP["client_id"]
SECRET = keys.SNAP["client_secret"]
TOKEN_PATH = "/v1.0/access-token/b2b"
PAYMENT_PATH = "/v1.0/transfer-va/payment"
INQUIRY_PATH = "/v1.0/transfer-va/inquiry"
NOTIFY_PATH = "/v1.0/qr/qr-mpm-notify"
WIB = timezone(timedelta(hours=7))

_ids = itertools.count(1)


def stamp(offset: float = 0.0) -> str:
    """Return now in Jakarta, and ``offset`` seconds."""
    moment = datetime.fromtimestamp(int(_clock.wall()), WIB) + timedelta(seconds=offset)
    return moment.isoformat(timespec="seconds")


def receiver(**changes: Any) -> SnapReceiver:
    given = {
        "client_key": CLIENT_KEY,
        "bank_public_keys": keys.KEY.public_key(),
        "client_secrets": SECRET,
    }
    return SnapReceiver(**{**given, **changes})


def new_id() -> str:
    return f"{next(_ids):032d}"


def rsa(message: str, key: Any = keys.KEY) -> str:
    return base64.b64encode(key.sign(message.encode(), *keys.RSA_SHA256)).decode()


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def symmetric(
    method: str, path: str, token: str, body: bytes, timestamp: str, secret: str = SECRET
) -> str:
    """Sign a body that needs no minifying."""
    digest = hashlib.sha256(body).hexdigest()
    text = f"{method}:{path}:{token}:{digest}:{timestamp}"
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha512")).decode()


@attrs.frozen
class Answer:
    """The response of the receiver, checked for the parts of every response."""

    http_status: int
    code: str
    message: str
    headers: Mapping[str, str]
    document: dict[str, Any]

    @classmethod
    def of(cls, response: SnapResponse) -> Answer:
        document = json.loads(response.body)
        assert list(document)[:2] == ["responseCode", "responseMessage"]
        assert response.headers["Content-Type"] == "application/json"
        datetime.fromisoformat(response.headers["X-TIMESTAMP"])
        assert str(response.http_status) == document["responseCode"][:3]
        code, message = document["responseCode"], document["responseMessage"]
        return cls(response.http_status, code, message, response.headers, document)


class Caller:
    """The bank, as it calls one receiver."""

    def __init__(self, receiver: SnapReceiver) -> None:
        self.receiver = receiver
        self._token = ""

    def token_request(self, *, timestamp: str | None = None, **changes: Any) -> dict[str, str]:
        at = stamp() if timestamp is None else timestamp
        client = changes.get("X-CLIENT-KEY", CLIENT_KEY)
        headers = {
            "Content-Type": "application/json",
            "X-CLIENT-KEY": client,
            "X-TIMESTAMP": at,
            "X-SIGNATURE": rsa(f"{client}|{at}"),
        }
        return _changed(headers, changes)

    def ask_token(
        self,
        *,
        method: str = "POST",
        path: str = TOKEN_PATH,
        body: bytes = b'{"grantType":"client_credentials"}',
        headers: Any = None,
        **changes: Any,
    ) -> Answer:
        headers = self.token_request(**changes) if headers is None else headers
        return Answer.of(self.receiver.process(method, path, headers, body))

    @property
    def token(self) -> str:
        if not self._token:
            answer = self.ask_token()
            assert answer.code == "2007300", answer
            self._token = answer.document["accessToken"]
        return self._token

    def headers(
        self,
        body: bytes = b"{}",
        path: str = NOTIFY_PATH,
        *,
        timestamp: str | None = None,
        token: str | None = None,
        secret: str = SECRET,
        **changes: Any,
    ) -> dict[str, Any]:
        at = stamp() if timestamp is None else timestamp
        token = self.token if token is None else token
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
            "X-TIMESTAMP": at,
            "X-SIGNATURE": symmetric("POST", path, token, body, at, secret),
            "X-PARTNER-ID": "example-partner",
            "X-EXTERNAL-ID": new_id(),
            "CHANNEL-ID": "12345",
        }
        return _changed(headers, changes)

    def call(
        self,
        body: bytes | dict[str, Any] = b"{}",
        path: str = NOTIFY_PATH,
        *,
        method: str = "POST",
        headers: Any = None,
        **changes: Any,
    ) -> Answer:
        body = body if isinstance(body, bytes) else compact(body)
        headers = self.headers(body, path, **changes) if headers is None else headers
        return Answer.of(self.receiver.process(method, path, headers, body))

    def pay(self, request_id: str = "example-1", *, flag: str = "N", **changes: Any) -> Answer:
        return self.call({**payment(request_id, flag)}, PAYMENT_PATH, **changes)


def payment(request_id: str = "example-1", flag: str = "N", value: str = "10000.00") -> Any:
    return {
        "partnerServiceId": "    1234",
        "customerNo": "08123456789",
        "virtualAccountNo": "    123408123456789",
        "paymentRequestId": request_id,
        "paidAmount": {"value": value, "currency": "IDR"},
        "flagAdvise": flag,
    }


def inquiry() -> Any:
    return {
        "partnerServiceId": "    1234",
        "customerNo": "08123456789",
        "virtualAccountNo": "    123408123456789",
        "inquiryRequestId": "example request 1",
    }


def _changed(headers: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change headers; one that is None is left out."""
    return {name: value for name, value in {**headers, **changes}.items() if value is not None}
