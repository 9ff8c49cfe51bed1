"""One login for a fleet: real processes, real servers, and the bank's own count of the logins."""

from __future__ import annotations

import itertools
import time

import pytest

from permata_auth.sandbox import Sandbox

pytest.importorskip("filelock")
pytest.importorskip("redis")

from support.fleet import ask_all
from support.redis_server import RedisServer, servers
from support.threads import until

pytestmark = pytest.mark.long

# Long enough that a refresh comes in time on a busy machine with two cores.
_LIFE = 4.0
_BUFFER = 1.5
_SHORTEST_TURN = _LIFE - _BUFFER * 1.1  # with the largest jitter
# Two refreshes, and longer than the token lives with which the calls begin.
_CALLS = 1.5 * _LIFE
SCHEMES = ["classic", "snap"]


@pytest.fixture(params=sorted(servers()))
def redis_server(request):
    server = RedisServer(servers()[request.param]).come_up()
    yield server
    server.close()


def errors(answers) -> list[str]:
    return [error for answer in answers for error in answer["errors"]]


def tokens(answers) -> set[str]:
    return {result for answer in answers for result in answer["results"]}


def gaps(bank: Sandbox, since: int = 0) -> list[float]:
    """The seconds between logins, from the one with this number on."""
    moments = [token.issued_at for token in bank.tokens_issued[since:]]
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def logs_in_once_a_lifetime(bank: Sandbox, since: int = 0) -> bool:
    """Whether no login came before the buffer of the token before it.

    The processes count from when they asked; on a busy machine the bank sees that later.
    """
    found = gaps(bank, since)
    shortest = len(found) * _SHORTEST_TURN
    return min(found) > _SHORTEST_TURN / 2 and sum(found) > shortest - _SHORTEST_TURN / 2


def lives_through(bank: Sandbox, began: float, ended: float) -> bool:
    """Whether one token, which all had the time to learn of, lived from one moment to another."""
    return any(
        token.issued_at + bank.token_lifetime / 4 <= began and ended < token.expires_at
        for token in bank.tokens_issued
    )


def shares_one_token(hosts) -> bool:
    answers = ask_all(hosts, "get")
    assert not errors(answers)
    return len(tokens(answers)) == 1


def test_cold_processes_of_one_host_log_in_once(make_bank, make_hosts, tmp_path):
    bank = make_bank(latency=0.3)
    hosts = make_hosts(1, bank, tmp_path.as_uri(), processes=8, threads=16)
    answers = ask_all(hosts, "get")
    assert not errors(answers)
    assert len(tokens(answers)) == 1
    assert bank.login_attempts == 1


@pytest.mark.parametrize("is_single", [False, True], ids=["many-tokens", "new-login-kills-old"])
def test_many_hosts_log_in_once_a_lifetime(make_bank, make_hosts, one_server, is_single):
    bank = make_bank(token_lifetime=_LIFE, single_token=is_single)
    hosts = make_hosts(3, bank, one_server.url, processes=8, buffer=_BUFFER, minimum=0.0)
    answers = ask_all(hosts, "get")
    assert not errors(answers)
    assert len(tokens(answers)) == 1
    assert bank.login_attempts == 1
    answers = ask_all(hosts, "call", seconds=2.5 * _LIFE, interval=0.2)
    assert not errors(answers)
    # Some lifetimes on, with a login each time that the buffer is reached, and never two.
    assert logs_in_once_a_lifetime(bank), gaps(bank)
    until(lambda: bank.login_attempts == bank.logins >= 3)  # a timer may be logging in right now
    if not is_single:
        assert not any(answer["rejected"] for answer in answers)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_outage_of_logins_fails_no_call_while_a_token_lives(
    make_bank, make_hosts, one_server, scheme
):
    bank = make_bank(token_lifetime=_LIFE)
    (host,) = make_hosts(
        1,
        bank,
        one_server.url,
        environment=bank.environment(scheme),
        processes=8,
        threads=4,
        buffer=_LIFE / 2,
        minimum=0.0,
    )
    assert shares_one_token([host])
    host.tell("call_on", seconds=3 * _LIFE, interval=0.4)
    until(lambda: bank.logins >= 2, timeout=60)
    bank.fail_for(0.65 * _LIFE, status=503, on="token")  # over the next refresh
    answers = host.answers()
    assert not errors(answers)
    results = [result for answer in answers for result in answer["results"]]
    failures = [failure for result in results for failure in result["failures"]]
    # On a busy machine a token may die before its refresh: no call fails once the next one is
    # there, however long the pause of its process lasts.
    assert [failure for failure in failures if lives_through(bank, *failure[:2])] == []
    assert sum(result["accepted"] for result in results) > 4 * 8 * 4
    assert bank.duplicates == 0
    # One login each time that the buffer is reached, jitter included, and never one a process.
    assert sum(gaps(bank)) / len(gaps(bank)) > _LIFE / 2 * 0.8, gaps(bank)


@pytest.mark.parametrize("kind", ["file", "redis"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fifteen_lives_have_one_login_each(
    make_bank, make_hosts, one_server, tmp_path, scheme, kind
):
    bank = make_bank(token_lifetime=0.9)
    url = tmp_path.as_uri() if kind == "file" else one_server.url
    (host,) = make_hosts(1, bank, url, environment=bank.environment(scheme), processes=8, threads=4)
    while bank.logins < 15:  # however long that takes this machine
        assert not errors(host.ask("call_on", seconds=1.0, interval=0.3))
    # A timer may be logging in right now; a login that failed would part them for good.
    until(lambda: len(bank.tokens_issued) == bank.logins == bank.login_attempts)
    assert sum(gaps(bank)) / len(gaps(bank)) > 0.9 / 2 * 0.8, gaps(bank)
    assert bank.duplicates == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_rejected_token_is_replaced_once_for_all(make_bank, make_hosts, one_server, scheme):
    bank = make_bank()
    environment = bank.environment(scheme)
    hosts = make_hosts(2, bank, one_server.url, processes=4, threads=4, environment=environment)
    assert shares_one_token(hosts)
    bank.revoke_all_tokens()
    answers = ask_all(hosts, "call", seconds=1.0)
    assert not errors(answers)
    assert bank.logins == 2


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_a_killed_holder_of_the_lock_does_not_stop_the_others(
    make_bank, make_hosts, one_server, tmp_path, kind
):
    bank = make_bank()
    url = tmp_path.as_uri() if kind == "file" else one_server.url
    hosts = make_hosts(2, bank, url, processes=1)
    with bank.hold_next(on="token"):
        hosts[0].tell("get")
        until(lambda: bank.login_attempts == 1)
        hosts[1].tell("get")
        time.sleep(0.5)  # long enough to queue for the lock, which the test holds either way
        assert bank.login_attempts == 1
        hosts[0].kill(hosts[0].pids[0])
        (answer,) = hosts[1].answers()
    assert not answer["errors"]
    # It had the lock, which is to be had ten seconds after its holder's end: without it, it would
    # have waited for nine tenths of the login's 20 s, and said so.
    assert "Token store" not in hosts[1].log
    assert bank.login_attempts == 2


@pytest.mark.parametrize(
    "fault",
    [{"status": 429, "retry_after": 60}, {"status": 503, "retry_after": 60}],
    ids=["limited", "unavailable"],
)
def test_a_failed_login_is_the_only_one_of_all_processes(make_bank, make_hosts, store_url, fault):
    bank = make_bank()
    bank.fail_for(60.0, on="token", **fault)
    hosts = make_hosts(2, bank, store_url, processes=4, threads=4)
    for _ in range(2):  # at the same time, and again while the pause holds
        answers = ask_all(hosts, "get")
        assert not tokens(answers)
        assert {error.split(":")[0] for error in errors(answers)} == {
            "TokenEndpointUnavailableError"
        }
        assert len(errors(answers)) == 2 * 4 * 4
    assert bank.login_attempts == 1


def test_a_worker_with_the_right_secret_is_not_held_by_one_that_was_refused(
    make_bank, make_hosts, store_url
):
    bank = make_bank()
    wrong = {**bank.environment(), "PERMATA_CLIENT_SECRET": "example-mistyped-secret"}
    (refused,) = make_hosts(1, bank, store_url, processes=4, environment=wrong)
    (right,) = make_hosts(1, bank, store_url, processes=2)
    answers = refused.ask("get")
    assert len(errors(answers)) == 4
    assert bank.login_attempts == 1
    answers = right.ask("get")
    assert not errors(answers)
    assert len(tokens(answers)) == 1
    assert bank.logins == 1


def test_a_login_slower_than_the_lock_lives_is_still_the_only_one(
    make_bank, make_hosts, one_server
):
    bank = make_bank()
    hosts = make_hosts(2, bank, one_server.url, processes=2)
    with bank.hold_next(on="token"):
        for host in hosts:
            host.tell("get")
        until(lambda: bank.login_attempts == 1)
        time.sleep(12)  # the lock's life, and some more
        assert bank.login_attempts == 1
    answers = [answer for host in hosts for answer in host.answers()]
    assert not errors(answers)
    assert len(tokens(answers)) == 1
    assert bank.logins == 1


def test_an_outage_stops_nobody_and_sharing_resumes(make_bank, make_hosts, redis_server):
    bank = make_bank(token_lifetime=_LIFE)
    hosts = make_hosts(2, bank, redis_server.url, processes=3, buffer=_BUFFER, minimum=0.0)
    assert shares_one_token(hosts)
    redis_server.go_down()
    before = bank.logins
    answers = ask_all(hosts, "call", seconds=_CALLS)
    assert not errors(answers)
    # One for each process each time that the buffer is reached, at the most.
    assert bank.logins - before <= 6 * (_CALLS / _SHORTEST_TURN + 1)
    redis_server.come_up()
    until(lambda: shares_one_token(hosts), timeout=60, what="sharing resumes")
    before = len(bank.tokens_issued) - 1
    assert not errors(ask_all(hosts, "call", seconds=_CALLS))
    assert logs_in_once_a_lifetime(bank, before), gaps(bank, before)
    for host in hosts:
        assert host.log.count("Token store failed") == 3
        assert host.log.count("Token store is back") == 3


def test_a_store_that_hangs_stops_nobody(make_bank, make_hosts, one_server):
    bank = make_bank(token_lifetime=_LIFE)
    hosts = make_hosts(
        2, bank, one_server.url, processes=3, buffer=_BUFFER, minimum=0.0, store_timeout=0.5
    )
    until(lambda: shares_one_token(hosts))  # half a second is short for a busy machine
    with one_server.client() as client:
        client.execute_command("CLIENT", "PAUSE", int(2 * _LIFE * 1000), "ALL")
    answers = ask_all(hosts, "call", seconds=2.5 * _LIFE)
    assert not errors(answers)
    assert max(answer["longest"] for answer in answers) < 2 * _LIFE, "one waited for the store"
    until(lambda: shares_one_token(hosts), timeout=60, what="sharing resumes")


def test_a_store_that_sleeps_for_a_moment_is_waited_for(make_bank, make_hosts, one_server):
    bank = make_bank(token_lifetime=_LIFE)
    hosts = make_hosts(2, bank, one_server.url, processes=3, buffer=_BUFFER, minimum=0.0)
    assert shares_one_token(hosts)
    for host in hosts:
        host.tell("call", seconds=_CALLS)
    with one_server.client() as client:
        client.execute_command("DEBUG", "SLEEP", "2")
    assert not errors([answer for host in hosts for answer in host.answers()])
    assert logs_in_once_a_lifetime(bank), gaps(bank)


@pytest.mark.parametrize("policy", ["allkeys-random", "noeviction"])
def test_a_store_without_memory_stops_nobody(make_bank, make_hosts, one_server, policy):
    bank = make_bank(token_lifetime=_LIFE)
    hosts = make_hosts(2, bank, one_server.url, processes=3, buffer=_BUFFER, minimum=0.0)
    assert shares_one_token(hosts)
    with one_server.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", "1")
        answers = ask_all(hosts, "call", seconds=_CALLS)
        assert not errors(answers)
        client.config_set("maxmemory", "0")
    until(lambda: shares_one_token(hosts), timeout=60, what="sharing resumes")


def test_a_store_that_forgets_stops_nobody(make_bank, make_hosts, one_server):
    bank = make_bank(token_lifetime=_LIFE)
    hosts = make_hosts(2, bank, one_server.url, processes=3, buffer=_BUFFER, minimum=0.0)
    assert shares_one_token(hosts)
    for host in hosts:
        host.tell("call", seconds=_CALLS)
    with one_server.client() as client:
        for _ in range(int(_CALLS / 0.25)):
            client.flushall()
            time.sleep(0.25)
    assert not errors([answer for host in hosts for answer in host.answers()])
    assert "Token store" not in "".join(host.log for host in hosts)
    until(lambda: shares_one_token(hosts), timeout=60, what="sharing resumes")
