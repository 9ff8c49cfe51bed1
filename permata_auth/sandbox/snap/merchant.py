"""The bank as a merchant sees it: it asks for a token, then calls a service."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import attrs
from werkzeug.datastructures import Headers

from . import wrong
from .checks import SnapRules
from .draft import Draft
from .services import PATHS, TOKEN_PATH, VERSION, methods

_MAX_EXPIRY_WAIT_SECS = 60.0
_LATE_SECS = 0.5


@attrs.frozen(kw_only=True)
class MerchantResponse:
    """The response of a merchant.

    Args:
        status: The HTTP status.
        headers: With names in any case.
        body: As received.
        external_id: The X-EXTERNAL-ID that was sent; None with a token request.
    """

    status: int
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    external_id: str | None = None

    def json(self) -> Any:
        """Return the body as JSON; raises ValueError."""
        return json.loads(self.body)

    @property
    def response_code(self) -> str:
        """The body's responseCode, or an empty string."""
        return str(self.fields().get("responseCode", ""))

    def fields(self) -> dict[str, Any]:
        """Return the body's fields; none if it is no JSON object."""
        try:
            document = self.json()
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


@attrs.frozen(kw_only=True)
class Caller:
    """One merchant, called once or twice by the bank; nothing is kept between calls.

    Args:
        url: The merchant's base URL, below which the version begins.
        rules: How to sign.
        now: The bank's wall clock, in Jakarta.
        timeout: Seconds for each step of a connection.
    """

    url: str
    rules: SnapRules
    now: Callable[[], datetime]
    timeout: float

    def call(
        self,
        service: int | str,
        body: object,
        fault: wrong.Wrong,
        *,
        token: str | None,
        external_id: str | None,
    ) -> MerchantResponse:
        """Call the service; return the token response where that is asked for or has no token."""
        path = _path(service)
        if path == TOKEN_PATH:
            return self.token(fault)
        if token is None and self.rules.transaction_signature == "symmetric":
            response = self.token(wrong.Wrong())
            token = response.fields().get("accessToken")
            if response.status != 200 or not isinstance(token, str):
                return response
            if fault.is_late:
                _wait_for_expiry(response.fields())
        draft = Draft(
            method=_method(path),
            target=self._target(path),
            body=_octets(body),
            timestamp=_stamp(self.now(), self.rules.timestamp_form),
            kind=self.rules.transaction_signature,
            external_id=external_id or _external_id(self.now(), self.rules.external_id_length),
            token=token,
        )
        return self._send_all(draft, fault)

    def token(self, fault: wrong.Wrong) -> MerchantResponse:
        """Ask for a token."""
        draft = Draft(
            method="POST",
            target=self._target(TOKEN_PATH),
            body=b'{"grantType":"client_credentials"}',
            timestamp=_stamp(self.now(), self.rules.timestamp_form),
            kind=self.rules.token_signature,
            is_token_request=True,
        )
        return self._send_all(draft, fault)

    def _target(self, path: str) -> str:
        return urlsplit(self.url).path.rstrip("/") + VERSION + path

    def _send_all(self, draft: Draft, fault: wrong.Wrong) -> MerchantResponse:
        response = self._send(draft, fault, draft.timestamp)
        if fault.is_replayed:
            return self._send(draft, fault, draft.timestamp)
        if fault.is_repeated:
            return self._send(draft, fault, _stamp(self.now(), self.rules.timestamp_form))
        return response

    def _send(self, draft: Draft, fault: wrong.Wrong, timestamp: str) -> MerchantResponse:
        draft = fault.drafted(attrs.evolve(draft, timestamp=timestamp))
        signature = fault.text(fault.signed(draft).signature(self.rules))
        if fault.spoils_signature and signature == draft.signature(self.rules):
            raise ValueError("with this body or these rules that form is the right one")
        return self._exchange(draft, fault.headers(draft.headers(signature)))

    def _exchange(self, draft: Draft, headers: tuple[tuple[str, str], ...]) -> MerchantResponse:
        connection = self._connection()
        try:
            connection.putrequest(draft.method, draft.target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(draft.body)))
            connection.endheaders(draft.body)
            answer = connection.getresponse()
            return MerchantResponse(
                status=answer.status,
                headers=Headers(answer.getheaders()),
                body=answer.read(),
                external_id=draft.external_id,
            )
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kinds: dict[str, type[http.client.HTTPConnection]] = {
            "http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection,
        }
        if parts.scheme not in kinds:
            raise ValueError("the URL of a merchant begins with http:// or https://")
        return kinds[parts.scheme](parts.netloc, timeout=self.timeout)


def _method(path: str) -> str:
    codes = {known: code for code, known in PATHS.items()}
    return methods(codes.get(path, ""))[0]


def _path(service: int | str) -> str:
    """Return the path of a service below the version, given that or its code."""
    if isinstance(service, str) and service.startswith("/"):
        return service
    path = PATHS.get(f"{service:02}" if isinstance(service, int) else service)
    if path is None:
        raise ValueError(f"unknown service {service!r}: neither a code nor a path")
    return path


def _octets(body: object) -> bytes:
    """Return bytes as they are, text as UTF-8, and anything else as compact JSON."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _stamp(now: datetime, form: str) -> str:
    if form == "utc":
        return f"{now - now.utcoffset():%Y-%m-%dT%H:%M:%SZ}"  # type: ignore[operator]
    return now.isoformat(timespec="milliseconds" if form == "milliseconds" else "seconds")


def _external_id(now: datetime, length: int) -> str:
    return f"{now:%Y%m%d%H%M%S}{secrets.randbelow(10**18):018}"[-length:]


def _wait_for_expiry(token_response: dict[str, Any]) -> None:
    seconds = float(token_response.get("expiresIn", 0))
    if seconds > _MAX_EXPIRY_WAIT_SECS:
        raise ValueError("its tokens live too long to wait for their end; shorten their lifetime")
    time.sleep(seconds + _LATE_SECS)
