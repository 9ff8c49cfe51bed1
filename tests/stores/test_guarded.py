"""A store behind its circuit breaker: cost, errors, threads and locks of its sessions."""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import suppress

import pytest
from support.clients import token
from support.stores import FailureSharingStore, ScriptedStore
from support.threads import Call, until

from permata_auth import TokenStoreError, _clock, _process
from permata_auth._latch import Latch
from permata_auth._pace import Pace
from permata_auth.stores import guarded
from permata_auth.stores._breaker import CircuitBreaker, StoreOutError
from permata_auth.stores.failures import StoredFailure
from permata_auth.stores.guarded import GuardedStore

KEY = "example-key"
TIMEOUT = 4.0
MAX_HOLD = 20.0
CALLER = "permata-auth-caller"


@pytest.fixture
def store(clock):
    store = ScriptedStore(clock=clock)
    yield store
    store.heal()


@pytest.fixture
def guard(store) -> GuardedStore:
    return GuardedStore(store, KEY, timeout=TIMEOUT, max_hold=MAX_HOLD)


@pytest.fixture
def breaker(clock):
    return CircuitBreaker()


def store_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "permata-auth-store"]


def reports(caplog) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == guarded.__name__]


def is_free(store) -> bool:
    def enter():
        with store.tokens.lock(KEY):
            return True

    return Call(enter).value()


@pytest.fixture
def begin(clock):
    """Call a function on a thread for which the clock waits, too, and return when that waits."""

    def begin(function) -> Call:
        def run():
            threading.current_thread().name = CALLER
            return function()

        call = Call(run)
        until(lambda: call.is_done or CALLER in clock.sleepers)
        clock.settle()
        return call

    return begin


def finds_nothing(session) -> bool:
    return False


# The circuit breaker


def fail(breaker: CircuitBreaker, operation: str = "load", error: BaseException | None = None):
    with pytest.raises(StoreOutError):
        breaker.fail(operation, error or TokenStoreError("example"), _clock.now())


def is_open(breaker: CircuitBreaker) -> bool:
    try:
        breaker.check()
    except StoreOutError:
        return True
    return False


def test_a_new_breaker_lets_everything_through(breaker):
    assert not is_open(breaker)
    assert breaker.failing is None


def test_the_pause_doubles_from_half_a_second_to_eight(breaker, clock):
    for secs in [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]:
        fail(breaker)
        clock.advance(secs - 0.01)
        assert is_open(breaker)
        clock.advance(0.01)
        assert not is_open(breaker)


def test_an_outage_ends_with_a_success_of_the_operation_that_failed_first(breaker, caplog):
    fail(breaker, "save")
    fail(breaker, "load")
    breaker.succeed("load")
    assert breaker.failing == "save"
    assert is_open(breaker)
    breaker.succeed("save")
    assert breaker.failing is None
    assert not is_open(breaker)
    breaker.succeed("save")
    assert reports(caplog) == [
        "Token store failed, going on without it: example",
        "Token store is back",
    ]


@pytest.mark.parametrize("operation", ["discard", "save_failure"])
def test_an_outage_of_an_operation_that_is_rare_ends_with_a_save(breaker, clock, operation):
    """The next one may be hours away."""
    fail(breaker, operation)
    breaker.succeed("load")
    breaker.succeed("lock")
    assert breaker.failing == operation
    breaker.succeed("save")
    assert breaker.failing is None
    assert not is_open(breaker)


@pytest.mark.parametrize("operation", ["discard", "save_failure", "load", "load_failure"])
def test_an_outage_of_saving_ends_with_nothing_less(breaker, operation):
    """A server without memory left removes things, and stores none."""
    fail(breaker, "save")
    breaker.succeed(operation)
    assert breaker.failing == "save"


@pytest.mark.parametrize("operation", ["load", "lock", "load_failure", "save"])
def test_a_save_ends_no_outage_of_another_kind(breaker, operation):
    fail(breaker, operation)
    breaker.succeed("save")
    assert (breaker.failing is None) is (operation == "save")


def test_operations_that_fail_at_once_are_one_failure(breaker, clock):
    """Of several threads, whose operations were on their way when the first one failed."""
    for secs in [0.5, 1.0, 2.0]:
        began = clock.now()
        clock.advance(0.1)
        for _ in range(8):
            with pytest.raises(StoreOutError):
                breaker.fail("load", TokenStoreError("example"), began)
        clock.advance(secs - 0.01)
        assert is_open(breaker)
        clock.advance(0.01)
        assert not is_open(breaker)


def test_an_operation_that_fails_late_opens_the_breaker_though_the_pause_is_as_it_was(
    breaker, clock
):
    began = clock.now()
    fail(breaker)
    clock.advance(30.0)
    with pytest.raises(StoreOutError):
        breaker.fail("lock", TokenStoreError("example"), began)
    clock.advance(0.49)
    assert is_open(breaker)
    clock.advance(0.01)
    assert not is_open(breaker)


def test_threads_whose_store_hangs_make_one_pause(guard, store, clock, begin):
    store.hanging.add("load")

    def load():
        with guard.session() as session, suppress(StoreOutError):
            session.load()

    calls = [begin(load) for _ in range(3)]
    until(lambda: clock.sleepers.count(CALLER) == 3)
    clock.advance(TIMEOUT)
    for call in calls:
        call.value()
    clock.advance(0.49)
    assert is_open(guard._breaker.get())
    clock.advance(0.01)
    assert not is_open(guard._breaker.get())
    store.heal()


def test_after_an_outage_the_pauses_begin_anew(breaker, clock):
    for _ in range(5):
        fail(breaker)
        clock.advance(8.0)
    breaker.succeed("load")
    fail(breaker)
    clock.advance(0.5)
    assert not is_open(breaker)


def test_a_foreign_error_is_reported_by_its_class_alone(breaker, caplog):
    fail(breaker, error=KeyError("example-secret"))
    assert reports(caplog) == ["Token store failed, going on without it: KeyError"]


class Thread:
    """Stands in for a worker that was left behind."""

    def __init__(self, on_look=lambda: None) -> None:
        self.ended = self
        self.has_ended = False
        self.is_closed = False
        self._on_look = on_look

    def is_set(self) -> bool:
        self._on_look()
        return self.has_ended

    def close(self) -> None:
        self.is_closed = True


def test_four_threads_left_behind_are_all_until_one_of_them_ends(breaker):
    threads = [Thread() for _ in range(4)]
    for thread in threads:
        assert not is_open(breaker)
        breaker.abandon(thread)
        assert thread.is_closed
    assert is_open(breaker)
    threads[2].has_ended = True
    assert not is_open(breaker)
    breaker.abandon(Thread())
    assert is_open(breaker)


def test_a_thread_that_is_left_behind_while_others_are_counted_counts_too(breaker):
    """Another caller's thread may do that in the middle of the count."""
    extra = [Thread() for _ in range(3)]
    ended = Thread(on_look=lambda: extra and breaker.abandon(extra.pop()))
    ended.has_ended = True
    breaker.abandon(ended)
    breaker.check()
    assert len(extra) == 2
    for _ in range(3):
        breaker.abandon(Thread())
    assert is_open(breaker)


def test_a_forked_child_starts_with_a_closed_breaker(guard, store):
    store.fail("load")
    with guard.session() as session, pytest.raises(StoreOutError):
        session.load()
    with guard.session() as session, pytest.raises(StoreOutError):
        session.load()
    assert store.calls == ["load"]
    store.heal()
    _process._in_child()
    with guard.session() as session:
        assert session.load() is None


# A session's operations


def test_a_session_that_asks_nothing_starts_no_thread(guard, monkeypatch):
    monkeypatch.setattr(guarded, "start_daemon", None)
    with guard.session() as session:
        assert not session.has_lock


def test_all_operations_of_a_session_run_on_one_thread_which_ends(guard, store):
    saved = token()
    with guard.session() as session:
        assert session.load() is None
        assert session.lock(1.0, finds_nothing)
        session.save(saved)
        assert session.load() is saved
        session.discard(saved)
        assert session.load() is None
    assert store.calls == ["load", "lock", "save", "load", "discard", "load", "release"]
    assert len(set(store.threads)) == 1
    assert threading.current_thread() not in store.threads
    until(lambda: not store_threads())


@pytest.mark.parametrize(
    "error",
    [TokenStoreError("x"), KeyError("x"), SystemExit(), KeyboardInterrupt(), StopIteration()],
    ids=repr,
)
def test_an_operation_that_raises_is_an_outage_and_nothing_else(guard, store, clock, error):
    store.failing["load"] = error
    with guard.session() as session:
        with pytest.raises(StoreOutError) as caught:
            session.load()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        clock.advance(1.0)
        store.heal()
        assert session.load() is None, "its thread lives"
    assert error.__traceback__ is None, "it holds no frames, nor what they hold"


def test_what_is_no_token_is_an_outage(guard, store, caplog):
    store.tokens.load = lambda key: "example-text"
    with guard.session() as session, pytest.raises(StoreOutError):
        session.load()
    assert reports(caplog) == ["Token store failed, going on without it: TypeError"]


def test_no_thread_is_an_outage(guard, monkeypatch, caplog):
    def refuse(function, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(guarded, "start_daemon", refuse)
    with guard.session() as session, pytest.raises(StoreOutError):
        session.load()
    with guard.session() as session, pytest.raises(StoreOutError):
        session.lock(1.0, finds_nothing)
    assert reports(caplog) == ["Token store failed, going on without it: RuntimeError"]


def test_a_store_without_failures_is_not_asked_for_any(guard, store):
    with guard.session() as session:
        assert session.load_failure() is None
        session.save_failure(None)
    assert store.calls == []


def test_failures_are_kept_under_the_key_and_what_is_put_behind_it(clock):
    store = FailureSharingStore(clock=clock)
    pause = Pace(5.0).after_rejection("fingerprint")
    failure = StoredFailure.of(pause, "proof")
    with GuardedStore(store, KEY, timeout=TIMEOUT, max_hold=MAX_HOLD).session() as session:
        session.save_failure(failure, ":kind")
        assert session.load_failure(":kind").rejected == "fingerprint"
        assert session.load_failure() is None
        assert store.tokens.load_failure(f"{KEY}:kind") is not None
        session.save_failure(None, ":kind")
        assert session.load_failure(":kind") is None


@pytest.mark.parametrize("found", ["a text", 5, token(), object()], ids=lambda x: type(x).__name__)
def test_what_is_no_failure_is_none(clock, found):
    store = FailureSharingStore(clock=clock)
    store.tokens.load_failure = lambda key: found
    with GuardedStore(store, KEY, timeout=TIMEOUT, max_hold=MAX_HOLD).session() as session:
        assert session.load_failure() is None


def test_an_operation_that_hangs_ends_in_time_and_its_thread_is_left_behind(
    guard, store, clock, caplog, begin
):
    store.hanging.add("load")

    def load():
        with guard.session() as session:
            session.load()

    call = begin(load)
    clock.advance(TIMEOUT - 0.1)
    assert not call.is_done
    clock.advance(0.1)
    assert isinstance(call.join().error, StoreOutError)
    assert reports(caplog) == [
        "Token store failed, going on without it: no response within 4.0 seconds"
    ]
    assert len(store_threads()) == 1
    store.heal()
    until(lambda: not store_threads())


def test_the_threads_of_closed_sessions_that_hang_are_counted(guard, store, clock, begin):
    store.hanging.add("load")

    def load():
        with guard.session() as session, suppress(StoreOutError):
            session.load()

    for _ in range(4):
        assert not is_open(guard._breaker.get())
        call = begin(load)
        clock.advance(TIMEOUT)
        call.value()
        clock.advance(8.0)
    assert is_open(guard._breaker.get()), "four are all that may be left behind"
    store.heal()
    until(lambda: not is_open(guard._breaker.get()))


def test_a_look_at_the_store_has_the_rest_of_the_session_s_time(guard, store, clock, begin):
    load = store.tokens.load
    store.tokens.load = lambda key: Latch().wait(3.0) or load(key)

    def work():
        with guard.session() as session:
            session.load()
            store.tokens.load = load
            store.hanging.add("load")
            session.lock(20.0, lambda other: other.load() is not None)

    with store.tokens.lock(KEY):
        call = begin(work)
        clock.advance(3.0 + 0.05 + 0.9)
        assert not call.is_done
        clock.advance(0.1)
        assert isinstance(call.join().error, StoreOutError)
    store.heal()


def test_all_operations_of_a_session_share_its_time(guard, store, clock, begin):
    """Three seconds for the first leave one for the second."""
    load = store.tokens.load
    store.tokens.load = lambda key: Latch().wait(3.0) or load(key)
    store.hanging.add("save")

    def work():
        with guard.session() as session:
            session.load()
            session.save(token())

    call = begin(work)
    clock.advance(3.9)
    assert store.calls == ["load", "save"]
    assert not call.is_done
    clock.advance(0.1)
    assert isinstance(call.join().error, StoreOutError)


# The lock


def test_the_lock_is_kept_to_the_end_of_the_session(guard, store):
    with guard.session() as session:
        assert not session.has_lock
        assert session.lock(1.0, finds_nothing)
        assert session.has_lock
        holder = Call(is_free, store)
        until(store.tokens._holders.get)
        assert not holder.is_done
    assert not session.has_lock
    assert holder.value()
    assert store.calls == ["lock", "release"]


def test_the_lock_is_released_when_the_session_s_caller_raises(guard, store):
    def work():
        with guard.session() as session:
            session.lock(1.0, finds_nothing)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert is_free(store)


def test_the_lock_is_free_by_the_time_a_session_is_closed(guard, store):
    for _ in range(50):
        with guard.session() as session:
            session.lock(1.0, finds_nothing)
        assert not store.tokens._holders.get()


def test_a_lock_is_kept_for_so_long_and_no_longer_though_the_session_goes_on(guard, store, clock):
    with guard.session() as session:
        session.lock(1.0, finds_nothing)
        clock.advance(MAX_HOLD - 0.1)
        assert session.has_lock
        clock.advance(0.1)
        assert not session.has_lock
        assert is_free(store)
        session.save(saved := token())
        assert not session.has_lock
    assert store.tokens.load(KEY) is saved


def test_a_look_that_finds_something_makes_the_lock_needless(guard, store, clock, begin):
    outcomes = []

    def wait():
        with guard.session() as session:
            outcomes.append(session.lock(10.0, lambda other: other.load() is not None))
            outcomes.append(session.has_lock)

    with store.tokens.lock(KEY):
        call = begin(wait)
        clock.advance(5.0)
        assert not call.is_done
        store.tokens.save(KEY, token())
        clock.advance(0.25)
        call.value()
        assert outcomes == [False, False]
    until(lambda: not store_threads())
    assert is_free(store)


def test_looks_are_a_quarter_of_a_second_apart_at_the_most(guard, store, clock, begin):
    looks = []

    def look(session):
        looks.append(clock.now())
        return False

    def wait():
        with guard.session() as session:
            session.lock(2.0, look)

    with store.tokens.lock(KEY):
        began = clock.now()
        call = begin(wait)
        clock.advance(2.0)
        assert isinstance(call.join().error, StoreOutError)
    moments = [round(moment - began, 3) for moment in looks]
    assert moments[:4] == [0.05, 0.15, 0.35, 0.6]
    assert max(b - a for a, b in itertools.pairwise(moments)) < 0.26


def test_a_look_at_a_store_that_fails_ends_the_wait(guard, store, clock, begin):
    store.fail("load")

    def wait():
        with guard.session() as session:
            session.lock(10.0, lambda other: other.load() is not None)

    with store.tokens.lock(KEY):
        call = begin(wait)
        clock.advance(0.05)
        assert isinstance(call.join().error, StoreOutError)
    until(lambda: not store_threads())


@pytest.mark.parametrize("operation", ["lock", "save"])
def test_in_an_outage_of_the_lock_or_of_saving_it_is_waited_for_in_a_tenth_of_the_time(
    guard, store, clock, operation, begin
):
    store.fail(operation)
    with guard.session() as session, pytest.raises(StoreOutError):
        getattr(session, operation)(*{"lock": (1.0, finds_nothing), "save": (token(),)}[operation])
    store.heal()
    clock.advance(0.5)

    def wait():
        with guard.session() as session:
            session.lock(10.0, finds_nothing)

    with store.tokens.lock(KEY):
        call = begin(wait)
        clock.advance(TIMEOUT / 10 - 0.05)
        assert not call.is_done
        clock.advance(0.05)
        assert isinstance(call.join().error, StoreOutError)


def test_a_session_goes_on_after_a_lock_that_it_could_not_have(guard, store, clock, begin):
    saved = token()

    def work():
        with guard.session() as session:
            with pytest.raises(StoreOutError):
                session.lock(1.0, finds_nothing)
            clock.park(go_on)
            session.save(saved)
            return session.has_lock

    go_on = threading.Event()
    with store.tokens.lock(KEY):
        call = begin(work)
        clock.advance(1.0)
        assert clock._parked, "its wait for the lock has ended"
        clock.advance(1.0)
        go_on.set()
        assert call.value() is False
        assert store.tokens.load(KEY) is saved
    until(lambda: not store_threads())
    assert is_free(store)


def test_a_lock_that_cannot_be_released_is_an_outage_of_the_lock(guard, store, caplog):
    store.fail("release")
    with guard.session() as session:
        session.lock(1.0, finds_nothing)
    assert guard._breaker.get().failing == "lock"
    assert reports(caplog) == ["Token store failed, going on without it: example release"]


def test_a_lock_whose_release_hangs_ends_the_session_in_time(guard, store, clock, caplog, begin):
    store.hanging.add("release")

    def work():
        with guard.session() as session:
            session.lock(1.0, finds_nothing)

    call = begin(work)
    clock.advance(TIMEOUT)
    call.value()
    assert reports(caplog) == [
        "Token store failed, going on without it: its lock was not released in time"
    ]
    for _ in range(3):
        guard._breaker.get().abandon(Thread())
    clock.advance(60.0)
    assert is_open(guard._breaker.get()), "its thread counts"


def test_records_are_warnings_and_name_no_key(guard, store, clock, caplog):
    store.fail("load")
    with guard.session() as session, pytest.raises(StoreOutError):
        session.load()
    store.heal()
    clock.advance(1.0)
    with guard.session() as session:
        session.load()
    records = [each for each in caplog.records if each.name == guarded.__name__]
    assert [each.levelno for each in records] == [logging.WARNING] * 2
    assert not any(KEY in each.getMessage() for each in records)
