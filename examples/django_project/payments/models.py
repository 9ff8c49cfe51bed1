"""The table of invoices."""

from __future__ import annotations

from decimal import Decimal

from django.db import models


class Invoice(models.Model):
    """One virtual account with what is to be paid; ``payment_id`` says by which payment it was."""

    number: models.CharField[str, str] = models.CharField(max_length=28, primary_key=True)
    name: models.CharField[str, str] = models.CharField(max_length=255)
    amount: models.DecimalField[Decimal, Decimal] = models.DecimalField(
        max_digits=18, decimal_places=2
    )
    payment_id: models.CharField[str | None, str | None] = models.CharField(
        max_length=128, null=True, unique=True
    )

    def __str__(self) -> str:
        return self.number
