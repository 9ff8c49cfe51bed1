"""Single flight by itself: work whose course a test decides, on a clock that it moves."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable

import pytest
from support.interruptions import interrupted_at, on_a_thread_of_its_own
from support.scripts import run
from support.threads import Call, together, until

from permata_auth import InvalidClientError, RequestTimeoutError, TransportError, _flight, _logging
from permata_auth._flight import Flight, SingleFlight
from permata_auth._latch import Latch

BUDGET = 20.0


class Work:
    """Work whose outcomes are given in advance; each run can be held. ``runs`` lists its flights.

    An outcome is a value, an error to raise, or a function of the flight that returns either.
    ``landed`` lists the outcomes that counted, ``threads`` the threads that ran.
    """

    def __init__(self, clock, *outcomes) -> None:
        self.runs: list[Flight] = []
        self.landed: list[object] = []
        self.threads: list[threading.Thread] = []
        self._outcomes = list(outcomes)
        self._clock = clock
        self._gates: list[threading.Event] = []
        self.gates: list[threading.Event] = []

    def hold_next(self) -> threading.Event:
        gate = threading.Event()
        self.gates.append(gate)
        self._gates.append(gate)
        return gate

    def __call__(self, flight: Flight) -> Callable[[], object]:
        self.runs.append(flight)
        self.threads.append(threading.current_thread())
        outcome = self._outcomes.pop(0) if self._outcomes else f"outcome {len(self.runs)}"
        if self._gates:
            self._clock.park(self._gates.pop(0))
        if callable(outcome) and not isinstance(outcome, type):
            outcome = outcome(flight)
        if isinstance(outcome, BaseException):
            raise outcome
        return lambda: self.landed.append(outcome) or outcome


@pytest.fixture
def make_work(clock):
    made = []

    def make(*outcomes) -> Work:
        made.append(Work(clock, *outcomes))
        return made[-1]

    yield make
    for work in made:
        for gate in work.gates:
            gate.set()


@pytest.fixture
def abandoned():
    """The calls of ``on_abandon``."""
    return []


@pytest.fixture
def flights(clock, abandoned) -> SingleFlight:
    return SingleFlight("example", BUDGET, on_abandon=lambda: abandoned.append(clock.now()))


@pytest.fixture
def no_threads(monkeypatch):
    def refuse(function, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_flight, "start_daemon", refuse)


@pytest.fixture
def starts(monkeypatch):
    """The threads that were started for flights; a start may be made to be interrupted."""

    class Starts(list):
        is_interrupted = False

    seen, start = Starts(), _flight.start_daemon

    def note(function, name):
        if seen.is_interrupted:
            seen.is_interrupted = False
            raise KeyboardInterrupt
        seen.append(name)
        return start(function, name)

    monkeypatch.setattr(_flight, "start_daemon", note)
    return seen


def orphan(flights, starts, work) -> None:
    """Leave a flight whose first caller was interrupted before it started the thread."""
    starts.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        flights.call(work)
    assert (starts, work.runs) == ([], [])


# One call for all


def test_a_call_runs_on_a_thread_of_its_own_and_returns_its_outcome(flights, make_work):
    work = make_work("an outcome")
    assert flights.call(work) == "an outcome"
    (thread,) = work.threads
    assert (thread.name, thread.daemon) == ("permata-auth-login-example", True)
    assert work.landed == ["an outcome"]


def test_callers_join_the_call_that_runs(clock, flights, make_work):
    work, other = make_work(), make_work()
    gate = work.hold_next()
    callers = [Call(flights.call, work)]
    clock.wait_for_sleepers(1)
    callers += [Call(flights.call, other) for _ in range(4)]
    clock.wait_for_sleepers(5)
    assert flights.waiting == 5
    gate.set()
    assert [caller.value() for caller in callers] == ["outcome 1"] * 5
    assert (len(work.runs), other.runs, flights.waiting) == (1, [], 0)


def test_two_hundred_cold_callers_start_one_thread(clock, flights, starts, make_work):
    work = make_work()
    gate = work.hold_next()
    herd = Call(together, 200, lambda: flights.call(work))
    clock.wait_for_sleepers(200)
    assert starts == ["login-example"]
    gate.set()
    assert {caller.value() for caller in herd.value(60)} == {"outcome 1"}
    assert (len(work.runs), len(starts)) == (1, 1)


def test_the_next_call_after_an_outcome_runs_anew(flights, make_work):
    work = make_work()
    assert [flights.call(work), flights.call(work)] == ["outcome 1", "outcome 2"]


def test_a_caller_that_wakes_and_asks_again_gets_another_outcome(flights, make_work):
    """The flight must be over before it wakes anybody, not a moment later."""
    again = []

    class Wakes(Latch):
        def set(self):
            if self.is_set():
                return
            super().set()
            again.append(flights.call(lambda flight: lambda: "another"))

    def work(flight):
        flight.done = Wakes()
        return lambda: "an outcome"

    flights.call(work)
    until(lambda: again)
    assert again == ["another"]


def test_an_outcome_counts_before_anybody_wakes(clock, flights, make_work):
    seen = []

    def work(flight):
        clock.park(gate)
        return lambda: seen.append((flights.waiting, flight.done.is_set())) or "an outcome"

    gate = threading.Event()
    callers = [Call(flights.call, work) for _ in range(3)]
    clock.wait_for_sleepers(3)
    gate.set()
    assert [caller.value() for caller in callers] == ["an outcome"] * 3
    assert seen == [(3, False)]


# Errors


def test_each_caller_gets_a_copy_of_the_error(clock, flights, make_work):
    error = InvalidClientError("refused", status_code=401)
    work = make_work(error)
    gate = work.hold_next()
    callers = [Call(flights.call, work) for _ in range(3)]
    clock.wait_for_sleepers(3)
    gate.set()
    errors = [caller.join().error for caller in callers]
    assert len({id(each) for each in [*errors, error]}) == 4
    assert {(type(each), str(each), each.status_code) for each in errors} == {
        (InvalidClientError, "refused", 401)
    }
    assert error.__traceback__ is None, "its frames would keep the login's secrets alive"
    assert work.landed == []


def test_an_error_that_cannot_be_copied_is_raised_as_it_is(flights, make_work):
    class Odd(Exception):
        def __copy__(self):
            raise NotImplementedError

    error = Odd("odd")
    with pytest.raises(Odd) as caught:
        flights.call(make_work(error))
    assert caught.value is error


def test_an_error_of_what_makes_the_outcome_count_is_the_outcome(flights):
    def land():
        raise error

    error = TransportError("not in place")
    with pytest.raises(TransportError, match="not in place") as caught:
        flights.call(lambda flight: land)
    assert caught.value is not error
    assert error.__traceback__ is None


def test_a_call_from_within_the_work_raises_at_once(clock, flights, make_work):
    inner = make_work()
    seen = []

    def ask():
        try:
            flights.call(inner)
        except TransportError as error:
            seen.append(str(error))

    def work(flight):
        ask()
        return lambda: ask() or "an outcome"

    assert flights.call(work) == "an outcome"
    assert seen == ["no token yet: this is called by the login itself"] * 2
    assert inner.runs == []


# The thread that runs it


def test_a_waiter_takes_over_a_call_that_nobody_runs_after_fifty_milliseconds(
    clock, flights, starts, make_work
):
    work = make_work()
    orphan(flights, starts, work)
    caller = Call(flights.call, work)
    clock.wait_for_sleepers(1)
    clock.advance(0.049)
    assert starts == []
    clock.advance(0.002)
    assert caller.value() == "outcome 1"
    assert (len(starts), len(work.runs)) == (1, 1)


def test_of_many_waiters_one_takes_over(clock, flights, starts, make_work):
    work = make_work()
    orphan(flights, starts, work)
    gate = work.hold_next()
    callers = [Call(flights.call, work) for _ in range(20)]
    clock.wait_for_sleepers(20)
    clock.advance(0.06)
    gate.set()
    assert {caller.value() for caller in callers} == {"outcome 1"}
    assert (len(starts), len(work.runs)) == (1, 1)


def test_callers_with_little_time_start_no_thread_beside_the_first(
    clock, flights, starts, make_work
):
    work = make_work()
    orphan(flights, starts, work)
    for _ in range(3):
        with pytest.raises(RequestTimeoutError):
            flights.call(work, timeout=0)
    assert (starts, work.runs) == ([], [])


def test_callers_with_little_time_take_over_as_well(clock, flights, starts, make_work):
    work = make_work()
    orphan(flights, starts, work)
    while not work.runs:
        caller = Call(flights.call, work, timeout=0.01)
        clock.wait_for_sleepers(1)
        clock.advance(0.011)
        caller.join()
    assert caller.error is None
    assert (len(starts), len(work.runs)) == (1, 1)


def test_two_threads_that_would_run_one_call_run_it_once(flights, make_work):
    work = make_work()
    flight: Flight = Flight(BUDGET)
    flights._run(flight, work)
    flights._run(flight, work)
    assert len(work.runs) == 1


def test_where_no_thread_can_be_started_the_caller_runs_it(flights, make_work, no_threads):
    work = make_work()
    assert flights.call(work) == "outcome 1"
    assert work.threads == [threading.current_thread()]
    error = TransportError("down")
    with pytest.raises(TransportError, match="down"):
        flights.call(make_work(error))


def test_an_interrupt_in_a_call_on_the_callers_own_thread_ends_that_call_alone(
    clock, flights, make_work, no_threads
):
    joined = []

    def interrupted(flight):
        joined.append(Call(flights.call, make_work()))
        clock.wait_for_sleepers(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flights.call(interrupted)
    with pytest.raises(TransportError, match="interrupted; the caller may try again"):
        joined[0].value()
    assert flights.call(make_work()) == "outcome 1"


@on_a_thread_of_its_own
def test_an_interrupt_at_any_point_of_such_a_call_leaves_the_next_ones_working(
    clock, flights, make_work, no_threads
):
    def interrupt():
        raise KeyboardInterrupt

    clock.runs_free = True  # a call may be waited for to the end of its budget, once
    for step in itertools.count():
        try:
            came_so_far = interrupted_at(step, lambda: flights.call(make_work()), interrupt)
        except KeyboardInterrupt:
            came_so_far = True
        try:
            assert flights.call(make_work()) == "outcome 1"
        except TransportError:  # the first line of a finally was hit, where no signal can
            clock.advance(BUDGET)
        assert flights.call(make_work()) == "outcome 1", f"at step {step}"
        if not came_so_far:
            break
    assert step > 20


# Time


def test_a_timeout_ends_the_wait_and_not_the_call(clock, flights, make_work, abandoned):
    work = make_work()
    gate = work.hold_next()
    patient, hasty = Call(flights.call, work), Call(flights.call, work, timeout=3.0)
    clock.wait_for_sleepers(2)
    clock.advance(2.9)
    assert not hasty.is_done
    clock.advance(0.1)
    with pytest.raises(RequestTimeoutError, match="the login goes on"):
        hasty.value()
    gate.set()
    assert patient.value() == "outcome 1"
    assert abandoned == []


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_without_time_a_caller_starts_a_call_and_does_not_wait(clock, flights, make_work, timeout):
    work = make_work()
    gate = work.hold_next()
    with pytest.raises(RequestTimeoutError):
        flights.call(work, timeout)
    clock.settle()
    assert len(work.runs) == 1
    assert [seconds for _, seconds in clock.waits if seconds > 0] == []
    gate.set()
    until(lambda: work.landed)


@pytest.mark.parametrize("timeout", [None, 1e9])
def test_no_caller_waits_longer_than_the_budget(clock, flights, make_work, abandoned, timeout):
    work = make_work()
    work.hold_next()
    began = clock.now()
    caller = Call(flights.call, work, timeout)
    clock.wait_for_sleepers(1)
    clock.advance(BUDGET - 0.1)
    assert not caller.is_done
    assert abandoned == []
    clock.advance(0.1)
    with pytest.raises(RequestTimeoutError):
        caller.value()
    assert abandoned == [began + BUDGET]


def test_a_call_past_its_budget_is_abandoned_and_those_who_have_time_start_another(
    clock, flights, make_work, abandoned
):
    stuck, next_one = make_work("late"), make_work("in time")
    gate, next_gate = stuck.hold_next(), next_one.hold_next()
    first = Call(flights.call, stuck)
    clock.wait_for_sleepers(1)
    clock.advance(10)
    others = [Call(flights.call, next_one) for _ in range(5)]
    clock.wait_for_sleepers(6)
    clock.advance(10)
    assert isinstance(first.join().error, RequestTimeoutError)
    clock.wait_for_sleepers(5)
    next_gate.set()
    assert [other.value() for other in others] == ["in time"] * 5
    assert (len(abandoned), len(next_one.runs)) == (1, 1)
    gate.set()
    until(stuck.runs[0].ended.is_set)
    assert stuck.landed == [], "a late outcome counts for nothing"
    assert flights.call(next_one) == "outcome 2"


def test_a_late_error_reaches_nobody(clock, flights, make_work):
    stuck, next_one = make_work(InvalidClientError("late")), make_work("in time")
    gate, next_gate = stuck.hold_next(), next_one.hold_next()
    first = Call(flights.call, stuck)
    clock.wait_for_sleepers(1)
    clock.advance(BUDGET)
    first.join()
    second = Call(flights.call, next_one)
    clock.wait_for_sleepers(1)
    gate.set()
    until(stuck.runs[0].ended.is_set)
    assert not second.is_done
    assert flights.waiting == 1
    next_gate.set()
    assert second.value() == "in time"


def test_a_restarted_budget_counts_from_then(clock, flights, make_work, abandoned):
    queue, bank = threading.Event(), threading.Event()

    def work(flight):
        clock.park(queue)
        flight.restart_budget(BUDGET)
        clock.park(bank)
        return lambda: "an outcome"

    first = Call(flights.call, work)
    clock.wait_for_sleepers(1)
    clock.advance(15)
    queue.set()
    clock.advance(1)
    second = Call(flights.call, work)
    clock.wait_for_sleepers(2)
    clock.advance(4)
    assert isinstance(first.join().error, RequestTimeoutError), "its own time is over"
    clock.advance(14)
    assert abandoned == []
    bank.set()
    assert second.value() == "an outcome"


def test_a_restarted_budget_may_end_sooner(clock, flights, make_work, abandoned):
    def restart(flight):
        flight.restart_budget(5.0)
        clock.park(gate)

    gate, began = threading.Event(), clock.now()
    work = make_work(restart, "in time")
    with pytest.raises(RequestTimeoutError):
        flights.call(work, timeout=0)
    until(lambda: clock._parked)
    caller = Call(flights.call, work)
    clock.wait_for_sleepers(1)
    clock.advance(5)
    assert caller.value() == "in time"
    assert abandoned == [began + 5.0]
    gate.set()


# Abandoned calls


def abandon(clock, flights, work) -> None:
    caller = Call(flights.call, work)
    clock.wait_for_sleepers(1)
    clock.advance(BUDGET)
    assert isinstance(caller.join().error, RequestTimeoutError)


def test_with_two_abandoned_calls_alive_no_other_one_starts(clock, flights, make_work, abandoned):
    stuck = make_work()
    gates = [stuck.hold_next(), stuck.hold_next()]
    abandon(clock, flights, stuck)
    abandon(clock, flights, stuck)
    assert len(abandoned) == 2
    work, waits = make_work(), len(clock.waits)
    for _ in range(3):
        with pytest.raises(RequestTimeoutError, match="2 logins are stuck past their budget of 20"):
            flights.call(work)
    assert (work.runs, len(clock.waits)) == ([], waits), "at once, and without a thread"
    gates[1].set()
    until(stuck.runs[1].ended.is_set)
    assert flights.call(work) == "outcome 1"
    assert flights.call(work) == "outcome 2"


def test_one_abandoned_call_holds_nobody_up(clock, flights, make_work):
    stuck, work = make_work(), make_work()
    stuck.hold_next()
    abandon(clock, flights, stuck)
    assert [flights.call(work), flights.call(work)] == ["outcome 1", "outcome 2"]


def test_of_many_callers_one_reports_an_abandoned_call(clock, flights, make_work, abandoned):
    stuck = make_work()
    stuck.hold_next()
    callers = [Call(flights.call, stuck) for _ in range(20)]
    clock.wait_for_sleepers(20)
    clock.jump(BUDGET)
    assert {type(caller.join().error) for caller in callers} == {RequestTimeoutError}
    assert len(abandoned) == 1
    assert flights.call(make_work()) == "outcome 1"


def test_a_call_that_is_about_to_wake_everybody_is_not_abandoned(clock, flights, abandoned):
    """Its outcome counts already when its budget ends, so its callers get it."""
    gate, landing = threading.Event(), threading.Event()

    def land():
        landing.set()
        clock.park(gate)
        return "just in time"

    first = Call(flights.call, lambda flight: land)
    assert landing.wait(20)
    clock.advance(1)
    second = Call(flights.call, lambda flight: land)
    clock.wait_for_sleepers(2)
    clock.advance(BUDGET - 0.5)
    assert not first.is_done
    gate.set()
    assert [first.value(), second.value()] == ["just in time"] * 2
    assert abandoned == []


def test_a_call_that_never_wakes_anybody_holds_nobody_up_for_ever(clock, flights, make_work):
    gate = threading.Event()

    def land():
        clock.park(gate)

    first = Call(flights.call, lambda flight: land)
    clock.wait_for_sleepers(1)
    clock.advance(BUDGET)
    assert not first.is_done
    clock.advance(1)
    with pytest.raises(TransportError, match="interrupted"):
        first.value()
    assert flights.call(make_work()) == "outcome 1"
    gate.set()


@on_a_thread_of_its_own
def test_an_interrupt_at_any_point_of_abandoning_leaves_the_next_callers_working(
    clock, make_work, abandoned
):
    def interrupt():
        raise KeyboardInterrupt

    clock.runs_free = True
    for step in itertools.count():
        flights: SingleFlight = SingleFlight("example", BUDGET, on_abandon=lambda: None)
        stuck = make_work()
        gate = stuck.hold_next()
        with pytest.raises(RequestTimeoutError):
            flights.call(stuck, timeout=1.0)
        until(lambda work=stuck: work.runs)
        clock.advance(BUDGET)
        with_interrupt = make_work()
        try:
            came_so_far = interrupted_at(
                step, lambda f=flights, w=with_interrupt: f.call(w), interrupt
            )
        except KeyboardInterrupt:
            came_so_far = True
        assert Call(flights.call, make_work()).value() in ("outcome 1", "outcome 2")
        gate.set()
        if not came_so_far:
            break
    assert step > 20


# Log records and events


def test_notes_are_told_after_the_callers_have_woken(clock, flights):
    woken, told = threading.Event(), []

    def work(flight):
        _logging.tell(lambda: told.append(woken.wait(20)))
        return lambda: _logging.tell(lambda: told.append("landed")) or "an outcome"

    assert flights.call(work) == "an outcome"
    woken.set()
    flights.wait_told(20)
    assert told == [True, "landed"]


def test_notes_may_ask_for_the_next_outcome(flights, make_work):
    seen, work = [], make_work("next")

    def first(flight):
        _logging.tell(lambda: seen.append(flights.call(work)))
        return lambda: "an outcome"

    assert flights.call(first) == "an outcome"
    until(lambda: seen)
    assert seen == ["next"]


def test_the_notes_of_an_abandoned_call_are_told_when_it_ends(clock, flights, make_work):
    told = []
    stuck = make_work(lambda flight: _logging.tell(lambda: told.append("note")))
    gate = stuck.hold_next()
    abandon(clock, flights, stuck)
    gate.set()
    until(lambda: told)


def test_the_last_calls_notes_can_be_waited_for(clock, flights):
    gate, told = threading.Event(), []

    def work(flight):
        _logging.tell(lambda: clock.park(gate))
        _logging.tell(lambda: flights.wait_told(None))  # not for itself
        _logging.tell(lambda: told.append("note"))
        return lambda: "an outcome"

    flights.wait_told(None)  # there was no call
    flights.call(work)
    waiter = Call(flights.wait_told, 5.0)
    clock.wait_for_sleepers(1)
    clock.advance(5)
    waiter.value()
    assert told == []
    waiter = Call(flights.wait_told, None)
    clock.wait_for_sleepers(1)
    gate.set()
    waiter.value()
    assert told == ["note"]


def test_a_call_that_runs_is_not_waited_for(clock, flights, make_work):
    work = make_work()
    work.hold_next()
    Call(flights.call, work)
    clock.wait_for_sleepers(1)
    Call(flights.wait_told, None).value()


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("fork", ["hooked", "in_c"])
def test_a_child_starts_with_no_flight(fork):
    code = """
        import sys, threading
        from permata_auth._flight import SingleFlight
        from support.forking import in_child, reap
        from support.threads import Call, until

        flights = SingleFlight("example", 30.0, on_abandon=lambda: None)
        gate, arrived = threading.Event(), threading.Event()

        def work(flight):
            arrived.set()
            assert gate.wait(60)
            return lambda: "the parent's"

        def child():
            assert flights.waiting == 0
            flights.wait_told(None)
            assert flights.call(lambda flight: lambda: "the child's") == "the child's"

        caller = Call(flights.call, work)
        assert arrived.wait(20)
        until(lambda: flights.waiting == 1)
        reap(in_child(child, sys.argv[1]))
        gate.set()
        assert caller.value() == "the parent's"
        """
    ended = run(code, fork)
    assert (ended.status, ended.err) == (0, "")


def test_a_caller_gives_the_first_one_a_moment_to_start_the_call(
    clock, flights, make_work, monkeypatch
):
    """The first one may be about to; two threads would do the work of one."""
    work, real, moments = make_work(), flights._start, []

    def start(flight, run):
        moments.append(clock.now())
        if len(moments) > 1:  # the first caller was stopped just before it could
            real(flight, run)

    monkeypatch.setattr(flights, "_start", start)
    call = Call(flights.call, work)
    until(lambda: clock.next_wake_up is not None)
    assert moments == [clock.now()]
    clock.advance(0.05)
    assert call.value() == "outcome 1"
    assert moments[1] - moments[0] == pytest.approx(0.05)
