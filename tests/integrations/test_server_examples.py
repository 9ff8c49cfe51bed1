"""The examples that live in a server, each in the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests

pytest.importorskip("flask")
pytest.importorskip("django")
pytest.importorskip("celery")
pytest.importorskip("gunicorn")

import celery
import kombu.pools
from support.redis_server import RedisServer, servers
from support.threads import until

from .servers import BIN, EXAMPLES, environment, gunicorn, serving, started
from .webhooks import RECEIPT, SECRET, signed

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="hands sockets down to its servers"),
]
OURS = {"PERMATA_APP_SECRETS": SECRET}


@pytest.fixture(scope="module")
def redis_server():
    found = servers()
    if not found:
        pytest.skip("no redis-server here, and none from PyPI")
    server = RedisServer(next(iter(found.values()))).come_up()
    yield server
    kombu.pools.reset()
    server.close()


def _answers(url: str) -> requests.Response:
    """Wait until a server answers."""

    def ask():
        try:
            return requests.get(url, timeout=60)
        except requests.ConnectionError:
            return None

    # An answer with a status of 4xx or 5xx counts as false.
    return until(lambda: [answer for answer in [ask()] if answer is not None])[0]


def _check_web(server, bank) -> None:
    balance = _answers(f"{server.url}/balance/701075323")
    assert (balance.status_code, balance.json()["StatusCode"]) == (200, "00")
    url = f"{server.url}/permata/webhook"
    assert requests.post(url, data=RECEIPT, timeout=60).status_code == 401
    webhook = requests.post(url, data=RECEIPT, headers=signed(RECEIPT), timeout=60)
    assert (webhook.status_code, webhook.json()["StatusCode"]) == (200, "00")
    assert bank.deliveries == (RECEIPT,)
    assert requests.get(f"{server.url}/permata/health", timeout=60).status_code == 200
    server.process.stop()


def test_flask_under_gunicorn_with_a_store_from_the_environment(bank, tmp_path):
    env = environment(bank, PERMATA_TOKEN_STORE=f"file://{tmp_path}/tokens", **OURS)
    command = gunicorn("-c", str(EXAMPLES / "gunicorn.conf.py"), app="flask_app:app")
    with serving(command, env) as server:
        for _ in range(20):
            assert _answers(f"{server.url}/balance/1").status_code == 200
        assert bank.logins == 1
        _check_web(server, bank)


def test_flask_under_uwsgi(bank):
    if not (BIN / "uwsgi").exists():
        pytest.skip("uWSGI is not installed: pip install pyuwsgi (or uwsgi, with a C compiler)")
    ini = (EXAMPLES / "uwsgi.ini").read_text().replace("127.0.0.1:8000", "fd://{fd}")
    options = [
        f"--{name.strip()}" if value.strip() == "true" else f"--{name.strip()}={value.strip()}"
        for name, _, value in (line.partition("=") for line in ini.splitlines() if "=" in line)
    ]
    with serving([str(BIN / "uwsgi"), *options], environment(bank, **OURS)) as server:
        _check_web(server, bank)


def test_a_django_project_under_gunicorn(bank, redis_server):
    env = environment(
        bank, DJANGO_CACHE_URL=redis_server.url, DJANGO_SETTINGS_MODULE="payments.settings", **OURS
    )
    command = gunicorn("--workers", "2", app="payments.wsgi")
    with serving(command, env) as server:
        for _ in range(10):
            assert _answers(f"{server.url}/balance/1").status_code == 200
        assert bank.logins == 1
        _check_web(server, bank)


def test_a_celery_worker(bank, redis_server):
    env = environment(
        bank,
        CELERY_BROKER_URL=redis_server.url,
        CELERY_RESULT_BACKEND=redis_server.url,
        C_FORCE_ROOT="1",
        PERMATA_TOKEN_STORE=redis_server.url,
    )
    client = celery.Celery(broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    command = [
        str(BIN / "celery"),
        "-A",
        "celery_app",
        "worker",
        "-c",
        "2",
        "--loglevel",
        "WARNING",
    ]
    with started(command, env) as process:
        try:
            for _ in range(4):
                result = client.send_task("celery_app.balance", ["1"]).get(timeout=30)
                assert result["http_status"] == 200
            assert bank.logins == 1
        finally:
            client.backend.result_consumer.stop()
            client.backend.client.connection_pool.disconnect()
            client.close()
        assert process.stop() < 10.0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["cron_script.py", "701075323"], '"StatusCode"'),
        (["opentelemetry_events.py"], "permata_auth.logins"),
    ],
    ids=["cron", "opentelemetry"],
)
def test_a_script(bank, arguments, expected):
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]],
        env=environment(bank),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert expected in ended.stdout
    assert bank.logins == 1


def test_a_cron_script_that_may_succeed_later_says_so(bank):
    with bank.down():
        ended = subprocess.run(
            [sys.executable, str(EXAMPLES / "cron_script.py"), "1"],
            env=environment(bank),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 75
    assert "Traceback" not in ended.stderr
