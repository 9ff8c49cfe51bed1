from __future__ import annotations

import gc
import os
import re
import threading
import weakref

import pytest
from support.inbound import NOTIFY_PATH, SECRET, Caller, receiver
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
    assert 870 < value("token_seconds_left") <= 900
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


# Requests of the bank.


@pytest.fixture
def make_caller(secrets):
    """Make a bank that calls a receiver: ``make_caller(function, time_limit_secs=1)``."""
    secrets.add(SECRET)

    def make(function=lambda call: {}, **changes):
        made = receiver(**changes)
        made.on(NOTIFY_PATH.removeprefix("/v1.0"), 52, function)
        return Caller(made)

    return make


def inbound(registry):
    """Return the counts of requests of the bank, by service, outcome and check."""
    names = ("service", "outcome", "check")
    return {
        tuple(sample.labels[name] for name in names): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "permata_auth_inbound_calls_total"
    }


def test_requests_of_the_bank_are_counted_by_outcome_and_check(make_caller, registry, metrics):
    caller = make_caller()
    metrics.watch(caller.receiver)
    headers = caller.headers()
    for _ in range(3):
        caller.call(headers=headers)
    caller.call(**{"X-SIGNATURE": "AAAA"})
    caller.call(b"x")
    caller.call(path="/v1.0/elsewhere")
    caller.call(method="GET")
    assert inbound(registry) == {
        ("73", "verified", ""): 1,
        ("52", "verified", ""): 1,
        ("52", "replayed", "X-EXTERNAL-ID"): 2,
        ("52", "refused", "Signature"): 1,
        ("52", "refused", "Body"): 1,
        ("00", "refused", "Path"): 1,
        ("52", "refused", "Method"): 1,
    }


def test_a_first_response_that_is_sent_again_is_counted_as_replayed(make_caller, registry, metrics):
    caller = make_caller(duplicates="replay")
    metrics.watch(caller.receiver)
    headers = caller.headers()
    assert [caller.call(headers=headers).code for _ in range(2)] == ["2005200"] * 2
    assert inbound(registry)["52", "verified", ""] == inbound(registry)["52", "replayed", ""] == 1


def test_a_slow_and_a_failing_function_are_counted(make_caller, registry, metrics):
    gate = threading.Event()

    def answer(call):
        if call.body:
            raise ValueError
        gate.wait(30)
        return {}

    caller = make_caller(answer, time_limit_secs=0.05)
    metrics.watch(caller.receiver)
    caller.call()
    gate.set()
    caller.call({"a": 1})
    found = inbound(registry)
    assert (found["52", "slow", "Time limit"], found["52", "failed", "Function"]) == (1, 1)


def test_an_outage_of_the_external_ids_is_counted_as_failed(make_caller, registry, metrics):
    class Down:
        def add(self, key, seconds):
            raise ConnectionError

        release = add

    caller = make_caller(external_ids=Down())
    metrics.watch(caller.receiver)
    caller.call()
    assert inbound(registry)["52", "failed", "External ids"] == 1


def test_no_value_of_a_request_or_of_the_merchant_becomes_a_label(make_caller, registry, metrics):
    from permata_auth.snap_inbound import SnapRefusal

    class Unpaid(SnapRefusal):
        check = "invoice 4711"

    def refuse(call):
        raise Unpaid("12", "Bill 4711 not found")

    caller = make_caller(refuse)
    metrics.watch(caller.receiver)
    for number in range(4711, 4721):
        caller.call(**{"X-EXTERNAL-ID": f"id-{number}", "CHANNEL-ID": f"{number}"})
        caller.call(path=f"/v1.0/{number}")
        caller.call(method=f"M{number}")
        caller.call(**{"X-TIMESTAMP": f"{number}"})
    assert inbound(registry) == {
        ("73", "verified", ""): 1,
        ("52", "verified", ""): 10,
        ("00", "refused", "Path"): 10,
        ("52", "refused", "Method"): 10,
        ("52", "refused", "X-TIMESTAMP"): 10,
    }


def test_each_receiver_has_a_name_of_its_own(bank, make_handler, make_caller, registry, metrics):
    one, two = make_caller(), make_caller()
    metrics.watch(make_handler(bank.credentials()))  # of another kind, by the same name
    metrics.watch(one.receiver)
    metrics.watch(one.receiver)
    for caller, client in ((two, "permata"), (one, "other")):
        with pytest.raises(ConfigurationError, match="one name of its own"):
            metrics.watch(caller.receiver, client=client)
    metrics.watch(two.receiver, client="two")
    assert [caller.ask_token().code for caller in (one, two)] == ["2007300"] * 2
    assert sorted(samples(registry, "inbound_calls_total")) == [
        f'permata_auth_inbound_calls_total{{check="",client="{client}",outcome="verified",'
        'service="73"} 1.0'
        for client in ("permata", "two")
    ]


def test_receivers_are_held_weakly_and_counted_by_living_metrics_alone(make_caller):
    registry = prometheus.CollectorRegistry()
    metrics = PermataMetrics(registry=registry)
    caller, kept = make_caller(), make_caller()
    metrics.watch(caller.receiver)
    metrics.watch(kept.receiver, client="kept")
    gone = weakref.ref(caller.receiver)
    del caller
    until(lambda: gc.collect() is not None and gone() is None, what="the receiver is collected")
    metrics.watch(make_caller().receiver)  # its name is free again

    registry.unregister(metrics)
    del metrics
    gc.collect()
    assert kept.ask_token().code == "2007300"
    assert prometheus.generate_latest(registry) == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_report_in_multiprocess_mode_what_they_inherited(bank, tmp_path):
    code = """
        import os, sys, warnings
        from permata_auth import LoginHandler, PermataCredentials
        from permata_auth.integrations.prometheus import PermataMetrics
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        # Python 3.14 and later tell that prometheus_client never closes its files.
        warnings.simplefilter("ignore", ResourceWarning)
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
