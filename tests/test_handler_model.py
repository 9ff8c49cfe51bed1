"""Any history of one handler and one bank, against a model that knows what must come of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.clients import ScriptedClient, credentials
from support.clock import FakeClock

from permata_auth import InvalidClientError, LoginHandler, TransportError

LIVES = [1, 20, 60, 300, 359, 360, 361, 900, 10_800]
STEPS = [0, 0.5, 3, 5, 10, 60, 300, 600, 899, 900, 4_000, 20_000]
DOWN, REFUSES = TransportError("the bank is down"), InvalidClientError("refused", status_code=401)


class AgainstAModel(RuleBasedStateMachine):
    """The model: a token's moment of death, and the moment of the next login in the background."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock().__enter__()
        self.client = ScriptedClient(then=self.answer, clock=self.clock)
        self.handler = LoginHandler(credentials(), client=self.client)
        self.mode: Exception | None = None  # the error that the bank answers with
        self.life = 900
        self.dies: float | None = None  # None: no token
        self.token: str | None = None
        self.retired: list[str] = []
        self.due: float | None = None  # None: no timer
        self.gives_up = 0.0
        self.attempts = 0
        self.refused_until = 0.0
        self.logins = self.failed = 0
        self.is_shut_down = False

    def teardown(self) -> None:
        self.handler.shutdown()
        self.clock.__exit__()

    def answer(self) -> object:
        return self.mode or self.life

    @property
    def is_live(self) -> bool:
        return self.dies is not None and self.clock.now() < self.dies

    def expect_a_login(self) -> None:
        """What a login changes, by whoever it was started."""
        now = self.clock.now()
        if self.mode is not None:
            self.failed += 1
            if self.mode is REFUSES:
                self.refused_until = now + 5.0
            return
        self.logins += 1
        self.refused_until = 0.0
        self.retired += [self.token] if self.token else []
        self.token = None  # learnt from the next call
        self.dies = self.gives_up = now + self.life
        wait = self.life - min(300.0, self.life / 2)
        is_due = wait >= min(60.0, self.life / 10) and not self.is_shut_down
        self.due = now + wait if is_due else None
        self.attempts = 0

    def check_served(self, value: str) -> None:
        assert value not in self.retired
        assert self.token in (None, value)
        self.token = value

    @rule()
    def get(self) -> None:
        if self.is_live:
            self.check_served(self.handler.get_token())
            return
        if self.clock.now() < self.refused_until:
            with pytest.raises(InvalidClientError):
                self.handler.get_token()
            return
        self.expect_a_login()
        self.ask(self.handler.get_token)

    @rule()
    def refresh(self) -> None:
        self.expect_a_login()
        self.ask(lambda: self.handler.refresh().value)

    def ask(self, call) -> None:
        if self.mode is None:
            self.check_served(call())
        else:
            with pytest.raises(type(self.mode)) as caught:
                call()
            assert caught.value is not self.mode

    @rule(which=st.sampled_from(["any", "this one", "an older one", "a foreign one"]))
    def invalidate(self, which) -> None:
        older = self.retired[-1] if self.retired else "none"
        value = {
            "any": None,
            "this one": self.token or "none",
            "an older one": older,
            "a foreign one": "foreign",
        }[which]
        self.handler.invalidate(value)
        if which == "any" or (which == "this one" and self.token):
            self.drop()

    @rule()
    def clear(self) -> None:
        self.handler.clear_cache()
        self.refused_until = 0.0
        self.drop()

    def drop(self) -> None:
        self.retired += [self.token] if self.token else []
        self.token = self.dies = None

    @rule(mode=st.sampled_from([None, None, DOWN, REFUSES]))
    def the_bank_changes(self, mode) -> None:
        self.mode = mode

    @rule(life=st.sampled_from(LIVES))
    def lives_change(self, life) -> None:
        self.life = life

    @rule(seconds=st.sampled_from([-86_400, -5, 5, 86_400]))
    def step_the_wall_clock(self, seconds) -> None:
        self.clock.step_wall(seconds)

    @rule(seconds=st.sampled_from(STEPS))
    def advance(self, seconds) -> None:
        until = self.clock.now() + min(seconds, 20 * self.life)  # tokens of a second: 40 logins
        while self.due is not None and self.due <= until:
            asked = len(self.client.calls)
            self.clock.advance(self.due - self.clock.now())
            assert len(self.client.calls) == asked + 1, "one login when it is due"
            self.expect_a_login()
            if self.mode is not None:
                self.expect_a_retry()
        asked = len(self.client.calls)
        self.clock.advance(until - self.clock.now())
        assert len(self.client.calls) == asked, "none when it is not"

    def expect_a_retry(self) -> None:
        self.attempts += 1
        left = self.gives_up - self.clock.now()
        if left <= 0:
            self.due = None
            return
        wait = self.clock.next_wake_up
        ceiling = min(60.0, 2.0 ** (self.attempts - 1), left / 4)
        assert wait == pytest.approx(left) if ceiling < 0.1 else 0.099 < wait <= ceiling + 1e-6
        self.due = self.clock.now() + wait

    @precondition(lambda self: not self.is_shut_down)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really) -> None:
        if really == 0:
            self.handler.shutdown()
            self.is_shut_down, self.due = True, None

    @invariant()
    def it_tells_the_truth(self) -> None:
        self.clock.settle()
        info = self.handler.info()
        assert (info.logins, info.failed_logins) == (self.logins, self.failed)
        assert len(self.client.calls) == self.logins + self.failed
        assert info.seconds_left == pytest.approx(
            self.dies - self.clock.now() if self.is_live else 0.0
        )
        assert (info.fingerprint is not None) is self.is_live
        assert (info.next_refresh_at is not None) is (self.due is not None)
        assert self.handler.scheduler.is_active is (self.due is not None)
        assert info.waiting == 0


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
