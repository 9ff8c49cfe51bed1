"""What the bank's SNAP calls reach."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class PaymentsConfig(AppConfig):
    name = "payments"

    def ready(self) -> None:
        if settings.TAKES_SNAP_CALLS:
            from permata_auth.integrations.django.snap import get_receiver  # noqa: PLC0415

            from . import invoices  # noqa: PLC0415 - models are ready now

            get_receiver().on_inquiry(invoices.inquire)
            get_receiver().on_payment(invoices.pay)
