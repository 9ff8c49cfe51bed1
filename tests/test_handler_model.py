"""Any history of one handler and one bank, against a model of the right outcome."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.clients import ScriptedClient, credentials
from support.clock import FakeClock

from permata_auth import AccessToken, InvalidClientError, LoginHandler, TransportError
from permata_auth._pace import Asker

LIVES = [1, 20, 60, 300, 359, 360, 361, 900, 10_800]
STEPS = [0, 0.5, 3, 5, 10, 60, 300, 600, 899, 900, 4_000, 20_000]
DOWN, REFUSES = TransportError("the bank is down"), InvalidClientError("refused", status_code=401)

BACKOFF, REFUSED, REJECTED = "backoff", "refused", "rejected"
HOLDS = {
    Asker.CALLER: (BACKOFF, REFUSED, REJECTED),
    Asker.REFRESH: (BACKOFF,),
    Asker.TIMER: (REFUSED, REJECTED),
}
RAISES = {BACKOFF: TransportError, REFUSED: InvalidClientError, REJECTED: TransportError}
TINY = 1e-5  # times of tokens are rounded to microseconds


class Timer:
    """A schedule in the model: its moment, and the moment at which it is given up."""

    def __init__(self, due: float, expires: float, expires_at: float) -> None:
        self.due, self.expires, self.expires_at = due, expires, expires_at
        self.attempts = 0
        self.window = 0.0
        self.waited = 0.0
        self.is_last = False  # due at expiry, where no attempt is made


class AgainstAModel(RuleBasedStateMachine):
    """The model: the token that is served, each row's pause, and the timer's next attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock().__enter__()
        self.client = ScriptedClient(then=self.answer, clock=self.clock)
        self.handler = LoginHandler(credentials(), client=self.client)
        self.mode: Exception | None = None  # the error that the bank answers with
        self.life = 900
        self.token: AccessToken | None = None
        self.is_rejected = False  # the token, and counted
        self.retired: list[str] = []
        self.timer: Timer | None = None
        self.counts = dict.fromkeys(RAISES, 0)
        self.until = dict.fromkeys(RAISES, 0.0)
        self.logins = self.failed = 0
        self.is_shut_down = False

    def teardown(self) -> None:
        self.handler.shutdown()
        self.clock.__exit__()

    def answer(self) -> object:
        return self.mode or self.life

    # The model's state

    def seconds_left(self, expires: float, expires_at: float) -> float:
        """Seconds to a death: by the running clock, unless the wall clock is far ahead."""
        left, by_wall = expires - self.clock.now(), expires_at - self.clock.wall()
        return by_wall if by_wall < left - 120.0 else left

    @property
    def token_left(self) -> float:
        """The seconds for which the token is served."""
        if self.token is None:
            return 0.0
        left = self.seconds_left(self.token.deadline, self.token.expires_at.timestamp())
        return max(left, 0.0)

    def held_by(self, asker: Asker) -> str | None:
        """The row whose pause holds ``asker`` longest."""
        rows = [row for row in HOLDS[asker] if self.clock.now() < self.until[row]]
        return max(rows, key=self.until.get, default=None)

    def forget(self, *rows: str) -> None:
        for row in rows:
            self.counts[row], self.until[row] = 0, 0.0

    def retire(self) -> None:
        self.retired += [self.token.value] if self.token else []
        self.token = None

    # The changes of a login

    def expect_a_login(self) -> None:
        if self.mode is DOWN:
            self.failed += 1
            self.expect_a_backoff()
        elif self.mode is REFUSES:
            self.failed += 1
            self.begin(REFUSED, 5.0)
        else:
            self.expect_a_token()

    def begin(self, row: str, first: float, *, doublings: int | None = None) -> None:
        self.counts[row] += 1
        doublings = self.counts[row] - 1 if doublings is None else doublings
        self.until[row] = self.clock.now() + min(first * 2.0**doublings, 300.0)

    def expect_a_backoff(self) -> None:
        self.counts[BACKOFF] += 1
        self.until[BACKOFF] = self.handler._pace.held(Asker.REFRESH).until
        longest = min(0.5 * 2.0 ** (self.counts[BACKOFF] - 1), 5.0)
        secs = self.until[BACKOFF] - self.clock.now()
        assert longest / 2 - TINY <= secs <= longest + TINY

    def expect_a_token(self) -> None:
        self.logins += 1
        self.forget(BACKOFF, REFUSED)
        self.retire()
        self.token, self.is_rejected = self.client.issued[-1], False
        if not self.is_shut_down:
            wait = self.clock.next_wake_up
            assert wait == pytest.approx(self.life - min(300.0, self.life / 2), abs=TINY)
            now, wall = self.clock.now(), self.clock.wall()
            self.timer = Timer(now + wait, now + self.life, wall + self.life)

    # What callers do

    @rule()
    def get(self) -> None:
        if self.token_left:
            assert self.handler.get_token() == self.token.value
        else:
            self.ask(Asker.CALLER, self.handler.get_access_token)

    @rule()
    def refresh(self) -> None:
        self.ask(Asker.REFRESH, self.handler.refresh)

    def ask(self, asker: Asker, call) -> None:
        asked, held = len(self.client.calls), self.held_by(asker)
        if held is None and self.mode is None:
            token = call()
            self.clock.settle()
            self.expect_a_login()
            assert token is self.token
            assert token.value not in self.retired
            return
        with pytest.raises((TransportError, InvalidClientError)) as caught:
            call()
        self.clock.settle()
        if held is None:
            self.expect_a_login()
        else:
            assert len(self.client.calls) == asked, "a pause lets no login start"
        row = self.held_by(asker)
        assert type(caught.value) is (RAISES[row] if row else type(self.mode))
        assert caught.value is not self.mode
        if row:
            left = self.until[row] - self.clock.now()
            assert caught.value.retry_after == pytest.approx(left, abs=TINY)

    @rule(which=st.sampled_from(["any", "this one", "an older one", "a foreign one"]))
    def invalidate(self, which) -> None:
        this = self.token.value if self.token else "none"
        older = self.retired[-1] if self.retired else "none"
        value = {"any": None, "this one": this, "an older one": older, "a foreign one": "foreign"}
        self.handler.invalidate(value[which])
        if self.token and which in ("any", "this one"):
            self.expect_a_rejection()

    @rule(times=st.integers(2, 4), life=st.sampled_from(LIVES))
    def the_bank_rejects_new_tokens(self, times, life) -> None:
        self.mode, self.life = None, life
        for _ in range(times):
            self.get()
            self.invalidate("this one")
        self.advance(life / 2)

    def expect_a_rejection(self) -> None:
        if not self.is_rejected:
            if self.clock.wall() - self.token.issued_at.timestamp() > 5.0:
                self.forget(REJECTED)  # it is old enough to have been accepted
            elif self.counts[REJECTED]:
                self.is_rejected = True
                self.begin(REJECTED, 5.0, doublings=self.counts[REJECTED] - 1)
            else:
                self.is_rejected, self.counts[REJECTED] = True, 1
        if self.clock.now() >= self.until[REJECTED]:
            self.retire()

    @rule()
    def clear(self) -> None:
        self.handler.clear_cache()
        self.forget(BACKOFF, REFUSED, REJECTED)
        self.retire()

    # The steps of the world

    @rule(mode=st.sampled_from([None, None, DOWN, REFUSES]))
    def the_bank_changes(self, mode) -> None:
        self.mode = mode

    @rule(life=st.sampled_from(LIVES))
    def lives_change(self, life) -> None:
        self.life = life

    @rule(seconds=st.sampled_from([-86_400, -5, 5, 86_400]))
    def step_the_wall_clock(self, seconds) -> None:
        if self.token_left:
            self.clock.step_wall(seconds)
            # The call that reads one clock serves it, until anything else has noticed.
            assert self.handler.get_token() == self.token.value
        else:
            self.clock.step_wall(seconds)

    @rule(seconds=st.sampled_from(STEPS))
    def advance(self, seconds) -> None:
        until = self.clock.now() + min(seconds, 20 * self.life)  # tokens of a second: 40 logins
        while self.timer is not None and self.timer.due <= until:
            self.pass_an_attempt(self.timer)
        asked = len(self.client.calls)
        self.clock.advance(max(until - self.clock.now(), 0.0))
        assert len(self.client.calls) == asked, "none when it is not due"

    def pass_an_attempt(self, timer: Timer) -> None:
        asked = len(self.client.calls)
        self.clock.advance_to_next()
        while (again := self.clock.next_wake_up) is not None and again < 1e-6:
            self.clock.advance_to_next()  # the clock's last bit was short of the moment
        left = self.seconds_left(timer.expires, timer.expires_at)
        if timer.attempts == 0:
            timer.window = max(left, 0.0)
        elif timer.is_last or left <= 0:
            self.timer = None
            assert len(self.client.calls) == asked, "given up at expiry, without a login"
            return
        held = self.held_by(Asker.TIMER)
        assert len(self.client.calls) == asked + (held is None), "one login when it is due"
        if held is None:
            self.expect_a_login()
        if self.timer is timer:
            self.expect_a_retry(timer, left)

    def expect_a_retry(self, timer: Timer, left: float) -> None:
        timer.attempts += 1
        if left <= 0:
            self.timer = None
            return
        held = self.held_by(Asker.TIMER)
        asked = self.until[held] - self.clock.now() if held else 0.0
        window, wait = timer.window, self.clock.next_wake_up
        longest = min(min(1.0, window / 20) * 2.0 ** (timer.attempts - 1), 60.0, window / 4)
        shortest = max(0.75 * longest, timer.waited)
        tail = min(window / 10, 10.0)
        assert wait >= min(asked, left) - TINY
        timer.due = self.clock.now() + wait
        timer.is_last = abs(timer.due - timer.expires) < TINY
        if timer.is_last:
            assert max(longest, asked) >= left - TINY
            assert left <= tail + TINY or asked >= left - TINY, "an attempt falls in the tail"
        elif max(shortest, asked) - TINY <= wait <= max(longest, asked) + TINY:
            timer.waited = wait if wait > asked + TINY else shortest
        else:
            assert longest >= left - TINY, "only the last wait is cut"
            assert tail / 2 - TINY <= left - wait <= tail + TINY

    @precondition(lambda self: not self.is_shut_down)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really) -> None:
        if really == 0:
            self.handler.shutdown()
            self.is_shut_down, self.timer = True, None

    @invariant()
    def it_tells_the_truth(self) -> None:
        self.clock.settle()
        info = self.handler.info()  # notices a death, by whichever clock it came
        left = self.token_left
        if not left:
            self.retire()
        assert (info.logins, info.failed_logins) == (self.logins, self.failed)
        assert len(self.client.calls) == self.logins + self.failed
        assert info.seconds_left == pytest.approx(left, abs=TINY)
        assert (info.fingerprint is not None) is (left > 0)
        assert (info.next_refresh_at is not None) is (self.timer is not None)
        assert self.handler.scheduler.is_active is (self.timer is not None)
        assert (info.last_login_at is not None) is (self.logins > 0)
        assert (info.next_login_at is not None) is (self.held_by(Asker.CALLER) is not None)
        assert info.waiting == 0


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
