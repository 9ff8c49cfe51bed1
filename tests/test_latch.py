from __future__ import annotations

import signal
import threading
import time

import pytest
from support.threads import Call, together, until

from permata_auth._latch import Latch, clamp


def test_a_wait_ends_with_the_latch():
    latch = Latch()
    waits = [Call(latch.wait) for _ in range(5)]
    until(lambda: latch.waiting == 5)
    assert not latch.is_set()
    latch.set()
    assert [wait.value() for wait in waits] == [True] * 5
    assert (latch.waiting, latch.is_set()) == (0, True)


def test_a_latch_that_is_set_stays_set():
    latch = Latch()
    latch.set()
    latch.set()
    assert latch.wait()
    assert latch.wait(0)


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_a_wait_ends_with_its_timeout(timeout):
    latch = Latch()
    assert latch.wait(timeout) is False
    assert latch.waiting == 0


def test_a_timeout_beyond_what_locks_accept_is_clamped():
    assert clamp(1e300) == threading.TIMEOUT_MAX
    latch = Latch()
    wait = Call(latch.wait, 1e300)
    until(lambda: latch.waiting)
    latch.set()
    assert wait.value() is True


def test_no_waiter_is_missed_when_all_set_and_wait_at_once():
    for _ in range(200):
        latch = Latch()
        sides = iter([latch.wait, latch.set, latch.wait, latch.set])
        calls = together(4, lambda: next(sides)())  # noqa: B023, PLW0108 - one call each
        assert all(call.error is None for call in calls)
        assert latch.waiting == 0


class _Interrupted(Exception):
    pass


def _raise(*_):
    raise _Interrupted


@pytest.mark.parametrize("act", [_raise, lambda *_: None])
def test_a_signal_in_one_waiter_does_not_disturb_the_others(act):
    latch = Latch()
    others = [Call(latch.wait) for _ in range(3)]
    until(lambda: latch.waiting == 3)
    previous = signal.signal(signal.SIGALRM, act)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        if act is _raise:
            with pytest.raises(_Interrupted):
                latch.wait(20)
        else:
            began = time.monotonic()
            assert latch.wait(0.3) is False
            assert time.monotonic() - began >= 0.3
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert latch.waiting == 3
    latch.set()
    assert [other.value() for other in others] == [True] * 3


def test_a_latch_can_be_set_from_the_thread_that_is_waiting_for_it():
    latch = Latch()
    previous = signal.signal(signal.SIGALRM, lambda *_: latch.set())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert latch.wait(20)
    finally:
        signal.signal(signal.SIGALRM, previous)
