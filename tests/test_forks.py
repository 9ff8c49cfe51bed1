"""The state of a forked child, wherever its parent was at that moment."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest
from support.scripts import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PRELUDE = """
import itertools, os, sys, threading, time
from permata_auth import InvalidClientError, LoginHandler, SchedulerConfig, TokenScheduler, login
from permata_auth.sandbox import Sandbox
from support.clients import ScriptedClient, credentials, token
from support.forking import *

FORK = sys.argv[1]

def timers():
    return [t for t in threading.enumerate() if isinstance(t, threading.Timer) and t.is_alive()]
"""

BOTH = pytest.mark.parametrize("fork", ["hooked", "in_c"])


def check(code: str, fork: str = "hooked", timeout: float = 60.0) -> None:
    ended = run(PRELUDE + textwrap.dedent(code), fork, timeout=timeout)
    assert (ended.status, ended.err) == (0, ""), ended.out + ended.err


@BOTH
def test_a_child_keeps_the_token_and_the_parent_its_timer(fork):
    check(
        """
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials())
            value = handler.get_token()
            due = handler.scheduler.info().next_refresh_at

            def body():
                assert not handler.scheduler.is_active
                assert handler.scheduler.info() is None
                assert handler.get_token() == value
                if FORK == "in_c":  # no hook told the hot path; the first other call notices
                    assert not handler.scheduler.is_active
                    assert handler.info().next_refresh_at is None
                    assert handler.get_token() == value
                assert handler.scheduler.is_active
                left = handler.scheduler.info().next_refresh_at - due
                assert abs(left.total_seconds()) < 60
                assert handler.info().fingerprint == handler.get_access_token().fingerprint

            reap(in_child(body, FORK))
            assert handler.scheduler.is_active
            assert abs((handler.scheduler.info().next_refresh_at - due).total_seconds()) < 60
            assert handler.get_token() == value
            assert (bank.logins, bank.login_attempts) == (1, 1)
            handler.shutdown()
        """,
        fork,
    )


@BOTH
def test_a_handler_that_was_not_used_yet_works_in_every_child(fork):
    check(
        """
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials())
            assert threading.active_count() == 1  # a master holds no thread

            def body():
                handler.get_token()
                assert handler.scheduler.is_active
                assert handler.info().logins == 1
                handler.shutdown()

            reap(*[in_child(body, FORK) for _ in range(3)])
            assert bank.logins == 3
            assert handler.info().logins == 0
        """,
        fork,
    )


@BOTH
def test_parent_and_child_each_refresh_in_the_background(fork):
    check(
        """
        with RemoteBank(token_lifetime=2.0) as bank:
            handler = LoginHandler(bank.credentials())
            value = handler.get_token()

            def body():
                handler.info()
                handler.get_token()
                wait_for(lambda: handler.get_token() != value)
                assert handler.info().logins >= 2
                handler.shutdown()

            child = in_child(body, FORK)
            wait_for(lambda: handler.get_token() != value)
            reap(child)
            handler.shutdown()
        """,
        fork,
    )


@BOTH
def test_a_child_whose_token_has_expired_logs_in_once(fork):
    check(
        """
        with RemoteBank(token_lifetime=0.5) as bank:
            handler = LoginHandler(bank.credentials(), background=False)
            value = handler.get_token()
            bank.set(token_lifetime=900)

            def body():
                wait_for(lambda: handler.get_access_token().expires_in() <= 0 or
                         handler.get_token() != value)
                results = []
                barrier = threading.Barrier(8)
                def call():
                    barrier.wait(30)
                    results.append(handler.get_token())
                threads = [threading.Thread(target=call) for _ in range(8)]
                for thread in threads: thread.start()
                for thread in threads: thread.join(30)
                assert len(results) == 8 and len(set(results)) == 1 and results[0] != value

            reap(in_child(body, FORK))
            assert bank.logins == 2
        """,
        fork,
    )


@BOTH
@pytest.mark.parametrize("state", ["live", "none"])
def test_threads_that_race_for_the_first_call_in_a_child(fork, state):
    check(
        f"""
        with RemoteBank(latency=0.1) as bank:
            handler = LoginHandler(bank.credentials())
            if {state!r} == "live":
                handler.get_token()

            def body():
                results, barrier = [], threading.Barrier(16)
                def call():
                    barrier.wait(30)
                    results.append(handler.get_token())
                threads = [threading.Thread(target=call) for _ in range(16)]
                for thread in threads: thread.start()
                for thread in threads: thread.join(30)
                assert len(results) == 16 and len(set(results)) == 1
                handler.info()
                handler.get_token()
                wait_for(lambda: FORK == "in_c" or len(timers()) == 1)
                assert handler.scheduler.is_active

            reap(in_child(body, FORK))
            assert bank.logins == 1
            handler.shutdown()
        """,
        fork,
    )


@BOTH
def test_a_grandchild_is_a_child_too(fork):
    check(
        """
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials())
            value = handler.get_token()

            def grandchild():
                assert not handler.scheduler.is_active
                handler.info()
                assert handler.get_token() == value
                assert handler.scheduler.is_active
                assert handler.refresh().value != value

            def body():
                handler.info()
                assert handler.get_token() == value
                reap(in_child(grandchild, FORK))
                assert handler.scheduler.is_active

            reap(in_child(body, FORK))
            assert bank.logins == 2
            handler.shutdown()
        """,
        fork,
    )


STAGES = {
    "before it connects": """
        exchange = login.exchange

        def held(*args, **arguments):
            if os.getpid() == parent and not reached.is_set():
                reached.set()
                release.wait(20)
            return exchange(*args, **arguments)

        login.exchange = held
        """,
    "its request has arrived": """
        bank.fail_next("slow", seconds=4)
        late = True
        """,
    "half of the headers are there": """
        bank.fail_next("drip", interval=0.01, part="headers")
        late = True
        """,
    "half of the body is there": """
        bank.fail_next("drip", interval=0.01)
        late = True
        """,
}


@pytest.mark.parametrize(
    ("stage", "fork"),
    [
        *((stage, "hooked") for stage in STAGES),
        # In the others the thread that reads wants the GIL now and then.
        ("before it connects", "in_c"),
        ("its request has arrived", "in_c"),
    ],
)
@pytest.mark.parametrize("token", ["none", "live"])
def test_a_fork_during_a_login_of_the_parent(fork, stage, token):
    """The child has a flight, a session and perhaps a lock of a thread that it does not have."""
    check(
        f"""
        parent, reached, release, late = os.getpid(), threading.Event(), threading.Event(), False
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials())
            if {token!r} == "live":
                handler.get_token()
            before = bank.login_attempts
        """
        + textwrap.indent(textwrap.dedent(STAGES[stage]), " " * 12)
        + f"""
            outcome = []
            flight = threading.Thread(target=lambda: outcome.append(handler.refresh().value))
            flight.start()
            if late:
                wait_for(lambda: bank.login_attempts > before)
                time.sleep(0.3)  # some bytes are on the wire; how many does not matter
            else:
                assert reached.wait(10)
            assert flight.is_alive()

            def body():
                assert handler.get_token()
                if {token!r} == "live":
                    assert handler.info().logins == 1
                fresh = handler.refresh().value
                assert handler.get_token() == fresh
                handler.shutdown(timeout=2)

            reap(in_child(body, FORK))
            release.set()
            flight.join(20)
            assert outcome == [handler.get_token()]
            assert handler.scheduler.is_active
            handler.shutdown()
        """,
        fork,
    )


def test_a_fork_at_each_step_of_a_login_and_of_its_schedule():
    """Another thread of the parent stands at that very line, with all its locks."""
    check(
        """
        def child(handler):
            assert handler.get_token()
            handler.info()
            assert handler.get_token()
            assert handler.scheduler.is_active
            assert handler.refresh()
            handler.shutdown(timeout=2)

        for step in itertools.count(1):
            handler = LoginHandler(credentials(), client=ScriptedClient())
            with Stepper(step, "permata_auth") as stepper:
                caller = threading.Thread(target=handler.get_token)
                caller.start()
                wait_for(lambda: stepper.reached.is_set() or not caller.is_alive())
                if not stepper.reached.is_set():
                    break
                try:
                    reap(in_child(lambda: child(handler)))
                except AssertionError:
                    print("at", stepper.where, flush=True)
                    raise
            caller.join(10)
            assert handler.get_token()
            handler.shutdown(timeout=2)
        assert step > 60, step
        """,
        timeout=110,
    )


def test_a_fork_at_many_steps_of_a_real_login():
    """Inside requests, urllib3 and http.client too."""
    check(
        """
        def child(handler):
            assert handler.get_token()
            assert handler.refresh()

        with RemoteBank() as bank:
            for step in itertools.count(5, 37):
                handler = LoginHandler(bank.credentials())
                with Stepper(step, "permata_auth", "requests", "urllib3", "http") as stepper:
                    caller = threading.Thread(target=handler.get_token)
                    caller.start()
                    wait_for(lambda: stepper.reached.is_set() or not caller.is_alive())
                    if not stepper.reached.is_set():
                        break
                    try:
                        reap(in_child(lambda: child(handler)))
                    except AssertionError:
                        print("at", stepper.where, flush=True)
                        raise
                caller.join(10)
                assert handler.get_token()
                handler.shutdown()
        assert step > 800, step
        """,
        timeout=110,
    )


@BOTH
def test_a_fork_during_a_refresh_in_the_background(fork):
    check(
        """
        with RemoteBank(token_lifetime=8.0) as bank:
            handler = LoginHandler(bank.credentials())
            value = handler.get_token()
            bank.fail_next("slow", seconds=1)
            wait_for(lambda: bank.login_attempts == 2)

            def body():
                assert handler.get_token() == value  # a caller that waits gets the new one
                wait_for(lambda: handler.get_token() != value)
                handler.shutdown(timeout=2)

            reap(in_child(body, FORK))
            wait_for(lambda: handler.get_token() != value)
            handler.shutdown()
        """,
        fork,
    )


@BOTH
@pytest.mark.parametrize("timeout", ["1000.0", "None"])
def test_shutdown_in_a_child_does_not_wait_for_threads_of_the_parent(fork, timeout):
    check(
        f"""
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials())
            handler.get_token()

            def body():
                handler.shutdown(timeout={timeout})
                assert handler.get_token()
                assert not handler.scheduler.is_active

            reap(in_child(body, FORK))
            assert handler.scheduler.is_active
            handler.shutdown()
        """,
        fork,
    )


def test_a_child_leaves_the_parents_connection_alone():
    check(
        """
        with Sandbox() as bank:
            handler = LoginHandler(bank.credentials())
            handler.get_token()
            connections = lambda: [
                t for t in threading.enumerate() if t.name == "permata-sandbox-connection"
            ]
            (mine,) = connections()

            def body():
                handler.refresh()
                handler.shutdown()

            reap(in_child(body))
            handler.refresh()
            wait_for(lambda: connections() == [mine])
            assert (bank.logins, bank.login_attempts) == (3, 3)
            handler.shutdown()
        """
    )


@BOTH
def test_a_refusal_and_an_outage_are_known_to_the_child(fork):
    check(
        """
        with RemoteBank() as bank:
            handler = LoginHandler(bank.credentials(client_secret="example-wrong"))

            def ask():
                try:
                    handler.get_token()
                except InvalidClientError:
                    return
                raise AssertionError("no error")

            ask()
            reap(*[in_child(ask, FORK) for _ in range(3)])
            assert bank.login_attempts == 1
        """,
        fork,
    )


@BOTH
def test_a_scheduler_is_idle_in_a_child_and_can_be_started_there(fork):
    check(
        """
        scheduler, called = TokenScheduler(SchedulerConfig(0, 0)), []
        scheduler.start(time.time() + 900, print)
        held, release = threading.Event(), threading.Event()

        def hold():
            with scheduler._running.get().lock:
                held.set()
                release.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(10)

        def body():
            assert not scheduler.is_active and scheduler.info() is None
            scheduler.stop()
            assert scheduler.start(time.time() + 0.1, lambda: called.append(1))
            assert scheduler.is_active
            wait_for(lambda: called)
            wait_for(lambda: not scheduler.is_active)

        reap(in_child(body, FORK))
        release.set()
        holder.join(10)
        assert scheduler.is_active and called == []
        scheduler.shutdown()
        """,
        fork,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_a_timer_that_was_copied_into_the_child_does_not_call_there(tmp_path):
    """As gevent copies its greenlets: the callback looks at the process first."""
    check(
        f"""
        path = {str(tmp_path / "calls")!r}
        scheduler = TokenScheduler(SchedulerConfig(0, 0))

        def callback():
            with open(path, "a") as file:
                file.write(str(os.getpid()) + " ")

        scheduler.start(time.time() + 900, callback)
        (timer,) = timers()

        def fire():
            timer.interval = timer.args[0].func.__self__.due = 0.0
            timer.run()

        reap(in_child(fire, FORK))
        assert not os.path.exists(path)
        fire()
        with open(path) as file:
            assert file.read().split() == [str(os.getpid())]
        """
    )
