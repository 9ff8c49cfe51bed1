"""Webhooks of the provider: verified, classified and forwarded to the bank."""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs

from ._bank import FAILURE, SUCCESS, envelope
from ._json import BodyError, strict_object
from ._logging import Log, tagged
from ._settings import MAX_BODY_BYTES, require_bool, require_count
from ._signals import is_thrown_by_signal
from .callback_status import CallbackStatusClient
from .exceptions import (
    ConfigurationError,
    PermataAuthError,
    TransportError,
    WebhookPayloadError,
)

logger = Log(__name__)

_MAX_ID_CHARS = 200
_MAX_QUERY_CHARS = 8192
_STATUSES_WITHOUT_CONTENT = (204, 205, 304)
#: In a path: every item of a list.
_EACH = object()
_STATUSES = ("entry", _EACH, "changes", _EACH, "value", "statuses")
_MESSAGE_TYPES = (
    *("data", "entry", _EACH, "changes", _EACH, "value"),
    *("messages", _EACH, "interactive", "type"),
)


@attrs.frozen(kw_only=True)
class WebhookResponse:
    """The response to the sender of a webhook.

    A web framework writes :attr:`content` with :attr:`content_type` and ``http_status``. It is
    ``body`` as JSON, or the challenge where the provider verifies the endpoint.

    Args:
        http_status: The HTTP status, 200 to 999; the bank's own where ``forwarded`` is true.
        body: The JSON object of the response, the bank's own where ``forwarded`` is true.
        forwarded: Whether the bank has answered.
        kind: ``delivery_receipt``, ``inbound_flow``, ``ignored`` or ``invalid``; ``verification``
            for a GET request of the provider that is accepted.
        request_id: The id that all log records of the webhook carry.
        challenge: The text with which such a GET request is answered, in place of ``body``; None
            for every other response.
    """

    http_status: int
    body: dict[str, Any]
    forwarded: bool
    kind: str
    request_id: str
    challenge: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes of the response; none where HTTP allows none (RFC 9110 section 15)."""
        if self.http_status in _STATUSES_WITHOUT_CONTENT:
            return b""
        text = json.dumps(self.body) if self.challenge is None else self.challenge
        return text.encode(errors="replace")

    @property
    def content_type(self) -> str:
        """The media type of :attr:`content`."""
        return "application/json" if self.challenge is None else "text/plain; charset=utf-8"


class WebhookProcessor:
    """Process webhooks of the WhatsApp Business provider. Thread-safe.

    A processor is closed by default: without an app secret, anybody who knows the endpoint's URL
    could send callback statuses to the bank in this client's name. Raises ConfigurationError for
    wrong arguments, and for neither ``app_secrets`` nor ``allow_unsigned``.

    Args:
        client: Delivers webhooks to the bank; a :class:`CallbackStatusClient`.
        app_secrets: The provider's app secrets, as a list of str or bytes. Each webhook must carry
            an ``X-Hub-Signature-256`` made with one of them; several allow a rotation. None by
            default, so that the choice between a secret and ``allow_unsigned`` is the caller's.
        allow_unsigned: Whether webhooks are taken from anybody, for tests and for endpoints that
            are protected in another way; False by default, as anybody can send one. It applies
            where ``app_secrets`` is empty: with a secret, an unsigned webhook is always refused.
        verify_token: The text that the provider sends when it verifies the endpoint by
            :meth:`verify`; None, the default, refuses every verification.
        max_body_bytes: The size in bytes above which a body is refused unread; the default, 1 MiB,
            holds hundreds of delivery receipts.
    """

    def __init__(
        self,
        client: CallbackStatusClient,
        *,
        app_secrets: Iterable[str | bytes] = (),
        allow_unsigned: bool = False,
        verify_token: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        if isinstance(client, type) or not callable(getattr(client, "send", None)):
            raise ConfigurationError("client must be a CallbackStatusClient")
        require_count("max_body_bytes", max_body_bytes)
        require_bool("allow_unsigned", allow_unsigned)
        self._client = client
        self._app_secrets = tuple(_secrets(app_secrets))
        if not self._app_secrets and not allow_unsigned:
            raise ConfigurationError(
                "webhooks need app_secrets, or allow_unsigned=True to take them from anybody"
            )
        self._verify_token = (
            None if verify_token is None else _not_blank("verify_token", verify_token)
        )
        self._max_body_bytes = max_body_bytes

    def __repr__(self) -> str:
        return f"<WebhookProcessor to {self._client!r}, {len(self._app_secrets)} app secrets>"

    @property
    def max_body_bytes(self) -> int:
        """The size in bytes above which a body is refused."""
        return self._max_body_bytes

    def verify(self, query: Mapping[str, Any] | str | bytes) -> WebhookResponse:
        """Return the response to a GET request by which the provider verifies the endpoint.

        The provider sends ``hub.mode=subscribe``, ``hub.verify_token`` and ``hub.challenge``, and
        expects the challenge as plain text. Never raises, never blocks. Any other query, and one
        with one of these parameters twice, gets a 403.

        Args:
            query: The query as received (``a=1&b=2``), or a mapping of its parameters to their
                text, or to a list of texts.
        """
        request_id = _random_id()
        mode, token, challenge = _query_texts(
            query, "hub.mode", "hub.verify_token", "hub.challenge"
        )
        expected = self._verify_token
        is_right = expected is not None and hmac.compare_digest(
            token.encode(errors="replace"), expected
        )
        if not is_right or mode != "subscribe" or not challenge:
            reason = "the verification is not accepted"
            return refused(WebhookPayloadError(reason, status_code=403), request_id)
        with tagged(request_id=request_id):
            logger.info("Webhook endpoint verified by the provider")
        return attrs.evolve(
            _own_response(200, "Success", "verification", request_id), challenge=challenge
        )

    def process(self, body: bytes, headers: Mapping[str, str] | None = None) -> WebhookResponse:
        """Process one webhook and return the response to it.

        A webhook that is not acceptable gets 400, 401 or 413 and is not forwarded. A delivery
        receipt or an inbound flow goes to the bank byte for byte, and the bank's response comes
        back; if there is none, the response is 502, or 504 after a timeout, so that the sender
        tries again. Delivery is at least once: where the bank's response is lost, a retry may
        deliver a second time. Blocks as long as :meth:`CallbackStatusClient.send`. Raises nothing
        of its own; an exception that a signal handler throws into the thread passes.

        Every log record of a webhook carries its request id: ``req-`` and its ``xid`` or ``id``.

        Args:
            body: The bytes of the request's body, unchanged: the signature covers them.
            headers: The request's headers, in any case; anything with ``items()``.
        """
        request_id = _random_id()
        try:
            body = _as_bytes(body)
            self._check_signature(body, headers)
            payload = strict_object(body)
        except BodyError as error:
            return refused(WebhookPayloadError(str(error)), request_id)
        except WebhookPayloadError as error:
            return refused(error, request_id)
        request_id = _request_id(payload) or request_id
        with tagged(request_id=request_id):
            return self._forward(body, _kind(payload), request_id)

    def _check_signature(self, body: bytes, headers: Mapping[str, str] | None) -> None:
        if len(body) > self._max_body_bytes:
            raise WebhookPayloadError("the body is too large", status_code=413)
        if not self._app_secrets:
            return
        given = _header(headers, "x-hub-signature-256").encode(errors="replace")
        # All of them, so that the time taken does not tell which of the secrets matched.
        matches = [
            hmac.compare_digest(
                given, b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode()
            )
            for secret in self._app_secrets
        ]
        if True not in matches:
            raise WebhookPayloadError("the signature is missing or wrong", status_code=401)

    def _forward(self, body: bytes, kind: str, request_id: str) -> WebhookResponse:
        if kind == "ignored":
            logger.debug("Webhook ignored", kind=kind)
            return _own_response(200, "Success", kind, request_id)
        try:
            response = self._client.send(body, request_id=request_id)
        except Exception as error:
            if is_thrown_by_signal(error):  # as Celery's soft time limit is: not this call's error
                raise
            status = 504 if isinstance(error, TimeoutError) else 502
            return _undelivered(status, error, kind, request_id)
        if response.http_status < 200:  # an interim response, which no server can send as its last
            interim = TransportError(f"the bank answered with HTTP {response.http_status} alone")
            return _undelivered(502, interim, kind, request_id)
        logger.info(
            "Webhook forwarded, the bank answered with HTTP %d",
            response.http_status,
            kind=kind,
            http_status=response.http_status,
        )
        return WebhookResponse(
            http_status=response.http_status,
            body=response.body,
            forwarded=True,
            kind=kind,
            request_id=request_id,
        )


def refused(error: WebhookPayloadError, request_id: str | None = None) -> WebhookResponse:
    """Log that a request is refused, and return the response to it.

    Args:
        error: The reason, and the HTTP status.
        request_id: Marks the log record; by default a random one.
    """
    request_id = request_id or _random_id()
    with tagged(request_id=request_id):
        logger.warning("Webhook refused with HTTP %d: %s", error.status_code, error)
    return _own_response(error.status_code, str(error), "invalid", request_id)


def _random_id() -> str:
    return f"req-{uuid.uuid4()}"


def _own_response(http_status: int, text: str, kind: str, request_id: str) -> WebhookResponse:
    return WebhookResponse(
        http_status=http_status,
        body=envelope(SUCCESS if http_status == 200 else FAILURE, text),
        forwarded=False,
        kind=kind,
        request_id=request_id,
    )


def _undelivered(http_status: int, error: Exception, kind: str, request_id: str) -> WebhookResponse:
    # An error of our tree shows no secret; any other one might.
    reason = f": {error}" if isinstance(error, PermataAuthError) else ""
    logger.error(
        "Webhook not handed over, answered with HTTP %d after %s%s",
        http_status,
        type(error).__name__,
        reason,
        kind=kind,
        http_status=http_status,
    )
    text = "not handed over to the bank; send it again"
    return _own_response(http_status, text, kind, request_id)


def _secrets(given: object) -> Iterator[bytes]:
    one = (str, bytes, bytearray, Mapping)  # of a mapping, the names would be the secrets
    if isinstance(given, one) or not isinstance(given, Iterable):
        raise ConfigurationError("app_secrets must be a list of secrets")
    for secret in given:
        yield _not_blank("each of app_secrets", secret)


def _not_blank(name: str, text: object) -> bytes:
    """Return a secret as bytes; a blank one would protect nothing, so it is refused."""
    encoded = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    if not isinstance(encoded, bytes) or not encoded.strip():
        raise ConfigurationError(f"{name} must be a str or bytes that is not blank")
    return encoded


def _query_texts(query: Any, *names: str) -> list[str]:
    """Return the text of each parameter; empty where there is not exactly one of that name."""
    if isinstance(query, str | bytes):
        text = query if isinstance(query, str) else query.decode(errors="replace")
        pairs = parse_qsl(text, errors="replace") if len(text) <= _MAX_QUERY_CHARS else []
    else:
        pairs = list(_pairs(query))
    found = ([value for key, value in pairs if key == name] for name in names)
    return [texts[0] if len(texts) == 1 else "" for texts in found]


def _pairs(query: Any) -> Iterator[tuple[str, str]]:
    # Some mappings of frameworks show one value of several; their lists() shows all.
    items: Iterable[Any] = getattr(query, "lists", getattr(query, "items", tuple))()
    for name, value in items:
        for each in value if isinstance(value, list | tuple) else [value]:
            yield str(name), str(each)


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode(errors="surrogatepass")  # which is no UTF-8, and refused as such
    raise WebhookPayloadError("the body must be bytes")


def _header(headers: Any, name: str) -> str:
    # By duck type: the headers of some frameworks are no Mapping.
    pairs: Iterable[Any] = getattr(headers, "items", tuple)()
    return next((str(value) for key, value in pairs if str(key).lower() == name), "")


def _request_id(payload: dict[str, Any]) -> str | None:
    for given in (payload.get("xid"), payload.get("id")):
        # Nothing that could begin another line of a log.
        if isinstance(given, str) and given.isprintable() and 0 < len(given) <= _MAX_ID_CHARS:
            return f"req-{given}"
    return None


def _kind(payload: dict[str, Any]) -> str:
    if "error" in payload or _found(payload, _STATUSES):
        return "delivery_receipt"
    return "inbound_flow" if "nfm_reply" in _found(payload, _MESSAGE_TYPES) else "ignored"


def _found(payload: object, path: Iterable[object]) -> list[object]:
    """Return all that ``path`` leads to; where it leads nowhere, nothing."""
    found = [payload]
    for step in path:
        if step is _EACH:
            found = [item for value in found if isinstance(value, list) for item in value]
        else:
            found = [value[step] for value in found if isinstance(value, dict) and step in value]
    return found
