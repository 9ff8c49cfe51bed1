"""Virtual accounts by SNAP: the bank inquires bills and says what was paid; each is booked once.

    gunicorn --workers 4 'snap_va_flask:create_app()'
    python snap_va_flask.py

The first serves the bank, with keys and secrets from the environment, see
``SnapReceiver.from_env``; PERMATA_SNAP_INBOUND_EXTERNAL_IDS must be the URL of a Redis, since the
workers share what they have seen. The second shows the table of bills.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from decimal import Decimal

from flask import Flask

from permata_auth.integrations.flask_snap import snap_blueprint
from permata_auth.snap_inbound import (
    SnapAmount,
    SnapReceiver,
    SnapRefusal,
    VaBill,
    VaInquiry,
    VaPayment,
    VaReceipt,
)

DATABASE = os.environ.get("BILLS", "bills.db")
SCHEMA = """
create table if not exists bills (number text primary key, name text, amount text);
create table if not exists payments (id text primary key, number text unique, amount text);
insert or ignore into bills values ('123408123456789', 'Ani', '10000.00');
"""


def database() -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(DATABASE, timeout=5))


def bill_of(db: sqlite3.Connection, number: str) -> tuple[str, Decimal]:
    row = db.execute("select name, amount from bills where number = ?", (number,)).fetchone()
    if row is None:
        raise SnapRefusal("12", "Bill not found")
    return row[0], Decimal(row[1])


def inquire(inquiry: VaInquiry) -> VaBill:
    with database() as db:
        name, amount = bill_of(db, inquiry.number)
        paid = "select 1 from payments where number = ?"
        if db.execute(paid, (inquiry.number,)).fetchone():
            raise SnapRefusal("14", "Paid Bill")
    return VaBill(name=name, amount=SnapAmount(amount))


def pay(payment: VaPayment) -> VaReceipt:
    paid = payment.paid_amount.value
    row = (payment.payment_request_id, payment.number, str(paid))
    with database() as db, db:  # one transaction
        name, amount = bill_of(db, payment.number)
        if paid != amount:
            raise SnapRefusal("13", "Invalid Amount")
        db.execute("insert or ignore into payments values (?, ?, ?)", row)
        # The same id again is the same payment: a worker died before it could answer.
        booked = db.execute("select * from payments where number = ?", row[1:2]).fetchone()
        if booked != row:
            raise SnapRefusal("14", "Paid Bill")
    return VaReceipt(name=name)


def create_app(receiver: SnapReceiver | None = None) -> Flask:
    with database() as db:
        db.executescript(SCHEMA)
    receiver = receiver or SnapReceiver.from_env()
    receiver.on_inquiry(inquire)
    receiver.on_payment(pay)
    app = Flask(__name__)
    app.register_blueprint(snap_blueprint(receiver))
    return app


if __name__ == "__main__":
    with database() as db:
        db.executescript(SCHEMA)
        for bill in db.execute("select * from bills"):
            print(*bill)
