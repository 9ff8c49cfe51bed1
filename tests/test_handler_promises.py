"""The promises of a handler, seen from outside: logins, tokens, errors, events and records."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress

import pytest
from support.clients import ScriptedClient, credentials
from support.forking import Stepper
from support.scripts import run
from support.threads import Call, until

from permata_auth import (
    InvalidClientError,
    InvalidTokenResponseError,
    LoginHandler,
    MemoryTokenStore,
    RetryPolicy,
    SchedulerConfig,
    TokenScheduler,
    TransportError,
)
from permata_auth.events import (
    LoginFailed,
    LoginSucceeded,
    RefreshScheduled,
    TokenInvalidated,
    TokenSwapped,
)

REFUSED = InvalidClientError("refused", status_code=401)


@pytest.fixture
def scripted(clock, make_handler):
    """Make a handler with a scripted client, on the fake clock; returns both."""

    def make(*outcomes, **arguments):
        client = ScriptedClient(*outcomes, clock=clock)
        return make_handler(credentials(), client=client, **arguments), client

    return make


class Shared:
    """A store of a fleet, as far as a handler can tell: it is not the one of this process."""

    def __init__(self, tokens: MemoryTokenStore | None = None) -> None:
        self._tokens = tokens or MemoryTokenStore()
        self.discarded: list[str] = []

    def load(self, key):
        return self._tokens.load(key)

    def save(self, key, token):
        self._tokens.save(key, token)

    def discard(self, key, token):
        self.discarded.append(token.value)
        self._tokens.discard(key, token)

    @contextmanager
    def lock(self, key):
        with self._tokens.lock(key):
            yield


# Failures


def test_a_refusal_does_not_outlive_a_success(scripted):
    handler, client = scripted(REFUSED)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    handler.refresh()
    handler.invalidate()
    assert handler.get_token() == client.issued[1].value


@pytest.mark.parametrize(
    "error", [ValueError("example-foreign"), OSError(5, "example-foreign"), KeyError("example")]
)
def test_of_a_foreign_error_the_class_alone_is_kept(clock, make_handler, secrets, error):
    events = []
    client = ScriptedClient(error, clock=clock)
    handler = make_handler(credentials(), client=client, on_event=events.append)
    with pytest.raises(type(error)):
        handler.get_token()
    clock.settle()
    info = handler.info()
    assert info.last_error == type(error).__name__
    (failed,) = [event for event in events if isinstance(event, LoginFailed)]
    assert (failed.error, failed.message) == (type(error).__name__, "")
    shown = [repr(info), str(info), repr(handler), repr(events)]
    assert not [text for text in shown if "example-foreign" in text]


@pytest.mark.parametrize("error", [ValueError("a bug"), REFUSED, TransportError("no answer")])
def test_a_foreign_error_and_a_refusal_make_one_login_for_one_call(scripted, error):
    """The client alone decides on another attempt, and nothing else tries again."""
    handler, client = scripted(error)
    with pytest.raises(type(error)):
        handler.get_token()
    assert len(client.calls) == 1


def test_info_tells_the_last_error_also_after_a_success(scripted):
    handler, _ = scripted(REFUSED)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    handler.refresh()
    assert handler.info().last_error == "InvalidClientError: refused"
    assert (handler.info().logins, handler.info().failed_logins) == (1, 1)


# One login for all


def test_a_token_that_was_handed_out_is_not_handed_out_again_after_its_rejection():
    """The login's thread stands at each of its lines in turn, also after its callers woke up.

    A caller that is served then rejects the token at once and asks again. It must not get the
    outcome of the login that is over.
    """

    def is_served(call, handler):
        """Tell a caller that is on its way back from one that waits, or is still to be woken."""
        with suppress(AssertionError):
            until(lambda: call.is_done or handler.info().waiting, timeout=0.5)
        return call.is_done

    for step in range(1, 1_000):
        handler = LoginHandler(credentials(), client=ScriptedClient(), background=False)
        with Stepper(step, "permata_auth") as stepper:
            first = Call(handler.get_token)
            until(lambda s=stepper, c=first: s.reached.is_set() or c.is_done)
            if not stepper.reached.is_set():
                break
            if is_served(first, handler):
                handler.invalidate(first.value())
                second = Call(handler.get_token)
                until(lambda h=handler, c=second: c.is_done or h.info().waiting)
                stepper.go_on.set()
                assert second.value() != first.value(), stepper.where
        first.value()
        handler.shutdown()
    assert step > 20


def test_who_waits_for_a_login_that_is_interrupted_gets_an_error_of_ours(make_handler, monkeypatch):
    """No thread can be started for the login, so its first caller makes it, and Ctrl-C hits it."""
    client = ScriptedClient(KeyboardInterrupt)
    handler = make_handler(credentials(), client=client, background=False)
    start = threading.Thread.start

    def refuse_ours(thread):
        if thread.name.startswith("permata-auth"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_ours)
        with client.hold_next() as login:
            first = Call(handler.get_token)
            login.wait_arrived()
            others = [Call(handler.get_token) for _ in range(3)]
            until(lambda: handler.info().waiting == 3)
        assert isinstance(first.join().error, KeyboardInterrupt)
        errors = [other.join().error for other in others]
    assert {type(error) for error in errors} == {TransportError}
    assert all("interrupted" in str(error) and error.retryable for error in errors)
    assert handler.refresh()


def test_the_wait_for_another_processs_login_is_not_taken_from_those_who_come_later(
    clock, make_handler
):
    """The lock is free after ten seconds, with no token there; the login then takes its time."""
    gate = threading.Event()

    class Held(Shared):
        @contextmanager
        def lock(self, key):
            if not gate.is_set():
                clock.park(gate)
            yield

    client = ScriptedClient(clock=clock, retry=RetryPolicy(timeout=20.0))
    handler = make_handler(credentials(), client=client, store=Held(), background=False)
    with client.hold_next() as login:
        first = Call(handler.get_token)
        until(lambda: handler.info().waiting == 1)
        clock.advance(10)
        gate.set()
        login.wait_arrived()
        clock.advance(2)
        second = Call(handler.get_token)
        until(lambda: handler.info().waiting == 2)
        clock.advance(11)
        assert not second.is_done
    assert second.value() == client.issued[0].value
    first.join()
    assert len(client.calls) == 1


# A rejected token


def test_a_second_rejection_of_the_same_token_is_silent(clock, make_handler, caplog):
    caplog.set_level(logging.DEBUG)
    events, store, client = [], Shared(), ScriptedClient(clock=clock)
    handler = make_handler(
        credentials(), client=client, store=store, on_event=events.append, background=False
    )
    token = handler.get_access_token()
    for argument in (token, token.value, None):
        handler.invalidate(argument)
    assert [type(e) for e in events].count(TokenInvalidated) == 1
    assert store.discarded == [token.value]
    assert len([r for r in caplog.records if "invalidated" in r.getMessage()]) == 1


def test_a_rejection_that_two_threads_see_is_told_once(clock, make_handler):
    both = threading.Barrier(2)

    class Meeting(Shared):
        def load(self, key):
            found = super().load(key)
            if found is not None:  # the look for a newer token, within invalidate()
                both.wait(20)
            return found

    events, store = [], Meeting()
    handler = make_handler(
        credentials(), client=ScriptedClient(clock=clock), store=store, on_event=events.append
    )
    token = handler.get_access_token()
    for call in [Call(handler.invalidate, token) for _ in range(2)]:
        call.value()
    assert [type(e) for e in events].count(TokenInvalidated) == 1
    assert store.discarded == [token.value]


def test_the_rejection_of_no_token_is_silent(clock, make_handler, caplog):
    caplog.set_level(logging.DEBUG)
    events = []
    handler = make_handler(
        credentials(), client=ScriptedClient(clock=clock), on_event=events.append
    )
    handler.invalidate()
    handler.invalidate("example-token")
    assert (events, caplog.records) == ([], [])


def test_tokens_that_die_before_their_use_cost_one_call_three_logins(clock, make_handler):
    class Late(TokenScheduler):
        def start(self, *arguments, **options):
            clock._now += 1.0  # a token is swapped in, but no caller is awake yet
            return super().start(*arguments, **options)

    client = ScriptedClient(then=1.0, clock=clock)
    handler = make_handler(credentials(), client=client, scheduler=Late())
    with pytest.raises(InvalidTokenResponseError, match="the last 3 tokens"):
        handler.get_token()
    assert len(client.calls) == 3


@pytest.mark.parametrize("is_refused", [True, False])
def test_the_event_of_a_login_tells_how_long_it_took(clock, make_handler, is_refused):
    def answer():
        clock._now += 2.5
        return REFUSED if is_refused else 900.0

    events = []
    handler = make_handler(
        credentials(), client=ScriptedClient(answer, clock=clock), on_event=events.append
    )
    with suppress(InvalidClientError):
        handler.get_token()
    clock.settle()
    told = [event for event in events if isinstance(event, LoginFailed | LoginSucceeded)]
    assert [(type(event) is LoginFailed, event.duration) for event in told] == [(is_refused, 2.5)]


# The store and the fleet


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_event_tells_a_token_of_the_store_from_that_of_a_login(clock, make_handler, is_shared):
    store, events = Shared(), []
    if is_shared:
        make_handler(credentials(), client=ScriptedClient(clock=clock), store=store).get_token()
    client = ScriptedClient(clock=clock)
    handler = make_handler(credentials(), client=client, store=store, on_event=events.append)
    token = handler.get_access_token()
    clock.settle()
    (swapped,) = [event for event in events if isinstance(event, TokenSwapped)]
    assert swapped.is_shared is is_shared
    assert (swapped.fingerprint, swapped.expires_at) == (token.fingerprint, token.expires_at)
    assert len(client.calls) == (not is_shared)
    assert handler.info().logins == len(client.calls)


def test_an_event_tells_that_a_token_was_found_in_the_store_during_a_pause(clock, make_handler):
    store, events = Shared(), []
    client = ScriptedClient(REFUSED, clock=clock)
    handler = make_handler(credentials(), client=client, store=store, on_event=events.append)
    with pytest.raises(InvalidClientError):
        handler.get_token()
    make_handler(credentials(), client=ScriptedClient(clock=clock), store=store).get_token()
    clock.advance(0.5)
    handler.get_token()
    clock.settle()
    assert [e.is_shared for e in events if isinstance(e, TokenSwapped)] == [True]
    assert len(client.calls) == 1


def test_the_refreshes_of_a_fleet_are_spread_and_none_is_late(clock, make_handler):
    """A tenth of the buffer, and only ever earlier."""
    dues = []
    for _ in range(40):
        handler = make_handler(credentials(), client=ScriptedClient(clock=clock), store=Shared())
        handler.get_token()
        dues.append(handler.scheduler.info().seconds_until_refresh)
    assert len(set(dues)) == len(dues), "each has a moment of its own"
    assert all(900 - 330 <= due <= 900 - 300 for due in dues)
    # 40 draws that all miss a half come once in 10^11 runs.
    assert min(dues) < 900 - 315 < max(dues)


def test_the_refreshes_without_a_fleet_are_on_time(clock, make_handler):
    for _ in range(5):
        handler = make_handler(credentials(), client=ScriptedClient(clock=clock))
        handler.get_token()
        assert handler.scheduler.info().seconds_until_refresh == 600


def test_an_event_tells_when_a_spread_refresh_is_due(clock, make_handler):
    events = []
    handler = make_handler(
        credentials(), client=ScriptedClient(clock=clock), store=Shared(), on_event=events.append
    )
    handler.get_token()
    clock.settle()
    (scheduled,) = [event for event in events if isinstance(event, RefreshScheduled)]
    assert scheduled.next_refresh_at == handler.info().next_refresh_at


# Margins


@pytest.mark.parametrize(
    ("life", "buffer", "minimum", "due"),
    [
        (900.0, 300, 60, 600.0),
        (500.0, 300, 60, 250.0),
        (100.0, 300, 60, 50.0),
        (100.0, 10, 60, 90.0),
        (1.0, 300, 60, 0.5),
        (100.0, 0, 0, 100.0),
    ],
)
def test_the_margins_fit_the_life(clock, make_handler, life, buffer, minimum, due):
    scheduler = TokenScheduler(SchedulerConfig(buffer, minimum))
    handler = make_handler(
        credentials(), client=ScriptedClient(life, clock=clock), scheduler=scheduler
    )
    handler.get_token()
    assert scheduler.info().seconds_until_refresh == pytest.approx(due)
    assert scheduler.config == SchedulerConfig(buffer, minimum)


# The end


def test_a_shutdown_ends_a_wait_between_two_attempts_without_waiting(clock, bank):
    bank.fail_for(600, status=503, retry_after=15, on="token")
    handler = LoginHandler(bank.credentials())
    call = Call(handler.get_token)
    clock.wait_for_sleepers(2)  # the caller, and the login that waits for its second attempt
    began = clock.now()
    Call(handler.shutdown, timeout=None).value()
    assert isinstance(call.join().error, TransportError)
    assert clock.now() == began
    assert bank.login_attempts == 1


def test_a_shutdown_ends_a_refresh_in_the_background_that_waits_for_its_next_attempt(clock, bank):
    """It waits for a refresh that is running: without end, if it did not end that wait first.

    The refresh has joined a login that an explicit refresh() began, which may try again.
    """
    handler = LoginHandler(bank.credentials())
    token = handler.get_token()
    bank.fail_for(600, status=503, retry_after=15, on="token")
    clock.advance(595)
    refresh = Call(handler.refresh)
    until(lambda: any(name.startswith("permata-auth-login") for name in clock.sleepers))
    clock.advance(5)
    assert handler.info().waiting == 2
    began = clock.now()
    Call(handler.shutdown, timeout=None).value()
    assert clock.now() == began
    assert isinstance(refresh.join().error, TransportError)
    assert not handler.scheduler.is_active
    assert handler.get_token() == token
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("permata-auth-login")])


def test_the_shutdown_of_one_handler_does_not_end_the_refreshes_of_another(clock, scripted):
    one, other_ = scripted()[0], scripted()
    other, client = other_
    one.get_token()
    other.get_token()
    one.shutdown()
    assert other.scheduler.is_active
    clock.advance(600)
    assert len(client.calls) == 2


@pytest.mark.parametrize("is_given", [True, False])
def test_a_login_that_lands_after_the_shutdown_schedules_nothing(
    clock, scripted, make_scheduler, is_given
):
    scheduler = make_scheduler() if is_given else None
    handler, client = scripted(scheduler=scheduler)
    with client.hold_next() as login:
        call = Call(handler.get_token)
        login.wait_arrived()
        handler.shutdown(timeout=0)
    assert call.value() == client.issued[0].value
    clock.settle()
    assert not handler.scheduler.is_active
    clock.advance(2000)
    assert len(client.calls) == 1


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_second_call_of_a_forked_child_takes_the_fast_path():
    ended = run(
        """
        import os, sys, warnings
        from permata_auth import LoginHandler
        from support.clients import ScriptedClient, credentials

        def functions_called(function):
            names = []
            def profile(frame, event, argument):
                if event in ("call", "c_call"):
                    names.append(getattr(argument, "__name__", frame.f_code.co_name))
            sys.setprofile(profile)
            try:
                function()
            finally:
                sys.setprofile(None)
            return names

        handler = LoginHandler(credentials(), client=ScriptedClient())
        handler.get_token()
        before = functions_called(handler.get_token)
        warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside a thread
        child = os.fork()
        if child == 0:
            first = functions_called(handler.get_token)
            second = functions_called(handler.get_token)
            print(len(first) > len(before), second == before, len(before) < 5, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert (ended.status, ended.err, ended.out.strip()) == (0, "", "True True True")
