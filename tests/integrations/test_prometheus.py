from __future__ import annotations

import gc

import pytest

prometheus = pytest.importorskip("prometheus_client")

from permata_auth import LoginClient, PermataAuthError, RetryPolicy
from permata_auth.integrations import chain
from permata_auth.integrations.prometheus import PermataMetrics


@pytest.fixture
def registry():
    return prometheus.CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return PermataMetrics(registry=registry)


def test_logins_failures_and_the_token_are_told(bank, make_handler, registry, metrics):
    client = LoginClient(bank.credentials(), retry=RetryPolicy(attempts=1))
    handler = make_handler(bank.credentials(), client=client)
    metrics.watch(handler, client="payments")
    bank.fail_next(1, status=503)
    with pytest.raises(PermataAuthError):
        handler.get_token()
    handler.get_token()
    handler.refresh()
    handler.invalidate()
    handler.get_token()
    client.close()

    def value(name, **labels):
        return registry.get_sample_value(f"permata_auth_{name}", {"client": "payments", **labels})

    assert value("logins_total") == 3
    assert value("login_failures_total", reason="TokenEndpointUnavailableError") == 1
    assert value("login_duration_seconds_count", outcome="success") == 3
    assert value("login_duration_seconds_count", outcome="failure") == 1
    assert value("tokens_invalidated_total") == 1
    assert value("waiting_callers") == 0
    assert 890 < value("token_seconds_left") <= 900
    assert value("refreshes_skipped_total") == value("refreshes_late_total") == 0


@pytest.mark.bank(token_lifetime=100)
def test_a_refresh_that_is_skipped_is_counted(bank, make_handler, registry, metrics):
    handler = make_handler(bank.credentials(), clamp_to_lifetime=False)
    metrics.watch(handler)
    handler.get_token()
    labels = {"client": "permata"}
    assert registry.get_sample_value("permata_auth_refreshes_skipped_total", labels) == 1


def test_a_late_refresh_is_counted(clock, make_handler, registry, metrics):
    from support.clients import ScriptedClient, credentials

    handler = make_handler(credentials(), client=ScriptedClient(clock=clock))
    metrics.watch(handler)
    handler.get_token()
    clock.jump(650)
    labels = {"client": "permata"}
    assert registry.get_sample_value("permata_auth_refreshes_late_total", labels) == 1


def test_a_scrape_asks_no_bank_and_shows_no_secret(bank, make_handler, registry, metrics, secrets):
    handler = make_handler(bank.credentials())
    metrics.watch(handler)
    prometheus.generate_latest(registry)
    assert bank.login_attempts == 0
    handler.get_token()
    assert secrets.found_in(prometheus.generate_latest(registry).decode()) == set()


def test_the_handlers_own_hook_goes_on(bank, make_handler, metrics):
    events = []
    handler = make_handler(bank.credentials(), on_event=events.append)
    metrics.watch(handler)
    handler.get_token()
    assert events


def test_handlers_are_held_weakly(bank, registry, metrics):
    from permata_auth import LoginHandler

    metrics.watch(LoginHandler(bank.credentials()))
    gc.collect()
    assert b"seconds_left{" not in prometheus.generate_latest(registry)


def test_a_chain_calls_every_hook_though_one_raises():
    calls = []

    def bad(event):
        calls.append("bad")
        raise ValueError("bad")

    with pytest.raises(ValueError, match=r"^bad$"):
        chain(bad, lambda event: calls.append("good"))(object())
    assert calls == ["bad", "good"]
