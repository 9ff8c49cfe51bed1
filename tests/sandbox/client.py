"""A raw client of the sandbox: http.client and an independent way of signing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from datetime import datetime, timedelta, timezone

WIB = timezone(timedelta(hours=7))
LOGIN_BODY = b"grant_type=client_credentials"
LOGIN_PATH = "/apiservice/oauth/token"
CALLBACK_PATH = "/apiservice/wa/callbackstatus"
INQUIRY_PATH = "/apiservice/InquiryServices/BalanceInfo/inq"


def stamp(offset: float = 0.0) -> str:
    moment = datetime.now(WIB) + timedelta(seconds=offset)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+07:00"


def sign(message: str | bytes, key: str = "example-static-key") -> str:
    message = message.encode() if isinstance(message, str) else message
    return base64.b64encode(hmac.new(key.encode(), message, hashlib.sha256).digest()).decode()


def login_headers(body: bytes = LOGIN_BODY, at: str | None = None, **changes: str | None):
    at = at or stamp()
    headers: dict[str, str | None] = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "Basic "
        + base64.b64encode(b"example-client-id:example-client-secret").decode(),
        "API-Key": "example-api-key",
        "OAUTH-Timestamp": at,
        "OAUTH-Signature": sign(f"example-api-key:{at}:".encode() + body),
    }
    return _changed(headers, changes)


def call_headers(token: str, body: bytes, *, signed: bytes | None = None, at=None, **changes):
    """``signed`` is what goes into the signature; by default the body without white space."""
    at = at or stamp()
    signed = b"".join(body.split()) if signed is None else signed
    headers: dict[str, str | None] = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {token}",
        "organizationname": "example-organization",
        "permata-timestamp": at,
        "permata-signature": sign(f"{token}:{at}:".encode() + signed),
    }
    return _changed(headers, changes)


def _changed(headers, changes):
    """Replace or drop (None) headers; an underscore in a keyword stands for a hyphen."""
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return {name: value for name, value in headers.items() if value is not None}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class Client:
    """One connection, kept alive; use it as a context manager."""

    def __init__(self, bank, timeout: float = 10.0) -> None:
        host, _, port = bank.url.removeprefix("http://").rpartition(":")
        self.http = http.client.HTTPConnection(host, int(port), timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.http.close()

    def send(self, method: str, path: str, body: bytes = b"", headers=None) -> Answer:
        self.http.request(method, path, body, headers or {})
        return Answer(self.http.getresponse())

    def login(self, body: bytes = LOGIN_BODY, **changes) -> Answer:
        return self.send("POST", LOGIN_PATH, body, login_headers(body, **changes))

    def token(self) -> str:
        return self.login().json()["access_token"]

    def call(self, token: str, body: bytes = b"{}", *, method="POST", path=INQUIRY_PATH, **changes):
        return self.send(method, path, body, call_headers(token, body, **changes))

    def admin(self, method: str, action: str, document=None) -> Answer:
        body = b"" if document is None else json.dumps(document).encode()
        return self.send(method, f"/__sandbox__/{action}", body)


def login(bank, **changes) -> Answer:
    with Client(bank) as client:
        return client.login(**changes)


def call(bank, token: str, body: bytes = b"{}", **changes) -> Answer:
    with Client(bank) as client:
        return client.call(token, body, **changes)
