from __future__ import annotations

import logging
import time
from contextlib import ExitStack

import attrs
import pytest
from support.threads import until

from permata_auth import LoginClient, LoginHandler, RetryPolicy
from permata_auth.events import LoginFailed

from .matrix import ATTEMPTS, BUDGET, FAULTS, IMPATIENT, READ_TIMEOUT, Fault, document

ROWS = [(scheme, row) for scheme in FAULTS for row in (*FAULTS[scheme], *IMPATIENT)]
RAISING = [(scheme, row) for scheme, row in ROWS if row.error is not None]

_SLACK = 20.0  # the machine's, on top of a bound in seconds


class Detour:
    """A scheme whose logins can be sent elsewhere while a handler uses it."""

    def __init__(self, credentials):
        self.credentials = credentials
        self.elsewhere = None

    def token_request(self, **arguments):
        request = self.credentials.token_request(**arguments)
        return attrs.evolve(request, url=self.elsewhere or request.url)

    def __getattr__(self, name):
        return getattr(self.credentials, name)


@pytest.fixture
def stage(request, bank, make_handler, tmp_path, monkeypatch):
    """Return (handler maker, injector)."""
    given = {"classic": bank.credentials, "snap": bank.snap_credentials}
    with ExitStack() as stack:
        scheme = Detour(given[request.getfixturevalue("scheme")]())
        client = LoginClient(
            scheme,
            retry=RetryPolicy(ATTEMPTS, wait_initial=0.01, wait_max=0.02, timeout=BUDGET),
            timeout=(READ_TIMEOUT, READ_TIMEOUT),
        )
        stack.callback(client.close)

        def make(**arguments) -> LoginHandler:
            return make_handler(scheme, client=client, **arguments)

        def inject(row: Fault) -> None:
            if row.elsewhere is not None:
                scheme.elsewhere = stack.enter_context(row.elsewhere(tmp_path))
                if (tmp_path / "ca.pem").exists():
                    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            elif row.is_down:
                stack.enter_context(bank.down())
            else:
                bank.fail_next(100, row.fault, **row.arguments)

        yield make, inject
        bank.clear_faults()


def _name(value: str | Fault) -> str:
    return value if isinstance(value, str) else value.name


def _attempts_seen(row: Fault, bank) -> int | None:
    """Return how many attempts the bank has seen; None where another server was asked."""
    return None if row.is_down or row.elsewhere else bank.login_attempts


@pytest.mark.parametrize(("scheme", "row"), RAISING, ids=_name)
def test_without_a_token_the_fault_is_raised_in_time_and_nothing_is_cached(
    scheme, row, stage, bank, caplog
):
    make, inject = stage
    handler = make()
    inject(row)
    caplog.set_level(logging.DEBUG, "permata_auth")
    began = time.monotonic()
    with pytest.raises(row.error) as caught:
        handler.get_token()
    assert time.monotonic() - began < BUDGET + _SLACK
    assert type(caught.value) is row.error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    attempts = 1 if row in IMPATIENT else row.attempts
    if row.error.__name__ != "RequestTimeoutError":  # whose budget may be spent after one
        assert _attempts_seen(row, bank) in (None, attempts)
        until(lambda: _lines(caplog, "Attempt") == attempts - 1)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR and _ours(r)] == []
    info = handler.info()
    assert (info.logins, info.failed_logins, info.fingerprint) == (0, 1, None)
    assert info.last_error.startswith(row.error.__name__)
    assert not handler.scheduler.is_active


@pytest.mark.parametrize(("scheme", "row"), RAISING, ids=_name)
def test_with_a_live_token_the_fault_costs_no_call(scheme, row, stage):
    make, inject = stage
    handler = make()
    token = handler.get_token()
    inject(row)
    with pytest.raises(row.error):
        handler.refresh()
    assert handler.get_token() == token
    assert handler.scheduler.is_active


@pytest.mark.bank(token_lifetime=60)
@pytest.mark.parametrize(("scheme", "row"), RAISING, ids=_name)
def test_in_the_timer_the_fault_is_logged_and_the_old_token_served(scheme, row, stage, caplog):
    make, inject = stage
    events = []
    handler = make(on_event=events.append)
    token = handler.get_token()
    inject(row)
    caplog.set_level(logging.INFO, "permata_auth")
    # The callback that is scheduled for half of the token's life from now, half a second from now.
    callback = handler.scheduler._running.get().schedule.callback
    expires_at = handler.info().expires_at.timestamp()
    config = attrs.evolve(
        handler.scheduler.config,
        refresh_buffer_secs=expires_at - time.time() - 0.1,
        min_schedule_time_secs=0,
    )
    assert handler.scheduler.start(expires_at, callback, config=config)
    until(lambda: _lines(caplog, "Token refresh failed, "))
    # The thread that logs in tells of it once the timer's thread, which has logged this, is free.
    failure = until(lambda: next((each for each in events if isinstance(each, LoginFailed)), None))
    assert failure.error == row.error.__name__
    assert handler.get_token() == token
    assert handler.scheduler.is_active
    assert handler.info().next_refresh_at is not None


@pytest.mark.parametrize(
    ("scheme", "row"), [(scheme, row) for scheme, row in ROWS if row.error is None], ids=_name
)
def test_an_odd_lifetime_is_a_defined_one(scheme, row, clock, stage, bank):
    make, inject = stage
    handler = make()
    inject(row)
    token = handler.get_access_token()
    assert token.expires_in() == row.lifetime
    assert handler.get_token() == token.value
    assert bank.logins == 1


@pytest.mark.parametrize("scheme", FAULTS)
def test_the_table_documents_every_row_once(scheme):
    names = [row.name for row in (*FAULTS[scheme], *IMPATIENT)]
    assert len(set(names)) == len(names)
    assert all(f"| {name} |" in document(scheme) for name in names)


def _ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("permata_auth") and "sandbox" not in record.name


def _lines(caplog, text: str) -> int:
    return sum(r.getMessage().startswith(text) for r in caplog.records if _ours(r))
