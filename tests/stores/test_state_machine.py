"""Any history of a fleet over one folder, against a model that knows the tokens of the bank."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager, suppress

import pytest

pytest.importorskip("filelock")

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.clients import credentials, token
from support.clock import FakeClock

from permata_auth import (
    AccessToken,
    FileTokenStore,
    LoginHandler,
    RetryPolicy,
    TokenStoreError,
    TransportError,
    _clock,
    _process,
)

_LIFE = 900.0

processes = st.integers(0, 2)


class Bank:
    """Issues tokens that live for a quarter of an hour; asks the model whether it should have."""

    def __init__(self) -> None:
        self.issued: dict[str, AccessToken] = {}
        self.is_down = False
        self.logins: list[int] = []

    def client(self, process: int) -> Client:
        return Client(self, process)


class Client:
    retry = RetryPolicy()

    def __init__(self, bank: Bank, process: int) -> None:
        self._bank, self._process = bank, process

    def login(self) -> AccessToken:
        if self._bank.is_down:
            raise TransportError("the bank is down")
        issued = token(_LIFE)
        self._bank.issued[issued.value] = issued
        self._bank.logins.append(self._process)
        return issued

    def close(self) -> None:
        pass


class Store:
    """A folder that one process reaches, or does not."""

    def __init__(self, path: str) -> None:
        self._store = FileTokenStore(path)
        self.is_out = False

    def load(self, key):
        self._check()
        return self._store.load(key)

    def save(self, key, token):
        self._check()
        self._store.save(key, token)

    def discard(self, key, token):
        self._check()
        self._store.discard(key, token)

    @contextmanager
    def lock(self, key):
        self._check()
        with self._store.lock(key):
            yield

    def _check(self) -> None:
        if self.is_out:
            raise TokenStoreError("out of order")


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clock = self.stack.enter_context(FakeClock())
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.bank = Bank()
        self.stores = [Store(f"{folder}/tokens") for _ in range(3)]
        self.handlers = [self.start(i) for i in range(3)]
        self.rejected: set[str] = set()

    def start(self, process: int) -> LoginHandler:
        client, store = self.bank.client(process), self.stores[process]
        return self.stack.enter_context(LoginHandler(credentials(), client=client, store=store))

    def teardown(self) -> None:
        for handler in self.handlers:
            handler.scheduler.stop()
        self.clock.advance(30.0)  # a refresh that waits for the lock comes to its end
        self.stack.close()

    def is_healthy(self) -> bool:
        """Whether each process has its store, and knows it."""
        return not any(
            store.is_out or handler._shared._places[0][1]._breaker.get().failing
            for store, handler in zip(self.stores, self.handlers, strict=True)
        )

    def is_paused(self, process: int) -> bool:
        return self.handlers[process].info().next_login_at is not None

    def shared(self) -> AccessToken | None:
        return self.stores[0]._store.load(credentials().key)

    def check_served(self, value: str) -> None:
        known = self.bank.issued[value]  # never a foreign one
        # A store keeps whole microseconds, so its copy may end that much later.
        assert _clock.now() < known.deadline + 0.001
        assert value not in self.rejected

    @rule(process=processes)
    def get(self, process) -> None:
        handler, logins = self.handlers[process], len(self.bank.logins)
        had_live = handler._snapshot.live is not None
        shared = self.shared()
        try:
            value = handler.get_token()
        except TransportError:
            assert self.bank.is_down or self.is_paused(process)
            assert not had_live
            return
        self.check_served(value)
        if had_live or (self.is_healthy() and shared is not None):
            assert len(self.bank.logins) == logins

    @rule(process=processes)
    def refresh(self, process) -> None:
        if not self.bank.is_down and not self.is_paused(process):
            with suppress(TransportError):  # another process has failed a moment ago
                self.check_served(self.handlers[process].refresh().value)

    @rule(process=processes)
    def reject(self, process) -> None:
        """The bank refuses a process's token, and nobody may be given it from then on."""
        cached = self.handlers[process]._snapshot.live
        if cached is None:
            return
        self.rejected.add(cached.value)
        for handler in self.handlers:
            handler.note_response(cached.value, 200)  # it is replaced at once, then
            handler.invalidate(cached)
        # A process that did not reach the store has left it there: its next user is refused once.
        for store in self.stores:
            store._store.discard(credentials().key, cached)

    @rule(seconds=st.sampled_from([0.5, 10.0, 100.0, 300.0, 620.0, 900.0, 5000.0]))
    def advance(self, seconds) -> None:
        """Time passes, timers fire; all the processes that hold one token log in once for all."""
        before, was_healthy = len(self.bank.logins), self.is_healthy()
        held = {
            handler._snapshot.token and handler._snapshot.token.value for handler in self.handlers
        }
        self.clock.advance(seconds)
        if was_healthy and not self.bank.is_down and len(held) == 1:
            # Each token is replaced when its buffer begins, 270 to 300 s before its end.
            assert len(self.bank.logins) - before <= seconds / (_LIFE - 330.0) + 1

    @rule(seconds=st.sampled_from([-86_400.0, -5.0, 5.0]))
    def step_the_wall_clock(self, seconds) -> None:
        self.clock.step_wall(seconds)

    @rule(process=processes)
    def lose_the_store(self, process) -> None:
        self.stores[process].is_out = True

    @precondition(lambda self: any(store.is_out for store in self.stores))
    @rule()
    def find_the_store(self) -> None:
        for store in self.stores:
            store.is_out = False

    @rule()
    def bank_goes_down(self) -> None:
        self.bank.is_down = True

    @precondition(lambda self: self.bank.is_down)
    @rule()
    def bank_comes_up(self) -> None:
        self.bank.is_down = False

    @rule()
    def fork(self) -> None:
        """Every process forks, and its child goes on; timers and locks stay behind."""
        self.clock.settle()
        for handler in self.handlers:
            # A real fork leaves the timers to the parent, which this test has not: without this
            # they would wait on the fake clock for a moment that never comes.
            handler.scheduler._running.get().drop()
        _process._in_child()

    @rule(process=processes)
    def restart(self, process) -> None:
        self.handlers[process].shutdown()
        self.handlers[process] = self.start(process)

    @rule()
    def spoil_the_file(self) -> None:
        for path in self.stores[0]._store.path.glob("*.json"):
            path.write_bytes(path.read_bytes()[:50])

    @precondition(lambda self: self.is_healthy() and not self.bank.is_down)
    @rule()
    def expire_all_and_get(self) -> None:
        """Each process needs a token anew: one of them logs in."""
        for handler in self.handlers:
            handler.clear_cache()
        # No process may hold it that could take it back: one just started, or logged in alone.
        stored = self.shared()
        if stored is not None:
            self.stores[0]._store.discard(credentials().key, stored)
        before = len(self.bank.logins)
        values = {handler.get_token() for handler in self.handlers}
        for value in values:
            self.check_served(value)
        assert len(values) == 1
        assert len(self.bank.logins) - before <= 1

    @invariant()
    def nobody_takes_a_token_for_another_s_or_to_live_longer_than_it_does(self) -> None:
        for handler in self.handlers:
            live = handler._snapshot.live
            if live is not None:
                assert live.deadline < self.bank.issued[live.value].deadline + 0.01


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFleet.pytestmark = [pytest.mark.long]
