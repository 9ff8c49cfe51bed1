"""The accounts of the SNAP side: a balance, transfers that are made once, and their status."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import attrs

from ..checks import Refused, require
from ..messages import Inbound, Reply
from .services import service_code, snap_error, snap_reply

_BALANCE = {"value": "200000.00", "currency": "IDR"}


@attrs.define(kw_only=True, eq=False)
class Accounts:
    """The answers of the services to a call that was accepted. Thread-safe.

    Args:
        note_transfer: Called for each transfer that is made.
        max_transfers: So many of the last transfers are known.
    """

    note_transfer: Callable[[], None]
    max_transfers: int
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _transfers: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False, repr=False)

    def answer(self, request: Inbound, document: dict[str, Any]) -> Reply:
        """Carry a service out; an echo where the bank has no more to say.

        Args:
            request: The call.
            document: The parsed body.
        """
        services = {"11": self._balance, "17": self._transfer, "36": self._status}
        service = services.get(service_code(request) or "", _echo)
        return snap_reply(request, 200, "00", "Successful", document=service(request, document))

    def _balance(self, request: Inbound, document: dict[str, Any]) -> dict[str, Any]:
        account = _text(request, document, "accountNo")
        info = {"balanceType": "Cash", "amount": _BALANCE, "availableBalance": _BALANCE}
        return {
            "partnerReferenceNo": document.get("partnerReferenceNo", ""),
            "accountNo": account,
            "name": "Example Merchant",
            "accountInfos": [info],
        }

    def _transfer(self, request: Inbound, document: dict[str, Any]) -> dict[str, Any]:
        reference = _text(request, document, "partnerReferenceNo")
        _text(request, document, "sourceAccountNo")
        _text(request, document, "beneficiaryAccountNo")
        amount = _amount(request, document)
        with self._lock:
            is_known = reference in self._transfers
            require(not is_known, snap_error(request, 409, "01", "Duplicate partnerReferenceNo"))
            self._transfers[reference] = transfer = {
                "referenceNo": f"{len(self._transfers) + 1:012}",
                "partnerReferenceNo": reference,
                "amount": amount,
            }
            if len(self._transfers) > self.max_transfers:
                del self._transfers[next(iter(self._transfers))]
        self.note_transfer()
        return transfer

    def _status(self, request: Inbound, document: dict[str, Any]) -> dict[str, Any]:
        reference = _text(request, document, "originalPartnerReferenceNo")
        with self._lock:
            transfer = self._transfers.get(reference)
        if transfer is None:
            raise Refused(snap_error(request, 404, "01", "Transaction Not Found"))
        return {
            "originalReferenceNo": transfer["referenceNo"],
            "originalPartnerReferenceNo": reference,
            "serviceCode": document.get("serviceCode", "17"),
            "amount": transfer["amount"],
            "latestTransactionStatus": "00",
            "transactionStatusDesc": "Success",
        }


def _echo(request: Inbound, _: dict[str, Any]) -> dict[str, Any]:
    facts = {"method": request.method, "path": request.path, "bytes": len(request.body)}
    return {"additionalInfo": facts}


def _text(request: Inbound, document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    missing = snap_error(request, 400, "02", f"Invalid Mandatory Field [{name}]")
    require(value is not None, missing)
    if not isinstance(value, str) or not value:
        raise Refused(snap_error(request, 400, "01", f"Invalid Field Format [{name}]"))
    return value


def _amount(request: Inbound, document: dict[str, Any]) -> dict[str, Any]:
    amount = document.get("amount")
    missing = snap_error(request, 400, "02", "Invalid Mandatory Field [amount]")
    require(amount is not None, missing)
    value = amount.get("value") if isinstance(amount, dict) else None
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}\.[0-9]{2}", value)):
        raise Refused(snap_error(request, 400, "01", "Invalid Field Format [amount.value]"))
    assert isinstance(amount, dict)
    return amount
