"""Rejected tokens, without a handler: which one is replaced, which one stays, who learns of it."""

from __future__ import annotations

import attrs
import pytest
from support.clients import token
from support.threads import Call, together, until

from permata_auth import _rejections
from permata_auth._pace import Asker, Pace, Row
from permata_auth._rejections import Rejections
from permata_auth._snapshot import Snapshot

MEMORY = 4.0


class Fleet:
    """Stands in for the token as other processes see it; ``saved`` lists the messages to them."""

    def __init__(self) -> None:
        self.pause = None
        self.newer = None
        self.saved = []

    def find_newer(self, than, is_unwanted):
        return None if self.newer is None or is_unwanted(self.newer) else self.newer

    def load_rejections(self):
        return self.pause

    def save_rejections(self, pause):
        self.saved.append(pause)
        self.pause = pause and attrs.evolve(pause, is_shared=True)


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def pace(clock):
    return Pace(MEMORY)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def rejections(pace, fleet, pauses):
    return Rejections(pace, fleet, is_accepted_after=MEMORY, on_pause=pauses.append)


def fresh() -> Snapshot:
    return Snapshot(token())


# One process


def test_a_token_that_was_accepted_is_replaced_at_once_each_time(rejections, pauses, fleet, pace):
    for _ in range(5):
        snapshot = fresh()
        assert rejections.accept(snapshot)
        assert rejections.reject(snapshot)
    assert pauses == fleet.saved == []
    assert pace.rejections is None


def test_the_first_fresh_token_is_replaced_at_once_and_the_others_after_growing_pauses(
    clock, rejections, pauses
):
    assert rejections.reject(fresh())
    for secs in [4, 8, 16, 32, 64, 128, 256, 300, 300]:
        snapshot = fresh()
        assert not rejections.reject(snapshot), "until the pause is over it stays"
        clock.advance(secs - 0.01)
        assert not rejections.reject(snapshot)
        clock.advance(0.02)
        assert rejections.reject(snapshot)
    assert [pause.count for pause in pauses] == list(range(1, 11))


def test_one_token_counts_once_however_often_it_is_rejected(rejections, pauses):
    rejections.reject(fresh())
    snapshot = fresh()
    for _ in range(20):
        assert not rejections.reject(snapshot)
    assert [pause.count for pause in pauses] == [1, 2]
    assert snapshot.is_rejected


def test_the_pause_holds_callers_and_the_timer_and_lets_an_explicit_refresh_pass(rejections, pace):
    rejections.reject(fresh())
    assert pace.held(Asker.CALLER) is None
    rejections.reject(fresh())
    assert pace.held(Asker.CALLER).row is pace.held(Asker.TIMER).row is Row.REJECTED
    assert pace.held(Asker.REFRESH) is None


def test_an_accepted_call_ends_the_count_and_the_pause(rejections, pace, fleet, pauses):
    for _ in range(5):
        rejections.reject(fresh())
    assert rejections.accept(fresh())
    assert pace.rejections is None
    assert fleet.saved[-1] is None
    assert rejections.reject(fresh()), "it is the first in a row again"
    assert pauses[-1].count == 1


def test_an_accepted_call_without_rejections_costs_nothing(rejections, fleet):
    fleet.save_rejections = None
    snapshot = fresh()
    assert rejections.accept(snapshot)
    assert snapshot.is_accepted


@pytest.mark.parametrize(("age", "is_old"), [(0.0, False), (3.9, False), (4.1, True)])
def test_a_token_of_some_age_counts_as_accepted_where_nobody_reports(
    clock, rejections, pauses, age, is_old
):
    rejections.reject(fresh())
    snapshot = fresh()
    clock.advance(age)
    assert rejections.reject(snapshot) is is_old
    assert snapshot.is_accepted is is_old
    assert [pause.count for pause in pauses] == ([1] if is_old else [1, 2])


def test_one_that_was_rejected_when_it_was_fresh_does_not_age_into_an_accepted_one(
    clock, rejections, pauses
):
    for _ in range(3):
        rejections.reject(last := fresh())
    clock.advance(MEMORY + 1)
    assert not rejections.reject(last), "the pause of 8 s is not over"
    assert not last.is_accepted


def test_no_token_is_nothing_to_keep(rejections, pauses):
    assert rejections.reject(Snapshot(None))
    assert pauses == []


def test_what_was_replaced_is_remembered_by_its_fingerprint_for_a_while(rejections):
    tokens = [token() for _ in range(40)]
    for each in tokens:
        rejections.remember(each)
    known = [rejections.was_replaced(each) for each in tokens]
    assert known == [False] * 8 + [True] * 32
    assert not rejections.was_replaced(token())
    assert all(isinstance(each, str) and len(each) == 8 for each in rejections._replaced)


# A fleet


def test_each_rejection_is_told_and_the_first_one_without_a_pause(clock, rejections, fleet):
    tokens = [fresh(), fresh()]
    for snapshot in tokens:
        rejections.reject(snapshot)
    assert [(pause.count, pause.rejected) for pause in fleet.saved] == [
        (1, tokens[0].token.fingerprint),
        (2, tokens[1].token.fingerprint),
    ]
    first, second = fleet.saved
    assert first.until <= clock.now() < second.until


def test_a_process_whose_first_rejected_token_is_the_second_of_the_fleet_waits(
    clock, rejections, fleet
):
    rejections.reject(fresh())
    other = Rejections(Pace(MEMORY), fleet, is_accepted_after=MEMORY, on_pause=lambda pause: None)
    assert not other.reject(fresh())


def test_another_process_goes_on_where_this_one_is(clock, rejections, fleet, pauses):
    for _ in range(3):
        rejections.reject(fresh())
    told = []
    other = Rejections(Pace(MEMORY), fleet, is_accepted_after=MEMORY, on_pause=told.append)
    assert not other.reject(fresh())
    assert [pause.count for pause in told] == [4]


def test_another_process_does_not_count_the_token_that_this_one_has_counted(
    clock, rejections, fleet
):
    for _ in range(2):
        rejections.reject(last := fresh())
    told = []
    other = Rejections(Pace(MEMORY), fleet, is_accepted_after=MEMORY, on_pause=told.append)
    twin = Snapshot(last.token)
    assert not other.reject(twin)
    assert twin.is_rejected
    assert told == []
    clock.advance(MEMORY)
    assert other.reject(twin), "the pause is over for both"
    assert told == []


def test_a_newer_token_of_the_fleet_is_taken_at_once_without_a_count(rejections, fleet, pauses):
    rejections.reject(fresh())
    fleet.newer = token()
    assert rejections.reject(fresh())
    assert len(pauses) == 1


def test_a_token_of_the_fleet_that_was_replaced_here_is_no_newer_one(rejections, fleet):
    rejections.reject(fresh())
    rejections.remember(fleet_token := token())
    fleet.newer = fleet_token
    assert not rejections.reject(fresh())


def test_an_accepted_token_asks_the_store_nothing(rejections, fleet):
    fleet.find_newer = fleet.load_rejections = None
    snapshot = fresh()
    rejections.accept(snapshot)
    assert rejections.reject(snapshot)


# Threads


def test_threads_that_meet_the_same_rejection_count_it_once(clock, rejections, pauses):
    rejections.reject(fresh())
    snapshot = fresh()
    outcomes = {call.value() for call in together(32, lambda: rejections.reject(snapshot))}
    assert outcomes == {False}
    assert [pause.count for pause in pauses] == [1, 2]


def test_a_thread_waits_until_the_one_that_counts_has_begun_the_pause(clock, rejections, pauses):
    """It would replace the token otherwise: no pause held it yet."""
    rejections.reject(fresh())
    snapshot = fresh()
    assert snapshot.rejection.take(), "by a thread that has not counted yet"
    call = Call(lambda: rejections.reject(snapshot))
    until(lambda: clock.next_wake_up is not None)
    rejections._pace.begin(rejections._pace.after_rejection(snapshot.token.fingerprint))
    snapshot.counted.set()
    assert call.value() is False


def test_a_thread_that_was_interrupted_while_it_counted_holds_the_others_up_for_a_moment_only(
    clock, rejections, pauses
):
    snapshot = fresh()
    assert snapshot.rejection.take()
    call = Call(lambda: rejections.reject(snapshot))
    until(lambda: clock.next_wake_up is not None)
    assert clock.next_wake_up == _rejections._MAX_COUNT_SECS
    clock.advance(_rejections._MAX_COUNT_SECS)
    assert call.value() is True
    assert pauses == []


def test_the_pause_has_begun_before_the_others_hear_of_it(rejections, pace, fleet):
    seen = []
    rejections._on_pause = lambda pause: seen.append(pace.rejections is pause)
    rejections.reject(fresh())
    rejections.reject(fresh())
    assert seen == [True, True]


def test_a_rejection_counted_while_a_call_is_accepted_holds_nobody_up():
    pace = Pace(5.0)
    pace.begin(pace.after_rejection("00000000"))
    rejections = Rejections(pace, Fleet(), is_accepted_after=60.0, on_pause=lambda pause: None)
    snapshot = Snapshot(token())
    begin = pace.begin

    def begin_late(pause) -> None:  # another thread's accepted call comes first
        rejections.accept(snapshot)
        begin(pause)

    pace.begin = begin_late
    assert rejections.reject(snapshot), "the token had been accepted"
    assert pace.held(Asker.CALLER) is None
