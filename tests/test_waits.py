"""The waits between the failed calls of a refresh, without a scheduler."""

from __future__ import annotations

import random

import pytest

from permata_auth._waits import MIN_JITTER, Waits, last_attempt_secs, longest_wait, retry_after_of


@pytest.fixture
def draw(monkeypatch):
    """Decide how far between its bounds a drawn number falls; ``bounds`` lists them."""

    class Draw:
        def __init__(self):
            self.at, self.bounds = 1.0, []

        def __call__(self, low, high):
            self.bounds.append((low, high))
            return low + (high - low) * self.at

    draw = Draw()
    monkeypatch.setattr(random, "uniform", draw)
    return draw


@pytest.mark.parametrize("attempts", [1, 2, 7, 50, 10_000])
@pytest.mark.parametrize("window", [1e9, 240.0, 1.0, 0.01, 1e-9, 0.0])
def test_every_wait_has_a_bound_whatever_the_attempts_and_the_window(attempts, window):
    bound = longest_wait(attempts, window)
    assert min(1.0, window / 20) <= bound <= min(60.0, window / 4)


@pytest.mark.parametrize(
    ("window", "bounds"),
    [
        (1e9, [1, 2, 4, 8, 16, 32, 60, 60]),
        (300, [1, 2, 4, 8, 16, 32, 60, 60]),
        (20, [1, 2, 4, 5, 5, 5, 5, 5]),
        (10, [0.5, 1, 2, 2.5, 2.5, 2.5, 2.5, 2.5]),
        (0, [0] * 8),
    ],
)
def test_a_bound_doubles_up_to_a_minute_or_a_quarter_of_the_window(window, bounds):
    assert [longest_wait(attempts, window) for attempts in range(1, 9)] == bounds


@pytest.mark.parametrize(("window", "secs"), [(300, 10), (100, 10), (50, 5), (1, 0.1), (0, 0)])
def test_the_last_attempt_falls_in_a_tenth_of_the_window_ten_seconds_at_most(window, secs):
    assert last_attempt_secs(window) == secs


def test_each_failure_counts_and_makes_new_waits(draw):
    first = Waits(window=300.0)
    second, wait = first.after_failure(300.0, 0.0)
    assert (first, second, wait) == (Waits(0, 300.0, 0.0), Waits(1, 300.0, 1.0), 1.0)
    third, wait = second.after_failure(299.0, 0.0)
    assert (third, wait) == (Waits(2, 300.0, 2.0), 2.0)
    assert draw.bounds == [(MIN_JITTER, 1.0)] * 2


def test_the_first_wait_may_be_the_first_of_a_short_window(draw):
    assert Waits().after_failure(0.5, 0.0) == (Waits(1, 0.5, 0.025), 0.025)


def test_no_wait_is_shorter_than_the_one_before_though_less_is_drawn(draw):
    draw.at = 0.0
    waits, wait = Waits(5, 300.0, 30.0).after_failure(200.0, 0.0)
    assert (wait, waits.longest) == (30.0, 30.0), "and not 32 s less the jitter"


def test_what_is_asked_for_is_waited_for_and_not_undercut_later(draw):
    waits, wait = Waits(window=300.0).after_failure(300.0, 50.0)
    assert wait == 50.0
    assert waits.after_failure(250.0, 0.0)[1] == 50.0


def test_the_window_grows_with_a_wall_clock_that_is_set_back(draw):
    waits, wait = Waits(window=0.0).after_failure(300.0, 0.0)
    assert (waits.window, wait) == (300.0, 1.0)


@pytest.mark.parametrize(("at", "wait"), [(0.0, 35.0), (1.0, 30.0)])
def test_the_wait_that_would_pass_expiry_is_cut_to_the_first_half_of_the_tail(draw, at, wait):
    draw.at = at
    found, cut = Waits(8, 300.0, 60.0).after_failure(40.0, 0.0)
    assert cut == wait
    assert draw.bounds[-1] == (0.5, 1.0)
    assert found.longest == 60.0, "the cut is no wait of the series"


def test_a_wait_that_ends_at_expiry_is_cut_too(draw):
    assert Waits(8, 300.0, 60.0).after_failure(60.0, 0.0)[1] == 50.0


@pytest.mark.parametrize(("asked", "wait"), [(36.0, 36.0), (39.9, 39.9), (40.0, None), (1e9, None)])
def test_the_cut_undercuts_no_pause_and_no_call_comes_at_expiry(draw, asked, wait):
    assert Waits(8, 300.0, 60.0).after_failure(40.0, asked)[1] == wait


@pytest.mark.parametrize("left", [10.0, 1.0, 0.0, -5.0])
def test_there_is_one_attempt_in_the_tail_and_no_other_after_it(draw, left):
    assert Waits(8, 300.0, 60.0).after_failure(left, 0.0)[1] is None


def test_an_error_without_a_finite_retry_after_asks_for_nothing():
    class Unreadable(Exception):
        @property
        def retry_after(self):
            raise ZeroDivisionError

    assert retry_after_of(Unreadable()) == retry_after_of(OSError()) == 0.0
    error = OSError()
    for asked, secs in [(3, 3.0), (0.5, 0.5), ("3", 0.0), (-3, 0.0), (float("inf"), 0.0)]:
        error.retry_after = asked
        assert retry_after_of(error) == secs
