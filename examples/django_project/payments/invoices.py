"""The bank inquires invoices and says what was paid; each is paid once."""

from __future__ import annotations

from django.db import transaction

from permata_auth.snap_inbound import (
    SnapAmount,
    SnapRefusal,
    VaBill,
    VaInquiry,
    VaPayment,
    VaReceipt,
)

from .models import Invoice


def inquire(inquiry: VaInquiry) -> VaBill:
    invoice = _invoice(inquiry.number)
    if invoice.payment_id is not None:
        raise SnapRefusal("14", "Paid Bill")
    return VaBill(name=invoice.name, amount=SnapAmount(invoice.amount))


@transaction.atomic
def pay(payment: VaPayment) -> VaReceipt:
    paid, payment_id = payment.paid_amount.value, payment.payment_request_id
    # One statement decides which payment it is, for all workers.
    unpaid = Invoice.objects.filter(number=payment.number, amount=paid, payment_id=None)
    unpaid.update(payment_id=payment_id)
    invoice = _invoice(payment.number)
    if invoice.payment_id is None:
        raise SnapRefusal("13", "Invalid Amount")
    # The same id again is the same payment: a worker died before it could answer.
    if invoice.payment_id != payment_id:
        raise SnapRefusal("14", "Paid Bill")
    return VaReceipt(name=invoice.name)


def _invoice(number: str) -> Invoice:
    invoice = Invoice.objects.filter(number=number).first()
    if invoice is None:
        raise SnapRefusal("12", "Bill not found")
    return invoice
