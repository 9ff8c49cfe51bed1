"""The rules of the bank: the requests that it accepts. No network here.

The checks follow the bank's wire protocol: HMAC-SHA256 over ``API-Key:timestamp:body`` for a login
and over ``token:timestamp:payload`` for a call, timestamps as WIB wall clock with three digits of
milliseconds. They are written anew on purpose and share nothing with the client.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import attrs
from attrs import validators

from .checks import (
    BAD_SIGNATURE,
    CANONICALIZERS,
    Refused,
    check_framing,
    check_timestamp,
    is_same,
    require,
    signature,
)
from .errors import error_reply
from .keys import KeySet
from .limits import SlidingWindow, is_count, is_seconds
from .messages import (
    CALLBACK_PATH,
    FORM_TYPE,
    JSON_TYPE,
    Inbound,
    Reply,
    bank_error,
    json_reply,
    oauth_error,
)
from .tokens import LiveToken, Tokens

ORGANIZATION_NAME = "example-organization"
LOGIN_BODY = b"grant_type=client_credentials"


@attrs.define(kw_only=True, eq=False)
class Bank(Tokens):
    """The bank's judgement, on top of its records. Thread-safe; nothing blocks here.

    Every argument, and ``callback_reply``, may also be set at any time; a bad value raises
    ValueError or TypeError and changes nothing.

    Its arguments are those of :class:`Tokens` too.

    Args:
        latency: Seconds before each response.
        clock_skew: Seconds that the bank's wall clock is ahead of this machine's.
        timestamp_tolerance: Seconds that a timestamp may be off, either way.
        canonicalizer: How a call's body is signed: "strip_all", "minify" or "raw".
        lock_after: The account is locked by so many refused logins within ``lock_window``.
        lock_window: Seconds; five minutes, as banks have it.
        login_limit: So many logins within ``login_limit_window`` are judged, those beyond get a
            429 with ``Retry-After``.
        login_limit_window: Seconds.
    """

    latency: float = attrs.field(default=0.0, validator=is_seconds(above=0))
    clock_skew: float = attrs.field(default=0.0, validator=is_seconds())
    timestamp_tolerance: float = attrs.field(default=300.0, validator=is_seconds(above=0))
    canonicalizer: str = attrs.field(default="strip_all", validator=validators.in_(CANONICALIZERS))
    lock_after: int | None = attrs.field(default=None, validator=validators.optional(is_count))
    lock_window: float = attrs.field(default=300.0, validator=is_seconds(above=0.001))
    login_limit: int | None = attrs.field(default=None, validator=validators.optional(is_count))
    login_limit_window: float = attrs.field(default=60.0, validator=is_seconds(above=0.001))
    callback_reply: tuple[int, bytes, str] = attrs.field(
        default=(200, b'{"StatusCode":"00","StatusDesc":"Success"}', JSON_TYPE), init=False
    )
    _keys: tuple[KeySet, ...] = attrs.field(default=(KeySet(),), init=False, repr=False)
    _is_locked: bool = attrs.field(default=False, init=False)
    _refusals: SlidingWindow = attrs.field(factory=SlidingWindow, init=False, repr=False)
    _admitted: SlidingWindow = attrs.field(factory=SlidingWindow, init=False, repr=False)

    @property
    def is_locked(self) -> bool:
        """Whether refused logins have locked the account; only ``unlock()`` opens it again."""
        return self._is_locked

    def rotate(self, *, overlap: bool = False, **new: str) -> None:
        """Change credentials: ``rotate(client_secret="…")``; tokens that live stay good.

        ``rotate()`` alone ends an overlap.

        Args:
            overlap: The credentials from before stay good as well, as whole sets.
            new: Any of ``api_key``, ``client_id``, ``client_secret``, ``static_key`` and, of the
                SNAP side, ``private_key`` (PEM): the key pair that the merchant has registered.
        """
        with self._changed:
            newest = attrs.evolve(self._keys[0], **new)
            self._keys = (newest, *self._keys) if overlap else (newest,)

    def unlock(self) -> None:
        """Open a locked account, and forget the refused logins that led to it."""
        with self._changed:
            self._is_locked = False
            self._refusals.clear()

    def counters(self) -> dict[str, Any]:
        """Return all counters by name, and whether the account is locked."""
        return super().counters() | {"is_locked": self.is_locked}

    def now(self) -> float:
        """Return the bank's own wall clock, skew included, in POSIX seconds."""
        return time.time() + self.clock_skew

    def _answer(self, request: Inbound) -> Reply:
        """Judge one request by the rules and return the honest reply."""
        try:
            if request.is_login:
                return self._login(request)
            require(request.path.startswith("/apiservice/"), bank_error(404, "Not Found"))
            return self._call(request)
        except Refused as refused:
            return refused.reply

    def _login(self, request: Inbound) -> Reply:
        check_framing(request, methods=("POST",))
        self._admit_login(request)
        headers = request.headers
        require(
            headers.get("Content-Type", "").lower() == FORM_TYPE,
            oauth_error(400, "invalid_request", "wrong Content-Type"),
        )
        self._require_credential(
            not self.is_locked, oauth_error(401, "invalid_client", "account locked")
        )
        known = self._fitting(
            self._keys,
            lambda keys: headers.get("Authorization") == f"Basic {keys.basic}",
            oauth_error(401, "invalid_client", "wrong client_id or client_secret"),
        )
        known = self._fitting(
            known,
            lambda keys: headers.get("API-Key") == keys.api_key,
            oauth_error(401, "invalid_client", "wrong API key"),
        )
        stamp = self._check_timestamp(headers.get("OAUTH-Timestamp", ""))
        given = headers.get("OAUTH-Signature", "")
        self._fitting(known, lambda keys: _fits_login(keys, given, stamp, request), BAD_SIGNATURE)
        require(
            request.body == LOGIN_BODY,
            oauth_error(400, "unsupported_grant_type", "the body is not the one expected"),
        )
        return _token_reply(*self._issue("classic"))

    def _fitting(
        self, sets: tuple[KeySet, ...], fits: Callable[[KeySet], bool], reply: Reply
    ) -> tuple[KeySet, ...]:
        """Return the sets that a login fits, or refuse it."""
        found = tuple(each for each in sets if fits(each))
        self._require_credential(bool(found), reply)
        return found

    def _admit_login(self, request: Inbound) -> None:
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
        raise Refused(error_reply(request, 429, "Too Many Requests", headers=wait))

    def _require_credential(self, condition: bool, reply: Reply) -> None:
        """Refuse a login for its credentials; enough such refusals lock the account."""
        if condition:
            return
        with self._changed:
            self._counts["refused_logins"] += 1
            if self.lock_after is not None and not self._is_locked:
                now = time.monotonic()
                self._refusals.add(now)
                left = self._refusals.seconds_until_below(self.lock_after, self.lock_window, now)
                self._is_locked = left > 0
        raise Refused(reply)

    def _call(self, request: Inbound) -> Reply:
        headers = request.headers
        is_callback = request.path == CALLBACK_PATH
        check_framing(request, methods=("POST",) if is_callback else None)
        token = self._check_bearer(headers.get("Authorization", ""))
        stamp = self._check_timestamp(headers.get("permata-timestamp", ""))
        require(
            headers.get("organizationname") == ORGANIZATION_NAME,
            bank_error(403, "Invalid Organization Name"),
        )
        payload = CANONICALIZERS[self.canonicalizer](request.body)
        given = headers.get("permata-signature", "")
        expected = [signature(k.static_key, token.encode(), stamp, payload) for k in self._keys]
        require(any(is_same(given, each) for each in expected), BAD_SIGNATURE)
        return self._callback(request) if is_callback else _echo(request)

    def _callback(self, request: Inbound) -> Reply:
        require(
            request.headers.get("Content-Type", "").partition(";")[0].strip() == JSON_TYPE,
            bank_error(400, "Invalid Content-Type"),
        )
        try:
            json.loads(request.body)
        except (ValueError, RecursionError):
            raise Refused(bank_error(400, "Invalid JSON")) from None
        status, body, content_type = self.callback_reply
        if 200 <= status < 300:
            self._note_delivery(request.body)
        return Reply(status=status, body=body, content_type=content_type)

    def _check_bearer(self, authorization: str) -> str:
        value, fault = self._bearer(authorization, "classic")
        rejected = bank_error(403, "Failed Authentication OAuth2", reason=f"token {fault}")
        require(not fault, rejected)
        return value

    def _check_timestamp(self, text: str) -> bytes:
        return check_timestamp(text, now=self.now(), tolerance=self.timestamp_tolerance)


def _fits_login(keys: KeySet, given: str, stamp: bytes, request: Inbound) -> bool:
    expected = signature(keys.static_key, keys.api_key.encode(), stamp, request.body)
    return is_same(given, expected)


def _token_reply(token: LiveToken, seconds: float) -> Reply:
    document = {
        "access_token": token.value,
        "token_type": "Bearer",
        "expires_in": seconds,
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
