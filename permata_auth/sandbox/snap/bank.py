"""The rules of the bank's SNAP side: tokens for an RSA signature, calls for a symmetric one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from ..bank import Bank
from ..checks import Refused, require
from ..limits import Seen
from ..messages import JSON_TYPE, Inbound, Reply
from . import draft
from .accounts import Accounts
from .checks import WIB, SnapRules, is_signed, read_timestamp, string_to_sign
from .keys import one_line, public_pem
from .merchant import Caller, MerchantResponse
from .services import methods, service_code, snap_error, snap_reply
from .wrong import build

SNAP_CLIENT_ID = "example-client"
PARTNER_ID = "example-partner"
CHANNEL_ID = "95221"

_MAX_EXTERNAL_IDS = 100_000
_CALL_HEADERS = ("X-TIMESTAMP", "X-SIGNATURE", "X-PARTNER-ID", "X-EXTERNAL-ID", "CHANNEL-ID")


def _rules(value: SnapRules | Mapping[str, Any]) -> SnapRules:
    """Take rules, or a dict of them as the remote control gets it."""
    return SnapRules(**value) if isinstance(value, Mapping) else value


_is_rules = attrs.validators.instance_of(SnapRules)


@attrs.define(kw_only=True, eq=False)
class SnapBank(Bank):
    """The bank with both dialects, which share its account, its counters and its faults.

    Args:
        snap_rules: The rules of a merchant's calls.
        inbound_rules: How this bank signs when it calls a merchant.
    """

    snap_rules: SnapRules = attrs.field(factory=SnapRules, converter=_rules, validator=_is_rules)
    inbound_rules: SnapRules = attrs.field(factory=SnapRules, converter=_rules, validator=_is_rules)
    _external_ids: Seen = attrs.field(
        factory=lambda: Seen(_MAX_EXTERNAL_IDS), init=False, repr=False
    )
    _accounts: Accounts = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._accounts = Accounts(note_transfer=self._note_transfer, max_transfers=self.max_records)

    def jakarta_now(self) -> datetime:
        """Return the bank's own wall clock, skew included, in Jakarta."""
        return datetime.fromtimestamp(self.now(), WIB)

    def call_merchant(
        self,
        url: str,
        service: int | str,
        body: object = b"",
        fault: str | None = None,
        *,
        token: str | None = None,
        external_id: str | None = None,
        timeout: float = 10.0,
        **fault_arguments: Any,
    ) -> MerchantResponse:
        """Call a merchant as the bank does: ask for a token, sign, call the service.

        Blocks until the merchant has answered. Thread-safe; counts nothing. If the merchant gives
        no token, its token response is returned. Raises OSError or ``http.client.HTTPException``
        when there is no answer, ValueError for a fault that is unknown or that changes nothing.

        Args:
            url: The merchant's base URL, below which ``/v1.0/…`` begins.
            service: The code of the service, or its path below the version; 73 asks for a token
                and does no more.
            body: Bytes or text, sent as they are, or a value that is sent as compact JSON.
            fault: One of the wrong forms that :mod:`permata_auth.sandbox.snap.wrong` lists; for a
                call the token request stays right.
            token: A token to use, in place of a new one.
            external_id: The X-EXTERNAL-ID to send, in place of a new one.
            timeout: Seconds for each step of a connection; banks wait for ten.
            fault_arguments: The arguments of the fault.
        """
        caller = Caller(url=url, rules=self.inbound_rules, now=self.jakarta_now, timeout=timeout)
        form = build(fault, fault_arguments)
        return caller.call(service, body, form, token=token, external_id=external_id)

    def merchant_environment(self) -> dict[str, str]:
        """Return the environment variables of a merchant that this bank calls."""
        rules = self.inbound_rules
        settings = {
            "INBOUND_CLIENT_KEY": draft.CLIENT_KEY,
            "INBOUND_CLIENT_SECRET": draft.CLIENT_SECRET,
            "INBOUND_PARTNER_ID": draft.PARTNER_ID,
            "INBOUND_CHANNEL_ID": draft.CHANNEL_ID,
            "BANK_PUBLIC_KEY": one_line(public_pem("bank")),
            "INBOUND_SIGNATURE": rules.transaction_signature,
        }
        if rules.signed_prefix is not None:
            settings["INBOUND_SIGNED_PREFIX"] = rules.signed_prefix
        return {f"PERMATA_SNAP_{name}": value for name, value in settings.items()}

    def _note_transfer(self) -> None:
        with self._changed:
            self._counts["transfers"] += 1

    def _answer(self, request: Inbound) -> Reply:
        if not request.is_snap:
            return super()._answer(request)
        try:
            reply = self._snap_login(request) if request.is_login else self._snap_call(request)
        except Refused as refused:
            reply = refused.reply
        stamp = (("X-TIMESTAMP", self.jakarta_now().isoformat(timespec="seconds")),)
        client = (("X-CLIENT-KEY", SNAP_CLIENT_ID),) if request.is_login else ()
        return attrs.evolve(reply, headers=(*reply.headers, *stamp, *client))

    # A token

    def _snap_login(self, request: Inbound) -> Reply:
        _check_framing(request)
        self._admit_login(request)
        _check_content_type(request)
        client, text, _ = _headers(request, ("X-CLIENT-KEY", "X-TIMESTAMP", "X-SIGNATURE"))
        moment = self._read_timestamp(request, text)
        self._require_credential(not self.is_locked, _unauthorized(request, "Account locked"))
        self._require_credential(client == SNAP_CLIENT_ID, _unauthorized(request, "Unknown client"))
        self._require_fresh(request, moment)
        kind = self.snap_rules.token_signature
        is_good = self._is_signed(request, kind, f"{client}|{text}".encode("latin-1"))
        self._require_credential(is_good, _unauthorized(request, "Signature"))
        _check_grant(request)
        token, seconds = self._issue("snap")
        document = {
            "accessToken": token.value,
            "tokenType": "Bearer",
            "expiresIn": str(seconds),
        }
        fingerprint = token.issued.fingerprint
        return snap_reply(
            request, 200, "00", "Successful", document=document, token_fingerprint=fingerprint
        )

    # A call

    def _snap_call(self, request: Inbound) -> Reply:
        require(service_code(request) is not None, snap_error(request, 404, "00", "Not Found"))
        _check_framing(request)
        if request.body:
            _check_content_type(request)
        text, _, partner, external_id, channel = _headers(request, _CALL_HEADERS)
        self._check_external_id(request, external_id)
        moment = self._read_timestamp(request, text)
        token = self._snap_token(request)
        require(partner == PARTNER_ID, _unauthorized(request, "Unknown partner"))
        require(channel == CHANNEL_ID, _unauthorized(request, "Unknown channel"))
        self._require_fresh(request, moment)
        message = self._string_to_sign(request, token, text)
        is_good = self._is_signed(request, self.snap_rules.transaction_signature, message)
        require(is_good, _unauthorized(request, "Signature"))
        self._require_new(request, partner, moment, external_id)
        return self._accounts.answer(request, _document(request))

    def _check_external_id(self, request: Inbound, external_id: str) -> None:
        is_good = external_id.isascii() and external_id.isdigit()
        is_good = is_good and len(external_id) <= self.snap_rules.external_id_length
        require(is_good, _bad_field(request, "X-EXTERNAL-ID"))

    def _snap_token(self, request: Inbound) -> str | None:
        """Return the token that the call carries, or None where the bank asks for none."""
        if self.snap_rules.transaction_signature == "asymmetric":
            return None
        token, fault = self._bearer(request.headers.get("Authorization", ""), "snap")
        rejected = snap_error(request, 401, "01", "Invalid Token (B2B)", reason=f"token {fault}")
        require(not fault, rejected)
        return token

    def _string_to_sign(self, request: Inbound, token: str | None, timestamp: str) -> bytes:
        rules = self.snap_rules
        path, body_hash = rules.signed_path(request.target), rules.body_hash(request.body)
        parts = (request.method, path, token, body_hash, timestamp)
        return string_to_sign([part for part in parts if part is not None])

    def _require_new(
        self, request: Inbound, partner: str, moment: datetime, external_id: str
    ) -> None:
        """Refuse an id that came before on the Jakarta day that was signed."""
        day = moment.astimezone(WIB).date()
        with self._changed:
            is_repeated = self._external_ids.add((partner, day, external_id))
            self._counts["duplicates"] += is_repeated
        require(not is_repeated, snap_error(request, 409, "00", "Conflict"))

    # Both

    def _read_timestamp(self, request: Inbound, text: str) -> datetime:
        moment = read_timestamp(text, self.snap_rules.timestamp_form)
        if moment is None:
            raise Refused(_bad_field(request, "X-TIMESTAMP"))
        return moment

    def _require_fresh(self, request: Inbound, moment: datetime) -> None:
        age = abs(self.now() - moment.timestamp())
        require(age <= self.timestamp_tolerance, _unauthorized(request, "Timestamp"))

    def _is_signed(self, request: Inbound, kind: str, message: bytes) -> bool:
        signature = self.snap_rules.read_signature(request.headers["X-SIGNATURE"])
        return any(
            is_signed(kind, signature, message, secret=keys.client_secret, key=keys.public_key)
            for keys in self._keys  # two of them while they change
        )


def snap_arguments(rules: SnapRules, **own: str) -> dict[str, Any]:
    """Return the arguments of the client's credentials, as a bank with these rules wants them.

    Args:
        rules: Those that differ from the standard's become arguments.
        own: Of this one bank: the URL of its token endpoint, the secret, the private key.
    """
    different = {
        name: value
        for name, value in attrs.asdict(rules).items()
        if value != getattr(SnapRules(), name)
    }
    return {
        **own,
        "client_id": SNAP_CLIENT_ID,
        "partner_id": PARTNER_ID,
        "channel_id": CHANNEL_ID,
        **different,
    }


def _unauthorized(request: Inbound, reason: str) -> Reply:
    return snap_error(request, 401, "00", f"Unauthorized. [{reason}]")


def _bad_field(request: Inbound, name: str) -> Reply:
    return snap_error(request, 400, "01", f"Invalid Field Format [{name}]")


def _check_framing(request: Inbound) -> None:
    allowed = methods(service_code(request) or "")
    allow = (("Allow", ", ".join(allowed)),)
    not_supported = snap_error(
        request, 405, "00", "Requested Function Is Not Supported", headers=allow
    )
    require(request.method in allowed, not_supported)
    has_length = "Transfer-Encoding" not in request.headers
    require(has_length, snap_error(request, 411, "00", "Length Required"))


def _check_content_type(request: Inbound) -> None:
    """Refuse all but the sixteen characters: some banks take no charset beside them."""
    is_good = request.headers.getlist("Content-Type") == [JSON_TYPE]
    require(is_good, _bad_field(request, "Content-Type"))


def _headers(request: Inbound, names: tuple[str, ...]) -> list[str]:
    """Return the values of headers that a request needs, each of them once."""
    values = []
    for name in names:
        found = request.headers.getlist(name)
        missing = snap_error(request, 400, "02", f"Invalid Mandatory Field [{name}]")
        require(any(found), missing)
        require(len(found) == 1, _bad_field(request, name))
        values += found
    return values


def _document(request: Inbound) -> dict[str, Any]:
    """Return the JSON object that the body is; an empty one for a GET without a body."""
    if request.method == "GET" and not request.body:
        return {}
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Refused(snap_error(request, 400, "00", "Bad Request"))
    return document


def _check_grant(request: Inbound) -> None:
    grant = _document(request).get("grantType")
    missing = snap_error(request, 400, "02", "Invalid Mandatory Field [grantType]")
    require(grant is not None, missing)
    require(grant == "client_credentials", _bad_field(request, "grantType"))
