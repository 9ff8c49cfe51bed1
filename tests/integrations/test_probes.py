"""Probes of Flask and Django apps, in real servers whose bank is down, comes up, and goes again."""

from __future__ import annotations

import sys

import pytest
import requests

pytest.importorskip("flask")
pytest.importorskip("django")
pytest.importorskip("gunicorn")

from support.threads import until

from .servers import connections, environment, gunicorn, serving, threads

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="hands sockets down to its servers"),
]
_TIMEOUT = 60.0
_APPS = {"flask": "flask_app:app", "django": "payments.wsgi:application"}


class Probe:
    """A probe of one server; ``ready()`` gives status and state, ``live()`` the status."""

    def __init__(self, server) -> None:
        self.server = server
        self.url = f"{server.url}/permata/health"
        self.session = requests.Session()
        self.session.trust_env = False
        # As probes do; and gunicorn sends head and body apart, which keep-alive makes wait 40 ms.
        self.session.headers["Connection"] = "close"

    def live(self) -> int:
        return self.session.get(f"{self.url}/live", timeout=60).status_code

    def ready(self) -> tuple[int, str]:
        answer = self.session.get(f"{self.url}/ready", timeout=60)
        return answer.status_code, answer.json()["state"]

    def until_live(self) -> None:
        def is_live():
            try:
                return self.live() == 200
            except requests.ConnectionError:
                return False

        until(is_live, _TIMEOUT)

    def until_ready(self, expected: tuple[int, str]) -> None:
        until(lambda: self.ready() == expected, _TIMEOUT, f"{expected}")

    def states_until(self, last: str) -> list[str]:
        """Return the states that it went through, each once in a row."""
        seen = [self.ready()[1]]
        until(lambda: seen.append(self.ready()[1]) or seen[-1] == last, _TIMEOUT, last)
        return [state for n, state in enumerate(seen) if n == 0 or state != seen[n - 1]]


@pytest.fixture(params=_APPS)
def serve(request):
    """Run each app under gunicorn, with further options and settings of its environment."""
    session = []

    class Served:
        def __init__(self, bank, *arguments, **env) -> None:
            env = {"PERMATA_TOKEN_STORE": "", "DJANGO_SETTINGS_MODULE": "payments.settings", **env}
            command = gunicorn("-k", "gthread", "--threads", "4", *arguments, app=app)
            self._context = serving(command, environment(bank, **env))

        def __enter__(self):
            probe = Probe(self._context.__enter__())
            session.append(probe.session)
            probe.until_live()
            return probe

        def __exit__(self, *exc_info):
            return self._context.__exit__(*exc_info)

    app = _APPS[request.param]
    yield Served
    for each in session:
        each.close()


def test_workers_that_start_before_the_bank_are_ready_once_it_is_up(bank, serve, tmp_path):
    bank.go_down()
    store = f"file://{tmp_path}/tokens"
    how = {"PERMATA_WARM_UP": "on", "PERMATA_TOKEN_STORE": store}
    with serve(bank, "--workers", "2", "--preload", **how) as probe:
        probe.until_ready((503, "down"))
        assert probe.live() == 200
        bank.come_up()
        probe.until_ready((200, "ready"))
        answers = [probe.ready() for _ in range(1_000)]
        assert set(answers) <= {(200, "ready"), (503, "down"), (503, "cold")}
        assert answers[-1] == (200, "ready")
        assert (bank.logins, bank.login_attempts) == (1, 1)
        pid = probe.server.process.pid
        assert len(threads(pid)) == 1, "the master has a thread of its own"
        assert not connections(pid), "the master has a connection"
        probe.server.process.stop()
        assert probe.server.process.text() == ""


@pytest.mark.bank(token_lifetime=8.0)
def test_a_bank_that_goes_shows_before_the_token_expires(bank, serve):
    with serve(bank, PERMATA_WARM_UP="on") as probe:
        probe.until_ready((200, "ready"))
        with bank.down():
            assert probe.states_until("down") == ["ready", "degraded", "down"]
            assert probe.ready()[0] == 503
            assert probe.live() == 200
        # No request but the probe's: the worker gets a token by itself.
        assert probe.states_until("ready") == ["down", "ready"]


def test_without_a_warm_up_no_probe_leads_to_a_login(bank, serve):
    with serve(bank, "--preload") as probe:
        assert {probe.ready() for _ in range(1_000)} == {(200, "cold")}
        assert bank.requests == ()
        bank.go_down()
        balance = f"{probe.server.url}/balance/1"
        assert probe.session.get(balance, timeout=60).status_code == 500
        assert {probe.ready() for _ in range(50)} == {(503, "down")}
        assert probe.live() == 200
        bank.come_up()
        assert {probe.ready() for _ in range(50)} == {(503, "down")}
        assert bank.login_attempts == 0
        until(lambda: probe.session.get(balance, timeout=60).status_code == 200, _TIMEOUT)
        assert probe.ready() == (200, "ready")
        assert bank.logins == 1
