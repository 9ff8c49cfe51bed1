"""The targets of the fuzzer: for each the making of a case, and the invariants of all cases.

A case is a plain value, so that the ``repr`` in a failure is all it takes to make a test of it:
``TARGETS["webhook"].check(b'...')``.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import ipaddress
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
from requests.utils import check_header_validity
from urllib3.util import parse_url

from permata_auth import (
    AccessToken,
    CallbackStatusResponse,
    ConfigurationError,
    FileTokenStore,
    PermataCredentials,
    WebhookProcessor,
    _clock,
)
from permata_auth._http import Response
from permata_auth._settings import url_problem
from permata_auth.callback_status import _status_response
from permata_auth.exceptions import (
    ClockError,
    InvalidTokenResponseError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
)
from permata_auth.schemes.base import TokenResponse
from permata_auth.schemes.canonical import CANONICALIZERS
from permata_auth.stores import store_from_env

from . import oracles
from .mutate import MARKER, damaged, damaged_text, document, pick


@attrs.frozen
class Target:
    """``make`` draws a case, ``check`` raises for a broken invariant, ``read`` takes bytes."""

    name: str
    make: Callable[[Random], Any]
    check: Callable[[Any], None]
    read: Callable[[bytes], Any]


TARGETS: dict[str, Target] = {}


def _target(
    make: Callable[[Random], Any], read: Callable[[bytes], Any]
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def register(check: Callable[[Any], None]) -> Callable[[Any], None]:
        name = check.__name__
        TARGETS[name] = Target(name, make, check, read)
        return check

    return register


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _parsed(body: bytes) -> dict[str, Any] | None:
    """Return the one object that ``body`` can be read as; None if it is something else."""
    try:
        value = oracles.parse(body)
    except oracles.NotJSON:
        return None
    return value if isinstance(value, dict) else None


FIELDS = {
    "token_url": "https://bank.invalid:8443/apiservice/oauth/token?a=b",
    "api_key": f"api-{MARKER}",
    "client_id": f"id {MARKER}",
    "client_secret": f"secret {MARKER}",
    "static_key": f"static-{MARKER}",
    "organization_name": "example-organization",
    "api_key_header": "API-Key",
    "canonicalizer": "strip_all",
}
SECRETS = tuple(FIELDS[name] for name in ("api_key", "client_id", "client_secret", "static_key"))
CREDENTIALS = PermataCredentials(**FIELDS)
TOKEN = f"token-{MARKER}-0123456789"

# Answers of the token endpoint

_GRANTS = [
    {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 10800, "scope": "a b"},
    {"access_token": TOKEN, "expires_in": "900"},
    {"access_token": TOKEN, "token_type": None, "expires_in": 0.5, "scope": None},
    {"access_token": TOKEN},
]


@_target(lambda rng: document(rng, _GRANTS), bytes)
def grant(body: bytes) -> None:
    """A 2xx answer is a token with a life above zero, or the one error that says it is none."""
    try:
        found: TokenResponse | None = CREDENTIALS.read_token_response(body)
    except InvalidTokenResponseError as error:
        found = None
        text = f"{error!r}{error}{vars(error)}"
        # Under "error", however it is written, stand the bank's own words, though they be a token's
        # remains: no rule could tell them apart.
        letters = re.sub(rb"\\(u[0-9a-f]{4}|.)|[^a-z]", b"", body.lower())
        assert MARKER not in text or b"error" in letters, "the token is in the error"
        assert error.__context__ is None, "the parser's error holds the document"
    if found is not None:
        assert oracles.is_token(found.value)
        assert found.lifetime is None or 0 < found.lifetime <= 10 * 365.25 * 86_400
        assert found.token_type
        assert isinstance(found.token_type, str)
        assert found.scope is None or isinstance(found.scope, str)
    try:
        payload = _parsed(body)
    except oracles.TooDeep:
        return
    if payload is None:
        return  # the product reads more than RFC 8259 has, NaN and UTF-16 for example
    try:
        lifetime = oracles.lifetime(payload.get("expires_in"))
        is_good = oracles.is_token(payload.get("access_token"))
    except ValueError:
        is_good = False
    assert (found is not None) is is_good
    if found is not None:
        assert (found.value, found.lifetime) == (payload["access_token"], lifetime)


_REFUSALS = [
    {"error": "invalid_client", "error_description": f"wrong secret {MARKER}"},
    {"error": "invalid_scope", "error_description": " ".join(SECRETS)},
    {"error": f"static-{MARKER}", "error_description": f"x\nid\t{MARKER}"},
    {"ErrorCode": "403", "ErrorDescription": "Invalid Timestamp Value"},
    {"ErrorCode": "403", "ErrorDescription": "Failed Authentication OAuth2"},
    {"ErrorCode": "403", "ErrorDescription": f"Signature static-{MARKER}Not Valid"},
]
_PIECES = [secret.encode() for secret in SECRETS] + [b" ", b"\\n", b"\\u0000", b"\\t"]
_STATUSES = [100, 199, 300, 301, 307, 399, 400, 401, 403, 404, 418, 429, 499, 500, 502, 503, 599]


@_target(
    lambda rng: (pick(rng, _STATUSES), document(rng, _REFUSALS, _PIECES)),
    lambda data: (_STATUSES[data[0] % len(_STATUSES)] if data else 400, data[1:]),
)
def refusal(case: tuple[int, bytes]) -> None:
    """Any other answer is an error of the tree, on one line, that quotes no credential."""
    status, body = case
    error = CREDENTIALS.read_error_response(status, body)
    assert isinstance(error, TokenEndpointError)
    assert error.status_code == status
    for text in (str(error), error.error or "", error.error_description or ""):
        assert text.isascii(), "not ASCII"
        assert text == "" or text.isprintable(), "not on one line"
        assert len(text) < 800
        for secret in SECRETS:
            assert secret not in text, "a credential is in the error"
    should_wait = isinstance(error, TokenEndpointUnavailableError)
    assert should_wait is (status == 429 or status >= 500)
    assert error.retryable is should_wait
    try:
        payload = _parsed(body) or {}
    except oracles.TooDeep:
        return
    said = payload.get("error_description", payload.get("ErrorDescription"))
    if status == 403 and said == "Invalid Timestamp Value":
        assert isinstance(error, ClockError)


@_target(
    lambda rng: (pick(rng, _STATUSES), document(rng, _REFUSALS)),
    lambda data: (_STATUSES[data[0] % len(_STATUSES)] if data else 403, data[1:]),
)
def rejection(case: tuple[int, bytes]) -> None:
    """A call is answered "token rejected" by 401, and by 403 with these very words."""
    status, body = case
    found = CREDENTIALS.is_token_rejected(status, body)
    assert isinstance(found, bool)
    if status != 403:
        assert found is (status == 401)
        return
    try:
        payload = _parsed(body)
    except oracles.TooDeep:
        return
    if payload is not None:
        assert found is (payload.get("ErrorDescription") == "Failed Authentication OAuth2")


# Webhooks

_STATUS = {"id": "wamid.x", "errors": None, "status": "delivered", "timestamp": "1677836780"}
_MESSAGE = {
    "id": "wamid.y",
    "type": "interactive",
    "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}},
}
_WEBHOOKS = [
    {"xid": "123", "entry": [{"id": "w", "changes": [{"value": {"statuses": [_STATUS]}}]}]},
    {"id": "é-1", "error": {"code": 500, "message": "…"}},
    {"xid": "", "id": 7, "error": None},
    {"id": "u", "data": {"entry": [{"changes": [{"value": {"messages": [_MESSAGE]}}]}]}},
    {"id": "t", "data": {"entry": [{"changes": [{"value": {"messages": [{"type": "text"}]}}]}]}},
    {"xid": "a\nb", "entry": [{"changes": []}, {"changes": [{"value": {"statuses": None}}]}]},
]
_LARGEST = 4096
_APP_SECRETS = (b"example-app-secret", b"example-new-secret")


class _Counter:
    """Stands in for the client that forwards: an answer for everybody, or an error."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.fails = False

    def send(self, payload: bytes, *, request_id: str | None = None) -> CallbackStatusResponse:
        self.bodies.append(payload)
        if self.fails:
            raise RuntimeError(MARKER)
        return CallbackStatusResponse(
            http_status=201, status_code="00", status_desc="Success", body={"StatusCode": "00"}
        )


_bank = _Counter()
_open = WebhookProcessor(  # type: ignore[arg-type]
    _bank, max_body_bytes=_LARGEST, allow_unsigned=True
)
_signed = WebhookProcessor(  # type: ignore[arg-type]
    _bank, max_body_bytes=_LARGEST, app_secrets=_APP_SECRETS
)


@_target(lambda rng: document(rng, _WEBHOOKS), bytes)
def webhook(body: bytes) -> None:
    """Receipts and flows are forwarded byte for byte and no other body is."""
    _bank.bodies.clear()
    _bank.fails = len(body) % 16 == 15
    answer = _open.process(body)
    assert answer.request_id.startswith("req-")
    assert answer.request_id.isprintable()
    assert _bank.bodies == ([body] if answer.kind in ("delivery_receipt", "inbound_flow") else [])
    assert answer.forwarded is (bool(_bank.bodies) and not _bank.fails)
    try:
        payload = _parsed(body)
    except oracles.TooDeep:
        assert answer.kind in ("delivery_receipt", "inbound_flow", "ignored", "invalid")
        return
    if len(body) > _LARGEST:
        expected = ("invalid", 413)
    elif payload is None:
        expected = ("invalid", 400)
    else:
        kind = oracles.classify(payload)
        expected = (kind, 200 if kind == "ignored" else 502 if _bank.fails else 201)
        given = oracles.given_id(payload)
        assert given is None or answer.request_id == f"req-{given}"
    assert (answer.kind, answer.http_status) == expected
    if not answer.forwarded:
        assert answer.body["StatusCode"] == ("00" if answer.http_status == 200 else "06")
        assert MARKER not in answer.body["StatusDesc"]


def _signed_webhook(rng: Random) -> tuple[bytes, str]:
    body = document(rng, _WEBHOOKS)
    digest = hmac.new(pick(rng, _APP_SECRETS), body, hashlib.sha256).hexdigest()
    header = f"sha256={digest}"
    if rng.random() < 0.6:
        header = damaged_text(rng, header, [b"sha1=", b"SHA256=", digest.encode().upper()])
    return body, header


@_target(_signed_webhook, lambda data: (data[64:], _text(data[:64])))
def signature(case: tuple[bytes, str]) -> None:
    """With app secrets only bodies that one of them has signed are let in, letter for letter."""
    body, header = case
    _bank.bodies.clear()
    _bank.fails = False
    answer = _signed.process(body, {"X-Hub-Signature-256": header})
    good = {"sha256=" + hmac.digest(s, body, "sha256").hex() for s in _APP_SECRETS}
    if len(body) > _LARGEST:
        assert answer.http_status == 413
    else:
        assert (answer.http_status == 401) is (header not in good)
    assert not _bank.bodies or header in good


# Signing

_BODIES = [
    {"xid": "123", "name": "Kerry Fisher", "note": "a\tb  c", "url": "https://x.invalid/a b"},
    {"é": ['"', "\\", '\\"', "\n", " "], "n": [1.0, -0, 1e5]},
]


@_target(lambda rng: document(rng, _BODIES, [b'\\"', b"\\\\", b'"  "', b" \r\n\t\v\f"]), bytes)
def canonicaliser(body: bytes) -> None:
    """The signed text is that of a reader byte by byte, and minifying changes no meaning."""
    assert CANONICALIZERS["raw"](body) == body
    assert CANONICALIZERS["strip_all"](body) == oracles.strip_all(body)
    small = CANONICALIZERS["minify"](body)
    assert small == oracles.minify(body)
    try:
        value = oracles.parse(body)
    except (oracles.NotJSON, oracles.TooDeep):
        return
    assert oracles.parse(small) == value or value != value  # noqa: PLR0124 - NaN


_HEADER_FIELDS = [name for name in FIELDS if name != "canonicalizer"]
_BREAKS = [b"\r\n", b"\n ", b"\r", b"\x00", b":", b" ", "é".encode(), b"\x85", b"\x7f"]


def _field(rng: Random) -> tuple[str, str]:
    name = pick(rng, _HEADER_FIELDS)
    start = FIELDS[name] if rng.random() < 0.5 else MARKER
    return name, damaged_text(rng, start, _BREAKS)


@_target(
    _field,
    lambda data: (
        _HEADER_FIELDS[data[0] % len(_HEADER_FIELDS)] if data else "api_key",
        _text(data[1:]),
    ),
)
def headers(case: tuple[str, str]) -> None:
    """No setting gets a line break, or a byte beyond ASCII, into any header that is sent."""
    name, text = case
    try:
        credentials = PermataCredentials(**{**FIELDS, name: text})
    except ConfigurationError as error:
        assert name in str(error)
        assert MARKER not in f"{error}{error!r}", "a value is in the error"
        assert error.__context__ is None
        return
    if name in ("api_key", "client_id", "client_secret", "static_key"):
        assert MARKER not in repr(credentials)
    request = credentials.token_request()
    signed = credentials.sign(TOKEN, "POST", "https://bank.invalid/", b"{}")
    for header, value in [*request.headers.items(), *signed.items()]:
        _check_header(header, value)


def _check_header(name: str, value: str) -> None:
    assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name, re.ASCII)
    assert all(32 <= ord(c) <= 126 for c in value), "a header holds what no header may"
    assert value == value.strip()
    check_header_validity((name, value))


@_target(lambda rng: damaged_text(rng, TOKEN, _BREAKS), _text)
def token(text: str) -> None:
    """A token may stand in a header, or is none; its value shows up nowhere."""
    try:
        made = AccessToken(value=text, expires_at=_clock.to_datetime(4e9))
    except ValueError as error:
        assert not oracles.is_token(text)
        assert MARKER not in f"{error}{error!r}"
        return
    assert oracles.is_token(text)
    assert MARKER not in repr(made)
    _check_header("Authorization", f"Bearer {text}")


# Settings

_URLS = [
    "https://bank.invalid/apiservice/oauth/token",
    "http://127.0.0.1:8080/token",
    "http://localhost/token?x=y",
    "http://[::1]:80/",
    "http://a.localhost:8080",
]
_AUTHORITIES = [
    *(b"@", b":", b"\\", b"/", b"#", b"?", b"%", b"%2f", b"%00", b"..", b"evil.invalid", b"\t"),
    *(b"localhost", b"127.0.0.1", b"[::1]", b"0x7f.1", b"user:pass@", "。".encode(), b"[", b"]"),
    *(b"%40", b";", b"&", b"HTTP://", b"://", b"http:", "\uff4cocalhost".encode(), b":99999", b"|"),
]


@_target(lambda rng: damaged_text(rng, pick(rng, _URLS), _AUTHORITIES), _text)
def url(text: str) -> None:
    """Secrets go over https or to this machine, also by the reading of the one who connects."""
    if url_problem(text, allow_insecure_http=False) is not None:
        return
    assert text.isascii()
    assert not set(text) & set("\r\n\t \x00")
    try:
        parts = parse_url(text)  # as urllib3 does before it connects
    except ValueError:
        return  # refused in time
    assert parts.scheme in ("https", "http")
    assert parts.auth is None
    assert parts.host
    if parts.scheme == "http":
        host = parts.host.strip("[]").lower()
        is_name = host == "localhost" or host.endswith(".localhost")
        assert is_name or ipaddress.ip_address(host).is_loopback


_ENVIRONMENT = {f"PERMATA_{name.upper()}": value for name, value in FIELDS.items()} | {
    "PERMATA_ALLOW_INSECURE_HTTP": "no"
}


def _environment(rng: Random) -> dict[str, str]:
    found = {name: value for name, value in _ENVIRONMENT.items() if rng.random() > 0.02}
    for _ in range(int(rng.random() * 3)):
        name = pick(rng, list(_ENVIRONMENT))
        found[name] = damaged_text(rng, f"{_ENVIRONMENT[name]}{MARKER}", _BREAKS)
    return found


def _environment_of(data: bytes) -> dict[str, str]:
    return dict(zip(_ENVIRONMENT, map(_text, data.split(b"\xff")), strict=False))


@_target(_environment, _environment_of)
def environment(case: dict[str, str]) -> None:
    """An environment is credentials, or one error that names variables and shows no value."""
    try:
        credentials = PermataCredentials.from_env(case)
    except ConfigurationError as error:
        assert "PERMATA_" in str(error)
        assert MARKER not in f"{error}{error!r}"
        return
    for name, value in attrs.asdict(credentials).items():
        text = case.get(f"PERMATA_{name.upper()}", "").strip()
        if text and name != "allow_insecure_http":
            assert value == text


_STORES = [
    *("file:///var/lib/permata", "file:", "file://localhost/x%20y", "redis://h:6379/0?ssl=1"),
    *("rediss://u:p@h/1?socket_timeout=2", "unix:///run/redis.sock?db=1", "valkey://h"),
]
_STORE_BITS = [
    *(b"~", b"~nobody-here/", b"%00", b"%7e", b"?", b"&", b"=", b"db=x", b"max_connections=-1"),
    *(b"?protocol=9", b"?ssl_cert_reqs=x", b"?host=", b"?path=", b"?retry=1", b"[", b":x", b"@"),
    *(b"?socket_timeout=nan", b"?decode_responses=maybe", b"?client_name=", b"?xyzzy=1", b"../"),
]


@_target(lambda rng: damaged_text(rng, pick(rng, _STORES), _STORE_BITS), _text)
def store_url(text: str) -> None:
    """A store's URL is a store, or an error that does not show it; nothing is opened."""
    try:
        store = store_from_env({"PERMATA_TOKEN_STORE": text})
    except ConfigurationError as error:
        assert str(error)
        assert len(text) < 12 or text not in f"{error}{error!r}"
        return
    assert (store is None) is (not text.strip())


_DAY = "Wed, 21 Oct 2026 07:28:00 GMT"
_TIMES = ["120", "0", _DAY, "Wednesday, 21-Oct-26 07:28:00 GMT", "Wed Oct 21 07:28:00 2026", ""]
_TIME_BITS = [b"-", b"+0700", b"GMT", b"99999", b"e5", "٣".encode(), b"31 Feb", b"24:00", b"60"]


def _times(rng: Random) -> tuple[str, str]:
    asked = damaged_text(rng, pick(rng, _TIMES), _TIME_BITS) if rng.random() < 0.9 else _DAY
    dated = damaged_text(rng, _DAY, _TIME_BITS) if rng.random() < 0.4 else pick(rng, _TIMES)
    return asked, dated


@_target(_times, lambda data: (_text(data[:40]), _text(data[40:])))
def retry_after(case: tuple[str, str]) -> None:
    """What ``Retry-After`` asks for is a number of seconds that can be waited for, or nothing."""
    asked, dated = case
    response = Response(
        status_code=503, headers={"Retry-After": asked, "Date": dated}, body=b"", is_complete=True
    )
    found = response.retry_after
    assert found is None or (math.isfinite(found) and found >= 0)
    if asked != "" and not set(asked) - set("0123456789"):
        assert found == min(float(asked), 2e6)
    then, now = oracles.http_date(asked), oracles.http_date(dated)
    if then is not None:
        assert found is not None
        assert now is None or found == max(then - now, 0.0)


_ANSWERS = [
    {"StatusCode": "00", "StatusDesc": "Success"},
    {"ErrorCode": "403", "ErrorDescription": "Signature Not Valid"},
    {"StatusCode": 0, "StatusDesc": None},
]


@_target(lambda rng: document(rng, _ANSWERS), bytes)
def callback_answer(body: bytes) -> None:
    """Every response to a callback status becomes two words and an object."""
    response = Response(status_code=200, headers={}, body=body, is_complete=len(body) % 7 != 0)
    found = _status_response(response)
    assert isinstance(found.status_code, str)
    assert isinstance(found.status_desc, str)
    assert isinstance(found.body, dict)
    try:
        payload = _parsed(body)
    except oracles.TooDeep:
        return
    if payload is not None and response.is_complete and isinstance(payload.get("StatusCode"), str):
        assert (found.body, found.status_code) == (payload, payload["StatusCode"])


# Stores

_KEY = "example-key"


def _stored_token() -> AccessToken:
    return AccessToken(value=TOKEN, expires_at=_clock.to_datetime(_clock.wall() + 86_400))


class _Folder:
    """A folder with one good token file, made when it is first needed."""

    def __init__(self) -> None:
        self._made: tuple[int, FileTokenStore, Path, bytes] | None = None

    def get(self) -> tuple[FileTokenStore, Path, bytes]:
        if self._made is None or self._made[0] != os.getpid():
            folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            store = FileTokenStore(folder)
            store.save(_KEY, _stored_token())
            file = next(path for path in Path(folder).iterdir() if path.suffix == ".json")
            self._made = (os.getpid(), store, file, file.read_bytes())
        return self._made[1:]


_folder = _Folder()


def _stored(rng: Random) -> bytes:
    good = _folder.get()[2]
    if rng.random() < 0.5:
        return damaged(rng, good, [b"null", b"1e400", b"NaN", b"+00:00", b"9999-12-31", b"0001"])
    return document(rng, [oracles.parse(good)])


@_target(_stored, bytes)
def store_file(content: bytes) -> None:
    """A token file is a token that can be sent and lives, or it is a miss; never an exception."""
    store, file, good = _folder.get()
    with file.open("wb") as writing:
        writing.write(content)
    found = store.load(_KEY)
    assert found is not None or content != good
    if found is not None:
        assert oracles.is_token(found.value)
        assert found.expires_in() > 0
        assert TOKEN not in repr(found)


def _seal_target() -> None:
    try:
        from permata_auth.stores._seal import Seal
    except ModuleNotFoundError:
        return
    seal = Seal(CREDENTIALS)
    sealed = seal.seal(_KEY, _stored_token())

    def make(rng: Random) -> str:
        if rng.random() < 0.5:
            return damaged_text(rng, sealed, [b"=", b"A"])
        return base64.b64encode(damaged(rng, base64.b64decode(sealed))).decode()

    @_target(make, _text)
    def sealed_token(text: str) -> None:
        """A text that was changed since it was sealed is no token."""
        try:
            found = seal.unseal(_KEY, text)
        except ValueError as error:
            assert text != sealed
            assert MARKER not in f"{error!r}"
            assert error.__cause__ is None
            return
        assert oracles.is_same_base64(text, sealed)
        assert found is not None
        assert found.value == TOKEN


_seal_target()


def checked(target: Target, case: Any) -> None:
    """Check one case; each broken invariant raises AssertionError."""
    try:
        target.check(case)
    except AssertionError:
        raise
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__} instead of an error of ours") from error
