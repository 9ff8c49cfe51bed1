"""Flask and Django apps in real servers, through the life of several tokens."""

from __future__ import annotations

import contextlib
import re
import sys
import threading

import attrs
import pytest

pytest.importorskip("flask")
pytest.importorskip("django")
pytest.importorskip("gevent")
pytest.importorskip("gunicorn")

from permata_auth.sandbox import Sandbox

from .servers import (
    BIN,
    HERE,
    LIFETIME,
    Seen,
    connections,
    environment,
    gunicorn,
    serving,
    threads,
    uwsgi,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at the servers through /proc"),
]

_WORKERS = 2
_TWO = ("--workers", "2")
_PATCHED = ("--config", str(HERE / "apps" / "gevent_conf.py"))
_DJANGO = "django_probe:app"
_TWO_PROCESSES = ("--processes", "2")
_COMMANDS = {
    "gunicorn": {
        "flask-sync": gunicorn(*_TWO, "-k", "sync"),
        "flask-sync-preload": gunicorn(*_TWO, "-k", "sync", "--preload"),
        "flask-gthread": gunicorn(*_TWO, "-k", "gthread", "--threads", "4"),
        "flask-gthread-preload": gunicorn(*_TWO, "-k", "gthread", "--threads", "4", "--preload"),
        "flask-gevent": gunicorn(*_TWO, "-k", "gevent"),
        "flask-gevent-preload": gunicorn(*_TWO, *_PATCHED, "-k", "gevent", "--preload"),
    },
    "gunicorn-django": {
        "django-sync-preload": gunicorn(*_TWO, "-k", "sync", "--preload", app=_DJANGO),
        "django-gthread": gunicorn(*_TWO, "-k", "gthread", "--threads", "4", app=_DJANGO),
        "django-gevent": gunicorn(*_TWO, "-k", "gevent", app=_DJANGO),
    },
    "uwsgi": {
        "flask": uwsgi(*_TWO_PROCESSES),
        "flask-threads": uwsgi(*_TWO_PROCESSES, "--enable-threads"),
        "flask-hooks": uwsgi(*_TWO_PROCESSES, "--enable-threads", "--py-call-uwsgi-fork-hooks"),
        "flask-lazy": uwsgi(*_TWO_PROCESSES, "--enable-threads", "--lazy-apps"),
        "django-threads": uwsgi(*_TWO_PROCESSES, "--enable-threads", app=_DJANGO),
    },
}
# uWSGI greets and takes its leave in any case.
_AMISS = re.compile(
    r"traceback|error|exception|warning(?!: you are running uwsgi as root)", re.IGNORECASE
)


@attrs.define
class Outcome:
    """The work of one server, and its state when it was looked at."""

    seen: Seen
    calls: dict[str, int]
    master_threads: list[str]
    master_connections: list[str]
    is_refreshing: bool = False
    stop_seconds: float = 0.0
    output: str = ""


@pytest.fixture(scope="module")
def outcomes():
    """Run all servers of one group at once, and keep the outcomes."""
    found: dict[tuple[str, str], Outcome] = {}

    def of(group: str, name: str) -> Outcome:
        if (group, name) not in found:
            ran = _run(_COMMANDS[group])
            found.update({(group, each): outcome for each, outcome in ran.items()})
        return found[group, name]

    return of


def _run(commands: dict[str, list[str]]) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, command in commands.items():
            bank = stack.enter_context(Sandbox(token_lifetime=LIFETIME))
            env = environment(bank, PERMATA_TOKEN_STORE="")
            servers[name] = bank, stack.enter_context(serving(command, env))

        def drive(name: str) -> None:
            bank, server = servers[name]
            seen = server.drive(_WORKERS)
            pid = server.process.pid
            found[name] = Outcome(seen, bank.calls_by_status, threads(pid), connections(pid))

        drivers = [threading.Thread(target=drive, args=[name], daemon=True) for name in servers]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join(200)
        for name, (bank, server) in servers.items():
            gate = bank.hold_next(_WORKERS, on="token")
            found[name].is_refreshing = gate.arrived.wait(2 * LIFETIME)
            found[name].stop_seconds = server.process.stop()
            found[name].output = server.process.text()
    return found


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, each in _COMMANDS.items() for name in each]
)
def test_every_worker_serves_through_three_expiries(outcomes, group, name):
    if group == "uwsgi" and not (BIN / "uwsgi").exists():
        pytest.skip("uWSGI is not installed: pip install pyuwsgi (or uwsgi, with a C compiler)")
    outcome = outcomes(group, name)
    seen = outcome.seen

    assert not seen.failures
    assert seen.is_complete, f"too few tokens: {dict(seen.tokens)}"
    assert set(outcome.calls) == {"200"}, "a token that the bank did not accept was sent"
    assert len(outcome.master_threads) == 1, "the master has a timer"
    assert not outcome.master_connections
    assert outcome.is_refreshing or (group, name) == ("uwsgi", "flask"), "no thread, no timer"
    assert outcome.stop_seconds < 10.0, "the login that is held lasts 15 s, the read timeout"
    if group == "uwsgi":
        assert not _AMISS.search(outcome.output), outcome.output
    else:
        assert outcome.output == ""
