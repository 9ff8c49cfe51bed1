"""The records of the bank stay within bounds, and its counters stay exact."""

from __future__ import annotations

import pytest

from permata_auth.sandbox import Sandbox, ledger
from permata_auth.sandbox.ledger import Records

from .client import CALLBACK_PATH, Client, stamp


def test_records_keep_the_last_of_them():
    records = Records()
    for number in range(5):
        records.add(number, 1, max_records=3, max_bytes=100)
    assert records.all() == (2, 3, 4)
    records.add(5, 1, max_records=1, max_bytes=100)
    assert records.all() == (5,)
    records.clear()
    assert records.all() == ()


def test_records_keep_within_their_bytes_but_always_the_last():
    records = Records()
    for size in (40, 40, 40):
        records.add(size, size, max_records=10, max_bytes=100)
    assert records.all() == (40, 40)
    records.add(1000, 1000, max_records=10, max_bytes=100)
    assert records.all() == (1000,)
    records.add(100, 100, max_records=10, max_bytes=100)
    assert records.all() == (100,)
    records.clear()
    for size in (50, 50, 50):
        records.add(size, size, max_records=10, max_bytes=100)
    assert records.all() == (50, 50)


def test_the_bank_forgets_old_records_and_counts_on():
    with Sandbox(max_records=3) as bank, Client(bank) as client:
        tokens = [client.token() for _ in range(5)]
        for number in range(6):
            client.call(tokens[-1], b"%d" % number, path=CALLBACK_PATH)
        assert [request.body for request in bank.requests] == [b"3", b"4", b"5"]
        assert bank.deliveries == (b"3", b"4", b"5")
        assert len(bank.tokens_issued) == 3
        counters = client.admin("GET", "counters").json()
        assert (counters["logins"], counters["deliveries"]) == (5, 6)
        assert (bank.logins, bank.calls_by_status) == (5, {"200": 6})
        assert client.call(tokens[0]).status == 200  # it lives, however many came after it


def test_the_bank_forgets_old_bodies_by_their_bytes():
    with Sandbox(max_record_bytes=100_000) as bank, Client(bank) as client:
        token = client.token()
        for _ in range(5):
            client.call(token, b'"%s"' % (b"x" * 40_000), path=CALLBACK_PATH)
        assert len(bank.requests) == len(bank.deliveries) == 2
        assert bank.counters()["deliveries"] == 5


def test_by_default_a_busy_bank_stays_small():
    bank = Sandbox()
    assert (bank.max_records, bank.max_record_bytes) == (10_000, 16 * 2**20)


def test_dead_tokens_are_forgotten_beyond_the_bound():
    with Sandbox(max_records=2) as bank, Client(bank) as client:
        dead = [client.token() for _ in range(2)]
        bank.revoke_all_tokens()
        client.call(dead[0])
        assert bank.requests[-1].reason == "token revoked"
        alive = [client.token() for _ in range(2)]
        client.call(dead[0])
        assert bank.requests[-1].reason == "token unknown"
        assert [client.call(token).status for token in alive] == [200, 200]
        assert len(bank._tokens) == 2


def test_replays_are_looked_for_among_the_last_logins(monkeypatch):
    monkeypatch.setattr(ledger, "_MAX_PROOFS", 2)
    with Sandbox() as bank, Client(bank) as client:
        moments = [stamp(offset) for offset in range(3)]
        for at in moments:
            client.login(at=at)
        client.login(at=moments[2])
        assert bank.replays == 1
        client.login(at=moments[0])
        assert bank.replays == 1
        assert len(bank._proofs) == 2


@pytest.mark.parametrize("arguments", [{"max_records": 0}, {"max_record_bytes": 1.5}])
def test_bad_bounds_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Sandbox(**arguments)
