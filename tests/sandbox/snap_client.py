"""A raw SNAP client of the sandbox, with an independent way of signing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from .client import Answer, Client

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "snap.json").read_text())
KEY = serialization.load_der_private_key(base64.b64decode(VECTORS["private_key"]), None)
LOGIN_PATH = "/snap/v1.0/access-token/b2b"
BALANCE_PATH = "/snap/v1.0/balance-inquiry"
LOGIN_BODY = b'{"grantType":"client_credentials"}'
CALL_BODY = b'{"partnerReferenceNo":"2025091100000000000001","accountNo":"7001234567"}'
CLIENT_ID, SECRET = "example-client", "example-client-secret"

_numbers = itertools.count(1)


def stamp(offset: float = 0.0) -> str:
    moment = datetime.now(timezone(timedelta(hours=7))) + timedelta(seconds=offset)
    return f"{moment:%Y-%m-%dT%H:%M:%S}+07:00"


def external_id() -> str:
    return f"{next(_numbers):032}"


def rsa(message: str | bytes, key=KEY) -> str:
    octets = message.encode() if isinstance(message, str) else message
    return base64.b64encode(key.sign(octets, padding.PKCS1v15(), hashes.SHA256())).decode()


def hmac512(message: str | bytes, secret: str = SECRET) -> str:
    octets = message.encode() if isinstance(message, str) else message
    return base64.b64encode(hmac.new(secret.encode(), octets, hashlib.sha512).digest()).decode()


def minify(body: bytes) -> bytes:
    """Split at strings: the text outside them loses its white space."""
    pieces = re.split(rb'("(?:\\.|[^"\\])*")', body, flags=re.DOTALL)
    return b"".join(p if i % 2 else re.sub(rb"[ \t\r\n]", b"", p) for i, p in enumerate(pieces))


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def message(token, method, path, body, at) -> str:
    return f"{method}:{path}:{token}:{sha(minify(body))}:{at}"


def _changed(headers, changes):
    """Replace, repeat (a list) or drop (None) headers; an underscore stands for a hyphen."""
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return [
        (name, value)
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None
    ]


class SnapClient(Client):
    """One connection; ``signed`` replaces the string to sign."""

    def send(self, method, path, body=b"", headers=()):
        self.http.putrequest(method, path, skip_accept_encoding=True)
        for name, value in dict(headers).items() if isinstance(headers, dict) else headers:
            self.http.putheader(name, value)
        if body or method not in ("GET", "HEAD"):
            self.http.putheader("Content-Length", str(len(body)))
        self.http.endheaders(body)
        return Answer(self.http.getresponse())

    def login(self, body=LOGIN_BODY, *, at=None, signed=None, method="POST", **changes):
        at = at or stamp()
        headers = {
            "Content-Type": "application/json",
            "X-TIMESTAMP": at,
            "X-CLIENT-KEY": CLIENT_ID,
            "X-SIGNATURE": rsa(f"{CLIENT_ID}|{at}" if signed is None else signed),
        }
        return self.send(method, LOGIN_PATH, body, _changed(headers, changes))

    def token(self):
        return self.login().json()["accessToken"]

    def call(
        self,
        token,
        body=CALL_BODY,
        *,
        method="POST",
        path=BALANCE_PATH,
        at=None,
        signed=None,
        **changes,
    ):
        at = at or stamp()
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
            "X-TIMESTAMP": at,
            "X-SIGNATURE": hmac512(signed or message(token, method, path, body, at)),
            "X-PARTNER-ID": "example-partner",
            "X-EXTERNAL-ID": external_id(),
            "CHANNEL-ID": "95221",
        }
        return self.send(method, path, body, _changed(headers, changes))


def login(bank, **changes):
    with SnapClient(bank) as client:
        return client.login(**changes)


def call(bank, token, body=CALL_BODY, **changes):
    with SnapClient(bank) as client:
        return client.call(token, body, **changes)
