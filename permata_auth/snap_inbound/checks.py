"""The checks of a request, in the order of the standard's receivers; each has its own answer.

Every check is a comparison whose failure raises :class:`CheckFailed`: an ``assert`` would be gone
with ``python -O``. The messages name headers, fields and reasons, and never a value.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import attrs

from .. import _clock
from .._json import BodyError, plain_object
from .._logging import Log
from ..schemes import _snap_signing as signing
from ..schemes.canonical import canonical
from . import issuer
from .answers import (
    bad_format,
    bad_request,
    invalid_token,
    missing,
    not_supported,
    unauthorized,
)
from .inbound import Inbound, Moment, moment
from .settings import Rules

logger = Log(__name__)

MAX_BODY_BYTES = 64 * 1024

_TOKEN_HEADERS = ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE")
_HEADERS = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")
_EXTERNAL_ID = re.compile(r"[0-9A-Za-z._-]{1,36}")


@attrs.frozen(kw_only=True)
class SnapCall:
    """One request of the bank that has passed every check.

    Args:
        service: The code of the service, such as 25.
        path: The path below the version.
        external_id: X-EXTERNAL-ID.
        partner_id: X-PARTNER-ID.
        channel_id: CHANNEL-ID.
        timestamp: X-TIMESTAMP, aware.
        body: The parsed JSON object.
        raw: The bytes of the body, as they were signed.
    """

    service: int
    path: str
    external_id: str
    partner_id: str
    channel_id: str
    timestamp: datetime
    body: dict[str, Any] = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


def check_frame(request: Inbound) -> None:
    """Row 1 of both tables, once the path is known: method, size and type of the body.

    Args:
        request: Of either kind.
    """
    if request.method != "POST":
        raise not_supported()
    if len(request.body) > MAX_BODY_BYTES:
        raise bad_request("Body size")
    if not request.is_json():
        raise bad_format("Content-Type")


def check_token_request(request: Inbound, rules: Rules) -> None:
    """Check a request for an access token, after its frame.

    Args:
        request: One that has passed :func:`check_frame`.
        rules: The receiver's.
    """
    client_key, timestamp, signature = request.needed(_TOKEN_HEADERS).values()
    sent_at = _moment(timestamp)
    is_known = client_key == rules.client_key
    if not is_known:
        # As long as for a known client: how long it takes tells strangers nothing.
        _is_by_bank(signature, signing.token_message(client_key, timestamp), rules)
        raise unauthorized("Unknown client")
    _check_freshness(sent_at, timestamp, rules)
    if not _is_by_bank(signature, signing.token_message(client_key, timestamp), rules):
        raise unauthorized("Signature")
    grant_type = parsed(request.body).get("grantType")
    if grant_type is None:
        raise missing("grantType")
    if grant_type != "client_credentials":
        raise bad_format("grantType")


def check_headers(request: Inbound) -> tuple[dict[str, str], Moment]:
    """Row 2 of a transaction: return its headers, and the moment of its timestamp.

    Args:
        request: One that has passed :func:`check_frame`.
    """
    headers = request.needed(_HEADERS)
    if not _EXTERNAL_ID.fullmatch(headers["X-EXTERNAL-ID"]):
        raise bad_format("X-EXTERNAL-ID")
    return headers, _moment(headers["X-TIMESTAMP"])


def check_sender(request: Inbound, headers: dict[str, str], sent_at: Moment, rules: Rules) -> None:
    """Rows 3 to 6 of a transaction: token, freshness, signature, partner and channel.

    Args:
        request: One that has passed :func:`check_headers`.
        headers: As :func:`check_headers` returned them.
        sent_at: As :func:`check_headers` returned it.
        rules: The receiver's.
    """
    token = _token(request, rules) if rules.signature == "symmetric" else None
    _check_freshness(sent_at, headers["X-TIMESTAMP"], rules)
    message = signing.call_message(
        request.method,
        signing.signed_path(request.path, rules.signed_prefix),
        token,
        canonical(request.body, rules.canonicalizer),
        headers["X-TIMESTAMP"],
    )
    is_by_sender = _is_by_bank if token is None else _is_by_secret
    if not is_by_sender(headers["X-SIGNATURE"], message, rules):
        raise unauthorized("Signature")
    is_partner = rules.partner_id in (None, headers["X-PARTNER-ID"])
    if not is_partner or rules.channel_id not in (None, headers["CHANNEL-ID"]):
        raise unauthorized("Unknown client")


def parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, read strictly; raise CheckFailed for any other.

    Args:
        body: As received.
    """
    try:
        return plain_object(body)
    except BodyError as error:
        logger.debug("Body refused: %s", error)
    raise bad_request("Body")


def _moment(timestamp: str) -> Moment:
    found = moment(timestamp)
    if found is None:
        raise bad_format("X-TIMESTAMP")
    return found


def _token(request: Inbound, rules: Rules) -> str:
    values = request.headers.get("AUTHORIZATION", ())
    if len(values) == 1:
        scheme, _, token = values[0].strip(" ").partition(" ")
        token = token.lstrip(" ")
        if scheme.lower() == "bearer" and issuer.is_valid(token, rules.token_keys()):
            return token
    raise invalid_token()


def _check_freshness(sent_at: Moment, timestamp: str, rules: Rules) -> None:
    now = _clock.wall()
    if abs(now - sent_at.posix) > rules.max_skew_secs:
        logger.warning(
            "X-TIMESTAMP is too far from this machine's clock: %s, here it is %s",
            timestamp,
            _clock.to_datetime(now).isoformat(timespec="seconds"),
        )
        raise unauthorized("Timestamp")


def _is_by_bank(signature: str, message: bytes, rules: Rules) -> bool:
    found = signing.decoded(signature, rules.signature_encoding)
    return found is not None and signing.is_asymmetric_signature(
        found, message, rules.bank_public_keys.get()
    )


def _is_by_secret(signature: str, message: bytes, rules: Rules) -> bool:
    found = signing.decoded(signature, rules.signature_encoding)
    return found is not None and signing.is_symmetric_signature(found, message, rules.signers())
