"""The example of virtual accounts under gunicorn: four workers that share a Redis and a table."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing

import pytest
import requests
from support import keys
from support.inbound import (
    CLIENT_KEY,
    INQUIRY_PATH,
    PAYMENT_PATH,
    SECRET,
    Caller,
    compact,
    inquiry,
    payment,
)
from support.redis_server import RedisServer, servers
from support.threads import together

from permata_auth.snap_inbound import SnapResponse

pytest.importorskip("gunicorn")

from .servers import EXAMPLES, environment, gunicorn, open_files, serving


class OverHttp:
    """A receiver behind a web server, by the interface of a receiver."""

    def __init__(self, url):
        self._url = url

    def process(self, method, path, headers, body):
        assert isinstance(headers, Mapping)
        answer = requests.request(
            method, self._url + path, headers=dict(headers), data=body, timeout=60
        )
        return SnapResponse(
            http_status=answer.status_code, headers=answer.headers, body=answer.content
        )


@pytest.fixture
def redis_server():
    found = servers()
    if not found:
        pytest.skip("no Redis or Valkey server program")
    server = RedisServer(next(iter(found.values()))).come_up()
    yield server
    server.close()


@pytest.fixture
def env(bank, redis_server, secrets):
    secrets.add(SECRET)
    return environment(
        bank,
        PERMATA_SNAP_INBOUND_CLIENT_KEY=CLIENT_KEY,
        PERMATA_SNAP_INBOUND_CLIENT_SECRET=SECRET,
        PERMATA_SNAP_BANK_PUBLIC_KEY=keys.PUBLIC,
        PERMATA_SNAP_INBOUND_TIME_LIMIT="30",
    )


def check_that_all_is_paid_once(server, table):
    caller = Caller(OverHttp(server.url))
    asked = caller.call(inquiry(), INQUIRY_PATH)
    assert asked.code == "2002400", server.process.text()
    assert asked.document["virtualAccountData"]["virtualAccountName"] == "Ani"

    # One request, replayed by many threads to all workers; then the same payment again.
    body = compact(payment("example-1"))
    headers = caller.headers(body, PAYMENT_PATH)

    def send():
        return [caller.call(body, PAYMENT_PATH, headers=headers).code for _ in range(10)]

    codes = [code for call in together(20, send) for code in call.value()]
    assert sorted(codes) == ["2002500"] + ["4092500"] * 199
    assert caller.pay("example-1", flag="Y").code == "2002500"
    assert caller.pay("example-1").code == "4042518"
    assert caller.pay("example-2").code == "4042514"
    assert caller.call(inquiry(), INQUIRY_PATH).code == "4042414"
    assert server.process.text() == ""
    # Every answer is out: no thread of a function has left its connection behind.
    assert table not in open_files(server.process.pid)
    server.process.stop()


def test_virtual_accounts_under_gunicorn(env, redis_server, tmp_path):
    table = tmp_path / "bills.db"
    env |= {"BILLS": str(table), "PERMATA_SNAP_INBOUND_EXTERNAL_IDS": redis_server.url}
    command = gunicorn("--workers", "4", app="snap_va_flask:create_app()")
    with serving(command, env) as server:
        check_that_all_is_paid_once(server, table)
    with closing(sqlite3.connect(table)) as db:
        booked = db.execute("select id, amount from payments").fetchall()
    assert booked == [("example-1", "10000.00")]


def test_the_invoices_of_a_django_project_under_gunicorn(env, redis_server, tmp_path):
    pytest.importorskip("django")
    table = tmp_path / "invoices.db"
    env |= {
        "DJANGO_CACHE_URL": redis_server.url,
        "DJANGO_DATABASE": str(table),
        "DJANGO_SETTINGS_MODULE": "payments.settings",
        "PERMATA_APP_SECRETS": "example-app-secret",
    }
    manage = [sys.executable, str(EXAMPLES / "django_project/manage.py")]
    run(manage, "migrate", "--run-syncdb", "--verbosity", "0", env=env)
    with closing(sqlite3.connect(table)) as db, db:
        db.execute(
            "insert into payments_invoice (number, name, amount) values (?, ?, ?)",
            ("123408123456789", "Ani", 10000),
        )
    shown = run(manage, "permata_snap", env=env)
    assert "external ids: <CacheExternalIds 'default'>" in shown
    assert SECRET not in shown
    with serving(gunicorn("--workers", "4", app="payments.wsgi"), env) as server:
        check_that_all_is_paid_once(server, table)
    with closing(sqlite3.connect(table)) as db:
        booked = db.execute("select number, payment_id from payments_invoice").fetchall()
    assert booked == [("123408123456789", "example-1")]


def run(command, *arguments, env):
    done = subprocess.run(
        [*command, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
