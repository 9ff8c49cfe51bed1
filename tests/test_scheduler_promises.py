"""The promises of a scheduler, seen from outside: its calls, its records, its state."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from support.threads import Call, until

from permata_auth import ConfigurationError, SchedulerConfig, TokenScheduler


@pytest.mark.parametrize("names", [("one", "other"), ("token", "token")], ids=["two", "same"])
@pytest.mark.parametrize("end", ["stop", "shutdown"])
def test_the_end_of_one_scheduler_is_not_that_of_another(clock, make_scheduler, names, end):
    one, other = (make_scheduler(name=name) for name in names)
    calls = []
    one.start(clock.wall() + 900, lambda: calls.append("one"))
    other.start(clock.wall() + 900, lambda: calls.append("other"))
    getattr(one, end)()
    assert other.is_active
    clock.advance(600)
    assert calls == ["other"]


def test_a_shutdown_does_not_wait_for_the_callback_of_another_scheduler(make_scheduler):
    one, other = make_scheduler(0, 0), make_scheduler(0, 0)
    entered, gate = threading.Event(), threading.Event()
    other.start(time.time() + 0.05, lambda: entered.set() or gate.wait(60))
    assert entered.wait(20)
    try:
        Call(one.shutdown, timeout=None).value()
    finally:
        gate.set()


@pytest.mark.parametrize("timeout", [None, 1000.0])
def test_a_shutdown_from_the_callback_returns_to_it(make_scheduler, timeout):
    scheduler, returned = make_scheduler(0, 0), threading.Event()

    def callback():
        scheduler.shutdown(timeout)
        returned.set()

    scheduler.start(time.time() + 0.05, callback)
    assert returned.wait(20)
    until(lambda: not scheduler.is_active)


def test_a_shutdown_from_the_callback_waits_for_another_callback_of_the_scheduler(make_scheduler):
    """One that was replaced while it ran, and still runs."""
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    order = []

    def replaced():
        entered.set()
        gate.wait(60)
        order.append("replaced")

    def replacing():
        order.append("replacing")
        scheduler.shutdown(timeout=None)
        order.append("shut down")

    scheduler.start(time.time() + 0.05, replaced)
    assert entered.wait(20)
    scheduler.start(time.time() + 0.05, replacing)
    until(lambda: order)
    gate.set()
    until(lambda: len(order) == 3)
    assert order == ["replacing", "replaced", "shut down"]


def test_a_callback_that_a_new_start_overtook_does_not_end_the_new_schedule(make_scheduler):
    """It succeeds after its schedule was replaced: the replacement is none of its business."""
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    scheduler.start(time.time() + 0.05, lambda: entered.set() or gate.wait(60))
    assert entered.wait(20)
    running = [t for t in threading.enumerate() if t.name == "permata-auth-token"]
    scheduler.start(time.time() + 900, print)
    due = scheduler.info().next_refresh_at
    gate.set()
    for thread in running:
        thread.join(20)
    assert scheduler.is_active
    assert abs((scheduler.info().next_refresh_at - due).total_seconds()) < 60


def test_a_failure_that_a_new_start_overtook_is_not_counted_for_the_new_schedule(make_scheduler):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()

    def callback():
        entered.set()
        gate.wait(60)
        raise OSError

    scheduler.start(time.time() + 100, callback, config=SchedulerConfig(99.9, 0))
    assert entered.wait(20)
    running = [t for t in threading.enumerate() if t.name == "permata-auth-token"]
    scheduler.start(time.time() + 900, print)
    gate.set()
    for thread in running:
        thread.join(20)
    assert scheduler.info().attempts == 0


def test_a_schedule_says_when_it_expires_also_after_a_failure(clock, make_scheduler):
    scheduler = make_scheduler()
    expires_at = clock.wall() + 900

    def callback():
        raise OSError

    scheduler.start(expires_at, callback)
    clock.advance(600)
    info = scheduler.info()
    assert info.attempts == 1
    assert info.expires_at.timestamp() == pytest.approx(expires_at)
    assert 0 < info.seconds_until_refresh < 300


def test_a_retry_runs_on_a_daemon_thread_of_the_same_name(clock):
    with_name = TokenScheduler(name="example")

    def callback():
        raise OSError

    with_name.start(clock.wall() + 900, callback)
    clock.advance(600)
    (timer,) = [t for t in threading.enumerate() if t.name == "permata-auth-example"]
    assert timer.daemon
    with_name.shutdown()
    timer.join(20)


def test_a_start_after_a_failure_is_one_schedule_and_not_two(clock, make_scheduler):
    """The retry that waits is replaced as any schedule is."""
    scheduler, calls = make_scheduler(), []

    def failing():
        calls.append("failing")
        raise OSError

    scheduler.start(clock.wall() + 900, failing)
    clock.advance(600)
    scheduler.start(clock.wall() + 900, lambda: calls.append("new"))
    clock.advance(1000)
    assert calls == ["failing", "new"]


def test_a_failure_is_a_warning_that_says_when_it_is_tried_again(clock, make_scheduler, caplog):
    caplog.set_level(logging.DEBUG)
    scheduler = make_scheduler()

    def callback():
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert f"{scheduler.info().seconds_until_refresh:.1f} seconds" in record.getMessage()
    assert "OSError" in record.getMessage()


def test_a_failure_past_expiry_of_a_schedule_that_was_stopped_is_not_one_given_up(
    clock, make_scheduler, caplog
):
    scheduler, calls = make_scheduler(), []

    def callback():
        calls.append("failing")
        scheduler.stop()
        clock.step_wall(1000)
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert calls == ["failing"]
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", ["", None, 5, b"example", ["example"]], ids=repr)
def test_a_name_is_text_and_not_empty(name):
    with pytest.raises(ConfigurationError, match="name must be a str"):
        TokenScheduler(name=name)
