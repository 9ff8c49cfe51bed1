"""Signal handlers, destructors and interrupts, at whatever point of a call they come."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import weakref

import pytest
from support.clients import ScriptedClient, credentials
from support.clock import product_threads
from support.interruptions import interrupted_at, on_a_thread_of_its_own
from support.threads import Call, until

from permata_auth import (
    LoginHandler,
    PermataAuthError,
    RetryPolicy,
    TokenScheduler,
    TransportError,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")

# Far more than anything here takes, and far less than the time for which a thread that waits for
# itself would be stuck.
PROMPT = 30.0
STUCK = 300.0


@pytest.fixture
def make(make_handler):
    """Make a handler whose logins take no time, on the real clock."""

    def make(*outcomes, **arguments):
        client = ScriptedClient(*outcomes, retry=RetryPolicy(timeout=STUCK))
        return LoginHandler(credentials(), client=client, **arguments), client

    return make


BODIES = {
    "refresh": lambda handler: handler.refresh(),
    "replace": lambda handler: (handler.get_token(), handler.invalidate(), handler.get_token()),
    "shutdown": lambda handler: (handler.get_token(), handler.shutdown(), handler.get_token()),
}


def timers():
    """Those that outlive a shutdown() which waited for them to no avail."""
    threads = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    return [each for each in threads if each.is_alive()]  # an interrupted start() leaves others


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("act", ["get_token", "refresh", "clear_cache", "info", "shutdown"])
@on_a_thread_of_its_own
def test_a_signal_handler_may_call_the_handler_at_any_point(make, body, act):
    for step in itertools.count():
        handler, client = make()
        began = time.monotonic()
        came_so_far = interrupted_at(step, lambda h=handler: BODIES[body](h), getattr(handler, act))
        assert time.monotonic() - began < PROMPT, f"stuck at step {step}"
        assert Call(handler.get_token).value(PROMPT) == client.issued[-1].value
        assert client.most_at_once == 1
        assert len(client.calls) <= 4
        handler.shutdown()
        assert timers() == [], f"at step {step}"
        if not came_so_far:
            break
    assert step > 30
    until(lambda: not product_threads())


@pytest.mark.parametrize("body", BODIES)
@on_a_thread_of_its_own
def test_an_interrupt_at_any_point_leaves_the_handler_working(make, body):
    """Ctrl-C, which the program catches: the other threads go on, and get their tokens."""

    def interrupt():
        raise KeyboardInterrupt

    for step in itertools.count():
        handler, client = make()
        try:
            came_so_far = interrupted_at(step, lambda h=handler: BODIES[body](h), interrupt)
        except KeyboardInterrupt:
            came_so_far = True
        call = Call(handler.get_token)
        try:
            assert call.value(PROMPT) == client.issued[-1].value, f"at step {step}"
        except TransportError as error:  # a login on the caller's own thread was interrupted
            assert "interrupted" in str(error)
            assert handler.get_token() == client.issued[-1].value
        assert client.most_at_once == 1
        handler.shutdown()
        assert timers() == [], f"at step {step}"
        if not came_so_far:
            break
    assert step > 30
    until(lambda: not product_threads())


@on_a_thread_of_its_own
def test_an_interrupt_of_a_schedule_that_replaces_another_leaves_no_timer_behind():
    """Nor a schedule that counts as active and has no timer."""

    def interrupt():
        raise KeyboardInterrupt

    def start(scheduler):
        for seconds in (900, 1800):
            scheduler.start(time.time() + seconds, lambda: None)

    for step in itertools.count():
        scheduler = TokenScheduler()
        try:
            came_so_far = interrupted_at(step, lambda s=scheduler: start(s), interrupt)
        except KeyboardInterrupt:
            came_so_far = True
        assert timers() or not scheduler.is_active, f"at step {step}"
        scheduler.shutdown()
        assert timers() == [], f"at step {step}"
        if not came_so_far:
            break
    assert step > 30


def test_an_exception_in_a_signal_handler_reaches_the_interrupted_caller_alone(make):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    handler, client = make()
    previous = signal.signal(signal.SIGALRM, stop)
    try:
        with client.hold_next() as login:
            other = Call(handler.get_token)
            login.wait_arrived()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Stop):
                handler.get_token()
        assert other.value() == client.issued[0].value == handler.get_token()
    finally:
        signal.signal(signal.SIGALRM, previous)
    handler.shutdown()


@pytest.mark.parametrize("stage", ["before", "login", "store"])
def test_a_signal_while_the_main_thread_waits_for_the_login(make, stage):
    """The signal handler's own call waits for the same login, inside the interrupted wait."""
    handler, client = make()
    inner = []

    def on_alarm(*_):
        try:
            inner.append(handler.get_token(timeout=0.1))
        except PermataAuthError as error:
            inner.append(type(error).__name__)
        login.release()

    previous = signal.signal(signal.SIGALRM, on_alarm)
    try:
        login = client.hold_next()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        began = time.monotonic()
        assert handler.get_token() == client.issued[0].value
        assert time.monotonic() - began < PROMPT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert inner == ["RequestTimeoutError"]
    handler.shutdown()


def test_del_and_weak_reference_callbacks_may_ask_for_a_token(make):
    handler, client = make()
    got = []

    class Owner:
        def __del__(self):
            got.append(handler.get_token())

    owner = Owner()
    reference = weakref.ref(owner, lambda _: got.append(handler.get_token()))
    del owner
    assert reference() is None
    assert got == [client.issued[0].value] * 2
    handler.shutdown()


def test_a_login_on_a_callers_own_thread_that_is_interrupted_is_over(make, monkeypatch):
    """No thread can be started, so the caller logs in itself, and Ctrl-C hits it."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    handler, client = make(KeyboardInterrupt, 900.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(KeyboardInterrupt):
            handler.get_token()
        assert handler.get_token() == client.issued[0].value
    handler.shutdown()
