"""Take webhooks in: verify, classify, hand over to the bank, and say what to answer."""

from __future__ import annotations

import hmac
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ._logging import extra, tagged
from .callback_status import CallbackStatusClient
from .exceptions import ConfigurationError, PermataAuthError, WebhookPayloadError

logger = logging.getLogger(__name__)

_LONGEST_ID = 200
_EACH = object()
_STATUSES = ("entry", _EACH, "changes", _EACH, "value", "statuses")
_MESSAGE_TYPES = (
    *("data", "entry", _EACH, "changes", _EACH, "value"),
    *("messages", _EACH, "interactive", "type"),
)


@attrs.frozen(kw_only=True)
class WebhookResponse:
    """What to answer the sender of a webhook: ``http_status`` with ``body`` as JSON.

    ``kind`` is ``delivery_receipt``, ``inbound_flow``, ``ignored`` or ``invalid``. ``forwarded``
    says that the bank has answered, and that status and body are its own.
    """

    http_status: int
    body: dict[str, Any]
    forwarded: bool
    kind: str
    request_id: str


class WebhookProcessor:
    """Process webhooks of the WhatsApp Business provider. Thread-safe.

    ``client`` hands over to the bank. ``app_secrets``: where there are any, each webhook must
    carry an ``X-Hub-Signature-256`` made with one of them (several, for a rotation).
    ``max_body_bytes`` bounds what is looked at. Raises ConfigurationError.
    """

    def __init__(
        self,
        client: CallbackStatusClient,
        *,
        app_secrets: Iterable[str | bytes] = (),
        max_body_bytes: int = 1_048_576,
    ) -> None:
        if not callable(getattr(client, "send", None)):
            raise ConfigurationError("client must be a CallbackStatusClient")
        if isinstance(max_body_bytes, bool) or not isinstance(max_body_bytes, int):
            raise ConfigurationError("max_body_bytes must be a whole number")
        if max_body_bytes < 1:
            raise ConfigurationError("max_body_bytes must be at least 1")
        self._client = client
        self._app_secrets = tuple(_secrets(app_secrets))
        self._max_body_bytes = max_body_bytes

    def __repr__(self) -> str:
        return f"<WebhookProcessor to {self._client!r}, {len(self._app_secrets)} app secrets>"

    def process(self, body: bytes, headers: Mapping[str, str] | None = None) -> WebhookResponse:
        """Process one webhook, as it came, and return what to answer.

        Never raises. What is not acceptable is answered with 400, 401 or 413 and not forwarded.
        A delivery receipt or an inbound flow goes to the bank byte for byte, and its answer comes
        back; if there is none, the answer is 502, or 504 after a timeout, so that the sender tries
        again. Blocks as long as :meth:`CallbackStatusClient.send`.

        Every log record of a webhook carries its request id: ``req-`` and its ``xid`` or ``id``.
        """
        request_id = f"req-{uuid.uuid4()}"
        try:
            body = _as_bytes(body)
            self._verify(body, headers)
            payload = _parsed(body)
        except WebhookPayloadError as error:
            with tagged(request_id=request_id):
                logger.warning(
                    "Webhook refused with HTTP %d: %s", error.status_code, error, extra=extra()
                )
            return _own_answer(error.status_code, str(error), "invalid", request_id)
        request_id = _request_id(payload) or request_id
        with tagged(request_id=request_id):
            return self._answer(body, _kind(payload), request_id)

    def _verify(self, body: bytes, headers: Mapping[str, str] | None) -> None:
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

    def _answer(self, body: bytes, kind: str, request_id: str) -> WebhookResponse:
        if kind == "ignored":
            logger.debug("Webhook ignored", extra=extra(kind=kind))
            return _own_answer(200, "Success", kind, request_id)
        try:
            answer = self._client.send(body, request_id=request_id)
        except TimeoutError as error:
            return _undelivered(504, error, kind, request_id)
        except Exception as error:
            return _undelivered(502, error, kind, request_id)
        logger.info(
            "Webhook forwarded, the bank answered with HTTP %d",
            answer.http_status,
            extra=extra(kind=kind, http_status=answer.http_status),
        )
        return WebhookResponse(
            http_status=answer.http_status,
            body=answer.body,
            forwarded=True,
            kind=kind,
            request_id=request_id,
        )


def _own_answer(http_status: int, text: str, kind: str, request_id: str) -> WebhookResponse:
    return WebhookResponse(
        http_status=http_status,
        body={"StatusCode": "00" if http_status == 200 else "06", "StatusDesc": text},
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
        extra=extra(kind=kind, http_status=http_status),
    )
    return _own_answer(http_status, "not handed over to the bank; send it again", kind, request_id)


def _secrets(given: object) -> Iterator[bytes]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError("app_secrets must be a list of secrets")
    for secret in given:
        encoded = secret.encode() if isinstance(secret, str) else secret
        if not isinstance(encoded, bytes) or not encoded:
            raise ConfigurationError("each of app_secrets must be a str or bytes that is not empty")
        yield encoded


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


def _parsed(body: bytes) -> dict[str, Any]:
    """Parse strictly: what two parsers could read in two ways is not passed on."""
    try:
        payload = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=float,  # no number is looked at, and a long int takes long to parse
        )
    except WebhookPayloadError:
        raise
    except (ValueError, RecursionError):
        raise WebhookPayloadError("the body is no JSON in UTF-8, or nested too deeply") from None
    if not isinstance(payload, dict):
        raise WebhookPayloadError("the body is no JSON object")
    return payload


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WebhookPayloadError("the body has an object with the same key twice")
    return found


def _refuse_constant(name: str) -> None:
    raise WebhookPayloadError("the body has a number that JSON does not know")


def _request_id(payload: dict[str, Any]) -> str | None:
    for given in (payload.get("xid"), payload.get("id")):
        # Nothing that could begin another line of a log.
        if isinstance(given, str) and given.isprintable() and 0 < len(given) <= _LONGEST_ID:
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
