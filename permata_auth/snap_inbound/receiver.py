"""The receiver: one call of ``process`` for each request of the bank."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from .. import _clock
from .._logging import Log, frames, tagged
from .._settings import Seconds, Unpicklable
from .._signals import is_thrown_by_signal
from ..events import Event, EventHooks, InboundCallAnswered
from ..exceptions import ConfigurationError
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
from .external_ids import ExternalIds
from .inbound import Headers, Inbound, jakarta_day
from .ledger import Claim, Ledger
from .services import (
    Inquiry,
    Payment,
    Raw,
    Result,
    Service,
    VaBill,
    VaInquiry,
    VaPayment,
    VaReceipt,
)
from .settings import DEFAULTS, examine, read

logger = Log(__name__)

TOKEN_SERVICE = 73

_Function = TypeVar("_Function", bound=Callable[..., Any])


class SnapReceiver(Unpicklable):
    """Issue tokens to the bank, verify its requests, and answer them. Thread-safe.

    ::

        receiver = SnapReceiver.from_env()
        receiver.on_payment(book)
        response = receiver.process(method, path, headers, body)

    Every request is verified over its raw bytes and the path as it was received, before anything
    in it is read. Raises one ConfigurationError that names all that is wrong and shows no value,
    and ImportError without the extra ``snap``.

    Keys and secrets may be a list, for while they change, or a function that returns one: it is
    called for every request, and where it fails the last good ones stay in use.

    Args:
        client_key: What the bank sends as X-CLIENT-KEY.
        bank_public_keys: The bank's RSA keys: PEM text (several blocks in one, too), keys that
            cryptography has loaded, a list of them, or a function. All are tried.
        client_secrets: The secrets that the bank signs calls with, the current one first: a text
            or bytes, a list, or a function. May be empty for asymmetric signatures alone.
        external_ids: Where seen requests are kept. None for this process's memory: with several
            workers, each would take a replayed request once.
        token_key: What issued tokens are signed with, at least 16 bytes; several are taken as
            ``client_secrets`` are. None derives it from each of the client secrets.
        max_skew_secs: How far X-TIMESTAMP may be from this machine's clock, 60 to 3600 s. 300 by
            default, between what banks are known to use.
        time_limit_secs: How long a function may take before the bank is answered with 504. 8 s by
            default, since a bank is known to wait for 10.
        token_ttl_secs: How long a token lives, in seconds; 900 by default, as in the standard.
        signed_prefix: What the bank signs before the version segment of the path, where a proxy
            changes it: ``/`` for nothing, or a path. None by default: the path as received.
        partner_id: The X-PARTNER-ID that is expected; None takes any, since it is signed by nobody.
        channel_id: The CHANNEL-ID that is expected; None takes any.
        duplicates: What a repeated X-EXTERNAL-ID is answered with: ``conflict`` (409, as the
            standard says), or ``replay``, the first answer again where the body is the same.
        signature: Of calls, as registered with the bank: ``symmetric`` (with a token) by default,
            or ``asymmetric`` (without).
        signature_encoding: ``base64`` (default) or ``hex``; no other is accepted.
        canonicalizer: What of a body is signed: ``minify`` (default), ``strip_all`` or ``raw``.
        allow_short_key: Take keys of the bank below 2048 bits. False by default.
        token_path: Of the token endpoint, below the version.
        on_event: Called with an :class:`InboundCallAnswered` for each request.
    """

    _why_unpicklable = "it holds secrets; build it in each process"

    def __init__(
        self,
        *,
        client_key: str,
        bank_public_keys: Any,
        client_secrets: Any,
        external_ids: ExternalIds | Any = None,
        token_key: Any = None,
        max_skew_secs: Seconds = 300.0,
        time_limit_secs: Seconds = 8.0,
        token_ttl_secs: Seconds = 900.0,
        signed_prefix: str | None = None,
        partner_id: str | None = None,
        channel_id: str | None = None,
        duplicates: str = "conflict",
        signature: str = "symmetric",
        signature_encoding: str = "base64",
        canonicalizer: str = "minify",
        allow_short_key: bool = False,
        token_path: str = "/access-token/b2b",  # noqa: S107 - a path
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        values = locals()
        rules, error = examine({name: values[name] for name in DEFAULTS}, {})
        del values, client_secrets, token_key  # error reports show the locals of a frame
        if rules is None:
            raise error or ConfigurationError("nothing is set")
        self._rules = rules
        self._ledger = Ledger(rules.external_ids, rules.time_limit_secs)
        self._namespace = hashlib.sha256(rules.client_key.encode()).hexdigest()[:16]
        self._token_path = _path(token_path)
        self._services: dict[str, Service] = {}
        self._events = EventHooks("snap", on_event)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        prefix: str = "PERMATA_SNAP_",
        external_ids: ExternalIds | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> SnapReceiver:
        """Read ``PERMATA_SNAP_INBOUND_CLIENT_KEY`` and so on.

        ``…INBOUND_CLIENT_KEY``, ``…INBOUND_CLIENT_SECRET`` and ``…_PREVIOUS`` while it changes,
        ``…BANK_PUBLIC_KEY``,
        ``…INBOUND_EXTERNAL_IDS`` (the URL of a Redis), ``…INBOUND_TOKEN_KEY``, ``…_TOKEN_TTL``,
        ``…_MAX_SKEW``, ``…_TIME_LIMIT``, ``…_SIGNED_PREFIX``, ``…_PARTNER_ID``, ``…_CHANNEL_ID``,
        ``…_DUPLICATES``, ``…_SIGNATURE``; and ``…SIGNATURE_ENCODING``, ``…CANONICALIZER``,
        ``…ALLOW_SHORT_KEY``. Blank is unset. The value of each may be in a file, which ``…_FILE``
        names, or in the folders of secrets of :mod:`permata_auth.credentials`; keys and secrets are
        read again when theirs changes. Raises one ConfigurationError that names every
        variable that is missing or wrong, and shows no value.

        Args:
            environ: Where the variables are; by default this process's environment.
            prefix: Of their names.
            external_ids: In place of the variable, for ids that are kept elsewhere.
            on_event: As of the class.
        """
        values, _, error = read(os.environ if environ is None else environ, prefix, external_ids)
        del environ, _  # error reports show the locals of a frame
        if error is not None:
            del values
            raise error
        return cls(**values, on_event=on_event)

    def __repr__(self) -> str:
        return f"<SnapReceiver of {len(self._services)} services>"

    def on(
        self, path: str, service: int, function: Callable[[SnapCall], Result]
    ) -> Callable[[SnapCall], Result]:
        """Call ``function`` for a service; return it. Neither fields nor repetitions are checked.

        Args:
            path: Below the version, such as ``/qr/qr-mpm-notify``.
            service: The service's code, such as 52, for response codes.
            function: Called with a :class:`SnapCall`, on a thread of its own. It returns a dict
                or a :class:`SnapAnswer`, or raises a :class:`SnapRefusal`; any other exception
                is answered with 500.
        """
        if isinstance(service, bool) or not isinstance(service, int) or not 0 <= service <= 99:
            raise ConfigurationError("service must be the two digits of its code, as an int")
        self._add(path, Raw(service, _callable(function)))
        return function

    def on_inquiry(
        self,
        function: Callable[[VaInquiry], VaBill | Result],
        *,
        path: str = "/transfer-va/inquiry",
    ) -> Callable[[VaInquiry], VaBill | Result]:
        """Call ``function`` for inquiries of virtual accounts (24); return it.

        Args:
            function: Called with a :class:`VaInquiry`, on a thread of its own. It returns a
                :class:`VaBill`, a dict of members of ``virtualAccountData``, or an answer as of
                :meth:`on`. Unknown numbers: ``raise SnapRefusal("12", "Bill not found")``.
            path: Below the version.
        """
        self._add(path, Inquiry(_callable(function)))
        return function

    def on_payment(
        self,
        function: Callable[[VaPayment], VaReceipt | Result],
        *,
        path: str = "/transfer-va/payment",
    ) -> Callable[[VaPayment], VaReceipt | Result]:
        """Call ``function`` for payments of virtual accounts (25), once for each; return it.

        Args:
            function: Called with a :class:`VaPayment`, on a thread of its own. It returns a
                :class:`VaReceipt`, or as of :meth:`on_inquiry`.
            path: Below the version.
        """
        self._add(path, Payment(_callable(function)))
        return function

    def process(self, method: str, path: str, headers: Headers, body: bytes) -> SnapResponse:
        """Return the response to one request. Never raises, but what a signal handler throws in.

        Blocks for the function's time limit at most, and for the store of external ids.

        Args:
            method: The HTTP method.
            path: The path as the server received it, with its query, before anything decodes it.
            headers: A mapping, or (name, value) pairs; names in any case.
            body: The bytes of the body.
        """
        exchange = _Exchange(began=_clock.now())
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
                timestamp=sent_at,
                body={},
                raw=request.body,
            )
            return self._answer_once(exchange, service, call)

    def _issue(self, request: Inbound) -> Reply:
        checks.check_frame(request)
        checks.check_token_request(request, self._rules)
        life = self._rules.token_ttl_secs
        # Where only calls without tokens are taken, there may be no key: nothing is verified.
        keys = self._rules.token_keys()
        key = keys[0] if keys else SymmetricSigner(os.urandom(32))
        token = {"accessToken": issuer.issue(key, life), "tokenType": "Bearer"}
        return reply_of(TOKEN_SERVICE, {**token, "expiresIn": str(life)})

    def _answer_once(self, exchange: _Exchange, service: Service, call: SnapCall) -> Reply:
        """Claim the request's id, and answer it: rows 7 to 9."""
        day = jakarta_day(call.timestamp)
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
            lambda: _called(service, value, claim),
            claim,
            service=service.code,
            time_limit_secs=self._rules.time_limit_secs,
        )

    def _repeated(self, claim: Claim) -> Reply:
        first = None if claim.answer_key is None else self._ledger.recall(claim.answer_key)
        if first is None or first["of"] != claim.fingerprint:
            raise conflict()
        return Reply(first["code"], first["body"].encode())

    def _add(self, path: str, service: Service) -> None:
        path = _path(path)
        if path == self._token_path or path in self._services:
            raise ConfigurationError("path has a service already")
        # One assignment: a request in another thread sees the old services or the new ones.
        self._services = {**self._services, path: service}

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
                check=reply.check,
                is_replay=exchange.is_replay,
                duration=_clock.now() - exchange.began,
            )


@attrs.define
class _Exchange:
    """What is known of a request so far, for its answer and its log record."""

    began: float
    service: int = 0
    external_id: str | None = None
    client_key: str | None = None
    is_replay: bool = False


def _called(service: Service, value: Any, claim: Claim) -> Reply:
    """Call the merchant's function; whatever comes of it is a reply."""
    try:
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
        return request.header("X-CLIENT-KEY")
    except CheckFailed:
        return None


def _path(path: object) -> str:
    request = Inbound(method="", path=str(path), headers={}, body=b"")
    if not isinstance(path, str) or request.route() != path:
        raise ConfigurationError("path must begin with / and stand below the version")
    return path


def _callable(function: _Function) -> _Function:
    if not callable(function):
        raise ConfigurationError("function must be callable")
    return function
