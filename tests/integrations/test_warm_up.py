"""The services' warm-up and readiness, with a clock that is told to move."""

from __future__ import annotations

import os
import threading

import pytest
from support.clients import ScriptedClient, credentials
from support.threads import together, until

from permata_auth import InvalidClientError, LoginHandler, TokenEndpointUnavailableError, _process
from permata_auth.integrations import _warm_up
from permata_auth.integrations._services import Services

DOWN = TokenEndpointUnavailableError("the bank is down")
REFUSED = InvalidClientError("wrong secret", status_code=401)


@pytest.fixture
def make(clock):
    made = []

    def make(*outcomes, then=900.0, **settings):
        client = ScriptedClient(*outcomes, then=then, clock=clock)
        handler = LoginHandler(credentials(), client=client)
        made.append(handler)
        return Services({"PERMATA_WARM_UP": True, **settings}, handler=handler), client

    yield make
    for handler in made:
        handler.shutdown()


def warm_ups():
    return [each for each in threading.enumerate() if "permata-auth-warm-up" in each.name]


def state(services):
    return services.readiness()[1]["state"]


def test_probes_at_once_lead_to_one_login(make, clock):
    services, client = make()
    with client.hold_next() as hold:
        calls = together(16, services.readiness)
        assert {call.value()[0] for call in calls} == {503}
        hold.wait_arrived()
        assert len(warm_ups()) == 1
    until(lambda: services.readiness()[0] == 200)
    assert len(client.calls) == 1


def test_a_request_warms_up_as_a_probe_does(make, clock):
    services, client = make()
    services.keep_warm()
    until(lambda: services.health()[1]["state"] == "ready")
    assert len(client.calls) == 1


@pytest.mark.parametrize("setting", [False, None, "off", ""])
def test_nothing_happens_without_the_setting(make, clock, setting):
    services, client = make(PERMATA_WARM_UP=setting)
    services.keep_warm()
    assert (services.readiness()[0], state(services)) == (200, "cold")
    assert (client.calls, warm_ups()) == ([], [])
    services.warm_up()  # as a server's hook does
    until(lambda: state(services) == "ready")


def test_an_outage_at_the_start_does_not_latch(make, clock):
    services, client = make(DOWN, DOWN, DOWN)
    assert state(services) == "cold"
    for count in (1, 2, 3):
        clock.wait_for_sleepers(1)
        assert (state(services), len(client.calls)) == ("down", count)
        clock.advance_to_next()
    until(lambda: state(services) == "ready")


def test_a_warm_up_that_gave_up_is_started_again_by_a_probe(make, clock):
    services, client = make(then=REFUSED)
    services.readiness()
    for _ in range(2):
        clock.wait_for_sleepers(1)
        clock.advance_to_next()
    until(lambda: not warm_ups())
    assert (len(client.calls), state(services)) == (3, "down")
    for _ in range(1_000):
        services.readiness()
    assert len(client.calls) == 3, "the pause of the third refusal holds"
    client.then = 900.0
    clock.wait_for_sleepers(1)
    clock.advance(20)
    until(lambda: state(services) == "ready")
    assert len(client.calls) == 4


def test_a_token_that_died_in_an_outage_is_replaced_without_a_request(make, clock):
    services, client = make(900.0, then=DOWN)
    services.readiness()
    until(lambda: state(services) == "ready")
    clock.advance(700)
    assert (services.readiness()[0], state(services)) == (200, "degraded")
    clock.advance(300)
    assert (services.readiness()[0], state(services)) == (503, "down")
    clock.wait_for_sleepers(1)
    client.then = 900.0
    clock.advance(10)
    until(lambda: state(services) == "ready")


def test_a_token_that_nobody_needs_any_more_is_let_go(make, clock):
    services, client = make(100.0)
    services.handler.scheduler.shutdown()
    services.readiness()
    until(lambda: state(services) == "ready")
    clock.advance(100)
    assert (services.readiness()[0], state(services)) == (200, "cold")
    assert len(client.calls) == 1


def test_a_process_that_can_start_no_thread_tries_again_later(make, clock, monkeypatch):
    services, client = make()

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(_warm_up, "start_daemon", refuse)
        assert services.readiness()[0] == 503
    assert services.readiness()[0] == 503
    until(lambda: state(services) == "ready")
    assert len(client.calls) == 1


def test_an_error_that_is_not_ours_ends_a_warm_up_and_no_more(make, clock, caplog):
    services, _ = make(ValueError("example-client-secret"))
    services.readiness()
    until(lambda: not warm_ups())
    assert "No token ahead of the first call: ValueError" in caplog.text
    clock.advance(5)
    services.readiness()
    until(lambda: state(services) == "ready")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_warms_up_for_itself(make, clock, monkeypatch):
    services, client = make(DOWN)
    services.readiness()
    clock.wait_for_sleepers(1)
    monkeypatch.setattr(_process, "_forks", _process._forks + 1)
    services.readiness()
    clock.wait_for_sleepers(2)
    assert len(warm_ups()) == 2
    clock.advance(1)
    until(lambda: not warm_ups())
    assert len(client.calls) == 2
    services.handler.shutdown()  # as the "child" that has the timer


@pytest.mark.parametrize("wrong", ["perhaps", 2])
def test_wrong_settings_are_not_ready_and_break_no_request(make, wrong):
    services, _ = make(PERMATA_WARM_UP=wrong)
    services.keep_warm()
    assert services.readiness()[0] == 503


def test_missing_credentials_are_not_ready_and_break_no_request(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERMATA_"):
            monkeypatch.delenv(name)
    services = Services({"PERMATA_WARM_UP": True})
    services.keep_warm()
    status, document = services.readiness()
    assert (status, document["message"]) == (503, "not configured; the status command says why")
