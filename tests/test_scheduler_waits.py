"""A callback that fails: when it is called again, the waits that it asks for, and their end."""

from __future__ import annotations

import itertools
import logging
import math
import random
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import FakeClock, timers
from support.threads import until

from permata_auth import SchedulerConfig, TokenEndpointUnavailableError, TokenScheduler
from permata_auth import scheduler as module
from permata_auth._waits import MIN_JITTER, longest_wait

HOURS = 3600.0
#: Sums of floats about the clock's thousand seconds are off by less.
EPSILON = 1e-6


class Failed(Exception):
    def __init__(self, retry_after=None):
        super().__init__("refused")
        self.retry_after = retry_after


class Series:
    """The calls of a callback that always fails, on a clock that runs by itself.

    ``asked`` and ``seconds`` are the waits of the errors and the times of the calls, in turn.
    """

    def __init__(self, window, asked=(), seconds=()):
        self.asked, self.seconds = list(asked), list(seconds)
        self.calls = []
        with FakeClock() as self.clock:
            self.clock.runs_free = True
            self.expires = self.clock.now() + window + 10
            scheduler = TokenScheduler(SchedulerConfig(window, 0))
            assert scheduler.start(self.clock.wall() + window + 10, self._call)
            until(lambda: not scheduler.is_active)
            until(lambda: not timers())
        self.window = self.expires - self.calls[0][0]
        self.tail = min(self.window / 10, 10.0)

    def _call(self):
        began, number = self.clock.now(), len(self.calls)
        if number < len(self.seconds):
            self.clock._now += self.seconds[number]
        asked = self.asked[number] if number < len(self.asked) else None
        self.calls.append((began, self.clock.now(), asked or 0.0))
        raise Failed(asked)

    @property
    def waits(self):
        return [after[0] - before[1] for before, after in itertools.pairwise(self.calls)]


def records(caplog, level):
    return [r for r in caplog.records if r.name == module.logger.name and r.levelno == level]


def texts(caplog, level):
    return [record.getMessage() for record in records(caplog, level)]


def failing(*errors):
    """Return a callback that raises each error in turn, the last one for ever."""
    left = list(errors)

    def callback():
        raise left.pop(0) if len(left) > 1 else left[0]

    return callback


@pytest.fixture
def longest(monkeypatch):
    """Leave jitter out: each wait is as long as it may be."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


@pytest.fixture
def shortest(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: low)


# The waits


@pytest.mark.parametrize(
    ("window", "waits"),
    [
        (300, [1, 2, 4, 8, 16, 32, 60, 60, 60, 47]),
        (40, [1, 2, 4, 8, 10, 10, 1]),
        (8, [0.4, 0.8, 1.6, 2, 2, 0.4]),
        (1000, [1, 2, 4, 8, 16, 32, *[60] * 15, 27]),
    ],
)
@pytest.mark.usefixtures("longest")
def test_the_waits_double_from_a_second_to_a_minute_or_to_what_the_window_allows(window, waits):
    assert Series(window).waits == pytest.approx(waits)


@pytest.mark.usefixtures("shortest")
def test_the_jitter_takes_a_quarter_off_at_most():
    waits = [0.75, 1.5, 3, 6, 12, 24, 45, 45, 45, 45, 45, 22.75]
    assert Series(300).waits == pytest.approx(waits)


def test_the_jitter_is_between_three_quarters_and_all_of_each_wait():
    firsts = [Series(300).waits[0] for _ in range(100)]
    assert min(firsts) >= 0.75 - EPSILON
    assert max(firsts) <= 1.0 + EPSILON
    assert max(firsts) - min(firsts) > 0.15
    assert len({round(wait, 6) for wait in firsts}) > 90


def test_five_minutes_of_failures_take_fifteen_calls_and_end_with_a_late_one():
    for _ in range(50):
        series = Series(300)
        assert len(series.calls) <= 15
        assert series.expires - 10 <= series.calls[-1][0] < series.expires


def test_five_minutes_of_a_bank_that_asks_for_a_minute_take_six_calls():
    for _ in range(20):
        series = Series(300, [random.uniform(60, 66) for _ in range(20)])
        assert 4 <= len(series.calls) <= 6


def test_five_minutes_of_refusals_whose_pause_doubles_take_seven_calls():
    for _ in range(20):
        series = Series(300, [5.0 * 2**n for n in range(20)])
        assert 6 <= len(series.calls) <= 7


def test_a_pause_that_was_asked_for_is_not_followed_by_a_shorter_wait():
    first, *others, last = Series(3600, [200.0]).waits
    assert first == pytest.approx(200)
    assert others == pytest.approx([200] * len(others))
    assert last <= 200 + EPSILON


@settings(max_examples=100, deadline=None)
@given(
    window=st.floats(0.1, 3000),
    asked=st.lists(st.none() | st.floats(0, 1.1), max_size=8),
    seconds=st.lists(st.floats(0, 0.3), max_size=8),
)
def test_whatever_fails_in_whatever_window(window, asked, seconds):
    """The errors' pauses and the calls' lengths are parts of the window."""
    series = Series(
        window,
        [None if part is None else part * window for part in asked],
        [part * window for part in seconds],
    )
    tail_begins = series.expires - series.tail
    pause = 0.0
    for number, ((_, failed, asked_secs), (began, _, _)) in enumerate(
        itertools.pairwise(series.calls), 1
    ):
        wait = began - failed
        is_cut = number == len(series.calls) - 1 and began >= tail_begins - EPSILON
        assert began < series.expires, "it is called after expiry"
        assert wait >= asked_secs - EPSILON, "it undercuts a pause"
        bound = longest_wait(number, series.window)
        pause = max(pause, asked_secs)
        assert wait <= max(bound, pause) + EPSILON or is_cut
        if not is_cut:
            assert wait >= MIN_JITTER * bound - EPSILON
            assert wait >= max(series.waits[: number - 1], default=0.0) - EPSILON, "it shrinks"
    _, failed, asked_secs = series.calls[-1]
    is_forbidden = failed + asked_secs >= series.expires - EPSILON
    assert failed >= tail_begins - EPSILON or is_forbidden, "no attempt in the last tenth"


# Waits that an error asks for


@pytest.mark.parametrize(
    "error",
    [
        TokenEndpointUnavailableError("busy", retry_after=60.0),
        Failed(60),
        Failed(60.0),
        Failed(timedelta(minutes=1)),
    ],
    ids=repr,
)
def test_the_retry_after_of_any_error_is_waited_for(clock, make_scheduler, error):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, failing(error))
    clock.advance(600)
    assert scheduler.info().seconds_until_refresh == 60


class Unreadable(Exception):
    @property
    def retry_after(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        Failed(asked)
        for asked in (
            None,
            math.nan,
            math.inf,
            -math.inf,
            10**400,
            -5,
            -0.0,
            0,
            timedelta(seconds=-5),
            True,
            False,
            "60",
            b"60",
            Decimal(60),
            [60],
            object(),
        )
    ]
    + [Unreadable(), SystemExit()],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, '__dict__', {})!s:.24}",
)
def test_a_retry_after_that_is_no_duration_is_ignored(clock, make_scheduler, error):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, failing(error))
    clock.advance(600)
    assert 0.75 <= scheduler.info().seconds_until_refresh <= 1
    assert scheduler.info().attempts == 1


def test_a_pause_up_to_expiry_leaves_no_attempt_and_the_log_says_so(clock, make_scheduler, caplog):
    scheduler = make_scheduler()
    calls = []

    def callback():
        calls.append(clock.now())
        raise Failed(1e300)

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert texts(caplog, logging.WARNING) == [
        "Token refresh failed, no attempt is left before expiry in 300.0 seconds: Failed"
    ]
    clock.advance(299)
    assert scheduler.is_active
    assert scheduler.info().seconds_until_refresh == 1
    clock.advance(1)
    assert (scheduler.is_active, scheduler.info(), timers()) == (False, None, [])
    assert texts(caplog, logging.ERROR) == [
        "Token refresh given up at expiry, failed attempts: 1, last: Failed"
    ]
    clock.advance(10_000)
    assert len(calls) == 1


def test_each_warning_names_the_wait_and_the_last_one_that_there_is_none(
    clock, make_scheduler, caplog
):
    scheduler = make_scheduler()
    scheduler.start(clock.wall() + 900, failing(OSError("secret")))
    clock.advance(600)
    while scheduler.is_active:
        wait = scheduler.info().seconds_until_refresh
        *_, text = texts(caplog, logging.WARNING)
        assert text.startswith("Token refresh failed, ")
        assert text.endswith(f" in {wait:.1f} seconds: OSError")
        clock.advance_to_next()
    assert "no attempt is left" in text
    assert sum("no attempt is left" in each for each in texts(caplog, logging.WARNING)) == 1


# The end


def test_it_gives_up_at_expiry_with_one_error_record(clock, make_scheduler, caplog):
    scheduler, calls = make_scheduler(), []

    def callback():
        calls.append(clock.now())
        raise OSError("foreign text may hold a secret")

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(899)
    assert scheduler.is_active
    assert records(caplog, logging.ERROR) == []
    clock.advance(1)
    assert (scheduler.is_active, scheduler.info(), timers()) == (False, None, [])
    (record,) = records(caplog, logging.ERROR)
    assert record.msg == "Token refresh given up at expiry, failed attempts: %d, last: %s"
    assert record.args == (len(calls), "OSError")
    assert record.permata_scheduler == "token"
    count = len(calls)
    clock.advance(10_000)
    assert len(calls) == count


def test_without_a_buffer_it_is_called_at_expiry_and_no_more(clock, make_scheduler, caplog):
    scheduler, calls = make_scheduler(0, 0), []

    def callback():
        calls.append(clock.now())
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(2000)
    assert len(calls) == 1
    assert [record.args[0] for record in records(caplog, logging.ERROR)] == [1]


def test_a_call_that_fails_after_expiry_was_the_last(clock, make_scheduler, caplog):
    scheduler, calls = make_scheduler(), []

    def callback():
        calls.append(clock.now())
        clock._now += 400
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert (scheduler.is_active, timers(), len(calls)) == (False, [], 1)
    assert [record.args for record in records(caplog, logging.ERROR)] == [(1, "OSError")]


def test_the_last_attempt_that_succeeds_is_a_success(clock, make_scheduler, caplog):
    scheduler, times = make_scheduler(), []
    expires = clock.now() + 900

    def callback():
        times.append(clock.now())
        if clock.now() < expires - 10:
            raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(900)
    assert expires - 10 <= times[-1] < expires
    assert not scheduler.is_active
    assert records(caplog, logging.ERROR) == []
    assert texts(caplog, logging.INFO)[-1] == "Token refresh by scheduler completed successfully"


def test_a_new_schedule_starts_its_waits_anew(clock, make_scheduler):
    scheduler = make_scheduler()
    callback = failing(OSError())
    scheduler.start(clock.wall() + 900, callback)
    clock.advance(780)
    assert scheduler.info().seconds_until_refresh + scheduler.info().attempts > 8
    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert scheduler.info().attempts == 1
    assert scheduler.info().seconds_until_refresh <= 1


# Two clocks: the running one stands still while a machine sleeps, the wall clock jumps


def test_a_token_that_died_while_the_machine_slept_is_not_tried_again(
    clock, make_scheduler, caplog
):
    scheduler, calls = make_scheduler(), []

    def callback():
        calls.append(clock.now())
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    clock.step_wall(2 * HOURS)
    clock.advance(1)
    assert len(calls) == 1
    assert (scheduler.is_active, timers()) == (False, [])
    assert len(records(caplog, logging.ERROR)) == 1


def test_the_first_call_is_made_late_rather_than_never(clock, make_scheduler):
    scheduler, calls = make_scheduler(), []
    scheduler.start(clock.wall() + 900, lambda: calls.append(clock.now()))
    clock.step_wall(2 * HOURS)
    clock.advance(600)
    assert len(calls) == 1


def test_the_wall_clock_tells_how_much_of_the_window_is_left(clock, make_scheduler):
    """A sleep took half an hour of an hour's window."""
    scheduler, calls = make_scheduler(HOURS, 0), []
    began = clock.now()

    def callback():
        calls.append(clock.now())
        raise OSError

    scheduler.start(clock.wall() + 2 * HOURS, callback)
    clock.advance(600)
    clock.step_wall(HOURS / 2)
    clock.advance(3 * HOURS)
    assert calls[0] == began + HOURS
    assert began + 1.5 * HOURS - 10 <= calls[-1] < began + 1.5 * HOURS
    assert not scheduler.is_active


def test_a_schedule_without_attempts_ends_when_the_wall_clock_says(clock, make_scheduler):
    scheduler = make_scheduler()

    def callback():
        clock.step_wall(200)
        raise Failed(200)

    scheduler.start(clock.wall() + 900, callback)
    clock.advance(600)
    assert scheduler.info().seconds_until_refresh == 100
    clock.advance(100)
    assert not scheduler.is_active


@pytest.mark.parametrize("step", [-119, 119])
def test_small_steps_of_the_wall_clock_move_no_attempt(clock, make_scheduler, step):
    scheduler, calls = make_scheduler(), []
    expires = clock.now() + 900

    def callback():
        calls.append(clock.now())
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.step_wall(step)
    clock.advance(900)
    assert expires - 10 <= calls[-1] < expires


def test_a_wall_clock_that_comes_back_makes_no_hot_loop(clock, make_scheduler):
    """Wrongly ahead at the first call, so that the window seemed to have no length."""
    scheduler, calls = make_scheduler(), []
    expires = clock.now() + 900

    def callback():
        calls.append(clock.now())
        if len(calls) == 1:
            clock.step_wall(-2 * HOURS)
        raise OSError

    scheduler.start(clock.wall() + 900, callback)
    clock.step_wall(2 * HOURS)
    clock.advance(900)
    assert 5 < len(calls) <= 15
    assert expires - 10 <= calls[-1] < expires


@pytest.mark.parametrize("step", [0, 60, 2 * HOURS])
def test_its_expiry_is_that_of_the_clock_that_decides(clock, make_scheduler, step):
    """A step of less than two minutes is a correction, and what expires moves with it."""
    scheduler = make_scheduler()
    expires_at = clock.wall() + 900
    scheduler.start(expires_at, print)
    clock.step_wall(step)
    moved = step if step < 120 else 0
    assert scheduler.info().expires_at.timestamp() == expires_at + moved
