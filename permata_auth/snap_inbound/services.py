"""The functions of services: called with a raw request, or with values of virtual accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from .answers import Reply, SnapAnswer, SnapRefusal, too_slow
from .answers import reply as reply_of
from .checks import SnapCall
from .fields import Fields
from .ledger import OUTCOME_SECS, Claim
from .virtual_accounts import VaBill, VaInquiry, VaPayment, VaReceipt

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
        fields = Fields(call.body)
        return VaInquiry(
            **fields.account(),
            inquiry_request_id=fields.text("inquiryRequestId"),
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
        fields = Fields(call.body)
        return VaPayment(
            **fields.account(),
            payment_request_id=fields.text("paymentRequestId"),
            paid_amount=fields.needed_amount("paidAmount"),
            total_amount=fields.amount("totalAmount"),
            flag_advise=fields.flag("flagAdvise"),
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


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]
