"""The values of virtual accounts: the bank's inquiries and payments, and the merchant's answers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from .checks import SnapCall


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
