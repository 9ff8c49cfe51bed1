"""When the next login may start: each row of the table for each asker, and a model of them all."""

from __future__ import annotations

import pickle

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.clock import FakeClock

from permata_auth import (
    CertificateError,
    ClockError,
    ConfigurationError,
    InvalidClientError,
    InvalidTokenResponseError,
    RequestTimeoutError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TransportError,
    _pace,
)
from permata_auth._pace import Asker, Pace, Pause, Row, held_error

MEMORY = 4.0
CALLER, REFRESH, TIMER = Asker.CALLER, Asker.REFRESH, Asker.TIMER


def busy(retry_after=None):
    return TokenEndpointUnavailableError("busy", status_code=503, retry_after=retry_after)


@pytest.fixture
def pace(clock):
    return Pace(MEMORY)


@pytest.fixture
def draw(monkeypatch):
    """Decide each draw: the bounds of the last one, and how far between them it falls."""

    class Draw:
        bounds = None
        at = 1.0

        def __call__(self, low, high):
            self.bounds = (low, high)
            return low + (high - low) * self.at

    draw = Draw()
    monkeypatch.setattr(_pace.random, "uniform", draw)
    return draw


def fail(pace, error, times=1) -> Pause:
    for _ in range(times):
        pause = pace.after(error)
        pace.begin(pause)
    return pause


def held(pace, **timer) -> set[Asker]:
    return {asker for asker in Asker if pace.held(asker, **timer) is not None}


# Which row


class Foreign(Exception):
    """An error of another library that happens to have the names of ours."""

    retryable = True
    retry_after = 30.0
    status_code = 401


class Hostile(Exception):
    @property
    def retryable(self):
        raise ZeroDivisionError

    retry_after = status_code = retryable


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (TransportError("no network"), Row.BACKOFF),
        (RequestTimeoutError("slow"), Row.BACKOFF),
        (busy(), Row.BACKOFF),
        (busy(0), Row.BACKOFF),
        (busy(0.0), Row.BACKOFF),
        (busy(-3), Row.BACKOFF),
        (busy(float("nan")), Row.BACKOFF),
        (busy(float("inf")), Row.BACKOFF),
        (busy("3"), Row.BACKOFF),
        (busy(True), Row.BACKOFF),
        (busy(3), Row.ASKED),
        (busy(0.5), Row.ASKED),
        (busy(3600), Row.ASKED),
        (TransportError("later", retry_after=3), Row.ASKED),
        (InvalidClientError("refused", status_code=401), Row.REFUSED),
        (InvalidClientError("refused"), Row.REFUSED),
        (TokenEndpointError("refused", status_code=400), Row.REFUSED),
        (TokenEndpointError("refused", status_code=401), Row.REFUSED),
        (TokenEndpointError("refused", status_code=403), Row.REFUSED),
        (ClockError("late", status_code=400), Row.REFUSED),
        (TokenEndpointError("moved", status_code=302), Row.BROKEN),
        (TokenEndpointError("not found", status_code=404), Row.BROKEN),
        (TokenEndpointError("odd", status_code=402), Row.BROKEN),
        (TokenEndpointError("odd"), Row.BROKEN),
        (InvalidTokenResponseError("no token", status_code=200), Row.BROKEN),
        (CertificateError("refused"), Row.BROKEN),
        (ConfigurationError("wrong"), Row.BROKEN),
        (ZeroDivisionError(), Row.BROKEN),
        (Foreign(), Row.BROKEN),
        (Hostile(), Row.BROKEN),
    ],
)
def test_each_failure_has_its_row(pace, error, row):
    pause = pace.after(error)
    assert (pause.row, pause.count, pause.error) == (row, 1, error)
    assert pause.until > pause.failed_at


@pytest.mark.parametrize(
    ("row", "askers"),
    [
        (Row.BACKOFF, {CALLER, REFRESH}),
        (Row.ASKED, {CALLER, REFRESH, TIMER}),
        (Row.REFUSED, {CALLER, TIMER}),
        (Row.BROKEN, {CALLER, TIMER}),
        (Row.REJECTED, {CALLER, TIMER}),
    ],
)
def test_each_row_holds_its_askers(clock, pace, row, askers):
    now = clock.now()
    pace.begin(Pause(row=row, error=busy(), count=1, failed_at=now, until=now + 10))
    assert held(pace) == askers
    assert [each for each in Row if pace.is_held_by(each)] == [row]
    clock.advance(9.9)
    assert held(pace) == askers
    clock.advance(0.1)
    assert held(pace) == set()
    assert not any(map(pace.is_held_by, Row))


def test_what_failed_counts_once_it_begins(pace):
    assert pace.after(busy()).count == pace.after(busy()).count == 1
    assert held(pace) == set()
    assert fail(pace, busy(), 2).count == 2


# How long


BACKOFF = [0.5, 1, 2, 4, 5, 5, 5, 5, 5, 5, 5, 5]
REFUSED = [4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
BROKEN = [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_back_off_is_drawn_between_half_and_all_of_a_growing_bound(pace, draw, at):
    draw.at, seen = at, []
    for _ in range(12):
        pause = fail(pace, busy())
        assert draw.bounds == (0.5, 1.0)
        seen.append(pause.until - pause.failed_at)
    assert seen == [bound * (0.5 + 0.5 * at) for bound in BACKOFF]


@pytest.mark.parametrize(
    ("error", "bounds"),
    [
        (InvalidClientError("refused", status_code=401), REFUSED),
        (InvalidTokenResponseError("no token"), BROKEN),
        (ZeroDivisionError(), BROKEN),
    ],
)
def test_refusals_and_broken_responses_pause_longer_each_time(pace, draw, error, bounds):
    pauses = [fail(pace, error) for _ in range(12)]
    assert [pause.until - pause.failed_at for pause in pauses] == bounds
    assert [pause.count for pause in pauses] == list(range(1, 13))
    assert draw.bounds is None, "nobody waits for these in a herd"


@pytest.mark.parametrize(
    ("asked", "pause"), [(0.5, 0.5), (3, 3), (60, 60), (300, 300), (3600, 300)]
)
@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_pause_that_the_bank_asks_for_is_kept_and_spread(pace, draw, asked, pause, at):
    draw.at = at
    for count in range(1, 13):
        found = fail(pace, busy(asked))
        assert draw.bounds == (1.0, 1.1)
        assert (found.row, found.count) == (Row.ASKED, count)
        assert found.until - found.failed_at == pytest.approx(pause * (1 + 0.1 * at))


@pytest.mark.parametrize(("asked", "pause"), [(0, 4), (None, 4), (3, 4), (60, 60), (3600, 300)])
def test_a_refusal_that_asks_for_a_pause_gets_the_longer_one(pace, asked, pause):
    error = InvalidClientError("refused", status_code=401, retry_after=asked)
    found = fail(pace, error)
    assert (found.row, found.until - found.failed_at) == (Row.REFUSED, pause)


@pytest.mark.parametrize("error", [Foreign(), Hostile(), busy("soon"), busy(float("nan"))])
def test_odd_errors_pause_as_usual(clock, pace, error):
    fail(pace, error)
    assert pace.held(CALLER) is not None
    clock.advance(5.1)
    assert pace.held(CALLER) is None or isinstance(error, Foreign)


def test_a_memory_of_zero_seconds_pauses_for_none(pace, clock):
    pace = Pace(0.0)
    fail(pace, InvalidClientError("refused", status_code=401), 12)
    assert held(pace) == set()


def test_a_short_memory_doubles_up_to_the_same_bound(clock):
    assert fail(Pace(0.001), InvalidClientError("refused", status_code=401), 30).count == 30
    pause = fail(Pace(0.001), InvalidClientError("refused", status_code=401), 30)
    assert pause.until - pause.failed_at == 300


def test_each_row_has_a_count_of_its_own(pace):
    fail(pace, busy(), 3)
    assert fail(pace, busy(3)).count == 1
    assert fail(pace, InvalidClientError("refused", status_code=401)).count == 1
    assert fail(pace, ZeroDivisionError()).count == 1
    assert fail(pace, busy()).count == 4


def test_a_count_of_thousands_overflows_nothing(pace, clock):
    now = clock.now()
    for row in (Row.BACKOFF, Row.REFUSED, Row.BROKEN, Row.REJECTED):
        pace.begin(Pause(row=row, error=busy(), count=10**6, failed_at=now, until=now))
    assert fail(pace, busy()).until <= now + 5
    assert fail(pace, ZeroDivisionError()).until == now + 60
    assert pace.after_rejection("example").until == now + 300


# Rejected tokens


def test_the_first_rejected_token_is_replaced_at_once_the_others_after_a_growing_pause(pace):
    seen = []
    for number in range(1, 14):
        pause = pace.after_rejection(f"token {number}")
        pace.begin(pause)
        assert (pause.row, pause.count, pause.rejected) == (Row.REJECTED, number, f"token {number}")
        assert pace.rejections is pause
        assert pace.is_held_by(Row.REJECTED) is (number > 1)
        seen.append(pause.until - pause.failed_at)
    assert seen == [0, *REFUSED]
    assert held(pace) == {CALLER, TIMER}
    assert isinstance(pause.error, TransportError)


def test_an_accepted_call_ends_the_rejections_and_a_login_does_not(pace):
    fail(pace, busy())
    for number in range(2):
        pace.begin(pace.after_rejection(f"token {number}"))
    pace.end()
    assert pace.rejections is not None
    assert pace.held(CALLER).row is Row.REJECTED
    fail(pace, busy())
    pace.end_rejections()
    assert pace.rejections is None
    assert pace.held(CALLER).row is Row.BACKOFF
    assert pace.after_rejection("token").count == 1


# What ends a pause


def all_rows(pace) -> None:
    fail(pace, busy())
    fail(pace, busy(60))
    fail(pace, InvalidClientError("refused", status_code=401))
    fail(pace, ZeroDivisionError())
    for number in range(2):
        pace.begin(pace.after_rejection(f"token {number}"))
    assert all(map(pace.is_held_by, Row))


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (Pace.end, {Row.REJECTED}),
        (Pace.end_rejections, set(Row) - {Row.REJECTED}),
        (Pace.clear, {Row.ASKED}),
    ],
)
def test_each_end_leaves_what_it_does_not_touch(pace, end, left):
    all_rows(pace)
    end(pace)
    assert {row for row in Row if pace.is_held_by(row)} == left
    end(pace)
    assert {row for row in Row if pace.is_held_by(row)} == left


def test_a_success_ends_the_counts_too(pace):
    all_rows(pace)
    pace.end()
    for error in (busy(), busy(3), InvalidClientError("refused", status_code=401), OSError()):
        assert fail(pace, error).count == 1


# Records and events


def test_the_pause_that_lasts_longest_is_named(clock, pace, draw):
    refused = InvalidClientError("refused", status_code=401)
    fail(pace, busy())
    fail(pace, refused)
    longest = fail(pace, busy(60))
    assert pace.held(CALLER) is longest
    assert pace.next_login_at == longest.until
    pace.end()
    fail(pace, busy())
    longest = fail(pace, refused)
    assert pace.held(CALLER) is longest
    clock.advance(4)
    assert pace.next_login_at is None


def test_the_error_of_a_pause_is_a_copy_that_says_what_is_left(clock, pace):
    error = InvalidClientError("refused", status_code=401, error="invalid_client")
    pause = fail(pace, error)
    clock.advance(1)
    first, second = held_error(pause), held_error(pause)
    assert first is not second
    assert (type(first), str(first), first.error) == (InvalidClientError, str(error), error.error)
    assert first.retry_after == 3.0
    assert error.retry_after is None
    clock.advance(10)
    assert held_error(pause).retry_after == 0.0


def test_a_foreign_error_of_a_pause_stays_as_it_is(pace):
    found = held_error(fail(pace, ZeroDivisionError("text")))
    assert isinstance(found, ZeroDivisionError)
    assert not hasattr(found, "retry_after")


def test_a_pause_shows_no_error_in_its_repr(pace):
    assert "example-secret" not in repr(pace.after(ZeroDivisionError("example-secret")))


def test_a_row_has_the_name_that_other_versions_know():
    assert [row.value for row in Row] == ["backoff", "asked", "refused", "broken", "rejected"]
    assert pickle.loads(pickle.dumps(Row.ASKED)) is Row.ASKED


# A fleet


def shared(clock, row=Row.BROKEN, count=1, age=0.0, secs=5.0) -> Pause:
    failed_at = clock.now() - age
    until = failed_at + secs
    return Pause(
        row=row, error=busy(), count=count, failed_at=failed_at, until=until, is_shared=True
    )


def test_another_processs_failure_is_taken_over(clock, pace):
    pause = shared(clock)
    pace.adopt(pause)
    assert pace.held(CALLER) == pause
    assert fail(pace, ZeroDivisionError()).count == 2


def test_the_later_failure_of_two_counts(clock, pace):
    pace.adopt(shared(clock, age=2.0, secs=50.0))
    assert pace.next_login_at == clock.now() + 48
    pace.adopt(shared(clock, age=3.0, secs=100.0))
    assert pace.next_login_at == clock.now() + 48, "it is older"
    own = fail(pace, ZeroDivisionError())
    pace.adopt(shared(clock, age=0.0, secs=100.0))
    assert pace.held(CALLER) is own, "it came no later"
    clock.advance(1)
    pace.adopt(shared(clock, secs=3.0))
    assert pace.next_login_at == clock.now() + 3


def test_the_larger_count_of_two_counts(clock, pace):
    fail(pace, ZeroDivisionError(), 4)
    clock.advance(1)
    pace.adopt(shared(clock, count=2))
    assert pace.held(CALLER).count == 4
    clock.advance(1)
    pace.adopt(shared(clock, count=7))
    assert pace.held(CALLER).count == 7


@pytest.mark.parametrize(
    ("row", "longest"),
    [
        (Row.BACKOFF, 5.0),
        (Row.ASKED, 300.0),
        (Row.REFUSED, 300.0),
        (Row.BROKEN, 60.0),
        (Row.REJECTED, 300.0),
    ],
)
def test_no_pause_of_a_fleet_is_longer_than_its_row_allows(clock, pace, row, longest):
    pace.adopt(shared(clock, row=row, secs=1e9))
    assert pace.next_login_at == clock.now() + longest


WINDOW = 300.0  # so the timer's waits are 1, 2, 4 ... 60 s, its last attempt within 10 s of expiry


@pytest.mark.parametrize(
    ("count", "wait"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (12, 60)]
)
def test_the_timers_of_a_fleet_are_spaced_as_one_timer_is(clock, pace, count, wait):
    pace.adopt(shared(clock, row=Row.BACKOFF, count=count, secs=0.0))
    assert pace.held(TIMER, window=WINDOW, left=200.0).until == clock.now() + 0.75 * wait
    clock.advance(0.75 * wait - 0.01)
    assert held(pace, window=WINDOW, left=200.0) == {TIMER}
    clock.advance(0.01)
    assert held(pace, window=WINDOW, left=200.0) == set()


def test_a_timers_own_failure_does_not_hold_it(pace):
    fail(pace, busy(), 12)
    assert held(pace, window=WINDOW, left=200.0) == {CALLER, REFRESH}


@pytest.mark.parametrize(
    ("age", "left", "is_held"),
    [
        (5.0, 10.1, True),  # not in the tail yet
        (0.9, 9.0, True),  # another process tried a moment ago, in the tail
        (1.0, 9.0, True),
        (1.1, 9.0, False),  # nobody has tried since the tail began
        (44.0, 10.0, False),
        (44.0, 10.1, True),
    ],
)
def test_in_the_tail_one_process_makes_the_last_attempt(clock, pace, age, left, is_held):
    pace.adopt(shared(clock, row=Row.BACKOFF, count=12, age=age))
    assert (TIMER in held(pace, window=WINDOW, left=left)) is is_held


# All of it, against a model


ERRORS = {
    "busy": (busy(), 1),
    "asked": (busy(40.0), 2),
    "refused": (InvalidClientError("refused", status_code=401), 3),
    "broken": (InvalidTokenResponseError("no token"), 4),
}
#: Row of the table: its first pause and its longest one.
TABLE = {1: (0.5, 5.0), 3: (MEMORY, 300.0), 4: (5.0, 60.0), 5: (MEMORY, 300.0)}
HELD = {1: "cr", 2: "crt", 3: "ct", 4: "ct", 5: "ct"}
LETTERS = {CALLER: "c", REFRESH: "r", TIMER: "t"}


@attrs.define
class Count:
    n: int = 0
    #: The moment of the last failure, and the pause after it: at least, at most.
    at: float = 0.0
    least: float = 0.0
    most: float = 0.0


class AgainstTheTable(RuleBasedStateMachine):
    """The table as the design has it, written down once more in plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock().__enter__()
        self.pace = Pace(MEMORY)
        self.rows: dict[int, Count] = {}

    def teardown(self) -> None:
        self.clock.__exit__()

    def count(self, row: int, least: float, most: float) -> None:
        count = self.rows.setdefault(row, Count())
        count.n += 1
        count.at, count.least, count.most = self.clock.now(), least, most

    @rule(kind=st.sampled_from(sorted(ERRORS)), times=st.integers(1, 4))
    def fail(self, kind, times) -> None:
        error, row = ERRORS[kind]
        for _ in range(times):
            self.pace.begin(self.pace.after(error))
            if row == 2:
                self.count(2, 40.0, 44.0)
            else:
                n = self.rows.get(row, Count()).n + 1
                pause = min(TABLE[row][0] * 2 ** (n - 1), TABLE[row][1])
                self.count(row, pause / 2 if row == 1 else pause, pause)

    @rule()
    def reject(self) -> None:
        n = self.rows.get(5, Count()).n + 1
        self.pace.begin(self.pace.after_rejection(f"token {n}"))
        pause = 0.0 if n == 1 else min(MEMORY * 2 ** (n - 2), 300.0)
        self.count(5, pause, pause)

    @rule()
    def log_in(self) -> None:
        self.pace.end()
        self.rows = {row: count for row, count in self.rows.items() if row == 5}

    @rule()
    def accept(self) -> None:
        self.pace.end_rejections()
        self.rows.pop(5, None)

    @rule()
    def clear(self) -> None:
        self.pace.clear()
        self.rows = {row: count for row, count in self.rows.items() if row == 2}

    @rule(seconds=st.sampled_from([0.2, 0.25, 1.0, 2.5, 4.0, 5.0, 40.0, 44.0, 300.0]))
    def wait(self, seconds) -> None:
        self.clock.advance(seconds)

    @invariant()
    def it_holds_whom_the_table_holds(self) -> None:
        now = self.clock.now()
        for asker, letter in LETTERS.items():
            counts = [count for row, count in self.rows.items() if letter in HELD[row]]
            pause = self.pace.held(asker)
            if any(now < count.at + count.least for count in counts):
                assert pause is not None
            if all(now >= count.at + count.most for count in counts):
                assert pause is None
            if pause is not None:
                assert any(
                    count.at + count.least <= pause.until <= count.at + count.most + 1e-6
                    for count in counts
                )

    @invariant()
    def it_tells_the_truth(self) -> None:
        pause = self.pace.held(CALLER)
        assert self.pace.next_login_at == (pause.until if pause else None)
        rejections = self.pace.rejections
        assert (rejections.count if rejections else 0) == self.rows.get(5, Count()).n


TestAgainstTheTable = AgainstTheTable.TestCase
TestAgainstTheTable.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
