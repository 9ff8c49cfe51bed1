"""The pace as the bank sees it: requests counted by the sandbox, held against the table."""

from __future__ import annotations

import email.utils
import threading
import time
from contextlib import suppress

import pytest
import requests
from support.clients import token
from support.fleet import Host, ask_all
from support.stores import ScriptedStore
from support.threads import together

from permata_auth import (
    LoginClient,
    LoginHandler,
    MemoryTokenStore,
    PermataAuth,
    PermataAuthError,
    RetryPolicy,
)

MEMORY = 5.0
WINDOW = 300.0
THREADS = 64


def most(secs: float, first: float, longest: float, *, part: float = 1.0) -> int:
    """Return how many logins fit in ``secs`` when each pause is twice the one before.

    The shortest pauses that jitter allows are ``part`` of those of the table.
    """
    moment, count, pause = 0.0, 0, first
    while moment <= secs:
        count += 1
        moment += pause * part
        pause = min(pause * 2, longest)
    return count


def begin(bank, monkeypatch, secs: float, arguments) -> None:
    """Let every login of the next ``secs`` have this fault."""
    if arguments.get("retry_after") == "date":
        # The bank's clock is a real one: a test that takes longer would be asked to wait less.
        now = time.time()
        monkeypatch.setattr(type(bank), "now", lambda bank: now)
        arguments = arguments | {"retry_after": email.utils.formatdate(now + 60, usegmt=True)}
    bank.fail_for(secs, on="token", **arguments)


def row_1(secs: float) -> int:
    return most(secs, 0.5, 5.0, part=0.5)


def row_2(asked: float):
    return lambda secs: most(secs, asked, asked)


def row_3(secs: float) -> int:
    return most(secs, MEMORY, WINDOW)


#: A fault of the token endpoint, the logins that the table allows in so many seconds to callers
#: without a token, and those that the budgets allow to the timer in its window.
FAULTS = {
    "503": ({"status": 503}, row_1, 15),
    "429-0": ({"status": 429, "retry_after": 0}, row_1, 15),
    "429-3": ({"status": 429, "retry_after": 3}, row_2(3.0), 15),
    "429-60": ({"status": 429, "retry_after": 60}, row_2(60.0), 6),
    "429-3600": ({"status": 429, "retry_after": 3600}, row_2(300.0), 1),
    "429-date": ({"status": 429, "retry_after": "date"}, row_2(60.0), 6),  # in a minute
    "refused": ({"status": 401}, row_3, 7),
}


@pytest.fixture(params=FAULTS)
def fault(request, monkeypatch):
    """A fault with its two bounds; ``begin(bank)`` lets the bank have it from now on."""
    arguments, allowed, budget = FAULTS[request.param]

    class Fault:
        @staticmethod
        def begin(bank):
            begin(bank, monkeypatch, 3600, arguments)

    Fault.allowed, Fault.budget = staticmethod(allowed), budget
    return Fault


@pytest.fixture
def handler(bank, clock, make_handler) -> LoginHandler:
    """A handler whose logins make one attempt each, so that every request is the pace's own."""
    client = LoginClient(bank.credentials(), retry=RetryPolicy(attempts=1))
    yield make_handler(bank.credentials(), client=client, background=False)
    client.close()


def in_a_loop(clock, secs: float, step: float, call) -> None:
    """Call again and again for ``secs``, the bank's errors notwithstanding."""
    end = clock.now() + secs
    while clock.now() < end:
        with suppress(PermataAuthError):
            call()
        clock.advance(step)


# Logins that fail


def test_one_caller_in_a_loop(bank, clock, handler, fault):
    fault.begin(bank)
    in_a_loop(clock, 2 * WINDOW, 0.5, handler.get_token)
    assert 2 <= bank.login_attempts <= fault.allowed(2 * WINDOW)


def test_many_threads_in_a_loop(bank, clock, handler, fault):
    """Of those that come at the same moment, all meet one login or its error."""
    fault.begin(bank)
    in_a_loop(clock, 70.0, 5.0, lambda: together(THREADS, handler.get_token))
    assert 1 <= bank.login_attempts <= fault.allowed(70.0)


def test_the_timer_alone(bank, clock, make_handler, fault):
    """And the calls beside it are served all the while."""
    handler = make_handler(bank.credentials())
    token = handler.get_token()
    fault.begin(bank)
    clock.advance(900 - WINDOW)
    for _ in range(10):
        clock.advance(WINDOW / 10 - 0.01)
        assert handler.get_token() == token
    assert 1 <= bank.login_attempts - 1 <= fault.budget


def test_the_timer_and_callers_in_a_loop(bank, clock, make_handler, fault):
    """Callers with a live token add no login, those without one keep to the table."""
    handler = make_handler(bank.credentials())
    handler.get_token()
    fault.begin(bank)
    in_a_loop(clock, 899.0, 2.0, handler.get_token)
    assert 1 <= bank.login_attempts - 1 <= fault.budget


def test_a_bank_that_locks_accounts_is_not_made_to(make_bank, clock, make_handler):
    bank = make_bank(lock_after=10)
    credentials = bank.credentials(client_secret="example-mistyped-secret")
    handler = make_handler(credentials)
    in_a_loop(clock, WINDOW - 1, 0.5, handler.get_token)
    assert 2 <= bank.refused_logins <= row_3(WINDOW)
    assert not bank.is_locked


def test_a_bank_that_limits_logins_is_asked_once_for_each_pause(make_bank, clock, make_handler):
    bank = make_bank(login_limit=1)
    client = LoginClient(bank.credentials(), retry=RetryPolicy(attempts=1))
    handler = make_handler(bank.credentials(), client=client, background=False)
    handler.get_token()
    handler.clear_cache()
    in_a_loop(clock, 50.0, 0.5, handler.get_token)
    assert bank.login_attempts == 2
    client.close()


@pytest.mark.parametrize("name", ["503", "429-0", "429-3", "429-60", "refused"])
def test_a_token_is_there_at_the_end_of_the_pause(bank, clock, handler, name):
    arguments, _, _ = FAULTS[name]
    bank.fail_for(3600, on="token", **arguments)
    in_a_loop(clock, 30.0, 0.5, handler.get_token)
    bank.clear_faults()
    pause = handler.info().next_login_at
    if pause is not None:  # its microseconds are rounded
        clock.advance(pause.timestamp() - clock.wall() + 0.001)
    assert handler.get_token()


@pytest.fixture
def store():
    return ScriptedStore()


@pytest.fixture
def member(bank, clock, make_handler, store) -> LoginHandler:
    """As the handler, with a store."""
    client = LoginClient(bank.credentials(), retry=RetryPolicy(attempts=1))
    yield make_handler(bank.credentials(), client=client, store=store, background=False)
    client.close()


@pytest.mark.parametrize("name", FAULTS)
def test_a_held_caller_takes_the_token_that_another_process_has_got(
    bank, clock, member, store, name
):
    bank.fail_for(3600, on="token", **FAULTS[name][0])
    with pytest.raises(PermataAuthError):
        member.get_token()
    attempts = bank.login_attempts
    store.tokens.save(bank.credentials().key, newer := token())
    clock.advance(0.25)
    assert {call.value() for call in together(THREADS, member.get_token)} == {newer.value}
    assert bank.login_attempts == attempts
    assert member.info().next_login_at is None


def test_held_callers_look_into_the_store_a_few_times_a_second(bank, clock, member, store):
    bank.fail_next(1, status=429, retry_after=60, on="token")
    with pytest.raises(PermataAuthError):
        member.get_token()
    store.calls.clear()
    in_a_loop(clock, 10.0, 0.1, lambda: together(8, member.get_token))
    assert set(store.calls) == {"load"}
    assert 30 <= len(store.calls) <= 41
    assert bank.login_attempts == 1


def test_a_forced_refresh_that_is_held_takes_no_token_of_another_process(
    bank, clock, member, store
):
    bank.fail_next(1, status=429, retry_after=60, on="token")
    with pytest.raises(PermataAuthError):
        member.get_token()
    store.tokens.save(bank.credentials().key, token())
    store.calls.clear()
    clock.advance(1.0)
    with pytest.raises(PermataAuthError):
        member.refresh()
    assert store.calls == []
    assert bank.login_attempts == 1


# Fresh tokens that are rejected


@pytest.fixture
def session(handler):
    with requests.Session() as session:
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=THREADS)
        session.mount("http://", adapter)
        session.auth = PermataAuth(handler)
        yield session


@pytest.fixture
def call(bank, session):
    url = f"{bank.url}/apiservice/InquiryServices/BalanceInfo/inq"
    return lambda: session.get(url).status_code


def test_one_caller_in_a_loop_whose_tokens_are_rejected(bank, clock, call):
    bank.reject_tokens = True
    in_a_loop(clock, 2 * WINDOW, 2.0, call)
    # The first one, the one that replaces it at once, and one for each pause that has ended.
    assert 3 <= bank.logins <= 1 + row_3(2 * WINDOW)


def test_many_threads_in_a_loop_whose_tokens_are_rejected(bank, clock, call):
    bank.reject_tokens = True
    in_a_loop(clock, 50.0, 10.0, lambda: together(THREADS, call))
    assert 3 <= bank.logins <= 1 + row_3(50.0)


def test_the_caller_gets_the_banks_response_and_a_call_is_sent_twice_at_most(bank, clock, call):
    bank.reject_tokens = True
    for number in range(1, 6):
        before = len(bank.requests)
        assert call() == 403
        calls = [each for each in bank.requests[before:] if not each.path.endswith("/token")]
        assert len(calls) == (2 if number == 1 else 1)
    bank.reject_tokens = False
    assert call() == 200
    assert bank.logins == 2


# Fleets: real processes and real time, so the table's number is asked for the time that passed


def wait_for_all(hosts: list[Host], do: str, times: int, **arguments) -> float:
    """Have all processes do something, several times; return the seconds that this took."""
    began = time.monotonic()
    for _ in range(times):
        answers = ask_all(hosts, do, **arguments)
        assert all(answer["errors"] for answer in answers)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("name", "attempts", "processes"),
    [
        ("503", 3, 8),
        ("429-3600", 1, 8),
        ("429-date", 1, 8),
        ("refused", 1, 8),
        pytest.param("503", 3, 40, marks=pytest.mark.long),
        pytest.param("refused", 1, 40, marks=pytest.mark.long),
    ],
)
def test_a_fleet_makes_one_series_of_attempts(
    make_bank, make_hosts, store_url, monkeypatch, processes, name, attempts
):
    """Cold, and again; a login on demand makes up to three attempts where the bank is busy."""
    bank = make_bank()
    arguments, allowed, _ = FAULTS[name]
    begin(bank, monkeypatch, 600, arguments)
    hosts = make_hosts(2, bank, store_url, processes=processes // 2, threads=2)
    secs = wait_for_all(hosts, "get", 3)
    assert 1 <= bank.login_attempts <= attempts * allowed(secs)


@pytest.mark.parametrize("processes", [8, pytest.param(40, marks=pytest.mark.long)])
def test_a_fleet_whose_tokens_are_rejected_makes_one_series_too(
    make_bank, make_hosts, store_url, processes
):
    bank = make_bank(reject_tokens=True)
    hosts = make_hosts(2, bank, store_url, processes=processes // 2)
    secs = wait_for_all(hosts, "call", 4, seconds=20.0)
    assert 2 <= bank.logins <= 1 + row_3(secs)


class GatedClient:
    """Logs in at a real bank, the first time not before ``gate`` is opened."""

    def __init__(self, credentials, retry: RetryPolicy) -> None:
        self.credentials, self.retry = credentials, retry
        self.gate, self.is_inside, self.calls = threading.Event(), threading.Event(), 0
        self._client = LoginClient(credentials, retry=RetryPolicy(attempts=1))

    def login(self):
        self.calls += 1
        if self.calls == 1:
            self.is_inside.set()
            assert self.gate.wait(60)
        return self._client.login()


def outcome_of(call, found: list) -> threading.Thread:
    def run() -> None:
        try:
            found.append(call())
        except PermataAuthError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("starter", ["refresh", "_refresh_by_timer"])
@pytest.mark.parametrize("status", [503, 404, 401])
def test_a_caller_that_joins_anothers_login_is_told_of_the_pause_for_callers(bank, starter, status):
    client = GatedClient(bank.credentials(), RetryPolicy())
    bank.fail_next(9, "status", on="token", status=status)
    found: list = []
    with LoginHandler(bank.credentials(), client=client) as handler:
        first = outcome_of(getattr(handler, starter), [])
        assert client.is_inside.wait(60)
        second = outcome_of(handler.get_token, found)
        while handler.info().waiting < 2:
            time.sleep(0.001)
        client.gate.set()
        first.join(60)
        second.join(60)
    assert bank.login_attempts == 1
    assert 0 <= found[0].retry_after <= MEMORY, "a caller is told to come back at once"


@pytest.mark.parametrize("status", [None, 503], ids=["token", "failure"])
def test_nothing_of_an_abandoned_login_reaches_the_other_processes(bank, status):
    store = MemoryTokenStore()
    client = GatedClient(bank.credentials(), RetryPolicy(timeout=0.25))
    key = bank.credentials().key
    with LoginHandler(bank.credentials(), client=client, store=store) as handler:
        while client.calls < 2:  # the second one is another caller's, after it abandoned the first
            with suppress(PermataAuthError):
                handler.get_token()
        own = handler.get_access_token()
        store.discard(key, own)
        if status:
            bank.fail_next(1, "status", on="token", status=status)
        logins = bank.login_attempts
        client.gate.set()
        while bank.login_attempts == logins or any(
            "login" in thread.name for thread in threading.enumerate()
        ):
            time.sleep(0.001)
        assert store.load(key) is None
        assert store.load_failure(key) is None
