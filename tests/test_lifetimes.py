"""Any lifetime in the bank's words, and the number of logins that it causes."""

from __future__ import annotations

import json
import logging
import math

import pytest
from support.clients import ScriptedWire, credentials
from support.clock import product_threads, timers

from permata_auth import InvalidTokenResponseError, LoginClient, login

TEN_YEARS = 10 * 365.25 * 86_400


class Bank:
    """Answers token requests with a new token each time, and ``expires_in`` as it was written."""

    def __init__(self, clock, expires_in):
        self.clock = clock
        self.expires_in = expires_in
        self.count = 0

    def __call__(self):
        self.count += 1
        life = "" if self.expires_in is None else f', "expires_in": {self.expires_in}'
        return 200, f'{{"access_token": "example-token-{self.count}"{life}}}'.encode()


class SameToken(Bank):
    """Hands out one token until it dies, with the rest of its life."""

    def __init__(self, clock, life, rounding):
        super().__init__(clock, None)
        self.life = life
        self.rounding = rounding
        self.dies = -math.inf

    def __call__(self):
        now = self.clock.now()
        if now >= self.dies:
            self.count += 1
            self.dies = now + self.life
        left = max(self.rounding(self.dies - now), 1)
        answer = {"access_token": f"example-token-{self.count}", "expires_in": left}
        return 200, json.dumps(answer).encode()


@pytest.fixture
def wire(monkeypatch):
    wire = ScriptedWire((200, {}))
    monkeypatch.setattr(login, "exchange", wire)
    return wire


def poll(clock, handler, seconds, step):
    """Call ``get_token()`` every ``step`` seconds, as an idle caller would; return the tokens."""
    tokens = []
    for _ in range(round(seconds / step)):
        tokens.append(handler.get_token())
        clock.advance(step)
    return tokens


@pytest.mark.parametrize(
    ("expires_in", "life", "refreshed_after"),
    [
        ("1", 1, 0.5),
        ("2.5", 2.5, 1.25),
        ("30", 30, 15),
        ("300", 300, 150),
        ("359", 359, 179.5),
        ("600", 600, 300),
        ("900", 900, 600),
        ('"900"', 900, 600),
        ("900.0", 900, 600),
        ("10800", 10_800, 10_500),
        ('" 900"', 900, 600),
        ('"9e2"', 900, 600),
        ('"900.0"', 900, 600),
        ("null", 900, 600),
        (None, 900, 600),
        ("1e300", TEN_YEARS, TEN_YEARS - 300),
        ("1" + "0" * 400, TEN_YEARS, TEN_YEARS - 300),
        ('"1' + "0" * 300 + '"', TEN_YEARS, TEN_YEARS - 300),
        ("Infinity", TEN_YEARS, TEN_YEARS - 300),
    ],
    ids=lambda value: f"{value:.12}" if isinstance(value, str) else None,
)
def test_a_lifetime_gives_at_most_two_logins_in_it(
    clock, make_handler, wire, expires_in, life, refreshed_after
):
    wire.answer = bank = Bank(clock, expires_in)
    handler = make_handler(credentials())
    began = clock.now()
    token = handler.get_access_token()
    assert token.expires_in() == pytest.approx(life)
    lifetimes = 10 if life < TEN_YEARS else 1
    poll(clock, handler, life * lifetimes, life / 20)
    assert wire.calls[0] == began
    if life < TEN_YEARS:
        assert wire.calls[1] == pytest.approx(began + refreshed_after)
    assert bank.count <= 2 * lifetimes + 1
    assert handler.info().failed_logins == 0
    clock.settle()
    assert product_threads() == timers()
    assert [t.name for t in timers()] == ["permata-auth-bank.invalid"]


@pytest.mark.parametrize("expires_in", ["1", "30", "300", "359"])
def test_without_the_clamp_short_tokens_are_replaced_on_demand(
    clock, make_handler, wire, expires_in
):
    wire.answer = bank = Bank(clock, expires_in)
    handler = make_handler(credentials(), clamp_to_lifetime=False)
    life = float(expires_in)
    poll(clock, handler, life * 10, life / 20)
    assert bank.count == 10
    clock.settle()
    assert product_threads() == []


@pytest.mark.parametrize("background", [True, False])
def test_an_idle_handler_logs_in_on_demand_only_where_that_is_wanted(
    clock, make_handler, wire, background
):
    wire.answer = bank = Bank(clock, "30")
    handler = make_handler(credentials(), background=background)
    handler.get_token()
    clock.advance(3000)
    assert bank.count == (201 if background else 1)


@pytest.mark.parametrize(
    "expires_in",
    [
        *("0", "-1", "-0.5", "NaN", "-Infinity", "true", "false", "[]", "{}", '"abc"', '""'),
        *('"-5"', '"0"', "[900]", '"0x10"', '"9 00"', "-1e300"),
    ],
    ids=lambda value: f"{value:.12}",
)
def test_what_is_no_lifetime_is_no_usable_token_and_no_login_storm(
    clock, make_handler, wire, expires_in, secrets
):
    secrets.add("example-token-1")
    wire.answer = bank = Bank(clock, expires_in)
    handler = make_handler(credentials())
    for _ in range(20):
        with pytest.raises(InvalidTokenResponseError) as caught:
            handler.get_token()
        clock.advance(1)
        assert not secrets.found_in_error(caught.value)
    assert bank.count == 3  # at 0, 5 and 15 seconds
    bank.expires_in = "900"
    clock.advance(15)
    assert handler.get_token() == "example-token-4"


@pytest.mark.parametrize("expires_in", ["0", "NaN", '"abc"', "true"])
def test_a_token_in_use_outlives_answers_without_a_lifetime(clock, make_handler, wire, expires_in):
    wire.answer = bank = Bank(clock, "900")
    handler = make_handler(credentials())
    assert handler.get_token() == "example-token-1"
    bank.expires_in = expires_in
    assert set(poll(clock, handler, 890, 10)) == {"example-token-1"}
    assert 2 < bank.count < 10
    bank.expires_in = "900"
    clock.advance(70)
    assert handler.get_token() == f"example-token-{bank.count}"


@pytest.mark.parametrize("expires_in", ["null", None])
def test_a_lifetime_that_is_not_told_is_warned_of_once(
    clock, make_handler, wire, expires_in, caplog
):
    wire.answer = Bank(clock, expires_in)
    handler = make_handler(credentials())
    poll(clock, handler, 9000, 100)
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "how long a token lives" in warnings[0].getMessage()


@pytest.mark.parametrize("expires_in", ["1e300", "1e18", "315576000"])
def test_a_token_for_ever_is_cut_to_ten_years_and_does_not_end_the_timer(
    clock, make_handler, wire, expires_in
):
    wire.answer = bank = Bank(clock, expires_in)
    handler = make_handler(credentials())
    assert handler.get_access_token().expires_in() == pytest.approx(TEN_YEARS)
    assert handler.scheduler.is_active
    clock.advance(TEN_YEARS - 301)
    assert bank.count == 1
    clock.advance(2)
    assert bank.count == 2
    assert str(handler.info())


@pytest.mark.parametrize("rounding", [round, math.ceil, math.floor, float])
@pytest.mark.parametrize("life", [10, 60, 900, 10_800])
def test_the_same_token_with_a_shrinking_life_makes_no_loop(
    clock, make_handler, wire, life, rounding
):
    """No gain from a login: the next one is near the token's end, where there is another."""
    wire.answer = bank = SameToken(clock, life, rounding)
    handler = make_handler(credentials())
    lifetimes = 6
    poll(clock, handler, life * lifetimes, life / 40)
    assert bank.count >= lifetimes
    assert len(wire.calls) <= 2 * bank.count + 1
    # While the bank's token lives, so does ours: none was given up early for nothing.
    gaps = [after - before for before, after in zip(wire.calls, wire.calls[1:], strict=False)]
    assert min(gaps) >= min(0.5, life / 20)


def test_the_same_token_asked_for_by_force_makes_no_loop_either(clock, make_handler, wire):
    wire.answer = SameToken(clock, 900, round)
    handler = make_handler(credentials())
    handler.get_token()
    for _ in range(3):
        clock.advance(60)
        assert handler.refresh().value == "example-token-1"
    assert handler.scheduler.info().seconds_until_refresh == pytest.approx(720)
    clock.advance(719)
    assert len(wire.calls) == 4
    clock.advance(2)
    assert handler.get_token() == "example-token-2"


def test_the_life_counts_from_the_moment_of_asking(clock, make_handler, wire):
    bank = Bank(clock, "900")

    def slow():
        clock._now += 20
        return bank()

    wire.answer = slow
    handler = make_handler(credentials(), client=LoginClient(credentials()))
    assert handler.get_access_token().expires_in() == pytest.approx(880)


def test_a_login_slower_than_the_tokens_life_makes_no_loop(clock, make_handler, wire):
    """The token is dead on arrival, which is no token; the pauses grow, and no timer runs."""
    bank = Bank(clock, "1")

    def slow():
        clock._now += 2
        return bank()

    wire.answer = slow
    handler = make_handler(credentials())
    for _ in range(60):
        with pytest.raises(InvalidTokenResponseError, match="has expired already"):
            handler.get_token()
        clock.advance(1)
    assert bank.count == 4  # each two seconds long, after pauses of 5, 10 and 20 seconds
