"""The bank calls the merchant: tokens for it, its signed requests, their answers (SNAP BI)."""

from __future__ import annotations

from .answers import SnapAnswer, SnapRefusal, SnapResponse
from .checks import SnapCall
from .external_ids import ExternalIds, MemoryExternalIds, RedisExternalIds
from .receiver import SnapReceiver
from .virtual_accounts import SnapAmount, VaBill, VaInquiry, VaPayment, VaReceipt

__all__ = [
    "ExternalIds",
    "MemoryExternalIds",
    "RedisExternalIds",
    "SnapAmount",
    "SnapAnswer",
    "SnapCall",
    "SnapReceiver",
    "SnapRefusal",
    "SnapResponse",
    "VaBill",
    "VaInquiry",
    "VaPayment",
    "VaReceipt",
]
