"""Failed logins that a fleet shares, so that it makes one series of attempts."""

from __future__ import annotations

import itertools
import socket
import threading

import attrs
import pytest
from support.clients import ScriptedClient, credentials, token
from support.stores import FailureSharingStore, ScriptedStore
from support.threads import Call, until

from permata_auth import (
    InvalidClientError,
    PermataAuthError,
    RetryPolicy,
    TokenEndpointUnavailableError,
    TransportError,
    _clock,
    login,
)
from permata_auth._pace import Pace, Pause, Row
from permata_auth.login import LoginClient
from permata_auth.stores.failures import RETENTION_SECS, StoredFailure

KEY = credentials().key
REFUSED = InvalidClientError("the bank refused the credentials", status_code=401)
FAILURES = {
    "unreachable": TransportError("no connection"),
    "busy": TokenEndpointUnavailableError("busy", status_code=429, retry_after=60.0),
    "refused": REFUSED,
    "foreign": ZeroDivisionError("example-foreign"),
}


@pytest.fixture
def store():
    store = FailureSharingStore()
    yield store
    store.heal()


@pytest.fixture
def client(clock):
    return ScriptedClient(clock=clock)


@pytest.fixture
def start(make_handler, store, client):
    """Start one worker of a fleet: ``start(client_secret="example-mended")``."""

    def start(**secrets):
        return make_handler(credentials(**secrets), client=client, store=store, background=False)

    return start


def error_of(function) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any: the caller looks at it
        function()
    return caught.value


# One series of attempts


@pytest.fixture
def closed_port():
    """A port of this machine at which nobody listens, nor can while the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_forty_workers_whose_connections_are_refused_make_one_series_of_attempts(
    make_handler, closed_port, monkeypatch
):
    store = FailureSharingStore()
    attempts = []

    def exchange(*arguments, **request):
        # Not before all are in the queue: to a later one the failure may be over.
        until(lambda: store.calls.count("lock") == 40)
        attempts.append(threading.current_thread())
        return real(*arguments, **request)

    real = login.exchange
    monkeypatch.setattr(login, "exchange", exchange)
    known = credentials(token_url=f"https://127.0.0.1:{closed_port}/token")
    clients = [LoginClient(known, retry=RetryPolicy(wait_initial=0.01)) for _ in range(40)]
    handlers = [
        make_handler(known, client=client, store=store, background=False) for client in clients
    ]
    errors = [call.join(60).error for call in [Call(each.get_token) for each in handlers]]
    assert {type(error) for error in errors} == {TransportError}
    assert len({id(error) for error in errors}) == 40
    assert len({str(error) for error in errors}) == 1
    assert len(attempts) == RetryPolicy().attempts
    assert sum(each.info().failed_logins for each in handlers) == 1
    for each in clients:
        each.close()


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_failure_ends_the_wait_of_the_others(start, client, store, error):
    client.outcomes.append(error)
    with client.hold_next() as hold:
        calls = [Call(start().get_token)]
        hold.wait_arrived()
        calls += [Call(start().get_token) for _ in range(5)]
        until(lambda: store.calls.count("lock") == 6)
    first, *others = [call.join().error for call in calls]
    assert type(first) is type(error)
    assert len(client.calls) == 1
    for other in others:
        assert isinstance(other, PermataAuthError)
        assert other.retry_after > 0
        assert "example-foreign" not in str(other)


def test_a_refusal_ends_the_wait_of_forced_refreshes_though_it_holds_none(
    start, client, store, clock
):
    client.then = REFUSED
    handlers = [start() for _ in range(6)]
    with client.hold_next() as hold:
        calls = [Call(handlers[0].refresh)]
        hold.wait_arrived()
        calls += [Call(handler.refresh) for handler in handlers[1:]]
        until(lambda: store.calls.count("lock") == 6)
        clock.advance(0.01)
    assert {type(call.join().error) for call in calls} == {InvalidClientError}
    assert len(client.calls) == 1
    assert isinstance(error_of(handlers[1].refresh), InvalidClientError)
    assert len(client.calls) == 2, "the next one logs in: the secret may have been mended"


def test_a_worker_that_starts_later_is_held_by_a_failure_of_the_fleet(start, client, clock):
    client.outcomes.append(FAILURES["busy"])
    error_of(start().get_token)
    clock.advance(30.0)
    late = error_of(start().get_token)
    assert isinstance(late, TokenEndpointUnavailableError)
    assert (str(late), late.status_code) == ("busy", 429)
    assert 29.0 <= late.retry_after <= 36.0
    assert len(client.calls) == 1
    clock.advance(37.0)
    assert start().get_token() == client.issued[0].value


def test_failures_in_a_row_are_counted_for_the_fleet(start, client, clock):
    client.then = REFUSED
    handlers = [start() for _ in range(3)]
    for handler in itertools.islice(itertools.cycle(handlers), 600):
        error_of(handler.get_token)
        clock.advance(0.5)
    waits = [round(b - a) for a, b in itertools.pairwise(client.calls)]
    assert waits == [5, 10, 20, 40, 80]


def test_a_login_that_succeeds_ends_the_failure_for_all(start, client, store, clock):
    client.outcomes.append(REFUSED)
    error_of(start().get_token)
    assert store.tokens.load_failure(KEY).row == "refused"
    clock.advance(6.0)
    start().get_token()
    clock.settle()
    assert store.tokens.load_failure(KEY) is None


def test_a_token_in_the_store_goes_before_a_failure_there(start, client, store):
    client.outcomes.append(FAILURES["busy"])
    error_of(start().get_token)
    store.tokens.save(KEY, stored := token())
    assert start().get_token() == stored.value


def test_a_store_that_keeps_no_failures_leaves_each_worker_to_its_own_pace(
    make_handler, client, clock
):
    store = ScriptedStore()
    handlers = [
        make_handler(credentials(), client=client, store=store, background=False) for _ in range(3)
    ]
    client.then = REFUSED
    for _ in range(2):
        for handler in handlers:
            assert isinstance(error_of(handler.get_token), InvalidClientError)
    assert len(client.calls) == 3


# Whose failure it is


def test_a_worker_with_other_secrets_is_not_held_by_a_refusal(start, client):
    client.outcomes.append(REFUSED)
    error_of(start().get_token)
    error_of(start().get_token)
    assert len(client.calls) == 1
    assert start(client_secret="example-mended").get_token() == client.issued[0].value


def test_a_worker_with_other_secrets_in_the_queue_logs_in_after_a_refusal(start, client, store):
    client.outcomes.append(REFUSED)
    with client.hold_next() as hold:
        refused = Call(start().get_token)
        hold.wait_arrived()
        mended = Call(start(client_secret="example-mended").get_token)
        until(lambda: store.calls.count("lock") == 2)
    assert isinstance(refused.join().error, InvalidClientError)
    assert mended.value() == client.issued[0].value


def test_a_worker_that_was_refused_takes_the_token_of_one_that_was_not(start, client, clock):
    client.outcomes.append(REFUSED)
    refused = start()
    error_of(refused.get_token)
    taken = start(client_secret="example-mended").get_token()
    clock.advance(6.0)
    assert refused.get_token() == taken
    assert len(client.calls) == 2


def test_credentials_that_derive_no_key_share_no_failures(make_handler, client, store):
    class Keyless:
        def __init__(self) -> None:
            self._known = credentials()

        def __getattr__(self, name):
            if name == "derive_key":
                raise AttributeError(name)
            return getattr(self._known, name)

    client.then = REFUSED
    for _ in range(2):
        handler = make_handler(Keyless(), client=client, store=store, background=False)
        assert isinstance(error_of(handler.get_token), InvalidClientError)
    assert len(client.calls) == 2
    assert "save_failure" not in store.calls


# A store that fails at it


@pytest.mark.parametrize("operation", ["load_failure", "save_failure"])
def test_a_failure_that_cannot_be_shared_is_raised_all_the_same(start, client, store, operation):
    client.then = REFUSED
    store.fail(operation)
    for _ in range(2):
        assert isinstance(error_of(start().get_token), InvalidClientError)
    assert len(client.calls) == 2


@pytest.mark.parametrize("found", ["a text", 5, {}, object()], ids=repr)
def test_what_is_no_failure_holds_nobody(start, client, store, found):
    store.tokens.load_failure = lambda key: found
    assert start().get_token() == client.issued[0].value


@pytest.mark.parametrize(
    "change",
    [{"row": "of a later version"}, {"kind": "OfALaterVersionError"}, {"kind": "ABC"}],
    ids=repr,
)
def test_a_failure_by_another_version_is_passed_over_or_named(start, client, store, change):
    client.outcomes.append(FAILURES["busy"])
    error_of(start().get_token)
    store.save_failure(KEY, attrs.evolve(store.load_failure(KEY), **change))
    if "row" in change:
        assert start().get_token() == client.issued[0].value
    else:
        late = error_of(start().get_token)
        text = f"the login of another process failed with {change['kind']}"
        assert (type(late), str(late)) == (TransportError, text)


# Its form


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_pause_survives_its_way_through_a_store(clock, error):
    pause = Pace(5.0).after(error)
    stored = StoredFailure.of(pause, "example-proof")
    assert stored.expires_in == RETENTION_SECS
    clock.advance(1.0)
    loaded = attrs.evolve(stored, expires_in=stored.expires_in - 1.0).to_pause()
    assert loaded.is_shared
    assert (loaded.row, loaded.count) == (pause.row, pause.count)
    assert loaded.failed_at == pytest.approx(pause.failed_at)
    assert loaded.until == pytest.approx(pause.until)
    if isinstance(error, PermataAuthError):
        assert type(loaded.error) is type(error)
        assert str(loaded.error) == str(error)
        assert getattr(loaded.error, "status_code", None) == getattr(error, "status_code", None)


def test_the_form_of_a_failure_quotes_no_foreign_text_and_no_long_one(clock):
    now = _clock.now()
    for error, length in [(ZeroDivisionError("x" * 400), 0), (TransportError("x" * 400), 300)]:
        pause = Pause(row=Row.BROKEN, error=error, count=1, failed_at=now, until=now + 5.0)
        assert len(StoredFailure.of(pause, "example-proof").message) == length
