"""Health, the wait for the first token, and idle handlers."""

from __future__ import annotations

import sys

import attrs
import pytest
from support.clients import ScriptedClient, credentials, token
from support.clock import timers
from support.threads import Call, together, until

from permata_auth import (
    HandlerInfo,
    Health,
    InvalidClientError,
    MemoryTokenStore,
    RequestTimeoutError,
    TokenEndpointUnavailableError,
    TransportError,
    _clock,
)
from permata_auth.events import RefreshScheduled

DOWN = TokenEndpointUnavailableError("the bank is down")
REFUSED = InvalidClientError("wrong secret", status_code=401)


@pytest.fixture
def make(clock, make_handler):
    def make(*outcomes, then=900.0, **arguments):
        client = ScriptedClient(*outcomes, then=then, clock=clock)
        return make_handler(credentials(), client=client, **arguments), client

    return make


def states(handler):
    return handler.health().state


def run_on(clock, call):
    """Let time pass, a second at most at once, until ``call`` is over."""
    while until(lambda: call.is_done or clock.sleepers) is not True:
        clock.settle()
        clock.advance(min(clock.next_wake_up or 0.0, 1.0))


# Health


def test_a_clock_is_right_where_nothing_else_is_said(make):
    info = make()[0].info()
    fields = attrs.asdict(info)
    del fields["clock_offset"]
    assert HandlerInfo(**fields) == info


def test_health_before_anything_happened(make):
    handler, client = make()
    assert handler.health() == Health(state="cold", seconds_left=0.0, last_error=None, since=None)
    assert client.calls == []


def test_health_through_a_life(make, clock):
    handler, client = make(900.0, DOWN, then=DOWN)
    handler.get_token()
    began = _clock.to_datetime(clock.wall())
    assert handler.health() == Health(
        state="ready", seconds_left=900.0, last_error=None, since=began
    )
    clock.advance(600)  # the refresh fails
    failed = _clock.to_datetime(clock.wall())
    health = handler.health()
    assert (health.state, health.seconds_left) == ("degraded", 300.0)
    assert health.last_error == "TokenEndpointUnavailableError: the bank is down"
    assert health.since == failed
    clock.advance(200)
    assert handler.health().since == failed, "the first failure in a row counts"
    clock.advance(150)
    health = handler.health()
    assert (health.state, health.seconds_left) == ("down", 0.0)
    assert health.since == _clock.to_datetime(clock.wall() - 50), "when the token died"
    client.then = 900.0
    handler.refresh()
    now = _clock.to_datetime(clock.wall())
    assert handler.health() == Health(state="ready", seconds_left=900.0, last_error=None, since=now)
    clock.advance(600)  # refreshed: the state goes on
    assert (states(handler), handler.health().since) == ("ready", now)
    assert "the bank is down" in handler.info().last_error


def test_a_refresh_after_failures_makes_it_ready_anew(make, clock):
    handler, _ = make(900.0, DOWN)
    handler.get_token()
    clock.advance(600)
    assert states(handler) == "degraded"
    clock.advance_to_next()
    assert states(handler) == "ready"
    assert handler.health().since == handler.info().last_login_at


def test_a_handler_whose_first_login_fails_is_down(make, clock):
    handler, client = make(DOWN)
    began = _clock.to_datetime(clock.wall())
    with pytest.raises(TokenEndpointUnavailableError):
        handler.get_token()
    clock.advance(60)
    assert (states(handler), handler.health().since) == ("down", began)
    for _ in range(1_000):
        handler.health()
    assert len(client.calls) == 1


def test_a_token_that_ends_without_a_failure_leaves_it_cold(make, clock):
    handler, _ = make(100.0, background=False)
    handler.get_token()
    clock.advance(100)
    ended = _clock.to_datetime(clock.wall())
    clock.advance(70)
    assert (states(handler), handler.health().since) == ("cold", ended)


def test_a_token_that_is_dropped_leaves_it_cold(make, clock):
    handler, _ = make()
    handler.get_token()
    clock.advance(70)
    handler.clear_cache()
    dropped = _clock.to_datetime(clock.wall())
    clock.advance(70)
    assert (states(handler), handler.health().since) == ("cold", dropped)


def test_a_failure_of_another_process_counts(make, clock):
    store = MemoryTokenStore()
    first, _ = make(DOWN, store=store)
    second, client = make(store=store)
    for handler in (first, second):
        with pytest.raises(TokenEndpointUnavailableError):
            handler.get_token()
    assert [states(handler) for handler in (first, second)] == ["down", "down"]
    assert (client.calls, second.info().failed_logins) == ([], 0)
    clock.advance(5)
    second.get_token()
    first.get_token()
    assert [states(handler) for handler in (first, second)] == ["ready", "ready"]


def test_a_login_that_was_abandoned_counts(make, clock):
    handler, client = make()
    hold = client.hold_next()
    call = Call(handler.get_token)
    hold.wait_arrived()
    clock.wait_for_sleepers(1)
    clock.advance(30)
    with pytest.raises(RequestTimeoutError):
        call.value()
    until(lambda: states(handler) == "down")
    hold.release()


# A wait for the first token


def test_a_wait_with_a_live_token_is_over_at_once(make):
    handler, client = make()
    value = handler.get_token()
    assert handler.wait_until_ready(0).value == value
    assert len(client.calls) == 1


def test_a_wait_logs_in_once(make):
    handler, client = make()
    calls = together(8, handler.wait_until_ready)
    assert len({call.value().value for call in calls}) == 1
    assert len(client.calls) == 1


def test_a_wait_tries_again_at_the_pace_of_the_failures(make, clock):
    handler, client = make(DOWN, DOWN, DOWN)
    call = Call(handler.wait_until_ready)
    for count in (1, 2, 3):
        clock.wait_for_sleepers(1)
        assert len(client.calls) == count
        clock.advance_to_next()
    assert call.value().value == client.issued[0].value
    gaps = [later - sooner for sooner, later in zip(client.calls, client.calls[1:], strict=False)]
    assert all(least <= gap <= 2 * least for least, gap in zip([0.25, 0.5, 1], gaps, strict=True))


def test_a_wait_gives_up_after_three_refusals(make, clock):
    handler, client = make(then=REFUSED)
    call = Call(handler.wait_until_ready, None)
    for _ in range(2):
        clock.wait_for_sleepers(1)
        clock.advance_to_next()
    with pytest.raises(InvalidClientError, match="wrong secret"):
        call.value()
    assert len(client.calls) == 3


def test_a_wait_does_not_sit_out_a_pause_that_is_longer(make):
    asked = TokenEndpointUnavailableError("busy", status_code=429, retry_after=60)
    handler, client = make(asked)
    with pytest.raises(TokenEndpointUnavailableError) as caught:
        handler.wait_until_ready(30)
    assert caught.value.retry_after >= 60
    assert len(client.calls) == 1


def test_a_wait_ends_with_the_last_error(make, clock):
    handler, client = make(then=TransportError("unplugged"))
    call = Call(handler.wait_until_ready, 20)
    run_on(clock, call)
    with pytest.raises(TransportError, match="unplugged"):
        call.value()
    assert 4 <= len(client.calls) <= 10


@pytest.mark.parametrize("seconds", [10, 0.5])
def test_a_wait_in_which_no_login_ended_times_out(make, clock, seconds):
    handler, client = make()
    with client.hold_next() as hold:
        call = Call(handler.wait_until_ready, seconds)
        hold.wait_arrived()
        clock.wait_for_sleepers(1)
        clock.advance(seconds)
        with pytest.raises(RequestTimeoutError):
            call.value()


def test_a_wait_outlasts_a_login_that_is_stuck(make, clock):
    handler, client = make()
    with client.hold_next() as hold:
        call = Call(handler.wait_until_ready, 60)
        hold.wait_arrived()
        clock.wait_for_sleepers(1)
        run_on(clock, call)
        assert call.value().value == client.issued[0].value
        assert len(client.calls) == 2


def test_a_login_that_overruns_hides_no_earlier_error(make, clock):
    handler, client = make(REFUSED)
    call = Call(handler.wait_until_ready, 10)
    clock.wait_for_sleepers(1)
    with client.hold_next() as hold:
        clock.advance_to_next()
        hold.wait_arrived()
        clock.advance(10)
        with pytest.raises(InvalidClientError):
            call.value()


def test_a_shutdown_ends_a_wait(make, clock):
    handler, client = make(then=DOWN)
    call = Call(handler.wait_until_ready, None)
    clock.wait_for_sleepers(1)
    handler.shutdown()
    with pytest.raises(TokenEndpointUnavailableError):
        call.value()
    with pytest.raises(TokenEndpointUnavailableError):
        handler.wait_until_ready(None)
    assert len(client.calls) <= 2


def test_a_wait_takes_a_timeout_of_the_right_type(make):
    handler, client = make()
    with pytest.raises(TypeError):
        handler.wait_until_ready("60")
    assert client.calls == []


def test_what_is_thrown_into_a_wait_passes(make, clock):
    class SoftTimeLimit(Exception):
        pass

    def interrupt():
        raise SoftTimeLimit

    handler, _ = make(then=interrupt)
    with pytest.raises(SoftTimeLimit):
        handler.wait_until_ready()


# Idle handlers


def test_by_default_a_token_is_refreshed_though_nobody_asks(make, clock):
    handler, client = make()
    handler.get_token()
    clock.advance(3_000)
    assert len(client.calls) == 6


def test_a_token_that_nobody_asks_for_is_not_refreshed(make, clock, caplog):
    handler, client = make(stop_when_idle=True)
    handler.get_token()
    clock.advance(601)
    assert len(client.calls) == 2, "it was asked for in the life before"
    caplog.clear()
    clock.advance(10_000)
    assert len(client.calls) == 2
    assert not timers()
    messages = [record.getMessage() for record in caplog.records]
    assert any("nobody has asked for it" in message for message in messages)
    assert not any("completed successfully" in message for message in messages)
    handler.get_token()
    assert len(client.calls) == 3
    clock.advance(601)
    assert len(client.calls) == 4, "asked for again, refreshed again"


def test_one_call_in_a_life_keeps_it_refreshed(make, clock):
    handler, client = make(stop_when_idle=True)
    for _ in range(10):
        handler.get_token()
        clock.advance(600)
    assert len(client.calls) == 11


def test_the_first_call_of_a_life_does_not_reschedule(make, clock):
    events = []
    handler, _ = make(stop_when_idle=True, on_event=events.append)
    handler.get_token()
    clock.advance(601)
    for _ in range(3):
        handler.get_token()
    assert len([event for event in events if isinstance(event, RefreshScheduled)]) == 2


def test_a_call_in_the_last_minutes_of_an_idle_token_has_it_refreshed(make, clock):
    handler, client = make(stop_when_idle=True)
    value = handler.get_token()
    clock.advance(600)
    clock.advance(700)
    assert not timers()
    assert handler.get_token() == client.issued[1].value != value
    assert timers()
    clock.advance(199)
    assert len(client.calls) == 3
    assert handler.get_token() == client.issued[2].value


def test_a_caller_that_joins_a_refresh_counts(make, clock):
    handler, client = make(40.0, 900.0, stop_when_idle=True)
    handler.get_token()
    with client.hold_next() as hold:
        clock.advance(20)
        hold.wait_arrived()
        clock.advance(20)
        call = Call(handler.get_token)
        until(lambda: handler.info().waiting)
    assert call.value() == client.issued[1].value
    clock.advance(601)
    assert len(client.calls) == 3


@pytest.mark.parametrize("ask", ["get_access_token", "refresh", "wait_until_ready"])
def test_every_way_of_asking_counts(make, clock, ask):
    handler, client = make(stop_when_idle=True)
    handler.get_token()
    clock.advance(601)
    getattr(handler, ask)()
    before = len(client.calls)
    clock.advance(650)
    assert len(client.calls) == before + 1


def test_the_second_call_of_a_life_takes_the_fast_path(make, clock):
    handler, _ = make(stop_when_idle=True)
    handler.get_token()
    clock.advance(601)
    handler.get_token()
    called = []

    def profile(frame, event, argument):
        called.append(getattr(argument, "__name__", frame.f_code.co_name))

    sys.setprofile(profile)
    try:
        handler.get_token()
    finally:
        sys.setprofile(None)
    assert set(called) == {"get_token", "now", "setprofile"}


# A virtual machine that was resumed: the wall clock went on, the other one stood still


def test_times_are_right_after_the_wall_clock_alone_went_on(make, clock):
    handler, _ = make(token(7_200.0), background=False)
    given = handler.get_access_token()
    clock.step_wall(3_600)
    info = handler.info()
    assert info.expires_at == given.expires_at
    assert info.seconds_left == 3_600


def test_a_schedule_after_the_wall_clock_alone_went_on(make, clock):
    events = []
    handler, _ = make(token(7_200.0), on_event=events.append)
    given = handler.get_access_token()
    clock.step_wall(3_600)
    handler.after_fork_in_child()
    handler.scheduler.stop()
    handler.get_token()  # arms the timer anew, as the first call after a fork does
    told = [event for event in events if isinstance(event, RefreshScheduled)]
    assert (given.expires_at - told[-1].next_refresh_at).total_seconds() == 300
    assert handler.info().next_refresh_at == told[-1].next_refresh_at
