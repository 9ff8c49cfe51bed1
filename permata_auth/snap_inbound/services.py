"""The functions of services: called with a raw request, or with values of virtual accounts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

import attrs

from .answers import (
    Reply,
    SnapAnswer,
    SnapRefusal,
    bad_format,
    missing,
    too_slow,
)
from .answers import reply as reply_of
from .checks import SnapCall
from .ledger import OUTCOME_SECS, Claim

_AMOUNT = re.compile(r"[0-9]{1,16}\.[0-9]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NUMBER = re.compile(r" *[0-9A-Za-z]+ *")
_MAX_ID_CHARS = 128
_SUCCESS = {"english": "Success", "indonesia": "Sukses"}

#: A function's result: members of ``virtualAccountData``, or a whole answer.
Result = Mapping[str, Any] | SnapAnswer


class Service(Protocol):
    """One service: how its request is read, and how its function is called."""

    @property
    def code(self) -> int:
        """Its two digits in response codes."""

    def read(self, call: SnapCall) -> Any:
        """Return the argument of the function; raise CheckFailed for a field that is wrong.

        Args:
            call: The request.
        """

    def call(self, value: Any, claim: Claim) -> Reply:
        """Call the function and return its reply; its exceptions pass through.

        Args:
            value: As :meth:`read` returned it.
            claim: Of the request, for a function that is to be called once for a payment.
        """


@attrs.frozen
class Raw:
    """A service whose function reads the body by itself.

    ``read`` gives the function its ``call`` unchanged; ``call`` hands it over as ``value`` and has
    no use for the ``claim``.

    Args:
        code: The service's two digits in response codes.
        function: The merchant's.
    """

    code: int
    function: Callable[[SnapCall], Result]

    def read(self, call: SnapCall) -> SnapCall:
        return call

    def call(self, value: SnapCall, claim: Claim) -> Reply:
        return reply_of(self.code, self.function(value))


# Typed values.


@attrs.frozen
class SnapAmount:
    """An amount of money.

    Args:
        value: With two decimals.
        currency: Three capital letters.
    """

    value: Decimal
    currency: str = "IDR"

    def document(self) -> dict[str, str]:
        """Return it as SNAP writes it: ``{"value": "10000.00", "currency": "IDR"}``."""
        return {"value": f"{self.value:.2f}", "currency": self.currency}


@attrs.frozen(kw_only=True)
class _VaRequest:
    partner_service_id: str
    customer_no: str
    virtual_account_no: str
    call: SnapCall = attrs.field(repr=False)

    @property
    def number(self) -> str:
        """The number of the virtual account without its padding, for a look-up."""
        return self.virtual_account_no.strip()

    def _echo(self) -> dict[str, Any]:
        return {
            "partnerServiceId": self.partner_service_id,
            "customerNo": self.customer_no,
            "virtualAccountNo": self.virtual_account_no,
        }


@attrs.frozen(kw_only=True)
class VaInquiry(_VaRequest):
    """The bank asks whom a virtual account belongs to, and for its bill.

    Args:
        partner_service_id: As received, with the spaces that pad it.
        customer_no: The rest of the number.
        virtual_account_no: Both together, as received; :attr:`number` has no padding.
        inquiry_request_id: The bank's id of this inquiry.
        amount: The amount that the customer means to pay; None where the bank does not send it.
        call: The whole request.
    """

    inquiry_request_id: str
    amount: SnapAmount | None

    def echo(self) -> dict[str, Any]:
        return {**self._echo(), "inquiryRequestId": self.inquiry_request_id}


@attrs.frozen(kw_only=True)
class VaPayment(_VaRequest):
    """The bank says that a virtual account has been paid.

    Args:
        partner_service_id: As received, with the spaces that pad it.
        customer_no: The rest of the number.
        virtual_account_no: Both together, as received; :attr:`number` has no padding.
        payment_request_id: The bank's id of this payment. Book it in one transaction with this id
            as a unique key: a worker that is killed after the booking cannot tell anybody.
        paid_amount: The amount that was paid.
        total_amount: The amount of the bill; None where the bank does not send it.
        flag_advise: Whether the bank repeats a payment whose outcome it does not know.
        call: The whole request.
    """

    payment_request_id: str
    paid_amount: SnapAmount
    total_amount: SnapAmount | None
    flag_advise: bool

    def echo(self) -> dict[str, Any]:
        return {
            **self._echo(),
            "paymentRequestId": self.payment_request_id,
            "paidAmount": self.paid_amount.document(),
        }


@attrs.frozen(kw_only=True)
class VaBill:
    """The answer to an inquiry: the bill of a virtual account.

    Args:
        name: Of the virtual account's owner, for the customer to see.
        amount: The amount to be paid; None where the customer decides.
        more: More members of ``virtualAccountData``.
    """

    name: str
    amount: SnapAmount | None = None
    more: Mapping[str, Any] = attrs.field(factory=dict)

    def document(self) -> dict[str, Any]:
        amount = {} if self.amount is None else {"totalAmount": self.amount.document()}
        return {"virtualAccountName": self.name, **amount, **self.more}


@attrs.frozen(kw_only=True)
class VaReceipt:
    """The answer to a payment: it is booked.

    Args:
        name: Of the virtual account's owner; None leaves it out.
        more: More members of ``virtualAccountData``.
    """

    name: str | None = None
    more: Mapping[str, Any] = attrs.field(factory=dict)

    def document(self) -> dict[str, Any]:
        return {**({} if self.name is None else {"virtualAccountName": self.name}), **self.more}


# Typed services.


@attrs.frozen
class Inquiry:
    """Service 24: the bill of a virtual account.

    ``read`` makes a :class:`VaInquiry` of a ``call``; ``call`` gives it to the function as
    ``value``, and has no use for the ``claim``.

    Args:
        function: The merchant's.
        code: 24, as the standard has it.
    """

    function: Callable[[VaInquiry], VaBill | Result]
    code: int = 24

    def read(self, call: SnapCall) -> VaInquiry:
        fields = _Fields(call.body)
        return VaInquiry(
            **_account(fields),
            inquiry_request_id=fields.text("inquiryRequestId", _MAX_ID_CHARS),
            amount=fields.amount("amount"),
            call=call,
        )

    def call(self, value: VaInquiry, claim: Claim) -> Reply:
        return _answered(self.code, "inquiry", value.echo(), lambda: self.function(value))[0]


@attrs.frozen
class Payment:
    """Service 25: a payment. Each ``paymentRequestId`` reaches the function once.

    The outcome is kept for seven days. The same payment again, with ``flagAdvise`` "Y", is answered
    with 200 and that outcome, and without it with 404ss18 and that outcome; a different payment
    under the same id with 404ss18. While the function runs for it, a second request is answered
    with 504, so that the bank asks again.

    ``read`` makes a :class:`VaPayment` of a ``call``; ``call`` gives it to the function as
    ``value``, once the ``claim`` holds its id.

    Args:
        function: The merchant's.
        code: 25, as the standard has it.
    """

    function: Callable[[VaPayment], VaReceipt | Result]
    code: int = 25

    def read(self, call: SnapCall) -> VaPayment:
        fields = _Fields(call.body)
        return VaPayment(
            **_account(fields),
            payment_request_id=fields.text("paymentRequestId", _MAX_ID_CHARS),
            paid_amount=fields.needed_amount("paidAmount"),
            total_amount=fields.amount("totalAmount"),
            flag_advise=fields.choice("flagAdvise", ("Y", "N"), "N") == "Y",
            call=call,
        )

    def call(self, value: VaPayment, claim: Claim) -> Reply:
        ledger = claim.ledger
        key = f"{claim.namespace}:payment:{_digest(value.payment_request_id)}"
        outcome = ledger.recall(key)
        if outcome is None:
            if not claim.add(f"{key}:claim"):
                raise too_slow()
            # Another thread may have stored it since, and released its claim.
            outcome = ledger.recall(key)
        subject = _digest(value.number, value.paid_amount.document()["value"])
        if outcome is not None:
            return self._repeated(value, outcome, is_same=outcome["of"] == subject)
        reply, data = _answered(
            self.code, "paymentFlag", value.echo(), lambda: self.function(value)
        )
        if reply.http_status < 500:
            ledger.remember(key, {"of": subject, "data": data}, OUTCOME_SECS)
        return reply

    def _repeated(self, value: VaPayment, outcome: Mapping[str, Any], *, is_same: bool) -> Reply:
        body = {"virtualAccountData": outcome["data"]}
        if value.flag_advise and is_same:
            return reply_of(self.code, body)
        refusal = SnapRefusal("18", "Inconsistent Request", body=body if is_same else None)
        return reply_of(self.code, refusal)


def _answered(
    code: int, kind: str, echo: Mapping[str, Any], call: Callable[[], Any]
) -> tuple[Reply, dict[str, Any]]:
    """Return the reply to a typed request, and its ``virtualAccountData``.

    Args:
        code: Of the service.
        kind: Begins the names of status and reason.
        echo: The members of the request that the answer repeats.
        call: Calls the function.
    """
    try:
        given: Any = call()
    except SnapRefusal as refusal:
        reason = {"english": refusal.message, "indonesia": refusal.message}
        status = {f"{kind}Status": "01", f"{kind}Reason": reason}
        data = {**status, **echo, **refusal.body.get("virtualAccountData", {})}
        body = {**refusal.body, "virtualAccountData": data}
        final = SnapRefusal(
            refusal.case, refusal.message, http_status=refusal.http_status, body=body
        )
        return reply_of(code, final), data
    if isinstance(given, VaBill | VaReceipt):
        given = given.document()
    status = {f"{kind}Status": "00", f"{kind}Reason": _SUCCESS}
    if isinstance(given, Mapping) and not {"virtualAccountData", "responseCode"} & set(given):
        given = {"virtualAccountData": given}
    answer = given if isinstance(given, SnapAnswer) else SnapAnswer(given)
    if not isinstance(answer.body, Mapping):
        raise TypeError(f"the function returned a {type(given).__name__}")
    data = {**echo, **answer.body.get("virtualAccountData", {})}
    reply = reply_of(code, attrs.evolve(answer, body={**answer.body, "virtualAccountData": data}))
    if reply.http_status < 300:
        data = {**status, **data}
    body = {**answer.body, "virtualAccountData": data}
    return reply_of(code, attrs.evolve(answer, body=body)), data


def _account(fields: _Fields) -> dict[str, str]:
    found = {
        "partner_service_id": fields.text("partnerServiceId", 8, _NUMBER),
        "customer_no": fields.text("customerNo", 20, _NUMBER),
        "virtual_account_no": fields.text("virtualAccountNo", 28, _NUMBER),
    }
    whole = found["partner_service_id"] + found["customer_no"]
    if found["virtual_account_no"].strip() != whole.strip():
        raise bad_format("virtualAccountNo")
    return found


@attrs.frozen
class _Fields:
    """The members of a body, each of which is there and right, or answered as the standard says."""

    body: Mapping[str, Any]

    def text(self, name: str, most: int, pattern: re.Pattern[str] | None = None) -> str:
        value = self._needed(name)
        if not isinstance(value, str) or not value.strip() or len(value) > most:
            raise bad_format(name)
        if not value.isprintable() or (pattern is not None and not pattern.fullmatch(value)):
            raise bad_format(name)
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.body.get(name)
        if value in (None, ""):
            return default
        if value not in list(choices):
            raise bad_format(name)
        return str(value)

    def needed_amount(self, name: str) -> SnapAmount:
        self._needed(name)
        found = self.amount(name)
        if found is None:
            raise missing(name)
        return found

    def amount(self, name: str) -> SnapAmount | None:
        given = self.body.get(name)
        if given is None:
            return None
        if not isinstance(given, dict):
            raise bad_format(name)
        inner = _Fields(given)
        value = inner.part(f"{name}.value", "value", _AMOUNT)
        currency = inner.part(f"{name}.currency", "currency", _CURRENCY)
        return SnapAmount(Decimal(value), currency)

    def part(self, shown: str, name: str, pattern: re.Pattern[str]) -> str:
        value = self.body.get(name)
        if value in (None, ""):
            raise missing(shown)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise bad_format(shown)
        return value

    def _needed(self, name: str) -> Any:
        value = self.body.get(name)
        if value is None or value == "":
            raise missing(name)
        return value


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]
