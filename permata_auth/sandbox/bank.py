"""The rules of the bank: what it accepts, which tokens live, what it has seen. No network here.

The checks follow the bank's wire protocol: HMAC-SHA256 over ``API-Key:timestamp:body`` for a login
and over ``token:timestamp:payload`` for a call, timestamps as WIB wall clock with three digits of
milliseconds. They are written anew on purpose and share nothing with the client.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import attrs
from attrs import validators

from .limits import SlidingWindow, is_count, is_seconds
from .messages import (
    CALLBACK_PATH,
    FORM_TYPE,
    JSON_TYPE,
    Inbound,
    IssuedToken,
    RecordedRequest,
    Reply,
    bank_error,
    fingerprint,
    json_reply,
    oauth_error,
)

API_KEY = "example-api-key"
CLIENT_ID = "example-client-id"
CLIENT_SECRET = "example-client-secret"
STATIC_KEY = "example-static-key"
ORGANIZATION_NAME = "example-organization"
LOGIN_BODY = b"grant_type=client_credentials"

_BAD_SIGNATURE = bank_error(403, "Signature Not Valid")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+07:00", re.ASCII)
_JSON_SPACE_OR_STRING = re.compile(rb'("(?:[^"\\]|\\.)*"?)|[ \t\r\n]+', re.DOTALL)

CANONICALIZERS: dict[str, Callable[[bytes], bytes]] = {
    "strip_all": lambda body: body.translate(None, b" \t\n\r\v\f"),
    "minify": lambda body: _JSON_SPACE_OR_STRING.sub(lambda match: match[1] or b"", body),
    "raw": lambda body: body,
}


def signature(key: str, *parts: bytes) -> str:
    """Return base64(HMAC-SHA256(key, parts joined by colons))."""
    return base64.b64encode(hmac.digest(key.encode("ascii"), b":".join(parts), "sha256")).decode()


class _Refused(Exception):  # noqa: N818 - control flow inside this module, not an error
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.reason)
        self.reply = reply


def _require(condition: bool, reply: Reply) -> None:
    if not condition:
        raise _Refused(reply)


@attrs.define
class _Token:
    value: str = attrs.field(repr=False)
    issued: IssuedToken
    killed: str = ""

    def fault(self) -> str:
        """Say why the token is dead, or return an empty string."""
        return self.killed or ("expired" if time.monotonic() >= self.issued.expires_at else "")


_is_bool = validators.instance_of(bool)


@attrs.define(kw_only=True, eq=False)
class Bank:
    """The bank's memory and judgement. Thread-safe; nothing here blocks but ``wait_until``.

    Every argument, and ``callback_reply``, may also be set at any time; a bad value raises
    ValueError or TypeError and changes nothing.

    Args:
        token_lifetime: Seconds that a token lives; the bank's own tokens live about as long.
        latency: Seconds before each response.
        clock_skew: Seconds that the bank's wall clock is ahead of this machine's.
        timestamp_tolerance: Seconds that a timestamp may be off, either way.
        reuse_token: Every login gets the same token until that dies.
        single_token: A new login kills the token before it.
        reject_tokens: Every call is answered "token rejected", also with a fresh token.
        canonicalizer: How a call's body is signed: "strip_all", "minify" or "raw".
        lock_after: The account is locked by so many refused logins within ``lock_window``.
        lock_window: Seconds; five minutes, as banks have it.
        login_limit: So many logins within ``login_limit_window`` are judged, those beyond get a
            429 with ``Retry-After``.
        login_limit_window: Seconds.
    """

    token_lifetime: float = attrs.field(default=900.0, validator=is_seconds(above=0.001))
    latency: float = attrs.field(default=0.0, validator=is_seconds(above=0))
    clock_skew: float = attrs.field(default=0.0, validator=is_seconds())
    timestamp_tolerance: float = attrs.field(default=300.0, validator=is_seconds(above=0))
    reuse_token: bool = attrs.field(default=False, validator=_is_bool)
    single_token: bool = attrs.field(default=False, validator=_is_bool)
    reject_tokens: bool = attrs.field(default=False, validator=_is_bool)
    canonicalizer: str = attrs.field(default="strip_all", validator=validators.in_(CANONICALIZERS))
    lock_after: int | None = attrs.field(default=None, validator=validators.optional(is_count))
    lock_window: float = attrs.field(default=300.0, validator=is_seconds(above=0.001))
    login_limit: int | None = attrs.field(default=None, validator=validators.optional(is_count))
    login_limit_window: float = attrs.field(default=60.0, validator=is_seconds(above=0.001))
    callback_reply: tuple[int, bytes, str] = attrs.field(
        default=(200, b'{"StatusCode":"00","StatusDesc":"Success"}', JSON_TYPE), init=False
    )
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False, repr=False)
    _tokens: dict[str, _Token] = attrs.field(factory=dict, init=False, repr=False)
    _last: _Token | None = attrs.field(default=None, init=False, repr=False)
    _requests: list[RecordedRequest] = attrs.field(factory=list, init=False, repr=False)
    _deliveries: list[bytes] = attrs.field(factory=list, init=False, repr=False)
    _issued: list[IssuedToken] = attrs.field(factory=list, init=False, repr=False)
    _seen: set[tuple[str | None, str | None]] = attrs.field(factory=set, init=False, repr=False)
    _counts: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _calls: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _is_locked: bool = attrs.field(default=False, init=False)
    _refusals: SlidingWindow = attrs.field(factory=SlidingWindow, init=False, repr=False)
    _admitted: SlidingWindow = attrs.field(factory=SlidingWindow, init=False, repr=False)
    _rejecting_until: float = attrs.field(default=-math.inf, init=False, repr=False)

    @property
    def logins(self) -> int:
        """Logins answered with a token so far, the same one given again included."""
        return self._counts["logins"]

    @property
    def login_attempts(self) -> int:
        """Token requests received, refused and faulted ones included."""
        return self._counts["login_attempts"]

    @property
    def refused_logins(self) -> int:
        """Logins refused for their credentials or because the account was locked."""
        return self._counts["refused_logins"]

    @property
    def limited_logins(self) -> int:
        """Logins answered with 429 because of ``login_limit``."""
        return self._counts["limited_logins"]

    @property
    def rejected_calls(self) -> int:
        """Calls answered "token rejected", whatever was wrong with the token."""
        return self._counts["rejected_calls"]

    @property
    def is_locked(self) -> bool:
        """Whether refused logins have locked the account; only ``unlock()`` opens it again."""
        return self._is_locked

    @property
    def replays(self) -> int:
        """Token requests whose timestamp and signature the bank had seen before."""
        return self._counts["replays"]

    @property
    def calls_by_status(self) -> dict[str, int]:
        """How many requests other than logins were answered with each status ("0": none sent)."""
        with self._changed:
            return dict(self._calls)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request that was decided, logins included, in order."""
        with self._changed:
            return tuple(self._requests)

    @property
    def deliveries(self) -> tuple[bytes, ...]:
        """The bodies that ``wa/callbackstatus`` accepted (answered with a 2xx), in order."""
        with self._changed:
            return tuple(self._deliveries)

    @property
    def tokens_issued(self) -> tuple[IssuedToken, ...]:
        """The distinct tokens that were minted, in order."""
        with self._changed:
            return tuple(self._issued)

    def revoke(self, token: str) -> bool:
        """Kill this token; return False if it is not known."""
        with self._changed:
            known = self._tokens.get(token)
            if known:
                known.killed = "revoked"
            return known is not None

    def revoke_all_tokens(self) -> None:
        """Kill every token that was issued so far."""
        with self._changed:
            for token in self._tokens.values():
                token.killed = token.killed or "revoked"

    def unlock(self) -> None:
        """Open a locked account, and forget the refused logins that led to it."""
        with self._changed:
            self._is_locked = False
            self._refusals.clear()

    def reject_tokens_for(self, seconds: float) -> None:
        """Answer every call of the next ``seconds`` with "token rejected"; logins succeed.

        Args:
            seconds: Counted from now, in place of what an earlier call said; 0 ends it.
        """
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (is_number and seconds >= 0):
            raise ValueError("seconds must be a number >= 0")
        self._rejecting_until = time.monotonic() + seconds

    def reset_counters(self) -> None:
        """Forget counters, records and dead tokens.

        Living tokens stay good, and a lock or a limit that the logins so far have led to stays.
        """
        with self._changed:
            for memory in (self._requests, self._deliveries, self._issued, self._seen):
                memory.clear()
            self._counts.clear()
            self._calls.clear()
            self._tokens = {value: t for value, t in self._tokens.items() if not t.fault()}

    def wait_until(self, predicate: Callable[[], object], timeout: float) -> bool:
        """Block until the predicate holds, looked at after each recorded request.

        Returns the truth of the predicate at the end; False after ``timeout`` seconds.
        """
        with self._changed:
            return bool(self._changed.wait_for(predicate, timeout))

    def now(self) -> float:
        """Return the bank's own wall clock, skew included, in POSIX seconds."""
        return time.time() + self.clock_skew

    def _note_arrival(self, request: Inbound) -> None:
        if not request.is_login:
            return
        headers = request.headers
        proof = (headers.get("OAUTH-Timestamp"), headers.get("OAUTH-Signature"))
        with self._changed:
            self._counts["login_attempts"] += 1
            self._counts["replays"] += proof in self._seen
            self._seen.add(proof)

    def _record(self, request: Inbound, reply: Reply, at: float) -> None:
        record = RecordedRequest(
            **attrs.asdict(request, recurse=False),
            status=reply.status,
            at=at,
            reason=reply.reason,
            token_fingerprint=reply.token_fingerprint or _presented(request),
        )
        with self._changed:
            self._requests.append(record)
            if not request.is_login:
                self._calls[str(reply.status)] += 1
            self._changed.notify_all()

    def _answer(self, request: Inbound) -> Reply:
        """Judge one request by the rules and return the honest reply."""
        try:
            if request.is_login:
                return self._login(request)
            _require(request.path.startswith("/apiservice/"), bank_error(404, "Not Found"))
            return self._call(request)
        except _Refused as refused:
            return refused.reply

    def _login(self, request: Inbound) -> Reply:
        _check_framing(request, methods=("POST",))
        self._admit_login()
        headers = request.headers
        _require(
            headers.get("Content-Type", "").lower() == FORM_TYPE,
            oauth_error(400, "invalid_request", "wrong Content-Type"),
        )
        self._require_credential(
            not self.is_locked, oauth_error(401, "invalid_client", "account locked")
        )
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        self._require_credential(
            headers.get("Authorization") == f"Basic {basic}",
            oauth_error(401, "invalid_client", "wrong client_id or client_secret"),
        )
        self._require_credential(
            headers.get("API-Key") == API_KEY,
            oauth_error(401, "invalid_client", "wrong API key"),
        )
        stamp = self._check_timestamp(headers.get("OAUTH-Timestamp", ""))
        expected = signature(STATIC_KEY, API_KEY.encode(), stamp, request.body)
        self._require_credential(
            _is_same(headers.get("OAUTH-Signature", ""), expected), _BAD_SIGNATURE
        )
        _require(
            request.body == LOGIN_BODY,
            oauth_error(400, "unsupported_grant_type", "the body is not the one expected"),
        )
        return self._issue()

    def _admit_login(self) -> None:
        if self.login_limit is None:
            return
        with self._changed:
            now = time.monotonic()
            left = self._admitted.seconds_until_below(
                self.login_limit, self.login_limit_window, now
            )
            if left <= 0:
                self._admitted.add(now)
                return
            self._counts["limited_logins"] += 1
        wait = (("Retry-After", str(math.ceil(left))),)
        raise _Refused(bank_error(429, "Too Many Requests", headers=wait))

    def _require_credential(self, condition: bool, reply: Reply) -> None:
        """Refuse a login for what it knows; enough such refusals lock the account."""
        if condition:
            return
        with self._changed:
            self._counts["refused_logins"] += 1
            if self.lock_after is not None and not self._is_locked:
                now = time.monotonic()
                self._refusals.add(now)
                left = self._refusals.seconds_until_below(self.lock_after, self.lock_window, now)
                self._is_locked = left > 0
        raise _Refused(reply)

    def _issue(self) -> Reply:
        with self._changed:
            self._counts["logins"] += 1
            last = self._last
            if self.reuse_token and last and not last.fault():
                left: float = max(1, int(last.issued.expires_at - time.monotonic()))
                return _token_reply(last, left)
            self._last = token = self._mint()
            return _token_reply(token, self.token_lifetime)

    def _mint(self) -> _Token:
        if self.single_token:
            for older in self._tokens.values():
                older.killed = older.killed or "superseded by a new login"
        value, now = secrets.token_urlsafe(32), time.monotonic()
        issued = IssuedToken(
            fingerprint=fingerprint(value), issued_at=now, expires_at=now + self.token_lifetime
        )
        self._issued.append(issued)
        self._tokens[value] = token = _Token(value, issued)
        return token

    def _call(self, request: Inbound) -> Reply:
        headers = request.headers
        is_callback = request.path == CALLBACK_PATH
        _check_framing(request, methods=("POST",) if is_callback else None)
        token = self._check_bearer(headers.get("Authorization", ""))
        stamp = self._check_timestamp(headers.get("permata-timestamp", ""))
        _require(
            headers.get("organizationname") == ORGANIZATION_NAME,
            bank_error(403, "Invalid Organization Name"),
        )
        payload = CANONICALIZERS[self.canonicalizer](request.body)
        expected = signature(STATIC_KEY, token.encode(), stamp, payload)
        _require(_is_same(headers.get("permata-signature", ""), expected), _BAD_SIGNATURE)
        return self._callback(request) if is_callback else _echo(request)

    def _callback(self, request: Inbound) -> Reply:
        _require(
            request.headers.get("Content-Type", "").partition(";")[0].strip() == JSON_TYPE,
            bank_error(400, "Invalid Content-Type"),
        )
        try:
            json.loads(request.body)
        except (ValueError, RecursionError):
            raise _Refused(bank_error(400, "Invalid JSON")) from None
        status, body, content_type = self.callback_reply
        if 200 <= status < 300:
            with self._changed:
                self._deliveries.append(request.body)
        return Reply(status=status, body=body, content_type=content_type)

    def _check_bearer(self, authorization: str) -> str:
        scheme, _, value = authorization.partition(" ")
        with self._changed:
            token = self._tokens.get(value) if scheme == "Bearer" else None
            fault = token.fault() if token else ("unknown" if value else "missing")
            if not fault and self._rejects_tokens():
                fault = "rejected like all others"
            self._counts["rejected_calls"] += bool(fault)
        _require(
            not fault,
            bank_error(403, "Failed Authentication OAuth2", reason=f"token {fault}"),
        )
        return value

    def _rejects_tokens(self) -> bool:
        return self.reject_tokens or time.monotonic() < self._rejecting_until

    def _check_timestamp(self, text: str) -> bytes:
        refusal = bank_error(403, "Invalid Timestamp Value")
        _require(_TIMESTAMP.fullmatch(text) is not None, refusal)
        try:
            age = self.now() - datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise _Refused(refusal) from None
        _require(abs(age) <= self.timestamp_tolerance, refusal)
        return text.encode()


def _presented(request: Inbound) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return fingerprint(value) if scheme == "Bearer" and value else None


def _check_framing(request: Inbound, *, methods: tuple[str, ...] | None) -> None:
    if methods and request.method not in methods:
        allow = (("Allow", ", ".join(methods)),)
        raise _Refused(bank_error(405, "Method Not Allowed", headers=allow))
    _require("Transfer-Encoding" not in request.headers, bank_error(411, "Length Required"))


def _is_same(received: str, expected: str) -> bool:
    # Header values arrive as Latin-1 text, and compare_digest takes only ASCII text.
    return hmac.compare_digest(received.encode("latin-1", "replace"), expected.encode())


def _token_reply(token: _Token, seconds: float) -> Reply:
    document = {
        "access_token": token.value,
        "token_type": "Bearer",
        "expires_in": int(seconds) if seconds == int(seconds) else seconds,
        "scope": "resource.READ resource.WRITE",
    }
    return json_reply(200, document, token_fingerprint=token.issued.fingerprint)


def _echo(request: Inbound) -> Reply:
    document = {
        "StatusCode": "00",
        "StatusDesc": "Success",
        "method": request.method,
        "path": request.path,
        "bytes": len(request.body),
    }
    return json_reply(200, document)
