"""A partner of the bank in the national standard, and a bank that speaks it, on bare sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from permata_auth import SnapCredentials

from . import keys
from .wire import RawServer, read_request, reply

CLIENT_ID = keys.SNAP["client_id"]
SECRET = keys.SNAP["client_secret"]


def credentials(**changes: Any) -> SnapCredentials:
    given = {
        "token_url": "https://bank.invalid/snap/v1.0/access-token/b2b",
        "client_id": CLIENT_ID,
        "client_secret": SECRET,
        "private_key": keys.KEY,  # loaded already, since loading takes its time
        "channel_id": "12345",
    }
    return SnapCredentials(**{**given, **changes})


@attrs.frozen
class Received:
    """One request as it came over the wire; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Received:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        pairs = [line.partition(": ")[::2] for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header came twice"
        return cls(method, path, headers, body)


class SnapBank(RawServer):
    """Issues tokens, and answers calls as it is told; verifies every signature by itself.

    ``responses`` are given to calls one after another: (status line, document, more head); with
    none left a call is answered with success. ``refusal`` answers the token endpoint, if set.
    """

    def __init__(self, **token: Any) -> None:
        super().__init__(self._answer_all)
        self.requests: list[Received] = []
        self.responses: list[tuple[str, Any] | tuple[str, Any, str]] = []
        self.refusal: tuple[str, Any] | None = None
        self.token = {"expiresIn": "900", **token}
        self._lock = threading.Lock()

    @property
    def token_url(self) -> str:
        return f"{self.url}/snap/v1.0/access-token/b2b"

    @property
    def calls(self) -> list[Received]:
        return [each for each in self.requests if "access-token" not in each.path]

    @property
    def logins(self) -> int:
        return len(self.requests) - len(self.calls)

    def credentials(self, **changes: Any) -> SnapCredentials:
        return credentials(**{"token_url": self.token_url, **changes})

    def _answer_all(self, sock: socket.socket) -> None:
        while (data := read_request(sock)) is not None:
            with self._lock:
                answer = self._answer(Received.of(data))
            sock.sendall(answer)

    def _answer(self, request: Received) -> bytes:
        self.requests.append(request)
        if "access-token" not in request.path:
            status, body, *head = self.responses.pop(0) if self.responses else ("200 OK", SUCCESS)
            return reply(body, status=status, head="".join(head))
        assert (request.method, request.body) == ("POST", b'{"grantType":"client_credentials"}')
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-client-key"] == CLIENT_ID
        keys.KEY.public_key().verify(
            base64.b64decode(request.headers["x-signature"], validate=True),
            f"{CLIENT_ID}|{request.headers['x-timestamp']}".encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
        if self.refusal is not None:
            return reply(self.refusal[1], status=self.refusal[0])
        return reply({"accessToken": f"example-snap-token-{self.logins}", **self.token})


SUCCESS = {"responseCode": "2001100", "responseMessage": "Successful"}


def expected_signature(
    request: Received, *, path: str | None = None, body: Callable[[bytes], bytes] = bytes
) -> str:
    """Return the symmetric signature of a call as an independent reader of the rules makes it."""
    token = request.headers["authorization"].removeprefix("Bearer ")
    digest = hashlib.sha256(body(request.body)).hexdigest()
    stamp = request.headers["x-timestamp"]
    text = ":".join([request.method, path or request.path, token, digest, stamp])
    return base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), "sha512")).decode()


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
