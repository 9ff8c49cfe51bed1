from __future__ import annotations

import copy
import functools
import gc
import itertools
import logging
import math
import pickle
import random
import signal
import threading
import time
import weakref
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.clock import FakeClock
from support.scripts import run
from support.threads import Call, until

from permata_auth import ConfigurationError, SchedulerConfig, TokenScheduler
from permata_auth import scheduler as module
from permata_auth._logging import tagged

START = "Starting token refresh scheduler, will refresh in %d seconds"
DONE = "Token refresh by scheduler completed successfully"


class Callback:
    """Counts its calls; raises the next of ``errors`` as long as there is one."""

    def __init__(self, clock, *errors):
        self.clock = clock
        self.errors = list(errors)
        self.times = []
        self.threads = []

    def __call__(self):
        self.times.append(self.clock.now())
        self.threads.append(threading.current_thread())
        if self.errors:
            raise self.errors.pop(0)


class Failed(Exception):
    def __init__(self, retry_after):
        super().__init__()
        self.retry_after = retry_after


def str_of(value):
    return f"{value!r:.24}"


def timers(name="token"):
    return [t for t in threading.enumerate() if t.name == f"permata-auth-{name}"]


def records(caplog, level=logging.DEBUG):
    return [r for r in caplog.records if r.name == module.logger.name and r.levelno >= level]


@pytest.fixture(autouse=True)
def _all_levels(caplog):
    caplog.set_level(logging.DEBUG, "permata_auth")


# The configuration


def test_the_defaults_are_five_minutes_and_one():
    assert TokenScheduler().config == SchedulerConfig(300.0, 60.0) == SchedulerConfig()


@pytest.mark.parametrize("value", [90, 90.0, timedelta(minutes=1.5)])
def test_durations_are_int_float_or_timedelta(value):
    config = SchedulerConfig(refresh_buffer_secs=value, min_schedule_time_secs=value)
    assert (config.refresh_buffer_secs, config.min_schedule_time_secs) == (90.0, 90.0)
    assert type(config.refresh_buffer_secs) is float


@pytest.mark.parametrize("field", ["refresh_buffer_secs", "min_schedule_time_secs"])
@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        timedelta(seconds=-1),
        math.nan,
        math.inf,
        -math.inf,
        "5",
        None,
        True,
        [],
        10**400,
    ],
    ids=str_of,
)
def test_what_is_no_duration_is_refused(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        SchedulerConfig(**{field: value})
    assert isinstance(caught.value, ValueError)


def test_a_config_is_frozen():
    with pytest.raises(AttributeError):
        SchedulerConfig().refresh_buffer_secs = 1.0


def test_what_is_no_config_is_refused():
    scheduler = TokenScheduler()
    for wrong in ({"refresh_buffer_secs": 1}, None, 300):
        with pytest.raises(ConfigurationError):
            scheduler.update_config(wrong)
    with pytest.raises(ConfigurationError):
        TokenScheduler((300, 60))
    assert scheduler.config == SchedulerConfig()


# When it is called


@pytest.mark.parametrize(
    ("buffer", "minimum", "life", "due"),
    [
        (300, 60, 900, 600),
        (300, 60, 361, 61),
        (300, 60, 360, 60),
        (0, 60, 900, 900),
        (300, 0, 300.5, 0.5),
        (300, 0, 300, 0),
        (0, 0, 5, 5),
        (0, 0, 0, 0),
        (1000, 0, 86_400, 85_400),
    ],
)
def test_the_callback_is_called_a_buffer_before_expiry(
    clock, make_scheduler, buffer, minimum, life, due
):
    scheduler, callback = make_scheduler(buffer, minimum), Callback(clock)
    began = clock.now()
    assert scheduler.start(clock.wall() + life, callback) is True
    if due:
        clock.advance(due - 0.25)
        assert callback.times == []
        assert scheduler.is_active
    clock.advance(0.25)
    assert callback.times == [began + due]
    clock.advance(2 * life)
    assert len(callback.times) == 1
    assert (scheduler.is_active, scheduler.info()) == (False, None)


@pytest.mark.parametrize(
    ("buffer", "minimum", "life"),
    [(300, 60, 359), (300, 60, 300), (300, 60, 0), (300, 60, -1e9), (0, 60, 59), (300, 0, 299)],
)
def test_less_than_the_minimum_to_the_refresh_is_skipped(
    clock, make_scheduler, caplog, buffer, minimum, life
):
    scheduler, callback = make_scheduler(buffer, minimum), Callback(clock)
    assert scheduler.start(clock.wall() + life, callback) is False
    assert (scheduler.is_active, scheduler.info(), timers()) == (False, None, [])
    clock.advance(2000)
    assert callback.times == []
    (record,) = records(caplog)
    assert record.levelno == logging.INFO
    assert "not scheduled" in record.getMessage()


def test_an_aware_datetime_of_any_zone_says_when_it_expires(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    began = clock.now()
    wib = timezone(timedelta(hours=7))
    assert scheduler.start(datetime.fromtimestamp(clock.wall() + 900, wib), callback)
    clock.advance(600)
    assert callback.times == [began + 600]


def test_one_schedule_may_have_margins_of_its_own(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    assert scheduler.start(clock.wall() + 10, callback, config=SchedulerConfig(4, 1))
    assert scheduler.config == SchedulerConfig(300, 60)
    clock.advance(6)
    assert len(callback.times) == 1


def test_a_new_config_counts_from_the_next_start(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    began = clock.now()
    scheduler.start(clock.wall() + 900, callback)
    scheduler.update_config(SchedulerConfig(10, 5))
    assert scheduler.config == SchedulerConfig(10, 5)
    clock.advance(600)
    assert callback.times == [began + 600]
    scheduler.start(clock.wall() + 20, callback)
    clock.advance(10)
    assert callback.times == [began + 600, began + 610]


def test_a_late_timer_still_fires(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    clock.jump(100_000)
    assert len(callback.times) == 1


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_step_of_the_wall_clock_moves_nothing(clock, make_scheduler, step):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    clock.step_wall(step)
    clock.advance(599)
    assert callback.times == []
    clock.advance(1)
    assert len(callback.times) == 1


@pytest.mark.parametrize("expires_at", [1e300, 1000 * 365 * 86_400 + 1.7e9, datetime.max])
def test_an_expiry_beyond_what_timers_can_wait_for_waits(make_scheduler, expires_at):
    scheduler = make_scheduler()
    if isinstance(expires_at, datetime):
        expires_at = expires_at.replace(tzinfo=timezone.utc)
    assert scheduler.start(expires_at, lambda: None) is True
    (timer,) = timers()
    until(lambda: timer.finished.waiting)
    assert scheduler.is_active
    assert scheduler.info().seconds_until_refresh > threading.TIMEOUT_MAX / 2
    assert "refresh in" in str(scheduler.info())
    assert scheduler.info().next_refresh_at.tzinfo is not None


def test_a_wait_longer_than_locks_allow_is_taken_up_again(clock, make_scheduler, monkeypatch):
    fake_wait = clock._wait
    monkeypatch.setattr(
        "permata_auth._latch.Latch.wait",
        lambda latch, timeout=None: fake_wait(latch, min(timeout, 124.9375)),
    )
    scheduler, callback = make_scheduler(), Callback(clock)
    began = clock.now()
    scheduler.start(clock.wall() + 1300, callback)
    clock.advance(1000)
    assert callback.times == [began + 1000]
    assert [secs for _, secs in clock.waits] == [124.9375] * 8 + [0.5]


def test_it_waits_on_the_real_clock_too(make_scheduler):
    scheduler, called = make_scheduler(0.1, 0.1), threading.Event()
    began = time.monotonic()
    assert scheduler.start(time.time() + 0.4, called.set)
    assert called.wait(60)
    assert time.monotonic() - began >= 0.29
    until(lambda: not scheduler.is_active)


# Replacing and stopping


def test_start_replaces_the_running_schedule(clock, make_scheduler):
    scheduler, old, new = make_scheduler(), Callback(clock), Callback(clock)
    scheduler.start(clock.wall() + 900, old)
    scheduler.start(clock.wall() + 1000, new)
    clock.settle()
    assert len(timers()) == 1
    clock.advance(2000)
    assert (len(old.times), len(new.times)) == (0, 1)


def test_start_replaces_the_running_schedule_also_when_it_is_skipped(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    assert scheduler.start(clock.wall() + 100, callback) is False
    assert not scheduler.is_active
    clock.advance(2000)
    assert callback.times == []
    assert timers() == []


@pytest.mark.parametrize(
    ("expires_at", "callback", "error"),
    [
        (datetime(2100, 1, 1), print, ValueError),
        (math.nan, print, ValueError),
        (math.inf, print, ValueError),
        (-math.inf, print, ValueError),
        (10**400, print, ValueError),
        ("4000000000", print, TypeError),
        (None, print, TypeError),
        (True, print, TypeError),
        (timedelta(hours=1), print, TypeError),
        (4e9, None, TypeError),
        (4e9, "print", TypeError),
        (0, None, TypeError),
    ],
    ids=str_of,
)
def test_invalid_arguments_change_nothing(clock, make_scheduler, expires_at, callback, error):
    scheduler, running = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, running)
    before = scheduler.info()
    with pytest.raises(error):
        scheduler.start(expires_at, callback)
    assert scheduler.info() == before
    clock.advance(600)
    assert len(running.times) == 1


@pytest.mark.parametrize("config", [(300, 60), object(), "x"])
def test_an_invalid_config_for_one_schedule_changes_nothing(clock, make_scheduler, config):
    scheduler, running = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, running)
    with pytest.raises((TypeError, ValueError)):
        scheduler.start(clock.wall() + 9000, print, config=config)
    clock.advance(600)
    assert len(running.times) == 1


def test_stop_drops_the_schedule_and_is_idempotent(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.stop()
    scheduler.start(clock.wall() + 900, callback)
    scheduler.stop()
    scheduler.stop()
    assert (scheduler.is_active, scheduler.info()) == (False, None)
    clock.advance(2000)
    assert callback.times == []
    assert scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert len(callback.times) == 1


def test_stop_with_a_callback_drops_that_ones_schedule_only(clock, make_scheduler):
    scheduler, mine, other = make_scheduler(), Callback(clock), Callback(clock)
    scheduler.start(clock.wall() + 900, mine)
    scheduler.stop(other)
    assert scheduler.is_active
    scheduler.stop(mine)
    assert not scheduler.is_active


# A callback that raises


def test_a_failed_callback_is_tried_again_until_it_succeeds(clock, make_scheduler, caplog):
    callback = Callback(clock, OSError("first"), ValueError("second"))
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    for attempts in (1, 2):
        assert len(callback.times) == attempts
        assert scheduler.is_active
        assert scheduler.info().attempts == attempts
        assert f"after {attempts} failed attempts" in str(scheduler.info())
        clock.advance_to_next()
    assert len(callback.times) == 3
    assert not scheduler.is_active
    warnings = records(caplog, logging.WARNING)
    assert [record.levelno for record in warnings] == [logging.WARNING] * 2
    assert ["OSError: first" in warnings[0].getMessage(), "second" in warnings[1].getMessage()]
    assert records(caplog)[-1].msg == DONE


@pytest.mark.parametrize(
    "error", [SystemExit(), KeyboardInterrupt(), GeneratorExit(), MemoryError()]
)
def test_whatever_is_raised_does_not_end_the_schedule(clock, make_scheduler, error):
    scheduler, callback = make_scheduler(), Callback(clock, error)
    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert scheduler.is_active
    clock.advance(5)
    assert len(callback.times) == 2


def test_a_slow_callback_is_not_called_twice(clock, make_scheduler):
    scheduler, gate, calls = make_scheduler(), threading.Event(), []

    def callback():
        calls.append(clock.now())
        clock.park(gate)

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert calls
    clock.advance(3000)
    assert scheduler.is_active
    gate.set()
    until(lambda: not timers())
    clock.settle()
    assert len(calls) == 1
    assert not scheduler.is_active


def test_the_frames_of_a_failure_are_logged_at_debug_level_and_its_text_nowhere(
    clock, make_scheduler, caplog
):
    scheduler = make_scheduler()
    for level, has_frames in ((logging.DEBUG, True), (logging.INFO, False)):
        caplog.clear()
        caplog.set_level(level, "permata_auth")
        scheduler.start(clock.wall() + 900, Callback(clock, OSError("a secret")))
        clock.advance(600)
        texts = [record.getMessage() for record in records(caplog)]
        assert any("in __call__" in text for text in texts) is has_frames
        assert not any("a secret" in text for text in texts)
        assert not any(record.exc_info for record in records(caplog))
        scheduler.stop()


# A callback that calls the scheduler


@pytest.mark.parametrize("raises", [False, True])
def test_a_callback_may_start_its_own_replacement(clock, make_scheduler, raises):
    scheduler, calls = make_scheduler(), []

    def callback():
        calls.append(clock.now())
        assert scheduler.start(clock.wall() + 900, callback)
        if raises:
            raise OSError

    began = clock.now()
    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600 * 5)
    assert calls == [began + 600 * n for n in range(1, 6)]
    assert scheduler.is_active
    assert len(timers()) == 1
    assert scheduler.info().attempts == 0


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("method", ["stop", "shutdown"])
def test_a_callback_may_stop_its_own_schedule(clock, make_scheduler, method, raises, caplog):
    scheduler, calls, returned = make_scheduler(), [], []

    def callback():
        calls.append(1)
        getattr(scheduler, method)()
        returned.append(1)
        if raises:
            raise OSError("gone unseen")

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert (calls, scheduler.is_active, timers()) == ([1], False, [])
    clock.advance(2000)
    assert (calls, returned) == ([1], [1])
    assert records(caplog, logging.ERROR) == []


# Shutting down


def test_shutdown_waits_for_the_callback(make_scheduler):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    ended = []

    def callback():
        entered.set()
        gate.wait(20)
        ended.append(True)

    scheduler.start(time.time() + 0.1, callback)
    assert entered.wait(20)
    shutdown = Call(scheduler.shutdown, timeout=20)
    until(lambda: not scheduler.is_active)
    assert not shutdown.is_done
    gate.set()
    shutdown.value()
    assert ended == [True]


@pytest.mark.parametrize("replace", ["stop", "start"])
def test_shutdown_waits_for_a_callback_whose_schedule_was_replaced(make_scheduler, replace):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()

    def callback():
        entered.set()
        gate.wait(20)

    scheduler.start(time.time() + 0.1, callback)
    assert entered.wait(20)
    if replace == "stop":
        scheduler.stop()
    else:
        scheduler.start(time.time() + 900, print)
    shutdown = Call(scheduler.shutdown, timeout=None)
    shutdown._thread.join(0.1)
    assert not shutdown.is_done
    gate.set()
    shutdown.value()
    assert timers() == []


def test_shutdown_waits_no_longer_than_its_timeout(make_scheduler):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    scheduler.start(time.time() + 0.1, lambda: entered.set() or gate.wait(60))
    assert entered.wait(20)
    began = time.monotonic()
    scheduler.shutdown(timeout=0.2)
    assert time.monotonic() - began >= 0.19
    scheduler.shutdown(timeout=0)
    scheduler.shutdown(timeout=-1)
    assert timers(), "one of them waited for the callback"
    gate.set()


def test_shutdown_is_final_and_idempotent(clock, make_scheduler, caplog):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    scheduler.shutdown()
    scheduler.shutdown()
    caplog.clear()
    assert scheduler.start(clock.wall() + 900, callback) is False
    assert [record.levelno for record in records(caplog)] == [logging.DEBUG]
    scheduler.stop()
    clock.settle()
    assert (scheduler.is_active, timers()) == (False, [])
    clock.advance(2000)
    assert callback.times == []


@pytest.mark.parametrize("outcome", ["returns", "raises", "starts"])
def test_a_callback_that_outlives_the_shutdown_resurrects_nothing(make_scheduler, outcome):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    calls, started = [], []

    def callback():
        calls.append(1)
        entered.set()
        gate.wait(20)
        if outcome == "starts":
            started.append(scheduler.start(time.time() + 900, callback))
        if outcome == "raises":
            raise OSError

    scheduler.start(time.time() + 100, callback, config=SchedulerConfig(99.9, 0))
    assert entered.wait(20)
    scheduler.shutdown(timeout=0)
    gate.set()
    until(lambda: not timers())
    assert (calls, scheduler.is_active) == ([1], False)
    assert started == ([False] if outcome == "starts" else [])


def test_shutdown_while_a_timer_thread_is_being_started(make_scheduler, monkeypatch):
    scheduler, entered, gate = make_scheduler(), threading.Event(), threading.Event()
    real_start = threading.Thread.start

    def slow_start(thread):
        if not thread.name.startswith("permata-auth-"):
            return real_start(thread)
        with threading._active_limbo_lock:
            threading._limbo[thread] = thread  # as start() itself does, before there is a thread
        entered.set()
        gate.wait(20)
        return real_start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow_start)
    start = Call(scheduler.start, time.time() + 900, print)
    assert entered.wait(20)
    try:
        scheduler.shutdown(timeout=1)
    finally:
        gate.set()
    start.join()
    until(lambda: not timers())
    assert not scheduler.is_active


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        ("x", TypeError),
        (b"1", TypeError),
        (True, TypeError),
        ([], TypeError),
        (math.nan, ValueError),
    ],
    ids=str_of,
)
def test_an_invalid_timeout_of_shutdown_changes_nothing(clock, make_scheduler, timeout, error):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    with pytest.raises(error, match="timeout"):
        scheduler.shutdown(timeout=timeout)
    assert scheduler.is_active
    clock.advance(600)
    assert len(callback.times) == 1
    assert scheduler.start(clock.wall() + 900, callback)


@pytest.mark.parametrize("timeout", [None, 5, 0.5, timedelta(seconds=1), 0, -1, math.inf, 10**6])
def test_every_duration_is_a_timeout_of_shutdown(make_scheduler, timeout):
    scheduler = make_scheduler()
    scheduler.start(time.time() + 900, print)
    scheduler.shutdown(timeout=timeout)
    assert not scheduler.is_active


def test_shutdown_waits_for_a_callback_that_came_before_its_start_returned(
    make_scheduler, monkeypatch
):
    scheduler, entered, gate = make_scheduler(0, 0), threading.Event(), threading.Event()
    real_start = threading.Thread.start

    def slow_to_return(thread):
        real_start(thread)
        if thread.name.startswith("permata-auth-"):
            gate.wait(20)

    monkeypatch.setattr(threading.Thread, "start", slow_to_return)
    start = Call(scheduler.start, time.time() + 0.05, lambda: entered.set() or gate.wait(20))
    assert entered.wait(20)
    shutdown = Call(scheduler.shutdown, timeout=None)
    shutdown._thread.join(0.1)
    assert not shutdown.is_done
    gate.set()
    shutdown.value()
    start.value()


def test_after_a_shutdown_no_timer_runs(make_scheduler):
    scheduler = make_scheduler()
    for _ in range(20):
        scheduler.start(time.time() + 900, print)
    scheduler.shutdown(timeout=None)
    assert timers() == []


def test_a_callback_is_let_go_of_when_its_schedule_ends(make_scheduler):
    scheduler, callback = make_scheduler(), Owner()
    reference = weakref.ref(callback)
    scheduler.start(time.time() + 900, functools.partial(print, callback))
    del callback
    assert reference() is not None
    scheduler.stop()
    until(lambda: not timers())
    gc.collect()
    assert reference() is None


# Owners


class Owner:
    """Something that keeps a scheduler for itself, as a LoginHandler does."""


def test_one_owner_at_a_time(make_scheduler):
    scheduler, one, other = make_scheduler(name="example"), Owner(), Owner()
    scheduler.reserve(one)
    scheduler.reserve(one)
    with pytest.raises(ConfigurationError, match=r"'example' serves another handler"):
        scheduler.reserve(other)
    scheduler.release(other)  # not its to release
    with pytest.raises(ConfigurationError):
        scheduler.reserve(other)
    scheduler.release(one)
    scheduler.release(one)
    scheduler.reserve(other)
    with pytest.raises(ConfigurationError):
        scheduler.reserve(one)


def test_a_collected_owner_takes_its_schedule_along_and_leaves_the_scheduler(clock, make_scheduler):
    scheduler, old, new = make_scheduler(), Callback(clock), Callback(clock)
    owner = Owner()
    scheduler.reserve(owner)
    scheduler.start(clock.wall() + 900, old)
    del owner
    gc.collect()
    clock.settle()
    assert (scheduler.is_active, timers()) == (False, [])
    other = Owner()
    scheduler.reserve(other)
    assert scheduler.start(clock.wall() + 900, new)
    clock.advance(2000)
    assert (len(old.times), len(new.times)) == (0, 1)


def test_an_owner_that_has_released_the_scheduler_no_longer_ends_its_schedules(
    clock, make_scheduler
):
    scheduler, callback = make_scheduler(), Callback(clock)
    first, second = Owner(), Owner()
    scheduler.reserve(first)
    scheduler.release(first)
    scheduler.reserve(second)
    scheduler.start(clock.wall() + 900, callback)
    del first
    gc.collect()
    clock.advance(600)
    assert len(callback.times) == 1


def test_an_owner_is_held_weakly_also_while_its_schedule_runs(make_scheduler):
    scheduler, owner = make_scheduler(), Owner()
    scheduler.reserve(owner)
    scheduler.start(time.time() + 900, print)
    reference = weakref.ref(owner)
    del owner
    gc.collect()
    assert reference() is None
    until(lambda: not timers())


def test_an_owner_that_outlives_the_scheduler_is_no_trouble():
    scheduler, owner = TokenScheduler(), Owner()
    scheduler.reserve(owner)
    reference = weakref.ref(scheduler)
    del scheduler
    assert reference() is None
    del owner
    gc.collect()


def test_an_owner_collected_in_the_callback_is_retried_no_more(clock, make_scheduler):
    scheduler, owners = make_scheduler(), [Owner()]
    scheduler.reserve(owners[0])

    def callback():
        owners.clear()
        gc.collect()
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert (scheduler.is_active, timers()) == (False, [])


def test_a_method_of_the_schedulers_own_holder_keeps_it_until_the_schedule_ends():
    """As the class says, with what to do about it."""
    assert "stop the schedule or give a callback that holds the" in TokenScheduler.__doc__

    class Holder:
        def __init__(self, callback):
            self.scheduler = TokenScheduler()
            self.scheduler.start(time.time() + 900, callback or self.refresh)

        def refresh(self):
            raise NotImplementedError

    held, let_go = Holder(None), Holder(print)
    scheduler, references = held.scheduler, [weakref.ref(held), weakref.ref(let_go)]
    del held, let_go
    gc.collect()
    assert [reference() is not None for reference in references] == [True, False]
    scheduler.stop()
    until(lambda: not timers())
    gc.collect()
    assert references[0]() is None


# Threads


def test_timers_are_daemons_with_a_name_and_only_while_there_is_a_schedule(make_scheduler):
    scheduler = make_scheduler(name="example")
    assert timers("example") == []
    scheduler.start(time.time() + 900, print)
    (timer,) = timers("example")
    assert timer.daemon
    scheduler.stop()
    until(lambda: not timers("example"))


def test_the_callback_runs_in_the_timers_thread(clock, make_scheduler):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)
    (timer,) = timers()
    clock.advance(600)
    assert callback.threads == [timer]


def test_an_idle_schedule_wakes_up_for_nothing(clock, make_scheduler):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 90_000, print)
    clock.settle()
    assert clock.waits == [("permata-auth-token", 89_700.0)]
    clock.advance(80_000)
    assert len(clock.waits) == 1


def test_where_no_thread_can_be_started_nothing_is_scheduled(
    clock, make_scheduler, caplog, monkeypatch
):
    scheduler, callback = make_scheduler(), Callback(clock)
    scheduler.start(clock.wall() + 900, callback)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        caplog.clear()
        assert scheduler.start(clock.wall() + 900, callback) is False
    (warning,) = records(caplog)
    assert warning.levelno == logging.WARNING
    assert (scheduler.is_active, scheduler.info()) == (False, None)
    clock.advance(2000)
    assert callback.times == []
    assert scheduler.start(clock.wall() + 900, callback) is True


def test_where_no_thread_can_be_started_for_a_retry_the_schedule_ends(
    clock, make_scheduler, caplog, monkeypatch
):
    scheduler = make_scheduler()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    def callback():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        raise OSError("refused")

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert not scheduler.is_active
    assert records(caplog, logging.WARNING)


def test_a_scheduler_that_is_dropped_is_collected_and_its_thread_ends():
    scheduler = TokenScheduler()
    scheduler.start(time.time() + 900, print)
    (timer,) = timers()
    reference = weakref.ref(scheduler)
    del scheduler
    assert reference() is None
    timer.join(20)
    assert not timer.is_alive()


def test_a_scheduler_dropped_by_its_callback_is_retried_no_more(clock, caplog):
    caplog.set_level(logging.ERROR, "permata_auth")  # a record keeps the error and all its frames
    schedulers = [TokenScheduler()]

    def callback():
        schedulers.clear()
        raise OSError

    schedulers[0].start(clock.wall() + 900, callback)
    reference = weakref.ref(schedulers[0])
    clock.advance(600)
    gc.collect()
    until(lambda: not timers())
    assert reference() is None


@pytest.mark.usefixtures("untraced_threads")
def test_a_thousand_schedulers_leave_nothing_behind(caplog):
    caplog.set_level(logging.ERROR, "permata_auth")  # the test's own log keeps the records

    def cycle():
        scheduler = TokenScheduler()
        scheduler.start(time.time() + 900, lambda: scheduler)
        scheduler.shutdown()

    cycle()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        cycle()
    gc.collect()
    assert timers() == []
    assert len(gc.get_objects()) - before < 500


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads here")
def test_signal_handlers_may_use_the_scheduler_that_they_interrupt(make_scheduler):
    """They run in the main thread, which may be inside start() and hold its lock."""
    scheduler, interruptions = make_scheduler(), []
    main = threading.get_ident()

    def interrupt(*_):
        scheduler.info()
        is_started = scheduler.start(time.time() + 900, print)
        scheduler.stop()
        interruptions.append(is_started)

    def send():
        for sent in range(200):
            signal.pthread_kill(main, signal.SIGUSR1)
            until(lambda sent=sent: len(interruptions) > sent)

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender = Call(send)
        while not sender.is_done:
            scheduler.start(time.time() + 900, print)
            scheduler.stop()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    sender.value()
    assert interruptions == [True] * 200
    assert not scheduler.is_active
    until(lambda: not timers())


@pytest.mark.parametrize("is_running", [False, True], ids=["before", "after"])
def test_what_a_signal_handler_throws_into_a_start_leaves_no_schedule_without_a_timer(
    make_scheduler, monkeypatch, is_running
):
    scheduler = make_scheduler()
    real_start = threading.Thread.start

    def interrupted_start(thread):
        if is_running:
            real_start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted_start)
        with pytest.raises(KeyboardInterrupt):
            scheduler.start(time.time() + 900, print)
    assert (scheduler.is_active, scheduler.info()) == (False, None)
    until(lambda: not timers())
    assert scheduler.start(time.time() + 900, print)
    assert scheduler.is_active


class Emitting(logging.Handler):
    """Calls ``function`` for each record of the scheduler."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def emit(self, record):
        self.function(record)

    def __enter__(self):
        module.logger._logger.addHandler(self)
        return self

    def __exit__(self, *exc_info):
        module.logger._logger.removeHandler(self)


def test_no_lock_is_held_while_anything_is_logged(clock, make_scheduler):
    """Another thread that holds a lock of logging may come for the scheduler meanwhile."""
    scheduler, seen, locked = make_scheduler(), set(), []

    def use_from_another_thread(record):
        seen.add(record.msg.split(",")[0])
        call = Call(scheduler.stop, print)
        call._thread.join(5)
        if not call.is_done:  # not raised here: nothing that logging raises gets out
            locked.append(record.getMessage())

    with Emitting(use_from_another_thread):
        scheduler.start(clock.wall() + 100, Callback(clock))
        scheduler.start(clock.wall() + 900, Callback(clock, OSError(), Failed(1e9)))
        clock.advance(900)
        scheduler.start(clock.wall() + 900, Callback(clock))
        clock.advance(600)
        scheduler.shutdown()
        scheduler.start(clock.wall() + 900, Callback(clock))
    assert locked == []
    assert {text.split(" at\n")[0] for text in seen} >= {
        "Token refresh not scheduled",
        "Token refresh failed",
        "Token refresh given up at expiry",
        START.split(",", maxsplit=1)[0],
        DONE,
    }


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, OSError])
def test_a_log_handler_that_raises_in_the_timers_thread_ends_no_schedule(
    clock, make_scheduler, error
):
    scheduler, callback = make_scheduler(), Callback(clock, OSError(), OSError())
    main = threading.current_thread()

    def fail(record):
        if threading.current_thread() is not main:
            raise error

    scheduler.start(clock.wall() + 900, callback)
    with Emitting(fail):
        clock.advance(610)
    assert len(callback.times) == 3


def test_the_callback_runs_in_a_context_of_its_own(clock, make_scheduler, caplog):
    """The ids of the call that set the schedule off are not those of the refresh."""
    scheduler, seen = make_scheduler(), []
    variable = ContextVar("variable", default="nothing")
    variable.set("the caller's")

    def callback():
        seen.append(variable.get())
        variable.set("the callback's")
        if len(seen) == 1:
            raise OSError

    with tagged(unique_id="a call's"):
        scheduler.start(clock.wall() + 900, callback)
        clock.advance(602)
    assert seen == ["nothing"] * 2
    assert variable.get() == "the caller's"
    for record in records(caplog)[1:]:
        assert not hasattr(record, "permata_unique_id")


_LATE_GEVENT = """
    import sys, time, warnings
    from permata_auth import SchedulerConfig, TokenScheduler

    scheduler, calls = TokenScheduler(SchedulerConfig(0, 0)), []
    starts_early = sys.argv[1] == "early"

    def callback():
        calls.append(1)
        if len(calls) == 1 and not starts_early:  # a retry would be a greenlet of the old thread
            raise OSError

    def start():
        margins = SchedulerConfig(99.9, 0)  # so that the second call comes in a second
        assert scheduler.start(time.time() + 100, callback, config=margins)

    if starts_early:
        start()
    warnings.simplefilter("ignore")  # that it comes late
    from gevent import monkey
    monkey.patch_all()
    if not starts_early:
        start()
    while scheduler.is_active:
        time.sleep(0.01)
    assert len(calls) == 2 - starts_early

    entered, gate, order = [], [], []

    def slow():
        entered.append(1)
        while not gate:
            time.sleep(0.01)
        order.append("called")

    assert scheduler.start(time.time() + 0.05, slow)
    while not entered:
        time.sleep(0.01)
    import gevent
    gevent.spawn_later(0.1, gate.append, 1)
    scheduler.shutdown(timeout=None)
    order.append("shut down")
    print(order, scheduler.is_active)
"""


@pytest.mark.parametrize("start", ["early", "late"])
def test_gevent_may_patch_after_the_import_and_after_the_start(start):
    pytest.importorskip("gevent")
    ended = run(_LATE_GEVENT, start)
    assert (ended.status, ended.out) == (0, "['called', 'shut down'] False\n")
    # As gevent replaces get_ident() under a thread that runs, threading's own record of it breaks.
    assert ended.err == "" or (start == "early" and "permata_auth" not in ended.err)


# Rapid use from many threads


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_use_never_leaves_two_timers_nor_a_resurrected_one(seed):
    scheduler = TokenScheduler(SchedulerConfig(0, 0))
    dice = random.Random(seed)
    calls = itertools.count()
    is_over = threading.Event()

    def callback():
        next(calls)
        if dice.random() < 0.3:
            scheduler.start(time.time() + dice.random() * 0.01, callback)
        if dice.random() < 0.3:
            raise OSError

    def hammer():
        while not is_over.is_set():
            if dice.random() < 0.7:
                scheduler.start(time.time() + dice.random() * 0.01, callback)
            else:
                scheduler.stop()
            str(scheduler.info())
            repr(scheduler)

    hammers = [Call(hammer) for _ in range(8)]
    until(lambda: next(calls) > 300, timeout=60)
    is_over.set()
    for each in hammers:
        each.value()
    scheduler.start(time.time() + 900, callback)
    # At rest: every replaced schedule ends, and the last schedule alone remains.
    until(lambda: len(timers()) == 1)
    assert scheduler.is_active
    ends = [Call(scheduler.shutdown) for _ in range(4)]
    resurrections = [Call(scheduler.start, time.time() + 900, callback) for _ in range(4)]
    for call in ends:
        call.value()
    for call in resurrections:
        call.value()
    until(lambda: not timers())
    assert scheduler.start(time.time() + 900, callback) is False
    assert (scheduler.is_active, timers()) == (False, [])


def test_a_shutdown_amid_starts_is_final():
    for _ in range(50):
        scheduler = TokenScheduler(SchedulerConfig(0, 0))
        barrier = threading.Barrier(4)

        def start(scheduler=scheduler, barrier=barrier):
            barrier.wait(20)
            for _ in range(20):
                scheduler.start(time.time() + 900, print)

        starts = [Call(start) for _ in range(3)]
        barrier.wait(20)
        scheduler.shutdown()
        for call in starts:
            call.value()
        assert not scheduler.is_active
        until(lambda: not timers())


# Its state from outside


def test_info_tells_the_truth(clock, make_scheduler):
    scheduler = make_scheduler(name="example")
    assert scheduler.info() is None
    began = clock.wall()
    scheduler.start(clock.wall() + 900, print)
    clock.advance(100)
    info = scheduler.info()
    assert info.name == "example"
    assert info.expires_at.timestamp() == began + 900
    assert info.next_refresh_at.timestamp() == began + 600
    assert info.next_refresh_at.utcoffset() == timedelta(0)
    assert info.seconds_until_refresh == 500
    assert info.attempts == 0
    assert str(info) == "example: refresh in 500 s"
    with pytest.raises(AttributeError):
        info.attempts = 1


def test_it_is_active_while_the_callback_runs(clock, make_scheduler):
    scheduler, seen = make_scheduler(), []
    scheduler.start(
        clock.wall() + 900,
        lambda: seen.append((scheduler.is_active, scheduler.info().seconds_until_refresh)),
    )
    clock.advance(600)
    assert seen == [(True, 0.0)]


def test_a_schedule_whose_thread_has_died_is_not_active(clock, make_scheduler):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, print)
    (timer,) = timers()
    timer.finished.set()  # it ends as a killed thread would: nobody told the scheduler
    timer.join(20)
    assert (scheduler.is_active, scheduler.info()) == (False, None)
    assert scheduler.start(clock.wall() + 900, print)
    assert scheduler.is_active


def test_its_log_lines_are_those_that_were_promised(clock, make_scheduler, caplog):
    scheduler = make_scheduler(name="example")
    scheduler.start(clock.wall() + 900.4, Callback(clock))
    clock.advance(601)
    started, done = records(caplog)
    assert (started.levelno, started.msg, started.args) == (logging.INFO, START, (600,))
    assert (done.levelno, done.msg, done.args) == (logging.INFO, DONE, ())
    assert started.permata_scheduler == done.permata_scheduler == "example"


def test_a_stop_is_logged_once(clock, make_scheduler, caplog):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, print)
    caplog.clear()
    scheduler.stop()
    scheduler.stop()
    scheduler.shutdown()
    (record,) = records(caplog)
    assert (record.levelno, record.getMessage()) == (
        logging.INFO,
        "Token refresh scheduler stopped",
    )


def test_its_repr_is_short(clock, make_scheduler):
    scheduler = make_scheduler(name="example")
    assert repr(scheduler) == "<TokenScheduler 'example' active=False>"


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickles_and_copies_are_refused(duplicate):
    with pytest.raises(TypeError, match="TokenScheduler cannot be pickled: it owns a timer thread"):
        duplicate(TokenScheduler())


# Anything in any order, against a model


class AgainstAModel(RuleBasedStateMachine):
    """The model: a moment at which the next call is due, known or within bounds."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock().__enter__()
        self.config = SchedulerConfig()
        self.scheduler = TokenScheduler()
        self.calls = []
        self.fails = False
        self.restarts = None
        self.expires = self.due = None
        self.attempts = 0
        self.window = self.waited = 0.0
        self.is_last_wait = self.is_shut_down = False

    def teardown(self):
        self.scheduler.shutdown()
        self.clock.settle()
        self.clock.__exit__()

    def callback(self):
        self.calls.append(self.clock.now())
        if self.restarts is not None:
            life, self.restarts = self.restarts, None
            self._start(life)
        elif self.fails:
            raise OSError
        else:
            self.due = None

    def _start(self, life):
        wait = life - self.config.refresh_buffer_secs
        expected = wait >= self.config.min_schedule_time_secs and not self.is_shut_down
        self.due = self.clock.now() + wait if expected else None
        self.expires, self.attempts = self.clock.now() + life, 0
        self.is_last_wait = False
        assert self.scheduler.start(self.clock.wall() + life, self.callback) is expected

    @rule(life=st.integers(-10, 2000))
    def start(self, life):
        self._start(life)

    @rule()
    def stop(self):
        self.scheduler.stop()
        self.due, self.is_last_wait = None, False

    @rule(buffer=st.integers(0, 500), minimum=st.integers(0, 100))
    def update_config(self, buffer, minimum):
        self.config = SchedulerConfig(buffer, minimum)
        self.scheduler.update_config(self.config)

    @rule(fails=st.booleans())
    def let_the_callback_fail(self, fails):
        self.fails = fails

    @rule(life=st.integers(-10, 2000))
    def let_the_callback_start(self, life):
        self.restarts = life

    @rule(seconds=st.integers(0, 3000))
    def advance(self, seconds):
        target = self.clock.now() + seconds
        while self.due is not None and self.due <= target:
            due, count = self.due, len(self.calls)
            self.clock.advance(due - self.clock.now())
            if self.is_last_wait:
                assert self.calls[count:] == [], "it is not called at expiry"
                self.due, self.is_last_wait = None, False
                continue
            assert self.calls[count:] == [due], "it is called when due, and once"
            if self.due == due:  # neither done nor replaced: it has failed
                self._expect_a_retry()
        count = len(self.calls)
        self.clock.advance(target - self.clock.now())
        assert len(self.calls) == count, "it is not called when nothing is due"

    def _expect_a_retry(self):
        left = self.expires - self.clock.now()
        if not self.attempts:
            self.window, self.waited = left, 0.0
        self.attempts += 1
        if left <= 0:
            self.due = None
            return
        wait = self.clock.next_wake_up
        tail = min(self.window / 10, 10.0)
        self.is_last_wait = wait >= left - 1e-6
        if self.is_last_wait:
            assert left <= tail + 1e-6, "one call falls in the last tenth"
        else:
            first = min(1.0, self.window / 20)
            bound = min(first * 2.0 ** (self.attempts - 1), 60.0, self.window / 4)
            assert wait <= max(bound, self.waited) + 1e-6
            is_cut = left - wait <= tail + 1e-6
            assert wait >= max(bound * 0.75, self.waited) - 1e-6 or is_cut
            self.waited = max(wait, self.waited)
        self.due = self.clock.now() + wait
        assert self.scheduler.info().attempts == self.attempts

    @precondition(lambda self: not self.is_shut_down)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really):
        if really == 0:
            self.scheduler.shutdown()
            self.is_shut_down, self.due, self.is_last_wait = True, None, False

    @invariant()
    def it_tells_the_truth(self):
        self.clock.settle()
        info = self.scheduler.info()
        assert self.scheduler.is_active is (self.due is not None)
        assert len(timers()) == (self.due is not None)
        if self.due is None:
            assert info is None
        else:
            assert info.seconds_until_refresh == pytest.approx(self.due - self.clock.now())
            assert info.attempts == self.attempts


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_callback_that_was_not_needed_is_no_refresh(clock, make_scheduler, caplog):
    scheduler = make_scheduler(300, 60)
    scheduler.start(clock.wall() + 900, lambda: module.NOT_NEEDED)
    clock.advance(900)
    assert not scheduler.is_active
    assert "completed successfully" not in caplog.text
