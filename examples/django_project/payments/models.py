"""The table of invoices."""

from __future__ import annotations

from django.db import models


class Invoice(models.Model):
    """One virtual account with what is to be paid; ``payment_id`` says by which payment it was."""

    number = models.CharField(max_length=28, primary_key=True)
    name = models.CharField(max_length=255)
    amount = models.DecimalField(max_digits=18, decimal_places=2)
    payment_id = models.CharField(max_length=128, null=True, unique=True)
