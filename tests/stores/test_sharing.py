from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from support.clients import ScriptedClient, credentials, token
from support.scripts import run
from support.stores import FailureSharingStore, ScriptedStore
from support.threads import Call, until

from permata_auth import (
    ConfigurationError,
    InvalidClientError,
    MemoryTokenStore,
    RequestTimeoutError,
    RetryPolicy,
    TokenStoreError,
)
from permata_auth._latch import Latch
from permata_auth.stores import _breaker, guarded

OPERATIONS = ("load", "save", "discard", "lock")
KEY = credentials().key
LOGIN = "permata-auth-login"


@pytest.fixture
def store():
    store = ScriptedStore()
    yield store
    store.heal()


@pytest.fixture
def client():
    return ScriptedClient()


@pytest.fixture
def make(make_handler, client):
    def make(store, **arguments):
        given = {"client": client, "background": False, "store_timeout_secs": 0.3}
        return make_handler(credentials(), store=store, **(given | arguments))

    return make


def records(caplog) -> list[str]:
    """List the warnings about the store, once every login has passed on its notes."""
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith(LOGIN)])
    return [
        r.getMessage()
        for r in caplog.records
        if r.name == guarded.__name__ and r.levelno >= logging.WARNING
    ]


def use(handler) -> None:
    """Go through every operation: drop the token, if there is one, and get the next."""
    handler.clear_cache()
    handler.get_token()


def store_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "permata-auth-store"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_fails_stops_nobody_and_is_reported_once(
    make, store, clock, caplog, operation
):
    handler = make(store)
    handler.get_token()
    store.failing[operation] = TokenStoreError("out of order")
    for _ in range(5):
        use(handler)
        clock.advance(10)
    assert records(caplog) == ["Token store failed, going on without it: out of order"]
    store.heal()
    use(handler)
    use(handler)
    assert records(caplog)[1:] == ["Token store is back"]
    assert store.tokens.load(KEY).value == handler.get_token()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_hangs_costs_its_time_once(make, store, client, caplog, operation):
    client.retry = RetryPolicy(timeout=2.0)  # of which nine tenths may pass in wait of the lock
    handler = make(store)
    handler.get_token()
    store.hanging.add(operation)
    began = time.monotonic()
    use(handler)
    assert time.monotonic() - began > 0.2
    for _ in range(20):
        use(handler)
    assert len(records(caplog)) == 1
    until(lambda: len(store_threads()) <= 4)
    assert store.calls.count(operation) < 10


def test_a_store_that_hangs_for_long_is_tried_now_and_then_by_a_few_threads(
    make, store, monkeypatch
):
    monkeypatch.setattr(_breaker, "_MIN_PAUSE_SECS", 0.0)
    monkeypatch.setattr(_breaker, "_MAX_PAUSE_SECS", 0.0)
    handler = make(store)
    store.hanging.add("load")
    for _ in range(10):
        handler.refresh()
        use(handler)
    until(lambda: len(store_threads()) <= 4)
    assert store.calls.count("load") <= 4
    store.heal()
    until(lambda: not store_threads())
    use(handler)
    assert store.tokens.load(KEY).value == handler.get_token()


def test_an_outage_is_left_alone_for_a_growing_while(make, store, clock, client):
    client.clock = clock
    handler = make(store)
    store.failing["load"] = TokenStoreError("out of order")
    gaps = []
    for _ in range(7):
        use(handler)
        seen, waited = len(store.calls), 0.0
        while len(store.calls) == seen:
            clock.advance(0.25)
            waited += 0.25
            use(handler)
        gaps.append(waited)
    assert gaps == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


class Broken:
    """A store that does not keep to the protocol."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        if fault == "discard has too few arguments":
            self.discard = lambda key: None

    def load(self, key):
        if self.fault == "load exits":
            raise SystemExit
        if self.fault == "load raises a generator's end":
            raise StopIteration
        return "example-text" if self.fault == "load returns text" else None

    def save(self, key, token):
        if self.fault == "save has a bug":
            raise ZeroDivisionError

    def discard(self, key, token):
        pass

    def lock(self, key):
        if self.fault == "lock returns nothing":
            return None
        if self.fault == "the lock's end fails":
            return self._ends_badly()
        return threading.Lock()

    @contextmanager
    def _ends_badly(self):
        yield
        raise KeyError("example-secret")


@pytest.mark.parametrize(
    "fault",
    [
        "load exits",
        "load raises a generator's end",
        "load returns text",
        "save has a bug",
        "discard has too few arguments",
        "lock returns nothing",
        "the lock's end fails",
    ],
)
def test_a_bug_in_a_store_stops_nobody_and_shows_nothing(make, client, caplog, fault):
    handler = make(Broken(fault))
    use(handler)
    use(handler)
    assert len(client.calls) == 2
    (message,) = records(caplog)
    assert "example" not in message


def test_without_its_fault_the_broken_store_is_sound(make, client, caplog):
    """The test above sees the fault alone."""
    handler = make(Broken("none"))
    use(handler)
    use(handler)
    assert len(client.calls) == 2
    assert records(caplog) == []


@pytest.mark.parametrize("store", [object(), "redis://cache.invalid/0", MemoryTokenStore, 5])
def test_a_store_that_is_none_is_refused_by_name(make, store):
    with pytest.raises(ConfigurationError, match="store"):
        make(store)


def test_a_token_that_another_one_stored_is_taken_without_a_login(make, store, client):
    stored = token()
    store.tokens.save(KEY, stored)
    assert make(store).get_token() == stored.value
    assert not client.calls
    assert store.calls == ["load"]  # no lock


def test_a_stored_token_is_taken_to_its_last_moment(make, store, client, clock):
    store.tokens.save(KEY, stored := token(lifetime=0.5))
    assert make(store).get_token() == stored.value
    clock.advance(0.5)
    assert make(store).get_token() == client.issued[0].value


def test_an_expired_token_in_the_store_is_not_taken(make, client):
    class Hoard(ScriptedStore):
        def load(self, key):
            return old

    old, events = token(lifetime=-1.0), []
    handler = make(Hoard(), on_event=events.append)
    assert handler.get_token() == client.issued[0].value
    until(lambda: not store_threads())
    handler.shutdown()  # which waits for the events
    assert [type(event).__name__ for event in events].count("TokenSwapped") == 1


def test_a_rejected_token_is_replaced_by_a_newer_one_in_the_store(make, store, client):
    handler = make(store)
    handler.get_token()
    newer = token()
    store.tokens.save(KEY, newer)
    use(handler)
    assert handler.get_token() == newer.value
    assert len(client.calls) == 1


def test_a_rejected_token_is_not_replaced_by_an_older_one(make, store, client):
    older = token()
    handler = make(store)
    store.failing["save"] = TokenStoreError("read only")
    handler.get_token()
    store.tokens.save(KEY, older)
    use(handler)
    assert handler.get_token() not in (older.value, client.issued[0].value)


def test_a_rejected_token_is_not_taken_again_from_a_store_that_kept_it(make, client):
    class Stubborn(ScriptedStore):
        def discard(self, key, token):
            pass

    handler = make(Stubborn())
    use(handler)
    use(handler)
    assert handler.get_token() == client.issued[1].value


def test_a_token_that_was_rejected_is_not_taken_again_as_a_newer_one(make, store, client):
    """As from a bank that hands out one token until it dies, to another process this time."""
    handler = make(store)
    for _ in range(2):
        used = handler.get_access_token()
        handler.note_response(used.value, 200)  # it is replaced at once, then
        handler.invalidate(used)
    store.tokens.save(KEY, token(value=client.issued[0].value))
    assert handler.get_token() == client.issued[2].value


def test_a_token_that_is_dropped_for_a_newer_one_is_replaced_in_the_same_instant(
    make, store, client, clock
):
    handler = make(store)
    for _ in range(2):  # from the second one on, a pause lets no login start
        handler.invalidate(handler.get_token())
    assert handler.info().next_login_at is not None
    for _ in range(3):
        store.tokens.save(KEY, newer := token())
        handler.invalidate()
        assert handler.get_token() == newer.value
    assert len(client.calls) == 2


def test_a_forced_refresh_looks_for_nothing(make, store, client):
    handler = make(store)
    store.tokens.save(KEY, token())
    assert handler.refresh() is client.issued[0]
    assert store.tokens.load(KEY) is client.issued[0]


def test_who_waits_for_the_lock_takes_the_token_of_its_holder(make, store, client):
    one, two = make(store), make(store)
    with client.hold_next() as hold:
        first = Call(one.get_token)
        hold.wait_arrived()
        second = Call(two.get_token)
        until(lambda: store.calls.count("lock") == 2)
    assert first.value() == second.value()
    assert len(client.calls) == 1


def test_who_waits_for_a_lock_does_not_need_it_once_the_token_is_there(make, store):
    with store.tokens.lock(KEY):  # by a process that is stopped before it can release it
        call = Call(make(store).get_token)
        until(lambda: "lock" in store.calls)
        stored = token()
        store.tokens.save(KEY, stored)
        assert call.value(5) == stored.value
    until(lambda: not store_threads())
    with store.tokens.lock(KEY):  # which nobody has taken meanwhile and kept
        pass


def test_a_lock_that_is_never_free_is_waited_for_in_part_of_the_login_s_time(
    make, store, client, caplog
):
    client.retry = RetryPolicy(timeout=5.0)
    handler = make(store)
    with store.tokens.lock(KEY):
        began = time.monotonic()
        handler.get_token()
        assert time.monotonic() - began > 4.5
        use(handler)
        assert records(caplog) == [
            "Token store failed, going on without it: its lock was not free for 4.7 seconds"
        ]
    until(lambda: not store_threads())


def test_a_lock_that_comes_late_is_not_kept(make, store, client):
    client.retry = RetryPolicy(timeout=0.1)
    store.hanging.add("lock")
    handler = make(store)
    handler.get_token()
    store.heal()
    until(lambda: not store_threads())
    with store.tokens.lock(KEY):
        pass


def test_without_the_lock_an_older_token_does_not_replace_a_newer_one(make, store, client, clock):
    client.clock = clock
    store.failing["lock"] = TokenStoreError("out of order")
    handler = make(store, store_timeout_secs=5)
    with client.hold_next() as hold:
        client.outcomes.append(overtaken := token())
        call = Call(handler.get_token)
        hold.wait_arrived()
        clock.advance(1.0)  # past the circuit breaker's pause
        newer = token()
        store.tokens.save(KEY, newer)
    assert call.value() == overtaken.value
    assert store.calls == ["load", "lock", "load"]
    assert store.tokens.load(KEY) is newer


@pytest.fixture
def started(monkeypatch):
    """List the names of the product's threads that start."""
    names: list[str] = []
    start = threading.Thread.start

    def note(thread):
        if thread.name.startswith("permata-auth-"):
            names.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    return names


def test_a_cold_login_costs_two_threads_two_loads_one_lock_and_one_save(make, store, started):
    make(store).get_token()
    until(lambda: not store_threads())
    assert store.calls == ["load", "lock", "load", "save", "release"]
    assert started == [f"{LOGIN}-bank.invalid", "permata-auth-store"]
    assert len(set(store.threads)) == 1


def test_a_store_of_failures_is_asked_for_them_on_the_same_two_threads(make, started):
    store = FailureSharingStore()
    make(store).get_token()
    until(lambda: not store_threads())
    looks = ["load", "load_failure"]
    assert store.calls == [*looks, "lock", *looks, "save", "release"]
    assert started == [f"{LOGIN}-bank.invalid", "permata-auth-store"]


def test_a_login_in_most_of_its_budget_is_the_only_one_of_the_fleet(make, store, client, clock):
    def outcome():
        Latch().wait(16.0)
        return 900.0

    client.retry = RetryPolicy(timeout=20.0)
    client.outcomes.append(outcome)
    calls = [Call(make(store).get_token) for _ in range(6)]
    until(lambda: store.calls.count("lock") == 6)
    clock.advance(17.0)
    assert {call.value() for call in calls} == {client.issued[0].value}
    assert len(client.calls) == 1


def test_a_login_that_hangs_keeps_the_others_out_for_no_longer_than_its_budget(
    make, store, client, clock
):
    client.clock, client.retry = clock, RetryPolicy(timeout=20.0)
    handlers = [make(store) for _ in range(2)]
    with client.hold_next() as hold:
        stuck = Call(handlers[0].get_token)
        hold.wait_arrived()
        waiting = Call(handlers[1].get_token)
        until(lambda: store.calls.count("lock") == 2)
        clock.advance(20.0)  # the share of the budget that may pass in the queue is over by now
        assert waiting.value() == client.issued[0].value
        clock.advance(1.0)
        assert isinstance(stuck.join().error, RequestTimeoutError)

        def enter():
            with store.tokens.lock(KEY):
                return True

        assert Call(enter).value()


@pytest.mark.parametrize("is_abandoned", [True, False])
def test_a_login_that_fails_past_its_budget_holds_nobody_else_up(make, client, clock, is_abandoned):
    client.clock, client.retry = clock, RetryPolicy(timeout=20.0)
    client.outcomes.append(InvalidClientError("refused"))
    store = FailureSharingStore()
    handler = make(store)
    with client.hold_next() as hold:
        # The flight is abandoned by the caller that is there to see its budget end, if any is.
        stuck = Call(handler.get_token, None if is_abandoned else 1.0)
        hold.wait_arrived()
        if not is_abandoned:
            clock.advance(2.0)
            assert isinstance(stuck.join().error, RequestTimeoutError)
        clock.advance(21.0)
    stuck.join()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith(LOGIN)])
    assert "save_failure" not in store.calls
    assert make(store).get_token() == client.issued[0].value


def test_a_worker_with_other_secrets_shares_the_token_of_the_same_client(
    make_handler, make, store, client
):
    rotated = make_handler(
        credentials(client_secret="example-mended"), client=client, store=store, background=False
    )
    assert rotated.get_token() == make(store).get_token()
    assert len(client.calls) == 1


def test_a_store_too_slow_in_all_is_out_too(make, store, caplog):
    class Slow(ScriptedStore):
        def _come(self, operation):
            super()._come(operation)
            time.sleep(0.12)

    handler = make(Slow())
    handler.get_token()
    assert len(records(caplog)) == 1


def test_without_a_store_there_is_no_thread_for_one(make, client, monkeypatch):
    monkeypatch.setattr(guarded, "start_daemon", None)
    handler = make(None)
    use(handler)
    use(handler)
    assert len(client.calls) == 2


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_nonsensical_timeout_is_a_configuration_error(make, store, value):
    with pytest.raises(ConfigurationError, match="store_timeout_secs"):
        make(store, store_timeout_secs=value)


def test_a_store_that_hangs_does_not_delay_the_end_of_a_script():
    ended = run(
        """
        import threading
        from permata_auth import LoginHandler
        from support.clients import ScriptedClient, credentials

        class Hanging:
            def load(self, key):
                threading.Event().wait()
            save = discard = lock = load

        LoginHandler(
            credentials(), client=ScriptedClient(), store=Hanging(), store_timeout_secs=0.2
        ).get_token()
        """
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.seconds < 10


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_child_of_a_process_whose_store_hangs_starts_afresh():
    ended = run(
        """
        import os, threading, warnings
        from permata_auth import LoginHandler, MemoryTokenStore
        from support.clients import ScriptedClient, credentials

        parent = os.getpid()

        class Hanging:
            tokens = MemoryTokenStore()
            def load(self, key):
                if os.getpid() == parent:
                    threading.Event().wait()
                return self.tokens.load(key)
            def save(self, key, token):
                self.tokens.save(key, token)
            def lock(self, key):
                return self.tokens.lock(key)
            def discard(self, key, token):
                self.tokens.discard(key, token)

        handler = LoginHandler(
            credentials(), client=ScriptedClient(), store=Hanging(), store_timeout_secs=0.2
        )
        handler.get_token()
        warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside a thread
        child = os.fork()
        if child == 0:
            handler.invalidate()
            token = handler.get_token()
            assert Hanging.tokens.load(credentials().key).value == token
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        """,
    )
    assert (ended.status, ended.err) == (0, "")


class _Delegating:
    """A store that delegates by ``__getattr__``, which fails as its operations do."""

    def __init__(self, store):
        self.store, self.is_out = store, False

    def __getattr__(self, name):
        if self.is_out:
            raise TokenStoreError("out of order")
        return getattr(self.store, name)

    def load(self, key):
        return self.__getattr__("load")(key)

    def save(self, key, token):
        self.__getattr__("save")(key, token)

    def discard(self, key, token):
        self.__getattr__("discard")(key, token)

    def lock(self, key):
        return self.__getattr__("lock")(key)


def test_a_store_that_cannot_tell_what_it_has_is_one_that_fails(make_handler, client):
    store = _Delegating(MemoryTokenStore())
    handler = make_handler(credentials(), client=client, store=store)
    first = handler.get_token()
    store.is_out = True
    handler.invalidate()
    assert handler.get_token() != first
    handler.refresh()
