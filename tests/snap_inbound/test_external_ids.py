from __future__ import annotations

import itertools
import threading
from datetime import datetime, timedelta

import pytest
import redis
from support.inbound import WIB, new_id
from support.redis_server import RedisServer, servers
from support.scripts import Script
from support.threads import Call, together, until

from permata_auth import ConfigurationError, TokenStoreError
from permata_auth.snap_inbound import ExternalIds, MemoryExternalIds, RedisExternalIds, SnapRefusal

_HOURS_48 = 48 * 3600


@pytest.fixture(scope="module")
def server():
    found = servers()
    if not found:
        pytest.skip("no Redis or Valkey server program")
    server = RedisServer(next(iter(found.values()))).come_up()
    yield server
    server.close()


@pytest.fixture
def redis_client(server):
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(params=["memory", "redis"])
def ids(request):
    if request.param == "memory":
        return MemoryExternalIds()
    return RedisExternalIds(request.getfixturevalue("redis_client"))


# The contract of both.


def test_an_id_is_added_once(ids):
    assert isinstance(ids, ExternalIds)
    assert ids.add("a", 60) is True
    assert ids.add("a", 60) is False
    assert ids.add("b", 60) is True
    ids.release("a")
    ids.release("never added")
    assert ids.add("a", 60) is True


def test_values_are_kept(ids):
    assert ids.load("a") is None
    ids.save("a", b'{"x":1}', 60)
    ids.save("a", b'{"x":2}', 60)
    assert ids.load("a") == b'{"x":2}'
    ids.release("a")
    assert ids.load("a") is None


def test_one_of_many_threads_adds(ids):
    for key in ("a", "b", "c"):
        added = [call.value() for call in together(32, lambda key=key: ids.add(key, 60))]
        assert added.count(True) == 1


def test_an_id_that_is_gone_is_not_kept(ids):
    ids.keep("a", 60)
    assert ids.add("a", 60) is True


def test_memory_forgets_in_time(clock):
    ids = MemoryExternalIds()
    ids.add("a", 10)
    ids.add("b", 10)
    clock.advance(9)
    ids.keep("a", 10)
    assert ids.add("a", 10) is False
    clock.advance(1)
    assert ids.add("b", 10) is True
    assert ids.add("a", 10) is False
    clock.advance(9)
    assert ids.add("a", 10) is True


def test_memory_does_not_grow_with_what_is_over(clock):
    ids = MemoryExternalIds()
    for number in range(50_000):
        ids.add(str(number), 10)
        clock._now += 0.1
    assert len(ids._entries) < 2_500


def test_redis_forgets_in_time(redis_client):
    ids = RedisExternalIds(redis_client, prefix="p:")
    ids.add("a", 10)
    ids.save("b", b"x", 10)
    assert {0 < redis_client.pttl(name) <= 10_000 for name in ("p:a", "p:b")} == {True}
    ids.keep("a", 100)
    assert 10_000 < redis_client.pttl("p:a") <= 100_000


def test_values_of_a_client_that_decodes_are_bytes(server, redis_client):
    with server.client(decode_responses=True) as client:
        ids = RedisExternalIds(client)
        ids.save("a", b"x", 10)
        assert ids.load("a") == b"x"


@pytest.mark.parametrize("wrong", [None, 1, RedisExternalIds, "http://x", redis.Redis])
def test_redis_needs_a_client(wrong):
    with pytest.raises(ConfigurationError):
        RedisExternalIds(wrong)


# Of a receiver.


@pytest.fixture
def bank(make_bank, ids):
    return make_bank(external_ids=ids)


def test_an_id_is_served_once(bank, calls):
    headers = bank.headers()
    answers = [bank.call(headers=headers) for _ in range(3)]
    assert [each.code for each in answers] == ["2005200", "4095200", "4095200"]
    assert answers[1].message == "Conflict"
    assert len(calls) == 1


def test_an_id_is_kept_for_48_hours(make_bank, redis_client):
    bank = make_bank(external_ids=RedisExternalIds(redis_client))
    bank.call()
    (name,) = redis_client.keys()
    assert _HOURS_48 - 60 < redis_client.ttl(name) <= _HOURS_48


def test_strangers_burn_no_id(bank, calls):
    headers = bank.headers()
    assert bank.call(headers={**headers, "X-SIGNATURE": "AAAA"}).code == "4015200"
    assert bank.call(headers={**headers, "Authorization": "Bearer x"}).code == "4015201"
    assert bank.call(headers=headers).code == "2005200"


def test_a_replay_over_midnight_is_refused(make_bank, calls, clock):
    midnight = datetime.fromtimestamp(clock.wall(), WIB).replace(hour=0, minute=0, second=0)
    clock.step_wall((midnight + timedelta(days=1, seconds=-10)).timestamp() - clock.wall())
    bank = make_bank()
    headers = bank.headers()
    assert bank.call(headers=headers).code == "2005200"
    clock.advance(20)
    assert bank.call(headers=headers).code == "4095200"
    # The day of the signed timestamp counts: on the new day the id is new.
    assert bank.call(**{"X-EXTERNAL-ID": headers["X-EXTERNAL-ID"]}).code == "2005200"
    assert len(calls) == 2


def test_services_have_ids_of_their_own(bank):
    bank.receiver.on("/debit/notify", 56, lambda call: {})
    same = {"X-EXTERNAL-ID": new_id()}
    assert bank.call(**same).code == "2005200"
    assert bank.call(path="/v1.0/debit/notify", **same).code == "2005600"


@pytest.mark.parametrize("http_status", [404, 403, 409, 500, 504])
def test_an_answer_of_500_and_more_frees_the_id(make_bank, ids, http_status):
    def refuse(call):
        raise SnapRefusal("00", "No", http_status=http_status)

    bank = make_bank(refuse, external_ids=ids)
    headers = bank.headers()
    assert bank.call(headers=headers).http_status == http_status
    again = bank.call(headers=headers)
    assert again.code == (f"{http_status}5200" if http_status >= 500 else "4095200")


def test_32_threads_send_one_id_200_times(make_bank, ids, calls):
    bank = make_bank(external_ids=ids)
    headers = bank.headers()
    count = itertools.count()
    codes = []

    def send():
        while next(count) < 200:
            codes.append(bank.call(headers=headers).code)

    for call in together(32, send):
        call.value()
    assert sorted(codes) == ["2005200"] + ["4095200"] * 199
    assert len(calls) == 1


@pytest.mark.long
def test_10_000_distinct_ids_are_all_served(make_bank, calls):
    bank = make_bank()
    bank.token  # noqa: B018
    count = itertools.count()
    codes = set()

    def send():
        while next(count) < 10_000:
            codes.add(bank.call().code)

    for call in together(8, send):
        call.value()
    assert codes == {"2005200"}
    assert len({call.external_id for call in calls}) == 10_000


# The option "replay".


def test_a_repeated_call_gets_the_first_answer_again(make_bank, ids, calls):
    bank = make_bank(lambda call: {"n": len(calls)}, external_ids=ids, duplicates="replay")
    headers = bank.headers()
    first = bank.call(headers=headers)
    again = bank.call(headers=headers)
    assert (again.code, again.document) == (first.code, {**first.document, "n": 1})
    assert len(calls) == 1
    other = {**headers, **bank.headers(b'{"a":1}')} | {"X-EXTERNAL-ID": headers["X-EXTERNAL-ID"]}
    assert bank.call(b'{"a":1}', headers=other).code == "4095200"


def test_a_call_is_not_repeated_before_its_end(make_bank, ids, calls):
    gate = threading.Event()
    bank = make_bank(lambda call: gate.wait(30) and {}, external_ids=ids, duplicates="replay")
    headers = bank.headers()
    first = Call(lambda: bank.call(headers=headers))
    until(lambda: calls)
    assert bank.call(headers=headers).code == "4095200"
    gate.set()
    assert first.value().code == "2005200"


# Outages.


class Broken:
    """Ids that fail when they are told to."""

    def __init__(self):
        self.is_down = False
        self._ids = MemoryExternalIds()

    def add(self, key, seconds):
        if self.is_down:
            raise TokenStoreError("down")
        return self._ids.add(key, seconds)

    def release(self, key):
        if self.is_down:
            raise TokenStoreError("down")
        self._ids.release(key)


def test_ids_that_cannot_be_stored_are_refused_and_logged_once(make_bank, calls, caplog):
    ids = Broken()
    bank = make_bank(external_ids=ids)
    headers = bank.headers()
    for _ in range(2):
        ids.is_down = True
        for _ in range(3):
            answer = bank.call(headers=headers)
            assert (answer.code, answer.message) == ("5005202", "External Server Error")
        assert calls == []
        ids.is_down = False
        assert bank.call().code == "2005200"
        calls.clear()
    assert bank.call(headers=headers).code == "2005200"
    texts = [r.getMessage() for r in caplog.records if r.name.endswith("ledger")]
    assert [text.partition(",")[0] for text in texts] == [
        "External ids cannot be stored",
        "External ids can be stored again",
    ] * 2


def test_redis_that_is_down_refuses_and_comes_back(make_bank, calls, caplog, server):
    own = RedisServer(next(iter(servers().values()))).come_up()
    try:
        bank = make_bank(external_ids=RedisExternalIds(own.url))
        headers = bank.headers()
        assert bank.call().code == "2005200"
        own.go_down()
        assert {bank.call(headers=headers).code for _ in range(3)} == {"5005202"}
        own.come_up()
        assert bank.call(headers=headers).code == "2005200"
        assert len(calls) == 2
        assert len([r for r in caplog.records if "cannot be stored" in r.getMessage()]) == 1
    finally:
        own.close()


# Several processes.

WORKER = """
    import sys
    from support.inbound import NOTIFY_PATH, Caller, receiver
    from permata_auth.snap_inbound import RedisExternalIds

    url, external_id, body, what = sys.argv[1:5]
    made = receiver(external_ids=RedisExternalIds(url), time_limit_secs=0.1)

    def function(call):
        print("called", flush=True)
        if what == "hang":
            sys.stdin.read()
        return {}

    made.on(NOTIFY_PATH.removeprefix("/v1.0"), 52, function)
    bank = Caller(made)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, "end\\n"):
        headers = bank.headers(body.encode(), **{"X-EXTERNAL-ID": external_id})
        print(bank.call(body.encode(), headers=headers).code, flush=True)
"""


def test_four_processes_serve_one_id_once(server, redis_client):
    workers = [Script(WORKER, server.url, "1", "{}", "serve") for _ in range(4)]
    lines = []
    try:
        for worker in workers:
            assert worker.line() == "ready"
        for worker in workers:
            worker.process.stdin.write("go\n" * 50)
            worker.process.stdin.write("end\n")
            worker.process.stdin.flush()
        for worker in workers:
            lines += worker.end().out.split()
    finally:
        for worker in workers:
            worker.__exit__()
    assert lines.count("called") == 1
    assert lines.count("2005200") == 1
    assert lines.count("4095200") == 199


def test_the_id_of_a_killed_worker_is_free_after_its_release_time(
    server, redis_client, make_bank, calls
):
    with Script(WORKER, server.url, "1", "{}", "hang") as worker:
        assert worker.line() == "ready"
        worker.process.stdin.write("go\n")
        worker.process.stdin.flush()
        assert worker.line() == "called"
        worker.process.kill()
        worker.process.wait(10)
    bank = make_bank(external_ids=RedisExternalIds(server.url), time_limit_secs=5)
    same = {"X-EXTERNAL-ID": "1"}
    assert bank.call(**same).code == "4095200"
    (name,) = redis_client.keys()
    assert redis_client.pttl(name) <= 5_100  # its time limit, and the margin
    redis_client.pexpire(name, 1)
    until(lambda: not redis_client.exists(name))
    assert bank.call(**same).code == "2005200"
    assert bank.call(**same).code == "4095200"
    assert len(calls) == 1
