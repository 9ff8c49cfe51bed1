"""The cost of a store that misbehaves, on a clock that counts it, and its log records."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress

import pytest
from support.clients import ScriptedClient, credentials, token
from support.stores import FailureSharingStore, ScriptedStore
from support.threads import Call, until

from permata_auth import LoginHandler, RetryPolicy
from permata_auth._latch import Latch
from permata_auth._pace import Pace
from permata_auth.stores.sharing import SharedToken

KEY = credentials().key
TIMEOUT = 4.0
BUDGET = 20.0


@pytest.fixture
def store(clock):
    store = ScriptedStore(clock=clock)
    yield store
    store.heal()


@pytest.fixture
def client(clock):
    return ScriptedClient(clock=clock, retry=RetryPolicy(timeout=BUDGET))


@pytest.fixture
def handler(make_handler, store, client) -> LoginHandler:
    return make_handler(
        credentials(), client=client, store=store, background=False, store_timeout_secs=TIMEOUT
    )


@pytest.fixture
def seconds_of(clock):
    """Make a call while the clock goes on whenever all threads wait; return how long it took."""

    def measure(function) -> float:
        began = clock.now()
        call = Call(function)
        while not call.is_done:
            seen = len(clock.waits) if "test-call" in clock.sleepers else None
            with suppress(RuntimeError):  # a thread is just being started, and cannot be joined
                clock.settle()
                if seen == len(clock.waits) and "test-call" in clock.sleepers:
                    clock.advance(0.05)  # nobody has anything to do before that
            call._thread.join(0.001)
        call.value()
        return clock.now() - began

    return measure


def reports(caplog) -> list[str]:
    until(lambda: not [t for t in threading.enumerate() if "-login-" in t.name])
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("permata_auth.") and record.levelno >= logging.WARNING
    ]


# Its cost


@pytest.mark.parametrize("operation", ["load", "save", "discard"])
def test_a_try_in_an_outage_costs_a_tenth_of_what_the_outage_did(
    clock, handler, store, seconds_of, operation
):
    handler.get_token()
    store.hanging.add(operation)

    def renew():
        handler.invalidate()
        handler.get_token()

    first = seconds_of(renew)
    assert TIMEOUT <= first < TIMEOUT + 1
    clock.advance(60)
    seen = len(store.calls)
    second = seconds_of(renew)
    assert len(store.calls) > seen, "it is tried again"
    assert second <= 2 * TIMEOUT / 10 + 0.1, "by a rejection and by a login, a tenth for each"


def test_a_call_soon_after_an_outage_began_costs_nothing(handler, store, seconds_of):
    store.hanging.add("load")
    assert seconds_of(handler.get_token) >= TIMEOUT
    seen = len(store.calls)
    assert seconds_of(handler.refresh) == 0
    assert len(store.calls) == seen


def test_a_stuck_lock_costs_a_tenth_at_the_next_renewal(clock, handler, store, seconds_of):
    store.hanging.add("lock")
    first = seconds_of(handler.get_token)
    assert TIMEOUT < first < BUDGET, "another one's login is waited for"
    clock.advance(60)
    seen = store.calls.count("lock")
    assert seconds_of(handler.refresh) <= TIMEOUT / 10 + 0.1
    assert store.calls.count("lock") == seen + 1, "it is tried again"


def in_a_second():
    """Be the outcome of a login that takes its time."""
    Latch().wait(1.0)
    return 900.0


@pytest.mark.parametrize(
    ("operation", "wait"), [("load", TIMEOUT), ("lock", (BUDGET + 0.25) * 0.9)]
)
def test_after_the_login_a_store_that_hung_before_it_is_not_waited_for_as_long_again(
    handler, store, client, seconds_of, operation, wait
):
    client.outcomes.append(in_a_second)
    store.hanging.add(operation)
    assert seconds_of(handler.get_token) <= wait + 1.0 + TIMEOUT / 10 + 0.1


def test_a_token_is_stored_though_its_session_could_not_have_the_lock(
    handler, store, client, seconds_of
):
    client.outcomes.append(in_a_second)
    store.hanging.add("lock")
    seconds_of(handler.get_token)
    assert store.tokens.load(KEY) is client.issued[0]


def test_a_token_is_stored_though_the_store_hung_before_its_login(
    handler, store, client, seconds_of
):
    def heal():
        store.hanging = set()  # what hangs goes on to do so
        return in_a_second()

    client.outcomes.append(heal)
    store.hanging.add("load")
    seconds_of(handler.get_token)
    assert store.tokens.load(KEY) is client.issued[0]


def test_a_lock_that_is_free_again_is_used_again(clock, handler, store, seconds_of, caplog):
    store.hanging.add("lock")
    seconds_of(handler.get_token)
    store.heal()
    clock.advance(60)
    assert seconds_of(handler.refresh) == 0
    assert store.tokens.load(KEY).value == handler.get_token()
    assert reports(caplog)[1:] == ["Token store is back"]


def test_the_wait_for_another_one_is_not_taken_from_the_stores_own_time(
    clock, handler, store, seconds_of, client
):
    """The lock is free after ten seconds; saving then takes more than nothing, and is in time."""
    store.hanging.add("lock")
    call = Call(handler.get_token)
    clock.wait_for_sleepers(2)
    clock.advance(10)
    store.heal()
    call.value()
    until(lambda: store.tokens.load(KEY))
    assert store.tokens.load(KEY).value == client.issued[0].value


# Its log records


def test_a_release_that_fails_is_reported(handler, store, caplog):
    store.fail("release")
    handler.get_token()
    assert reports(caplog) == ["Token store failed, going on without it: example release"]


def test_a_release_that_hangs_is_reported_and_bounded(handler, store, seconds_of, caplog):
    store.hanging.add("release")
    assert seconds_of(handler.get_token) <= TIMEOUT + 0.1
    (report,) = reports(caplog)
    assert report.startswith("Token store failed, going on without it: ")
    assert "released" in report


def test_a_lock_that_is_stuck_is_reported_with_the_time_that_it_cost(
    handler, store, seconds_of, caplog
):
    store.hanging.add("lock")
    waited = seconds_of(handler.get_token)
    (report,) = reports(caplog)
    assert report.endswith(f"its lock was not free for {waited:.1f} seconds")


@pytest.mark.parametrize("operation", ["load", "save", "lock"])
def test_a_failure_is_reported_once_and_its_end_too(clock, handler, store, caplog, operation):
    store.fail(operation)
    for _ in range(4):
        handler.refresh()
        handler.invalidate()
        handler.get_token()
        clock.advance(60)
    store.heal()
    for _ in range(4):
        handler.invalidate()
        handler.get_token()
        clock.advance(60)
    assert reports(caplog) == [
        f"Token store failed, going on without it: example {operation}",
        "Token store is back",
    ]


def test_an_outage_of_one_operation_is_not_over_because_another_one_works(
    clock, handler, store, caplog
):
    store.fail("save")
    for _ in range(4):
        handler.invalidate()
        handler.get_token()
        clock.advance(60)
    assert reports(caplog) == ["Token store failed, going on without it: example save"]


def test_a_foreign_error_of_a_store_is_reported_by_its_class_alone(handler, store, caplog):
    store.failing["load"] = ValueError("example-foreign")
    handler.get_token()
    assert reports(caplog) == ["Token store failed, going on without it: ValueError"]


# Which token is taken


def test_a_token_that_another_one_stored_meanwhile_is_taken_at_the_lock(
    clock, handler, store, client
):
    """It was not there at the first look; the lock came, and so had the token."""
    stored = token()

    @contextmanager
    def lock(key):
        store.tokens.save(KEY, stored)
        yield

    store.lock = lock
    assert handler.get_token() == stored.value
    assert client.calls == []


def test_a_forced_refresh_does_not_take_a_token_at_the_lock_either(clock, handler, store, client):
    @contextmanager
    def lock(key):
        store.tokens.save(KEY, token())
        yield

    store.lock = lock
    assert handler.refresh() is client.issued[0]


@pytest.mark.parametrize("older_by", [0.5, 60.0])
def test_the_stores_token_is_taken_only_if_it_is_newer(clock, handler, store, client, older_by):
    older = token()
    clock.advance(older_by)
    handler.get_token()
    store.tokens.save(KEY, older)
    handler.invalidate()
    assert handler.get_token() == client.issued[1].value


# Rejected tokens, which the handler asks about


class Keyless:
    """Credentials that derive no key, so that no failure can be bound to them."""

    key = KEY


@pytest.fixture
def shared(store):
    return SharedToken(store, credentials(), timeout=TIMEOUT, budget=BUDGET)


def anything(token) -> bool:
    return False


def test_a_newer_token_is_found_unless_it_was_rejected_here(clock, shared, store):
    rejected = token()
    assert shared.find_newer(rejected, anything) is None
    store.tokens.save(KEY, rejected)
    assert shared.find_newer(rejected, anything) is None
    clock.advance(1)
    store.tokens.save(KEY, newer := token())
    assert shared.find_newer(rejected, anything) == newer
    assert shared.find_newer(None, anything) == newer
    assert shared.find_newer(rejected, lambda stored: stored == newer) is None
    clock.advance(901)
    assert shared.find_newer(rejected, anything) is None, "it has expired"


def test_a_store_that_fails_has_no_newer_token_and_no_rejections(clock, shared, store):
    store.fail("load", "load_failure")
    assert shared.find_newer(token(), anything) is None
    assert shared.load_rejections() is None


def test_looks_for_a_newer_token_come_a_few_times_a_second_at_most(clock, shared, store):
    assert shared.is_look_due
    assert shared.look(None, anything) is None
    store.tokens.save(KEY, newer := token())
    clock.advance(0.2)
    assert not shared.is_look_due
    assert shared.look(None, anything) is None
    clock.advance(0.1)
    assert shared.is_look_due
    assert shared.look(None, anything) == newer


@pytest.mark.parametrize("scheme", [credentials(), Keyless()], ids=["bound", "unbound"])
def test_rejections_are_shared_where_they_can_be_bound_to_the_secrets(clock, scheme):
    shared = SharedToken(FailureSharingStore(clock=clock), scheme, timeout=TIMEOUT, budget=BUDGET)
    pause = Pace(5.0).after_rejection("fingerprint")
    assert shared.load_rejections() is None
    shared.save_rejections(pause)
    found = shared.load_rejections()
    if isinstance(scheme, Keyless):
        assert found is None
    else:
        assert (found.count, found.rejected, found.is_shared) == (1, "fingerprint", True)
    shared.save_rejections(None)
    assert shared.load_rejections() is None
