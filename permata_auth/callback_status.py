"""Hand callback statuses to the bank: signed, retried, answered with what the bank says."""

from __future__ import annotations

import json
import uuid
from typing import Any

import attrs
import requests

from . import _clock
from ._http import Connections, Reply, connect_and_read, exchange
from ._logging import Log, ids, tagged
from ._settings import Unpicklable, url_problem
from .auth import signed_names
from .exceptions import CallbackStatusError, ConfigurationError, PermataAuthError
from .handler import LoginHandler
from .login import RetryPolicy
from .schemes.base import json_object, needs_token

logger = Log(__name__)

_LONGEST_TEXT = 1000


@attrs.frozen(kw_only=True)
class CallbackStatusResponse:
    """The bank's answer: its HTTP status, the two words of its body, and the whole JSON object.

    An answer that is no JSON object has ``status_code`` ``06`` and its text, cut to 1,000
    characters, as ``status_desc``; ``body`` then holds these two. ``retry_after`` is the seconds
    that the bank asks to wait, or None.
    """

    http_status: int
    status_code: str
    status_desc: str
    body: dict[str, Any]
    retry_after: float | None = None


class CallbackStatusClient(Unpicklable):
    """Send callback statuses to ``url``. Thread-safe; make one for the whole process.

    ``url`` is https, plain http only to loopback (or anywhere with ``allow_insecure_http``).
    ``timeout`` is (connect, read) in seconds for each attempt, ``pool_size`` the number of threads
    that can send at once over connections that are kept. ``session`` brings the caller's own
    proxies, CA bundle or adapters, and is not closed here. Raises ConfigurationError.
    """

    _why_unpicklable = "it owns network connections; make one in each process"

    def __init__(
        self,
        handler: LoginHandler,
        url: str,
        *,
        retry: RetryPolicy | None = None,
        timeout: tuple[float, float] | float = (5.0, 15.0),
        session: requests.Session | None = None,
        pool_size: int = 32,
        allow_insecure_http: bool = False,
    ) -> None:
        signed_names(handler)
        problem = url_problem(url, allow_insecure_http=allow_insecure_http)
        if problem is not None:
            raise ConfigurationError(f"the URL for callback statuses {problem}")
        if isinstance(pool_size, bool) or not isinstance(pool_size, int) or pool_size < 1:
            raise ConfigurationError("pool_size must be a whole number, at least 1")
        if not isinstance(retry, RetryPolicy | None):
            raise ConfigurationError("retry must be a RetryPolicy")
        self.url = url
        self.retry = retry or RetryPolicy()
        self._handler = handler
        self._timeout = connect_and_read(timeout)
        self._connections = Connections(session, pool_size=pool_size)

    def __repr__(self) -> str:
        return f"<CallbackStatusClient for {self.url.partition('?')[0]!r}>"

    def __enter__(self) -> CallbackStatusClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(
        self, payload: bytes | str | dict[str, Any] | list[Any], *, request_id: str | None = None
    ) -> CallbackStatusResponse:
        """Send one callback status and return the bank's answer, whatever its status.

        Bytes and str (as UTF-8) go out unchanged; a dict or a list is serialised once. Every log
        record of the call carries ``request_id``, or one that is made up. Transport errors,
        timeouts, 429 and 5xx are tried again, each time with a new signature; a rejected token is
        replaced once.

        Blocks for ``retry.timeout`` seconds at most (a stuck look-up of the host's name apart).
        Raises TransportError if there was no answer at last, CallbackStatusError for a payload
        that is no JSON, and what :meth:`LoginHandler.get_token` raises.
        """
        body = _serialised(payload)
        with tagged(request_id=request_id or ids().get("request_id") or f"req-{uuid.uuid4()}"):
            try:
                return self._deliver(body)
            except PermataAuthError as error:
                # Without the frames below, whose locals hold the request and its signature.
                raise error.with_traceback(None) from None

    def close(self) -> None:
        """Close idle connections and end a wait between attempts; a later send opens new ones."""
        self._connections.close()

    def _deliver(self, body: bytes) -> CallbackStatusResponse:
        until = _clock.now() + self.retry.timeout
        connection = self._connections.get()
        delivery = _Delivery(
            handler=self._handler,
            session=connection.session,
            url=self.url,
            body=body,
            timeout=self._timeout,
            until=until,
        )
        try:
            outcome = self.retry.retrying(until, connection.stopped)(delivery.attempt)
        except CallbackStatusError:  # the last attempt was answered with 429 or 5xx
            outcome = delivery.reply
        if isinstance(outcome, PermataAuthError):
            raise outcome
        logger.debug(
            "Callback status answered with HTTP %d",
            outcome.status_code,
            http_status=outcome.status_code,
        )
        return _response(outcome)


@attrs.define(kw_only=True, eq=False)
class _Delivery:
    """One callback status on its way."""

    handler: LoginHandler
    session: requests.Session
    url: str
    body: bytes = attrs.field(repr=False)
    timeout: tuple[float, float]
    until: float
    reply: Reply = attrs.field(init=False)
    has_renewed: bool = False

    def attempt(self) -> Reply | PermataAuthError:
        """Sign and send; raise what is worth another attempt, return what is not."""
        try:
            token = self._token()
        except PermataAuthError as error:
            return error  # the login has had attempts of its own
        reply = self.reply = self._post(token)
        if self.handler.note_response(
            token, reply.status_code, reply.body, is_second=self.has_renewed
        ):
            self.has_renewed = True
            return self.attempt()
        if reply.status_code == 429 or reply.status_code >= 500:
            raise CallbackStatusError(
                f"the bank is overloaded or down (HTTP {reply.status_code}); wait",
                retryable=True,
                status_code=reply.status_code,
                retry_after=reply.retry_after,
            )
        return reply

    def _token(self) -> str:
        if not needs_token(self.handler.credentials):
            return ""
        return self.handler.get_token(max(self.until - _clock.now(), 0.001))

    def _post(self, token: str) -> Reply:
        signed = self.handler.credentials.sign(token, "POST", self.url, self.body)
        return exchange(
            self.session,
            "POST",
            self.url,
            headers={"Content-Type": "application/json", "Accept": "application/json", **signed},
            body=self.body,
            timeout=self.timeout,
            deadline=self.until,
        )


def _serialised(payload: object) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        if isinstance(payload, str):
            return payload.encode()
        if isinstance(payload, dict | list):
            text = json.dumps(payload, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
            return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = type(error).__name__
    else:
        reason = type(payload).__name__
    raise CallbackStatusError(
        f"the payload cannot be written as JSON ({reason}); give bytes, or a dict or list of "
        "JSON's own types"
    )


def _response(reply: Reply) -> CallbackStatusResponse:
    body = json_object(reply.body)
    if body is None:
        text = reply.body[: 4 * _LONGEST_TEXT].decode(errors="replace")
        body = {"StatusCode": "06", "StatusDesc": text[:_LONGEST_TEXT]}
    return CallbackStatusResponse(
        http_status=reply.status_code,
        # The bank has another shape for what its gateway refuses.
        status_code=str(body.get("StatusCode", body.get("ErrorCode", "06"))),
        status_desc=str(body.get("StatusDesc", body.get("ErrorDescription", ""))),
        body=body,
        retry_after=reply.retry_after,
    )
