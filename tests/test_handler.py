from __future__ import annotations

import copy
import gc
import itertools
import logging
import pickle
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from support.clients import ScriptedClient, credentials, token
from support.clock import product_threads, timers
from support.threads import Call, together, until

from permata_auth import (
    ConfigurationError,
    InvalidClientError,
    InvalidTokenResponseError,
    LoginClient,
    LoginHandler,
    MemoryTokenStore,
    PermataAuthError,
    PermataCredentials,
    RequestTimeoutError,
    RetryPolicy,
    SchedulerConfig,
    TokenEndpointUnavailableError,
    TokenScheduler,
    Transport,
    TransportError,
)
from permata_auth._pace import Asker
from permata_auth.events import (
    LoginFailed,
    LoginPostponed,
    LoginStarted,
    LoginSucceeded,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)

QUICK = RetryPolicy(attempts=3, wait_initial=0.01, wait_max=0.02)
REFUSED = InvalidClientError("refused", status_code=401)
DOWN = TransportError("no answer")


@pytest.fixture
def scripted(clock, make_handler):
    """Make a handler with a scripted client, on the fake clock; returns both."""

    def make(*outcomes, then=900.0, **arguments):
        client = ScriptedClient(*outcomes, then=then, clock=clock)
        return make_handler(credentials(), client=client, **arguments), client

    return make


def until_given(handler) -> str:
    """Return a token, after the pause that a failed login has left."""

    def ask():
        with suppress(TransportError):
            return handler.get_token()

    return until(ask)


# A live token


def test_a_live_token_is_handed_out_again_and_again(bank, make_handler):
    handler = make_handler(bank.credentials())
    first = handler.get_token()
    assert {handler.get_token() for _ in range(100)} == {first}
    assert handler.get_access_token().value == first
    assert (bank.logins, bank.login_attempts) == (1, 1)


def test_a_live_token_costs_one_function_call(scripted):
    """Nothing below get_token() but the clock: no lock, no log, no helper."""
    handler, _ = scripted()
    handler.get_token()
    calls = []

    def profile(frame, event, argument):
        calls.append((event, getattr(argument, "__name__", frame.f_code.co_name)))

    sys.setprofile(profile)
    try:
        handler.get_token()
    finally:
        sys.setprofile(None)
    calls = [name for event, name in calls if event in ("call", "c_call")]
    assert calls == ["get_token", "now", "setprofile"]


def test_no_caller_waits_for_a_refresh_while_the_token_lives(clock, scripted):
    handler, client = scripted()
    old = handler.get_token()
    with client.hold_next() as login:
        clock.advance(600)
        login.wait_arrived()
        calls = together(50, handler.get_token)
        assert {call.value() for call in calls} == {old}
        clock.advance(25)
        assert Call(handler.get_token).value() == old
    clock.settle()
    assert handler.get_token() == client.issued[-1].value != old


def test_a_refresh_that_hangs_in_the_bank_does_not_touch_callers(bank, make_handler):
    handler = make_handler(bank.credentials())
    old = handler.get_token()
    with bank.hold_next(on="token") as gate:
        refresh = Call(handler.refresh)
        assert gate.arrived.wait(20)
        assert {call.value() for call in together(20, handler.get_token)} == {old}
        assert handler.info().waiting == 1
    assert refresh.value().value == handler.get_token() != old


# Single flight


def test_five_hundred_cold_callers_share_one_login(make_bank, make_handler):
    bank = make_bank(latency=0.5)
    handler = make_handler(bank.credentials())
    calls = together(500, handler.get_token)
    assert len({call.value() for call in calls}) == 1
    assert (bank.logins, bank.login_attempts) == (1, 1)
    # One after the other they would take minutes.
    assert max(call.seconds for call in calls) < 30
    assert handler.info().waiting == 0


def test_five_hundred_callers_share_one_failure_each_with_an_error_of_its_own(
    bank, make_handler, secrets
):
    handler = make_handler(bank.credentials(), client=LoginClient(bank.credentials(), retry=QUICK))
    bank.fail_next(3, status=503, on="token")
    with bank.hold_next(on="token") as gate:
        calls = [Call(handler.get_token) for _ in range(500)]
        assert gate.arrived.wait(20)
        until(lambda: handler.info().waiting == 500)
    errors = [call.join().error for call in calls]
    assert {type(error) for error in errors} == {TokenEndpointUnavailableError}
    assert len({id(error) for error in errors}) == 500
    assert {error.status_code for error in errors} == {503}
    assert all(error.__cause__ is None and error.__context__ is None for error in errors)
    assert len({id(error.__traceback__) for error in errors}) == 500
    assert (bank.logins, bank.login_attempts) == (0, 3)
    info = handler.info()
    assert (info.logins, info.failed_logins, info.waiting) == (0, 1, 0)
    assert not secrets.found_in_error(errors[0])


def test_callers_whose_token_dies_while_it_is_refreshed_join_that_login(clock, scripted):
    handler, client = scripted(then=20.0)
    old = handler.get_token()
    with client.hold_next() as login:
        clock.advance(10)
        login.wait_arrived()
        clock.advance(11)
        calls = [Call(handler.get_token) for _ in range(20)]
        until(lambda: handler.info().waiting >= 20)
        assert len(client.calls) == 2
    values = {call.value() for call in calls}
    assert values == {client.issued[-1].value}
    assert old not in values
    assert (len(client.calls), client.most_at_once) == (2, 1)


def test_a_late_comer_takes_the_token_that_has_just_arrived(scripted):
    """One that saw no token, and joins only after the flight that it should have joined."""
    handler, client = scripted()
    seen = handler._snapshot
    handler.get_token()
    assert handler._log_in(Asker.CALLER, seen) is client.issued[0]
    assert len(client.calls) == 1


def test_there_is_never_more_than_one_login_in_flight(make_handler):
    client = ScriptedClient(then=lambda: (time.sleep(0.001), 0.004)[1])
    handler = make_handler(credentials(), client=client)

    def use():
        for _ in range(50):
            # The pause after rejected tokens, and tokens that die before their caller wakes.
            with suppress(TransportError, InvalidTokenResponseError):
                handler.invalidate(handler.get_token())
            with suppress(InvalidTokenResponseError):
                handler.refresh()

    for call in together(8, use):
        call.value()
    handler.shutdown()
    until(lambda: not product_threads())
    assert client.most_at_once == 1
    info = handler.info()  # on a busy machine some tokens were dead on arrival
    assert info.logins + info.failed_logins == len(client.issued)


# Waiting


def test_a_timeout_bounds_the_callers_wait_and_the_login_goes_on(bank, make_handler):
    handler = make_handler(bank.credentials())
    with bank.hold_next(on="token") as gate:
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError) as caught:
            handler.get_token(timeout=0.2)
        assert 0.19 <= time.monotonic() - began < 20, "it waited for the login's 25 s"
        assert isinstance(caught.value, TimeoutError)
        assert gate.arrived.wait(20)
        for method in (handler.get_access_token, handler.refresh):
            with pytest.raises(RequestTimeoutError):
                method(timeout=0.01)
    assert handler.get_token()
    assert bank.login_attempts == 1


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_with_no_time_at_all_a_caller_sets_the_login_off_and_does_not_wait(
    clock, scripted, timeout
):
    handler, client = scripted()
    hold = client.hold_next()
    with pytest.raises(RequestTimeoutError):
        handler.get_token(timeout=timeout)
    hold.release()
    until(lambda: handler.info().logins)
    assert handler.get_token(timeout=timeout) == client.issued[0].value


def test_without_a_timeout_the_logins_own_budget_bounds_everybody(clock, make_handler):
    client = ScriptedClient(clock=clock, retry=RetryPolicy(timeout=10))
    handler = make_handler(credentials(), client=client)
    with client.hold_next() as login:
        calls = [Call(handler.get_token) for _ in range(3)]
        calls.append(Call(handler.get_token, timeout=10_000))
        login.wait_arrived()
        until(lambda: handler.info().waiting == 4)
        clock.advance(9.9)
        assert not any(call.is_done for call in calls)
        clock.advance(1)
        assert {type(call.join().error) for call in calls} == {RequestTimeoutError}
        # The first login has overrun its budget and was abandoned: the next caller starts another.
        assert handler.get_token() == client.issued[0].value
        assert client.most_at_once == len(client.calls) == 2
    clock.settle()
    assert len(client.issued) == 2
    assert handler.get_token() == client.issued[0].value
    assert handler.info().logins == 1


def test_a_short_timeout_of_one_is_not_the_others(clock, scripted):
    handler, client = scripted()
    with client.hold_next() as login:
        patient = Call(handler.get_token)
        hasty = Call(handler.get_token, timeout=2)
        login.wait_arrived()
        until(lambda: handler.info().waiting == 2)
        clock.advance(3)
        assert isinstance(hasty.join().error, RequestTimeoutError)
        assert not patient.is_done
    assert patient.value() == client.issued[0].value


# Refusals and other failures


def test_a_refusal_is_remembered_for_a_few_seconds(clock, scripted):
    handler, client = scripted(REFUSED, REFUSED)
    errors = []
    for seconds in (0, 1, 1, 2.9):
        clock.advance(seconds)
        for _ in range(10):
            with pytest.raises(InvalidClientError, match="refused") as caught:
                handler.get_token()
            errors.append(caught.value)
    assert len(client.calls) == 1
    assert len({id(error) for error in errors}) == 40
    assert handler.info().failed_logins == 1
    clock.advance(0.1)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    assert len(client.calls) == 2
    clock.advance(9.9)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    assert len(client.calls) == 2
    clock.advance(0.1)
    assert handler.get_token() == client.issued[0].value


@pytest.mark.parametrize("ask", ["refresh", "clear_cache"])
def test_a_remembered_refusal_can_be_overridden(scripted, ask):
    handler, client = scripted(REFUSED)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    getattr(handler, ask)()
    assert handler.get_token() == client.issued[0].value
    assert len(client.calls) == 2


def test_a_new_refusal_is_remembered_afresh(clock, scripted):
    handler, client = scripted(REFUSED, REFUSED)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    clock.advance(4)
    with pytest.raises(InvalidClientError):
        handler.refresh()
    clock.advance(4)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    assert len(client.calls) == 2


@pytest.mark.parametrize(("memory", "calls"), [(0, 10), (timedelta(minutes=1), 1), (60, 1)])
def test_the_memory_of_refusals_can_be_set(clock, scripted, memory, calls):
    handler, client = scripted(then=REFUSED, refusal_memory_secs=memory)
    for _ in range(10):
        with pytest.raises(InvalidClientError):
            handler.get_token()
        clock.advance(5)
    assert len(client.calls) == calls


def test_wrong_credentials_do_not_hammer_the_bank(bank, make_handler):
    handler = make_handler(bank.credentials(client_secret="example-wrong"))
    for _ in range(20):
        with pytest.raises(InvalidClientError):
            handler.get_token()
    assert bank.login_attempts == 1
    with pytest.raises(InvalidClientError):
        handler.refresh()
    assert bank.login_attempts == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "json", "raw": "{"},
        {"fault": "json", "body": {}},
        {"fault": "json", "body": []},
        {"fault": "json", "body": {"access_token": None}},
        {"fault": "json", "json_fields": {"expires_in": 0}},
        {"fault": "json", "json_fields": {"expires_in": -1}},
        {"fault": "html"},
        {"fault": "empty"},
    ],
    ids=str,
)
def test_a_success_without_a_usable_token_is_remembered_too(bank, make_handler, fault):
    handler = make_handler(bank.credentials())
    bank.fail_next(on="token", **fault)
    for _ in range(5):
        with pytest.raises(InvalidTokenResponseError):
            handler.get_token()
    assert bank.login_attempts == 1
    handler.clear_cache()
    assert handler.get_token()


def test_a_transient_failure_is_remembered_for_half_a_second_at_first(clock, scripted):
    handler, client = scripted(DOWN, TokenEndpointUnavailableError("busy", status_code=503))
    for error, seconds in ((TransportError, 0.5), (TokenEndpointUnavailableError, 1.0)):
        for _ in range(10):
            with pytest.raises(error) as caught:
                handler.get_token()
            assert seconds / 2 <= caught.value.retry_after <= seconds
        clock.advance(seconds)
    assert handler.get_token() == client.issued[0].value
    assert len(client.calls) == 3


@pytest.mark.parametrize("error", [REFUSED, DOWN, ValueError("a bug")], ids=type)
def test_nothing_is_raised_while_a_token_lives(clock, scripted, error):
    handler, _ = scripted(900.0, then=error)
    value = handler.get_token()
    with pytest.raises(type(error)):
        handler.refresh()
    for _ in range(899):
        clock.advance(1)
        assert handler.get_token() == value
    assert handler.info().failed_logins > 2
    clock.advance(1)
    with pytest.raises(type(error)):
        handler.get_token()


class _OddError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def test_an_error_that_cannot_be_copied_arrives_nevertheless(scripted):
    handler, _ = scripted(_OddError(1, "odd"))
    with pytest.raises(_OddError):
        handler.get_token()


@pytest.mark.parametrize("bad", [None, "example", 5, b"", {"access_token": "x"}])
def test_a_client_that_returns_no_token_breaks_nothing(clock, make_handler, bad):
    client = ScriptedClient(900.0, clock=clock)
    handler = make_handler(credentials(), client=client)
    value = handler.get_token()
    client.login = lambda: bad
    with pytest.raises(ConfigurationError, match=r"client\.login\(\) must return an AccessToken"):
        handler.refresh(timeout=5)
    assert handler.get_token() == value
    del client.login
    assert handler.refresh().value == client.issued[-1].value


# In the background


def test_a_refresh_in_the_background_swaps_the_token(clock, scripted):
    handler, client = scripted()
    values = [handler.get_token()]
    for _ in range(5):
        clock.advance(599)
        assert handler.get_token() == values[-1]
        clock.advance(1)
        values.append(handler.get_token())
        assert values[-1] == client.issued[-1].value
    assert len(set(values)) == 6
    assert len(timers()) == 1


def test_a_failed_refresh_is_tried_again_while_the_old_token_serves(clock, scripted):
    """The bank is down from 300 s to 10 s before expiry; nobody notices."""
    handler, client = scripted(then=lambda: DOWN if 600 <= clock.now() - began < 890 else 900.0)
    began = clock.now()
    first = handler.get_token()
    while clock.now() < began + 890:
        clock.advance(1)
        assert Call(handler.get_token).value(5) == first
    clock.advance(10)
    assert handler.get_token() != first
    tries = [moment - began for moment in client.calls[1:]]
    # Rounded: those at the longest wait are equal but for their last binary digits.
    waits = [round(after - before, 6) for before, after in itertools.pairwise(tries)]
    assert tries[0] == 600
    assert 890 <= tries[-1] < 900
    assert waits[:-1] == sorted(waits[:-1])
    assert 0.75 <= waits[0] <= 1
    assert len(tries) <= 15
    info = handler.info()
    assert (info.logins, info.failed_logins) == (2, len(tries) - 1)


def test_after_a_bank_was_down_beyond_expiry_on_demand_takes_over(clock, scripted, caplog):
    handler, client = scripted(900.0, then=DOWN)
    handler.get_token()
    clock.advance(901)
    assert timers() == []
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    failed = len(client.calls)
    clock.advance(1000)
    assert len(client.calls) == failed
    with pytest.raises(TransportError):
        handler.get_token()
    client.then = 900.0
    clock.advance(5)
    assert handler.get_token() == client.issued[-1].value
    clock.advance(600)
    assert len(client.issued) == 3


def test_a_refresh_in_the_background_makes_one_attempt(clock, bank, make_handler):
    """The scheduler's waits come between its attempts, not the client's much shorter ones."""
    client = LoginClient(bank.credentials(), retry=QUICK)
    handler = make_handler(bank.credentials(), client=client)
    handler.get_token()
    bank.fail_next(1, status=503, on="token")
    clock.advance(600)
    assert (bank.login_attempts, handler.info().failed_logins) == (2, 1)


def test_a_late_timer_is_no_worse_than_on_demand(clock, scripted):
    handler, client = scripted()
    handler.get_token()
    clock.settle()
    clock._now += 2000  # nothing wakes up, as where the timer's thread gets no processor
    value = Call(handler.get_token).value()
    assert value == client.issued[-1].value
    assert len(client.calls) == 2
    clock.advance(1)
    assert len(client.calls) <= 3
    clock.advance(590)
    assert handler.get_access_token().expires_in() > 0


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_step_of_the_wall_clock_neither_expires_nor_immortalises(clock, scripted, step):
    handler, client = scripted(background=False)
    value = handler.get_token()
    clock.step_wall(step)
    clock.advance(899)
    assert handler.get_token() == value
    if step < 120:
        assert handler.info().seconds_left == pytest.approx(1, abs=1e-3)
        clock.advance(1)
    else:  # the other clock may have stood still: once anybody has noticed, the token is dead
        assert handler.info().seconds_left == 0.0
    assert handler.get_token() != value
    assert len(client.calls) == 2


def test_nothing_runs_before_the_first_call(bank, make_handler):
    handler = make_handler(bank.credentials())
    assert (product_threads(), bank.requests) == ([], ())
    assert handler.info().logins == 0
    assert not handler.scheduler.is_active


def test_an_idle_handler_wakes_up_for_nothing(clock, scripted):
    handler, _ = scripted(90_000.0)
    handler.get_token()
    clock.settle()
    count = len(clock.waits)
    clock.advance(89_000)
    assert len(clock.waits) == count


def test_without_background_there_is_no_timer(clock, scripted):
    handler, client = scripted(background=False)
    first = handler.get_token()
    assert timers() == []
    clock.advance(899)
    assert handler.get_token() == first
    clock.advance(1)
    assert handler.get_token() != first
    assert len(client.calls) == 2
    assert handler.info().next_refresh_at is None


def test_margins_are_clamped_to_the_lifetime(clock, scripted):
    handler, client = scripted(300.0, then=900.0)
    handler.get_token()
    clock.advance(149)
    assert len(client.calls) == 1
    clock.advance(1)
    assert len(client.calls) == 2


def test_margins_are_not_clamped_where_that_is_not_wanted(clock, scripted):
    handler, client = scripted(then=300.0, clamp_to_lifetime=False)
    first = handler.get_token()
    assert timers() == []
    clock.advance(299)
    assert handler.get_token() == first
    assert len(client.calls) == 1
    clock.advance(1)
    assert handler.get_token() != first
    assert len(client.calls) == 2


def test_where_no_thread_can_be_started_everything_goes_on_demand(
    clock, scripted, monkeypatch, caplog
):
    handler, client = scripted()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        first = handler.get_token()
        clock.advance(900)
        assert handler.get_token() != first
    assert len(client.calls) == 2
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 2
    assert timers() == []
    clock.advance(900)
    handler.get_token()
    assert len(timers()) == 1


# A rejected token


@pytest.mark.parametrize("form", [str, lambda value: value])
def test_invalidate_drops_that_token_only(scripted, form):
    handler, client = scripted()
    token = handler.get_access_token()
    argument = token.value if form is str else token
    handler.invalidate(argument)
    assert handler.info().fingerprint is None
    second = handler.get_token()
    handler.invalidate(argument)
    assert handler.get_token() == second == client.issued[1].value
    assert len(client.calls) == 2


@pytest.mark.parametrize("argument", [b"example-token", 3, object()])
def test_invalidate_refuses_what_is_no_token(scripted, argument):
    handler, _ = scripted()
    token = handler.get_token()
    with pytest.raises(
        TypeError, match="token must be an AccessToken, its value as a str, or None"
    ):
        handler.invalidate(argument)
    assert handler.get_token() == token


def test_invalidate_without_a_token_drops_whichever_is_cached(scripted):
    handler, client = scripted()
    handler.invalidate()
    first = handler.get_token()
    handler.invalidate()
    handler.invalidate()
    assert handler.get_token() != first
    assert len(client.calls) == 2


@pytest.mark.parametrize("other", ["example-other", "", token])
def test_invalidating_another_token_does_nothing(scripted, other):
    handler, _ = scripted()
    value = handler.get_token()
    handler.invalidate(other() if callable(other) else other)
    assert handler.get_token() == value


def test_a_late_rejection_of_a_forgotten_token_holds_up_no_other(clock, scripted):
    handler, _ = scripted()
    first = handler.get_token()
    handler.clear_cache()
    handler.invalidate(first)
    second = handler.get_token()
    handler.invalidate(second)
    assert handler.get_token() not in (first, second)


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_response_of_a_bank_in_trouble_accepts_no_token(clock, scripted, status):
    """So the second fresh token in a row is served until the pause is over."""
    handler, _ = scripted()
    handler.invalidate(handler.get_token())
    second = handler.get_token()
    assert not handler.note_response(second, status)
    assert not handler.note_response(second, 401)
    assert handler.get_token() == second


def test_stragglers_with_the_rejected_token_cause_one_login_in_all(bank, make_handler):
    handler = make_handler(bank.credentials())
    old = handler.get_token()
    bank.revoke(old)

    def answer_rejection():
        handler.invalidate(old)
        return handler.get_token()

    values = {call.value() for call in together(50, answer_rejection)}
    assert len(values) == 1
    assert old not in values
    assert (bank.logins, bank.login_attempts) == (2, 2)


def test_a_token_invalidated_during_its_refresh_is_not_handed_out_again(clock, scripted):
    handler, client = scripted()
    old = handler.get_token()
    with client.hold_next() as login:
        clock.advance(600)
        login.wait_arrived()
        handler.invalidate(old)
        call = Call(handler.get_token)
        until(lambda: handler.info().waiting == 2)
        assert not call.is_done
    assert call.value() == client.issued[1].value
    assert len(client.calls) == 2


def test_clear_cache_forgets_the_token_and_the_schedule_goes_on(clock, scripted):
    handler, client = scripted()
    first = handler.get_token()
    handler.clear_cache()
    assert handler.scheduler.is_active
    clock.advance(600)
    assert len(client.calls) == 2
    assert handler.get_token() == client.issued[1].value != first
    assert handler.scheduler.is_active


def test_refresh_replaces_a_token_that_lives(clock, scripted):
    handler, client = scripted()
    first = handler.get_token()
    fresh = handler.refresh()
    assert fresh is client.issued[1]
    assert handler.get_token() == fresh.value != first
    clock.settle()  # a timer that was replaced takes a moment to end
    assert len(timers()) == 1


def test_refreshes_at_the_same_time_share_a_login(scripted):
    handler, client = scripted()
    handler.get_token()
    with client.hold_next() as login:
        calls = [Call(handler.refresh) for _ in range(10)]
        login.wait_arrived()
        until(lambda: handler.info().waiting == 10)
    assert {id(call.value()) for call in calls} == {id(client.issued[1])}
    assert len(client.calls) == 2


# Parts that it was given


def test_what_it_was_given_it_does_not_close(clock):
    client, scheduler, store = ScriptedClient(clock=clock), TokenScheduler(), MemoryTokenStore()
    handler = LoginHandler(credentials(), client=client, scheduler=scheduler, store=store)
    assert handler.scheduler is scheduler
    first = handler.get_access_token()
    assert scheduler.is_active
    handler.shutdown()
    assert not scheduler.is_active
    assert not client.is_closed
    assert store.load(credentials().key) is first
    assert scheduler.start(clock.wall() + 900, print)
    handler.shutdown()
    assert scheduler.is_active, "the schedule of somebody else stays"
    scheduler.shutdown()


def test_a_given_scheduler_sets_the_margins(clock, scripted, make_scheduler):
    handler, client = scripted(scheduler=make_scheduler(100, 10))
    handler.get_token()
    clock.advance(799)
    assert len(client.calls) == 1
    handler.scheduler.update_config(SchedulerConfig(200, 10))
    clock.advance(1)
    assert len(client.calls) == 2
    clock.advance(700)
    assert len(client.calls) == 3


def test_handlers_with_one_memory_store_share_a_login(clock, make_handler):
    store, clients = MemoryTokenStore(), [ScriptedClient(clock=clock) for _ in range(3)]
    handlers = [make_handler(credentials(), client=c, store=store) for c in clients]
    assert len({handler.get_token() for handler in handlers}) == 1
    assert [len(client.calls) for client in clients] == [1, 0, 0]
    handlers[1].invalidate()
    assert handlers[2].get_token() == handlers[0].get_token()
    assert handlers[1].get_token() != handlers[0].get_token()


def test_its_own_connections_are_closed_at_shutdown(bank):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc here")
    gc.collect()
    before = len(list(descriptors.iterdir()))
    with LoginHandler(bank.credentials()) as handler:
        handler.get_token()
        assert len(list(descriptors.iterdir())) > before
    until(lambda: len(list(descriptors.iterdir())) <= before)
    until(lambda: not product_threads())


# The end


def test_shutdown_is_final_while_a_refresh_is_in_flight(clock, scripted):
    handler, client = scripted()
    handler.get_token()
    with client.hold_next() as login:
        clock.advance(600)
        login.wait_arrived()
        handler.shutdown(timeout=0.05)
    until(lambda: not product_threads())
    assert not handler.scheduler.is_active
    assert handler.info().next_refresh_at is None
    assert handler.get_token() == client.issued[1].value
    clock.advance(2000)
    assert len(client.calls) == 2
    assert handler.get_token() == client.issued[2].value
    assert handler.refresh() is client.issued[3]
    until(lambda: not product_threads())


def test_shutdown_waits_for_a_refresh_that_is_running(clock, scripted):
    handler, client = scripted()
    handler.get_token()
    with client.hold_next() as login:
        clock.advance(600)
        login.wait_arrived()
        shutdown = Call(handler.shutdown, timeout=20)
        until(lambda: not handler.scheduler.is_active)
        assert not shutdown.is_done
    shutdown.value()
    assert handler.get_token() == client.issued[1].value


def test_shutdown_is_idempotent_and_needs_no_first_call(bank):
    handler = LoginHandler(bank.credentials())
    handler.shutdown()
    handler.shutdown(timeout=None)
    assert handler.get_token()
    until(lambda: not product_threads())
    handler.shutdown()
    assert handler.get_token()
    assert bank.logins == 1


def test_shutdown_ends_a_logins_wait_for_its_next_attempt(bank):
    policy = RetryPolicy(attempts=5, wait_initial=20, wait_max=20, timeout=100)
    handler = LoginHandler(bank.credentials(), client=None)
    handler._client.retry = policy
    bank.fail_next(5, status=503, retry_after=20, on="token")
    call = Call(handler.get_token)
    assert bank.wait_until(lambda: bank.login_attempts, 20)
    until(lambda: handler.shutdown() or call.is_done)
    assert isinstance(call.error, TransportError)
    bank.clear_faults()
    assert until_given(handler)


@pytest.mark.parametrize("method", ["shutdown", "refresh", "get_token", "invalidate", "info"])
def test_a_hook_may_call_the_handler(clock, make_handler, method):
    """Called in the login's own thread, which must not wait for itself."""
    outcomes, client = [], ScriptedClient(clock=clock)

    def hook(event):
        if isinstance(event, LoginStarted) and len(outcomes) < 3:
            outcomes.append(getattr(handler, method)())

    handler = make_handler(credentials(), client=client, on_event=hook)
    assert Call(handler.get_token).value() in {token.value for token in client.issued}
    until(lambda: outcomes)


def test_a_login_that_asks_for_its_own_token_fails_at_once(make_handler):
    """A logging handler that ships its records with this very token, say."""
    client = ScriptedClient()
    handler = make_handler(credentials(), client=client)
    client.outcomes = [lambda: handler.get_token() and 900.0]
    call = Call(handler.get_token)
    assert isinstance(call.join().error, PermataAuthError)
    assert until_given(handler)


def test_a_dropped_handler_is_collected_and_its_timer_ends(bank):
    handler = LoginHandler(bank.credentials())
    handler.get_token()
    (timer,) = timers()
    reference = weakref.ref(handler)
    del handler
    gc.collect()
    until(lambda: reference() is None)
    timer.join(20)
    assert not timer.is_alive()


def test_a_handler_dropped_during_a_refresh_is_collected_after_it(clock):
    client = ScriptedClient(clock=clock)
    handler = LoginHandler(credentials(), client=client)
    handler.get_token()
    reference = weakref.ref(handler)
    with client.hold_next() as login:
        clock.advance(600)
        login.wait_arrived()
        del handler
    until(lambda: not product_threads())
    gc.collect()
    assert reference() is None


def _things():
    gc.collect()
    descriptors = Path("/proc/self/fd")
    return (
        len(gc.get_objects()),
        threading.active_count(),
        len(list(descriptors.iterdir())) if descriptors.exists() else 0,
    )


@pytest.mark.usefixtures("untraced_threads")
@pytest.mark.parametrize("end", ["drop", "shutdown"])
def test_hundreds_of_handlers_leave_nothing_behind(bank, caplog, end):
    # The test's own log keeps the records.
    caplog.set_level(logging.CRITICAL)

    def cycle():
        handler = LoginHandler(bank.credentials())
        handler.get_token()
        if end == "shutdown":
            handler.shutdown()

    def rest():
        gc.collect()
        until(lambda: not product_threads())
        until(lambda: not [t for t in threading.enumerate() if "connection" in t.name])
        bank.reset_counters()
        bank._tokens.clear()

    for _ in range(20):
        cycle()
    rest()
    objects, threads, descriptors = _things()
    for _ in range(400):
        cycle()
    rest()
    after = _things()
    assert after[0] - objects < 200
    assert after[1] <= threads
    assert after[2] <= descriptors


@pytest.mark.usefixtures("untraced_threads")
def test_thousands_of_refreshes_leave_nothing_behind(clock, scripted, caplog):
    caplog.set_level(logging.CRITICAL)
    handler, client = scripted(then=30.0)
    handler.get_token()
    counts = []
    for _ in range(2):
        clock.advance(15 * 1500)
        handler.get_token()
        clock.waits.clear()
        client.calls.clear()
        client.issued.clear()
        counts.append(_things())
    assert handler.info().logins == 3_001
    (objects, threads, descriptors), after = counts
    assert after[0] - objects < 100
    assert after[1:] == (threads, descriptors)
    assert len(timers()) == 1


# Its state from outside


def test_info_tells_the_state(clock, scripted):
    handler, _ = scripted(DOWN, REFUSED)
    info = handler.info()
    assert (info.fingerprint, info.expires_at, info.next_refresh_at) == (None, None, None)
    assert (info.seconds_left, info.logins, info.failed_logins, info.waiting) == (0.0, 0, 0, 0)
    assert (info.last_error, info.last_error_at) == (None, None)
    with pytest.raises(TransportError):
        handler.get_token()
    clock.advance(1)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    failed_at = clock.wall()
    assert handler.info().next_login_at.timestamp() == failed_at + 5
    assert ", no login before " in str(handler.info())
    clock.advance(10)
    assert handler.info().next_login_at is None
    logged_in_at = clock.wall()
    issued = handler.get_access_token()
    clock.advance(100)
    info = handler.info()
    assert info.fingerprint == issued.fingerprint
    assert info.expires_at == issued.expires_at
    assert info.seconds_left == 800
    assert info.next_refresh_at == issued.expires_at - timedelta(seconds=300)
    assert info.next_refresh_at.utcoffset() == timedelta(0)
    assert (info.logins, info.failed_logins) == (1, 2)
    assert info.last_error == "InvalidClientError: refused"
    assert info.last_error_at.timestamp() == failed_at
    assert info.last_login_at.timestamp() == logged_in_at
    with pytest.raises(AttributeError):
        info.logins = 0
    clock._now += 2000
    assert handler.info().fingerprint is None
    assert handler.info().seconds_left == 0.0


def test_info_is_one_line_without_a_secret(bank, make_handler, secrets):
    handler = make_handler(bank.credentials())
    texts = [str(handler.info()), repr(handler)]
    handler.get_token()
    bank.fail_next(status=401, body="example-client-secret", on="token")
    with pytest.raises(PermataAuthError):
        handler.refresh()
    texts += [str(handler.info()), repr(handler.info()), repr(handler), repr(vars(handler))]
    texts += [repr(handler._snapshot), repr(handler.get_access_token())]
    assert "\n" not in "".join(texts)
    assert texts[0].startswith("no token, 0 logins")
    assert f"token {handler.info().fingerprint}, " in texts[2]
    assert "1 failed, last: InvalidClientError" in texts[2]
    assert not secrets.found_in(*texts)


def test_info_counts_those_who_wait(clock, scripted):
    handler, client = scripted()
    with client.hold_next() as login:
        calls = [Call(handler.get_token) for _ in range(7)]
        login.wait_arrived()
        until(lambda: handler.info().waiting == 7)
    for call in calls:
        call.value()
    assert handler.info().waiting == 0


def test_events_tell_what_happens_in_order(clock, make_handler):
    events, client = [], ScriptedClient(DOWN, 900.0, 900.0, 1.0, clock=clock)
    handler = make_handler(credentials(), client=client, on_event=events.append)
    with pytest.raises(TransportError):
        handler.get_token()
    clock.settle()
    assert [type(event) for event in events] == [LoginStarted, LoginFailed, LoginPostponed]
    postponed = events.pop()
    assert (postponed.error, postponed.message) == ("TransportError", "no answer")
    assert 0.25 <= postponed.until.timestamp() - clock.wall() <= 0.5
    clock.advance(1)
    first = handler.get_access_token(unique_id="u-1", request_id="r-1")
    clock.settle()
    assert [type(event) for event in events] == [
        *(LoginStarted, LoginFailed),
        *(LoginStarted, LoginSucceeded, TokenSwapped, RefreshScheduled),
    ]
    assert {event.handler for event in events} == {"bank.invalid"}
    assert (events[1].error, events[1].message) == ("TransportError", "no answer")
    assert {(event.unique_id, event.request_id) for event in events[:2]} == {(None, None)}
    assert {(event.unique_id, event.request_id) for event in events[2:]} == {("u-1", "r-1")}
    assert {event.fingerprint for event in events[3:]} == {first.fingerprint}
    assert events[3].expires_at == events[4].expires_at == first.expires_at
    assert events[4].is_shared is False
    assert events[5].next_refresh_at == first.expires_at - timedelta(seconds=300)
    assert all(event.at.utcoffset() == timedelta(0) for event in events)
    with pytest.raises(AttributeError):
        events[0].at = None
    del events[:]
    handler.invalidate(first)
    assert [(type(e), e.fingerprint) for e in events] == [(TokenInvalidated, first.fingerprint)]
    del events[:]
    clock.advance(600)
    clock.settle()
    assert [type(event) for event in events] == [
        *(LoginStarted, LoginSucceeded, TokenSwapped, RefreshScheduled),
    ]
    assert {(event.unique_id, event.request_id) for event in events} == {(None, None)}


def test_a_skipped_refresh_is_an_event_too(clock, make_handler):
    events, client = [], ScriptedClient(300.0, clock=clock)
    handler = make_handler(
        credentials(), client=client, on_event=events.append, clamp_to_lifetime=False
    )
    issued = handler.get_access_token()
    clock.settle()
    assert type(events[-1]) is RefreshSkipped
    assert events[-1].fingerprint == issued.fingerprint


def test_a_hook_that_raises_is_logged_once_and_breaks_nothing(clock, make_handler, caplog):
    def hook(event):
        raise ValueError("a bug in the hook")

    client = ScriptedClient(clock=clock)
    handler = make_handler(credentials(), client=client, on_event=hook)
    for _ in range(3):
        handler.get_token()
        handler.clear_cache()
    clock.advance(1300)
    assert handler.get_token()
    told = [r for r in caplog.records if "hook" in r.getMessage() and r.levelno > logging.DEBUG]
    assert [(r.levelno, r.getMessage()) for r in told] == [
        (logging.ERROR, "An event hook raised; it will not be logged again: ValueError")
    ]


def test_the_records_of_a_login_carry_the_ids_of_its_call(bank, make_handler, caplog):
    caplog.set_level(logging.DEBUG)
    handler = make_handler(bank.credentials(), client=LoginClient(bank.credentials(), retry=QUICK))
    bank.fail_next(status=503, on="token")
    handler.get_token(unique_id="u-1", request_id="r-1")
    until(lambda: any("Logged in" in r.getMessage() for r in caplog.records))
    records = [
        r for r in caplog.records if r.name.startswith(("permata_auth.login", "permata_auth.h"))
    ]
    assert {r.permata_handler for r in records} == {"127.0.0.1"}
    assert [record.levelno for record in records] == [logging.WARNING, logging.INFO]
    assert {(r.permata_unique_id, r.permata_request_id) for r in records} == {("u-1", "r-1")}
    caplog.clear()
    handler.refresh()
    handler.invalidate()
    handler.get_token(request_id="r-2")
    until(lambda: sum("Logged in" in r.getMessage() for r in caplog.records) == 2)
    logins = [r for r in caplog.records if r.getMessage().startswith("Logged in")]
    assert not hasattr(logins[0], "permata_request_id")
    assert logins[1].permata_request_id == "r-2"
    assert not hasattr(logins[1], "permata_unique_id")


def test_log_lines_name_a_token_by_its_fingerprint(clock, scripted, secrets, caplog):
    caplog.set_level(logging.DEBUG)
    handler, _ = scripted()
    issued = handler.get_access_token()
    secrets.add(issued.value)
    clock.settle()
    (login,) = [r for r in caplog.records if r.name == "permata_auth.handler"]
    assert (login.levelno, login.permata_token) == (logging.INFO, issued.fingerprint)
    assert login.args == (900,)


def test_a_failure_that_is_raised_is_not_logged_too(clock, scripted, caplog):
    caplog.set_level(logging.INFO)
    handler, _ = scripted(DOWN)
    with pytest.raises(TransportError):
        handler.get_token()
    assert [r for r in caplog.records if r.name.startswith("permata_auth")] == []


# Wrong use


@pytest.mark.parametrize("wrong", [None, "x", 5, {"client_id": "x"}, object(), PermataCredentials])
def test_what_is_no_scheme_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="Scheme"):
        LoginHandler(wrong)


def test_a_scheme_of_ones_own_is_taken(clock, make_handler):
    class Own(PermataCredentials):
        pass

    given = {f: getattr(credentials(), f) for f in ("token_url", "api_key", "client_id")}
    scheme = Own(**given, client_secret="example-x", static_key="example-y")
    assert make_handler(scheme, client=ScriptedClient(clock=clock)).get_token()


@pytest.mark.parametrize("wrong", [-1, "5", None, True, float("nan"), float("inf")])
def test_a_memory_of_refusals_that_is_no_duration_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="refusal_memory_secs"):
        LoginHandler(credentials(), refusal_memory_secs=wrong)


def a_client(**arguments):
    return LoginClient(credentials(**arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client": LoginClient}, "client must be a LoginClient"),
        ({"client": object()}, "client must be a LoginClient"),
        ({"client": a_client(client_id="example-other")}, "made for other credentials"),
        ({"client": a_client(), "transport": Transport()}, "transport= and client= exclude"),
        ({"client": a_client(), "clock_correction": True}, "clock_correction= and client= exclude"),
        ({"transport": "http://127.0.0.1:1"}, "transport must be a Transport"),
        ({"scheduler": TokenScheduler}, "scheduler must be a TokenScheduler"),
        ({"store": "redis://127.0.0.1"}, "for a URL use store_from_env"),
        ({"on_event": "print"}, "must be callable"),
        ({"name": ""}, "name must be printable text"),
        ({"clamp_to_lifetime": "yes"}, "clamp_to_lifetime must be True or False"),
        ({"background": "false"}, "background must be True or False"),
        ({"stop_when_idle": 1}, "stop_when_idle must be True or False"),
        ({"store_timeout_secs": "5"}, "store_timeout_secs must be a finite number"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        LoginHandler(credentials(), **arguments)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickles_and_copies_are_refused(make_handler, duplicate):
    handler = make_handler(credentials())
    for thing in (handler, handler._client, handler.scheduler):
        with pytest.raises(TypeError, match="cannot be pickled: it owns"):
            duplicate(thing)


def test_an_interrupt_in_one_waiter_does_not_disturb_the_others(clock, scripted):
    handler, client = scripted()
    with client.hold_next() as login:
        others = [Call(handler.get_token) for _ in range(5)]
        login.wait_arrived()

        def interrupt():
            until(lambda: handler.info().waiting == 6)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        interruption = Call(interrupt)
        with pytest.raises(KeyboardInterrupt):
            handler.get_token()
        interruption.value()
        assert handler.info().waiting == 5
    assert {other.value() for other in others} == {client.issued[0].value}
    assert len(client.calls) == 1


def test_shutdown_waits_for_the_events_of_the_last_login(make_handler):
    release, entered = threading.Event(), threading.Event()

    def hook(event):
        entered.set()
        release.wait(20)

    handler = make_handler(credentials(), client=ScriptedClient(), on_event=hook)
    handler.get_token()
    assert entered.wait(20)
    began = time.monotonic()
    handler.shutdown(0.2)
    assert time.monotonic() - began >= 0.2
    release.set()
    handler.shutdown()
