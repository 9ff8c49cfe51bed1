from __future__ import annotations

import sqlite3
import threading
from decimal import Decimal

import pytest
from support.inbound import INQUIRY_PATH, PAYMENT_PATH, Caller, inquiry, payment, receiver
from support.threads import Call, together, until

from permata_auth.snap_inbound import (
    SnapAmount,
    SnapAnswer,
    SnapRefusal,
    VaBill,
    VaInquiry,
    VaPayment,
    VaReceipt,
)

ECHO = {
    "partnerServiceId": "    1234",
    "customerNo": "08123456789",
    "virtualAccountNo": "    123408123456789",
}
PAID = {"value": "10000.00", "currency": "IDR"}


@pytest.fixture
def make_va(secrets, calls):
    """Make a bank that inquires and pays: ``make_va(pay=function, ask=function)``."""

    def make(pay=lambda value: VaReceipt(), ask=lambda value: VaBill(name="Ani"), **changes):
        made = receiver(**changes)
        made.on_inquiry(lambda value: calls.append(value) or ask(value))
        made.on_payment(lambda value: calls.append(value) or pay(value))
        return Caller(made)

    return make


def refuse(case, message):
    def function(value):
        raise SnapRefusal(case, message)

    return function


def test_an_inquiry_is_answered_with_the_bill(make_va, calls):
    bill = VaBill(name="Ani", amount=SnapAmount(Decimal(10000)), more={"billNo": "7"})
    bank = make_va(ask=lambda value: bill)

    answer = bank.call(inquiry(), INQUIRY_PATH)

    assert answer.code == "2002400"
    assert answer.document["virtualAccountData"] == {
        **ECHO,
        "inquiryStatus": "00",
        "inquiryReason": {"english": "Success", "indonesia": "Sukses"},
        "inquiryRequestId": "example request 1",
        "virtualAccountName": "Ani",
        "totalAmount": PAID,
        "billNo": "7",
    }
    (value,) = calls
    assert isinstance(value, VaInquiry)
    assert (value.number, value.partner_service_id) == ("123408123456789", "    1234")
    assert value.call.external_id


def test_an_unknown_number_is_refused_with_what_was_asked(make_va):
    answer = make_va(ask=refuse("12", "Bill not found")).call(inquiry(), INQUIRY_PATH)

    assert (answer.code, answer.message) == ("4042412", "Bill not found")
    data = answer.document["virtualAccountData"]
    assert (data["inquiryStatus"], data["inquiryReason"]["english"]) == ("01", "Bill not found")
    assert {name: data[name] for name in ECHO} == ECHO


def test_a_payment_is_booked(make_va, calls):
    answer = make_va().pay()

    assert answer.code == "2002500"
    assert answer.document["virtualAccountData"] == {
        **ECHO,
        "paymentFlagStatus": "00",
        "paymentFlagReason": {"english": "Success", "indonesia": "Sukses"},
        "paymentRequestId": "example-1",
        "paidAmount": PAID,
    }
    (value,) = calls
    assert isinstance(value, VaPayment)
    assert (value.paid_amount, value.flag_advise) == (SnapAmount(Decimal("10000.00")), False)


@pytest.mark.parametrize(
    "result",
    [
        {"a": 1},
        {"virtualAccountData": {"a": 1}},
        SnapAnswer({"virtualAccountData": {"a": 1}}),
        VaReceipt(more={"a": 1}),
    ],
)
def test_what_a_function_may_return(make_va, result):
    answer = make_va(pay=lambda value: result).pay()
    assert answer.code == "2002500"
    data = answer.document["virtualAccountData"]
    assert (data["a"], data["paymentFlagStatus"]) == (1, "00")
    assert {name: data[name] for name in ECHO} == ECHO


@pytest.mark.parametrize("result", [None, 1, [], "x", {"a": {1}}])
def test_what_a_function_may_not_return(make_va, calls, result):
    bank = make_va(pay=lambda value: result)
    assert [bank.pay().code for _ in range(2)] == ["5002500"] * 2
    assert len(calls) == 2  # nothing is stored of it


# Once for each payment.


def test_a_payment_reaches_the_function_once(make_va, calls):
    bank = make_va()
    first = bank.pay()

    advised, repeated = bank.pay(flag="Y"), bank.pay()

    assert (advised.code, repeated.code) == ("2002500", "4042518")
    data = first.document["virtualAccountData"]
    assert advised.document["virtualAccountData"] == data
    assert repeated.document["virtualAccountData"] == data
    assert len(calls) == 1


def test_a_refused_payment_stays_refused(make_va, calls):
    bank = make_va(pay=refuse("14", "Paid"))
    assert bank.pay().code == "4042514"
    advised = bank.pay(flag="Y")
    assert advised.code == "2002500"
    assert advised.document["virtualAccountData"]["paymentFlagStatus"] == "01"
    assert len(calls) == 1


@pytest.mark.parametrize("flag", ["Y", "N"])
def test_another_payment_under_the_same_id_is_no_repetition(make_va, calls, flag):
    bank = make_va()
    bank.pay()
    answer = bank.call(payment(flag=flag, value="20000.00"), PAYMENT_PATH)
    assert answer.code == "4042518"
    assert "virtualAccountData" not in answer.document
    assert len(calls) == 1


def test_an_advised_payment_that_never_came_is_booked(make_va, calls):
    assert make_va().pay(flag="Y").code == "2002500"
    assert calls[0].flag_advise is True


def test_a_payment_that_failed_may_come_again(make_va, calls):
    def fail_once(value):
        if len(calls) == 1:
            raise ValueError
        return VaReceipt()

    bank = make_va(pay=fail_once)
    assert [bank.pay().code, bank.pay(flag="Y").code] == ["5002500", "2002500"]


def test_a_payment_sent_200_times_at_once_is_booked_once(make_va, calls):
    bank = make_va()
    codes = [call.value().code for call in together(40, bank.pay)]
    codes += [bank.pay().code for _ in range(160)]
    assert codes.count("2002500") == 1
    assert set(codes) <= {"2002500", "4042518", "5042500"}
    assert len(calls) == 1


def test_a_payment_under_way_is_not_begun_again(make_va, calls):
    gate = threading.Event()
    bank = make_va(pay=lambda value: gate.wait(30) and VaReceipt())
    first = Call(bank.pay)
    until(lambda: calls)
    assert bank.pay(flag="Y").code == "5042500"
    gate.set()
    assert first.value().code == "2002500"
    assert bank.pay(flag="Y").code == "2002500"
    assert len(calls) == 1


def test_the_outcome_of_a_payment_that_was_too_slow_is_kept(make_va, calls):
    gate = threading.Event()
    bank = make_va(pay=lambda value: gate.wait(30) and VaReceipt(), time_limit_secs=0.05)
    assert bank.pay().code == "5042500"
    gate.set()
    until(lambda: bank.pay(flag="Y").code == "2002500")
    assert len(calls) == 1


def test_nothing_is_paid_twice_in_a_table(make_va, tmp_path):
    """A booking with the id as its key holds where the first outcome could not be stored."""
    file = tmp_path / "payments.db"
    with sqlite3.connect(file) as table:
        table.execute("create table paid (id text primary key, value text)")
    table.close()

    def book(value):
        table = sqlite3.connect(file, timeout=30)
        try:
            with table:
                row = (value.payment_request_id, str(value.paid_amount.value))
                table.execute("insert or ignore into paid values (?, ?)", row)
        finally:
            table.close()
        return VaReceipt()

    # Two receivers that know nothing of each other, as before and after a crash.
    assert [make_va(pay=book).pay().code for _ in range(2)] == ["2002500"] * 2
    table = sqlite3.connect(file)
    assert table.execute("select count(*) from paid").fetchone() == (1,)
    table.close()


# Fields.


def wrong_fields(document, changes):
    return {name: value for name, value in {**document, **changes}.items() if value is not ...}


NUMBERS = [
    ({"partnerServiceId": ...}, "02", "partnerServiceId"),
    ({"customerNo": ""}, "02", "customerNo"),
    ({"virtualAccountNo": None}, "02", "virtualAccountNo"),
    ({"partnerServiceId": 1234}, "01", "partnerServiceId"),
    ({"partnerServiceId": " " * 8}, "01", "partnerServiceId"),
    ({"partnerServiceId": "123456789"}, "01", "partnerServiceId"),
    ({"customerNo": "1" * 21}, "01", "customerNo"),
    ({"customerNo": "1;drop"}, "01", "customerNo"),
    ({"virtualAccountNo": "    123408123456780"}, "01", "virtualAccountNo"),
    ({"virtualAccountNo": ["    123408123456789"]}, "01", "virtualAccountNo"),
]


@pytest.mark.parametrize(
    ("changes", "case", "field"),
    [
        *NUMBERS,
        ({"inquiryRequestId": ...}, "02", "inquiryRequestId"),
        ({"inquiryRequestId": "1" * 129}, "01", "inquiryRequestId"),
        ({"inquiryRequestId": "a\nb"}, "01", "inquiryRequestId"),
        ({"amount": "1.00"}, "01", "amount"),
    ],
)
def test_fields_of_an_inquiry(make_va, calls, changes, case, field):
    answer = make_va().call(wrong_fields(inquiry(), changes), INQUIRY_PATH)
    assert (answer.code, answer.message.endswith(f"[{field}]")) == (f"40024{case}", True)
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "case", "field"),
    [
        *NUMBERS,
        ({"paymentRequestId": ...}, "02", "paymentRequestId"),
        ({"paymentRequestId": 7}, "01", "paymentRequestId"),
        ({"paidAmount": ...}, "02", "paidAmount"),
        ({"paidAmount": 10000}, "01", "paidAmount"),
        ({"paidAmount": {"currency": "IDR"}}, "02", "paidAmount.value"),
        ({"paidAmount": {"value": "1.00"}}, "02", "paidAmount.currency"),
        *[
            ({"paidAmount": {"value": value, "currency": "IDR"}}, "01", "paidAmount.value")
            for value in (
                "1",
                "1.0",
                "1.000",
                "-1.00",
                "1e3",
                "NaN",
                "\u0661.00",
                "1.00\n",
                1.0,
                True,
            )
        ],
        ({"paidAmount": {"value": "1.00", "currency": "rp"}}, "01", "paidAmount.currency"),
        ({"flagAdvise": "yes"}, "01", "flagAdvise"),
        ({"flagAdvise": ["Y"]}, "01", "flagAdvise"),
    ],
)
def test_fields_of_a_payment(make_va, calls, changes, case, field):
    answer = make_va().call(wrong_fields(payment(), changes), PAYMENT_PATH)
    assert (answer.code, answer.message.endswith(f"[{field}]")) == (f"40025{case}", True)
    assert calls == []


@pytest.mark.parametrize("service", ["1234", "    1234", "12345678"])
def test_padding_is_neither_demanded_nor_trimmed(make_va, calls, service):
    document = {**payment(), "partnerServiceId": service}
    document["virtualAccountNo"] = service + document["customerNo"]
    answer = make_va().call(document, PAYMENT_PATH)
    assert answer.document["virtualAccountData"]["partnerServiceId"] == service
    assert calls[0].number == (service + "08123456789").strip()
