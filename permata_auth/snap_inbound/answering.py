"""From a request of the bank to its response: routed, checked, claimed, answered once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs

from .. import _clock
from .._logging import Log, frames, tagged
from .._signals import is_thrown_by_signal
from ..events import EventHooks, InboundCallAnswered
from ..schemes._snap_signing import SymmetricSigner
from . import checks, issuer
from .answers import (
    CheckFailed,
    Reply,
    SnapRefusal,
    SnapResponse,
    conflict,
    general_error,
    not_found,
)
from .answers import reply as reply_of
from .checks import SnapCall
from .dispatcher import dispatch
from .inbound import Headers, Inbound
from .ledger import Claim, Ledger
from .services import Service
from .settings import Rules

#: By the name of the receiver's module, which people configure.
logger = Log("permata_auth.snap_inbound.receiver")

TOKEN_SERVICE = 73

#: Makes a context in which a merchant's function is called.
Around = Callable[[], AbstractContextManager[object]]


class Answering:
    """Answers the requests of one bank. Thread-safe: no state but the ledger's.

    Args:
        rules: The settings of the receiver.
        token_path: Of the token endpoint, below the version.
        events: Told of each request.
    """

    def __init__(self, rules: Rules, token_path: str, events: EventHooks) -> None:
        self._rules = rules
        self._ledger = Ledger(rules.external_ids, rules.time_limit_secs)
        self._namespace = hashlib.sha256(rules.client_key.encode()).hexdigest()[:16]
        self._token_path = token_path
        self._services: dict[str, Service] = {}
        self._events = events

    @property
    def events(self) -> EventHooks:
        """The event hooks, to which more can be added."""
        return self._events

    def process(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        *,
        around: Around = nullcontext,
    ) -> SnapResponse:
        """Return the response to one request. Never raises, but an exception of a signal handler.

        Blocks for the function's time limit at most, and for the store of external ids.

        Args:
            method: The HTTP method.
            path: The path as the server received it, with its query, before anything decodes it.
            headers: A mapping, or (name, value) pairs; names in any case.
            body: The bytes of the body.
            around: Makes a context in which the merchant's function is called, on its thread: a
                framework closes there the connections that the function has opened. It must not
                raise. Nothing by default.
        """
        exchange = _Exchange(began=_clock.now(), around=around)
        try:
            reply = self._answer(exchange, Inbound.of(method, path, headers, body))
        except SnapRefusal as refusal:
            reply = reply_of(exchange.service, refusal)
        except Exception as error:
            if is_thrown_by_signal(error):
                raise
            logger.error(  # noqa: TRY400 - the text of a foreign error may hold a secret
                "A request of the bank could not be processed: %s\n%s",
                type(error).__name__,
                frames(error),
            )
            reply = reply_of(exchange.service, general_error())
        with tagged(request_id=exchange.external_id):
            self._tell(exchange, reply)
        return reply.response(exchange.client_key)

    def _answer(self, exchange: _Exchange, request: Inbound) -> Reply:
        route = request.route()
        if route == self._token_path:
            exchange.service = TOKEN_SERVICE
            exchange.client_key = _shown(request)
            return self._issue(request)
        service = self._services.get(route or "")
        if route is None or service is None:
            raise not_found()
        exchange.service = service.code
        checks.check_frame(request)
        headers, sent_at = checks.check_headers(request)
        exchange.external_id = headers["X-EXTERNAL-ID"]
        with tagged(request_id=exchange.external_id):
            checks.check_sender(request, headers, sent_at, self._rules)
            call = SnapCall(
                service=service.code,
                path=route,
                external_id=headers["X-EXTERNAL-ID"],
                partner_id=headers["X-PARTNER-ID"],
                channel_id=headers["CHANNEL-ID"],
                timestamp=sent_at.at,
                body={},
                raw=request.body,
            )
            return self._answer_once(exchange, service, call, sent_at.jakarta_day)

    def _issue(self, request: Inbound) -> Reply:
        checks.check_frame(request)
        checks.check_token_request(request, self._rules)
        life = self._rules.token_ttl_secs
        # Where only calls without tokens are taken, there may be no key: nothing is verified.
        keys = self._rules.token_keys()
        key = keys[0] if keys else SymmetricSigner(os.urandom(32))
        token = {"accessToken": issuer.issue(key, life), "tokenType": "Bearer"}
        return reply_of(TOKEN_SERVICE, {**token, "expiresIn": str(life)})

    def _answer_once(
        self, exchange: _Exchange, service: Service, call: SnapCall, day: str
    ) -> Reply:
        """Claim the request's id, and answer it: rows 7 to 9."""
        key = f"{self._namespace}:{service.code:02d}:{day}:{call.external_id}"
        is_replay = self._rules.duplicates == "replay"
        claim = Claim(
            self._ledger,
            self._namespace,
            key,
            f"{key}:answer" if is_replay else None,
            hashlib.sha256(call.raw).hexdigest(),
        )
        if not self._ledger.claim(key):
            exchange.is_replay = True
            return self._repeated(claim)
        try:
            call = attrs.evolve(call, body=checks.parsed(call.raw))
            value = service.read(call)
        except CheckFailed as refusal:
            reply = reply_of(service.code, refusal)
            claim.settle(reply, is_late=False)
            return reply
        return dispatch(
            lambda: _called(service, value, claim, exchange.around),
            claim,
            service=service.code,
            time_limit_secs=self._rules.time_limit_secs,
        )

    def _repeated(self, claim: Claim) -> Reply:
        first = None if claim.answer_key is None else self._ledger.recall(claim.answer_key)
        if first is None or first["of"] != claim.fingerprint:
            raise conflict()
        return Reply(first["code"], first["body"].encode())

    def _tell(self, exchange: _Exchange, reply: Reply) -> None:
        log = logger.info if reply.http_status < 300 else logger.warning
        log(
            "Request of the bank for service %02d answered with %s%s%s",
            exchange.service,
            reply.code,
            ", again" if exchange.is_replay else "",
            f", refused by the check of {reply.check}" if reply.check else "",
            service=exchange.service,
            response_code=reply.code,
        )
        with tagged(request_id=exchange.external_id):
            self._events.emit(
                InboundCallAnswered,
                service=exchange.service,
                response_code=reply.code,
                outcome=_outcome(exchange, reply),
                check=reply.check,
                is_replay=exchange.is_replay,
                duration=_clock.now() - exchange.began,
            )


@attrs.define
class _Exchange:
    """The known facts of a request so far, for its answer and its log record."""

    began: float
    around: Around
    service: int = 0
    external_id: str | None = None
    client_key: str | None = None
    is_replay: bool = False


def _outcome(exchange: _Exchange, reply: Reply) -> str:
    """Return the outcome of a request in the words of :class:`InboundCallAnswered`."""
    if reply.check is not None and reply.http_status >= 500:
        return "slow" if reply.http_status == 504 else "failed"
    if exchange.is_replay:
        return "replayed"
    return "verified" if reply.check is None else "refused"


def _called(service: Service, value: Any, claim: Claim, around: Around) -> Reply:
    """Call the merchant's function; any exception of it becomes a reply."""
    try:
        with around():
            return service.call(value, claim)
    except SnapRefusal as refusal:
        return reply_of(service.code, refusal)
    except BaseException as error:  # on a thread of its own, where nothing else would see it
        logger.error(  # noqa: TRY400 - the text of a foreign error may hold a secret
            "The function for service %02d failed, answered with 500: %s\n%s",
            service.code,
            type(error).__name__,
            frames(error),
        )
        return reply_of(service.code, general_error())


def _shown(request: Inbound) -> str | None:
    """Return the X-CLIENT-KEY of a token request for its answer, where it is one."""
    try:
        return request.needed(["X-CLIENT-KEY"])["X-CLIENT-KEY"]
    except CheckFailed:
        return None
