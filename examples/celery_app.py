"""A Celery app: signed calls in tasks, and callback statuses that are tried again.

    celery -A celery_app worker --concurrency 4

Workers that log in once between them: PERMATA_TOKEN_STORE=file:///run/permata (or redis://…).
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from permata_auth.integrations.celery import PermataTask, init_celery

app = Celery(
    "payments",
    broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", "redis://localhost"),
)
permata = init_celery(app)

BALANCE_URL = os.environ.get(
    "BALANCE_URL", "https://bank.invalid/apiservice/InquiryServices/BalanceInfo/inq"
)


# Tried again while the bank cannot be reached. With retry_sent=True also when it did not answer:
# good for an inquiry, which may be done twice; not for a payment.
@app.task(base=PermataTask, retry_sent=True)
def balance(account: str) -> dict[str, Any]:
    inquiry = {"BalInqRq": {"InqInfo": {"AccountNumber": account}}}
    reply = permata.session.post(BALANCE_URL, json=inquiry)
    return {"http_status": reply.status_code, "body": reply.json()}


# From wherever the webhook comes in:
#     permata.send_callback_status.delay(body, request_id="req-1")
