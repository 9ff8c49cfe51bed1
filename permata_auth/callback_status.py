"""Send callback statuses to the bank: signed, and retried within a time budget."""

from __future__ import annotations

import functools
import json
import uuid
from typing import Any

import attrs
import requests

from . import _clock
from ._bank import FAILURE, envelope, is_temporary, read_envelope, unavailable
from ._calls import Call, LoginFailedError, Sign
from ._http import Response, connect_and_read, exchange
from ._json import json_object
from ._logging import Log, ids, tagged
from ._settings import Unpicklable, require_bool, require_count, url_problem
from .auth import signed_names
from .exceptions import CallbackStatusError, ConfigurationError, PermataAuthError
from .handler import LoginHandler
from .login import RetryPolicy
from .transport import Transport, connections

logger = Log(__name__)

_MAX_TEXT_CHARS = 1000


@attrs.frozen(kw_only=True)
class CallbackStatusResponse:
    """The bank's response to a callback status.

    Args:
        http_status: Its HTTP status.
        status_code: The bank's own code, ``00`` for success; ``06`` where the response is no JSON
            object.
        status_desc: The bank's words for that code; of a response that is no JSON object, its
            text, cut to 1,000 characters.
        body: The JSON object of the response, or one with these two fields.
        retry_after: The seconds that the bank asks to wait, or None.
    """

    http_status: int
    status_code: str
    status_desc: str
    body: dict[str, Any]
    retry_after: float | None = None


class CallbackStatusClient(Unpicklable):
    """Send callback statuses to the bank. Thread-safe; make one for the whole process.

    Raises ConfigurationError for arguments that do not fit.

    Args:
        handler: Gives the tokens; its credentials sign.
        url: The bank's endpoint for callback statuses; https, or plain http to loopback.
        retry: How often and how long to try; the default is that of a login: three attempts
            within 25 s.
        timeout: Connecting, and waiting for one byte of the response, in seconds, for each
            attempt; one number counts for both. The defaults are those of a login.
        session: A session with the caller's own proxies, CA bundle or adapters. The client does
            not close it.
        transport: Client certificate, CA bundle and proxy; by default those of the handler. Given
            together with ``session``, a ConfigurationError.
        pool_size: The number of threads that can send at once over connections that are kept; the
            default serves the threads of one worker process.
        allow_insecure_http: Allow plain http to other machines too: for a test environment whose
            network is trusted.
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
        transport: Transport | None = None,
        pool_size: int = 32,
        allow_insecure_http: bool = False,
    ) -> None:
        signed_names(handler)
        require_bool("allow_insecure_http", allow_insecure_http)
        problem = url_problem(url, allow_insecure_http=allow_insecure_http)
        if problem is not None:
            raise ConfigurationError(f"the URL for callback statuses {problem}")
        require_count("pool_size", pool_size)
        if not isinstance(retry, RetryPolicy | None):
            raise ConfigurationError("retry must be a RetryPolicy")
        self.url = url
        self.retry = retry or RetryPolicy()
        self._handler = handler
        self._timeout = connect_and_read(timeout)
        if session is None and transport is None:
            transport = handler.transport
        self._connections = connections(session, transport, pool_size=pool_size)

    def __repr__(self) -> str:
        return f"<CallbackStatusClient for {self.url.partition('?')[0]!r}>"

    def __enter__(self) -> CallbackStatusClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(
        self, payload: bytes | str | dict[str, Any] | list[Any], *, request_id: str | None = None
    ) -> CallbackStatusResponse:
        """Send one callback status and return the bank's response, with any HTTP status.

        Transport errors, timeouts, 429 and 5xx are tried again, each time with a new signature; a
        rejected token is replaced once.

        Blocks for ``retry.timeout`` seconds at most (a stuck look-up of the host's name apart).
        Raises TransportError if the last attempt got no response, CallbackStatusError for a
        payload that is no JSON, and the errors of :meth:`LoginHandler.get_token`.

        Args:
            payload: Bytes and str (as UTF-8) go out unchanged; a dict or a list is serialised once.
            request_id: Marks every log record of the call; by default a random one.
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
        post = functools.partial(self._post, connection.session, body, until)
        call = Call(self._handler, self.url, post, until)
        responses: list[Response] = []

        def attempt() -> None:
            responses.append(call.attempt())
            if is_temporary(responses[-1].status_code):
                raise unavailable(responses[-1].status_code, responses[-1].retry_after)

        try:
            self.retry.retrying(until, connection.stopped)(attempt)
        except LoginFailedError as failure:
            raise failure.error from None
        except CallbackStatusError:  # the last attempt got a temporary status: it is the result
            pass
        response = responses[-1]
        logger.debug(
            "Callback status answered with HTTP %d",
            response.status_code,
            http_status=response.status_code,
        )
        return _status_response(response)

    def _post(self, session: requests.Session, body: bytes, until: float, sign: Sign) -> Response:
        signed = sign("POST", self.url, body)
        return exchange(
            session,
            "POST",
            self.url,
            headers={"Content-Type": "application/json", "Accept": "application/json", **signed},
            body=body,
            timeout=self._timeout,
            deadline=until,
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


def _status_response(response: Response) -> CallbackStatusResponse:
    body = json_object(response.body)
    if body is None:
        text = response.body[: 4 * _MAX_TEXT_CHARS].decode(errors="replace")
        body = envelope(FAILURE, text[:_MAX_TEXT_CHARS])
    status_code, status_desc = read_envelope(body)
    return CallbackStatusResponse(
        http_status=response.status_code,
        status_code=status_code,
        status_desc=status_desc,
        body=body,
        retry_after=response.retry_after,
    )
