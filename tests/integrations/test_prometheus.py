from __future__ import annotations

import gc
import os
import re
import weakref

import pytest
from support.scripts import run
from support.threads import logins_told, until

prometheus = pytest.importorskip("prometheus_client")

from permata_auth import ConfigurationError, LoginClient, PermataAuthError, RetryPolicy
from permata_auth.integrations.prometheus import PermataMetrics


@pytest.fixture
def registry():
    """A registry that is read once every login has told its events."""

    class Registry(prometheus.CollectorRegistry):
        def collect(self):
            logins_told()
            return super().collect()

    return Registry()


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
    handler.clear_cache()  # the pause after the failure
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


def samples(registry, name):
    text = prometheus.generate_latest(registry).decode().splitlines()
    return [line for line in text if line.startswith(f"permata_auth_{name}")]


def test_a_handler_that_is_watched_twice_is_counted_once(bank, make_handler, registry, metrics):
    handler = make_handler(bank.credentials())
    metrics.watch(handler)
    metrics.watch(handler)
    handler.get_token()
    assert samples(registry, "logins_total") == ['permata_auth_logins_total{client="permata"} 1.0']
    with pytest.raises(ConfigurationError, match="one name of its own"):
        metrics.watch(handler, client="other")


def test_two_handlers_need_two_names(bank, make_handler, registry, metrics):
    one, two = make_handler(bank.credentials()), make_handler(bank.credentials())
    metrics.watch(one)
    with pytest.raises(ConfigurationError, match="client='permata'"):
        metrics.watch(two)
    metrics.watch(two, client="two")
    one.get_token()
    two.get_token()
    assert len(samples(registry, "token_seconds_left{")) == 2
    assert len(samples(registry, "token_expiry_timestamp_seconds{")) == 2


@pytest.mark.parametrize("arguments", [("x", "c"), (None, "c")])
def test_what_is_no_handler_is_refused(metrics, arguments):
    handler, client = arguments
    with pytest.raises(ConfigurationError):
        metrics.watch(handler, client=client)


def test_a_dropped_handler_leaves_its_counts_and_its_name(bank, registry, metrics):
    from permata_auth import LoginHandler

    handler = LoginHandler(bank.credentials())
    metrics.watch(handler)
    handler.get_token()
    assert len(samples(registry, "token_expiry_timestamp_seconds{")) == 1
    handler.shutdown()
    gone = weakref.ref(handler)
    del handler
    until(lambda: gc.collect() is not None and gone() is None, what="the handler is collected")

    assert samples(registry, "token_") == []
    assert samples(registry, "logins_total") == ['permata_auth_logins_total{client="permata"} 1.0']
    with LoginHandler(bank.credentials()) as another:
        metrics.watch(another)
        another.get_token()
        assert samples(registry, "logins_total")[0].endswith(" 2.0")


def test_unregistered_it_can_be_made_again(bank, make_handler, registry):
    handler = make_handler(bank.credentials())
    first = PermataMetrics(registry=registry)
    first.watch(handler)
    handler.get_token()
    registry.unregister(first)
    assert prometheus.generate_latest(registry) == b""

    second = PermataMetrics(registry=registry)
    second.watch(handler)
    assert len(samples(registry, "token_expiry_timestamp_seconds{")) == 1
    handler.refresh()
    assert samples(registry, "logins_total") == ['permata_auth_logins_total{client="permata"} 1.0']


def test_another_one_on_the_same_registry_is_refused(registry, metrics):
    with pytest.raises(ValueError, match="Duplicated"):
        PermataMetrics(registry=registry)


def test_a_login_on_demand_after_the_shutdown_is_not_late(clock, make_handler, registry, metrics):
    from support.clients import ScriptedClient, credentials

    handler = make_handler(credentials(), client=ScriptedClient(clock=clock))
    metrics.watch(handler)
    handler.get_token()
    handler.shutdown()
    clock.advance(2_000)
    handler.get_token()
    assert samples(registry, "refreshes_late_total")[0].endswith(" 0.0")
    assert samples(registry, "logins_total")[0].endswith(" 2.0")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_report_in_multiprocess_mode_what_they_inherited(bank, tmp_path):
    code = """
        import os, sys
        from permata_auth import LoginHandler, PermataCredentials
        from permata_auth.integrations.prometheus import PermataMetrics
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        handler = LoginHandler(PermataCredentials.from_env())
        metrics = PermataMetrics()
        metrics.watch(handler)
        handler.get_token()
        child = os.fork()
        if child == 0:
            handler.get_token()  # the parent's token, without a login
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        print(child)
        print(generate_latest(registry).decode())
        handler.shutdown()
        """
    ended = run(code, env=bank.environment() | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    assert (ended.status, ended.err) == (0, "")
    child = ended.out.splitlines()[0]
    expiries = re.findall(r'expiry_timestamp_seconds{client="permata",pid="(\d+)"}', ended.out)
    assert len(expiries) == 2
    assert child in expiries
    assert 'permata_auth_logins_total{client="permata"} 1.0' in ended.out
