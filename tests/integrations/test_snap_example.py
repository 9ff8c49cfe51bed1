"""The example of virtual accounts under gunicorn: four workers that share a Redis and a table."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

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

from .servers import environment, gunicorn, serving


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


def test_virtual_accounts_under_gunicorn(bank, redis_server, tmp_path, secrets):
    secrets.add(SECRET)
    table = tmp_path / "bills.db"
    env = environment(
        bank,
        BILLS=str(table),
        PERMATA_SNAP_INBOUND_CLIENT_KEY=CLIENT_KEY,
        PERMATA_SNAP_INBOUND_CLIENT_SECRET=SECRET,
        PERMATA_SNAP_BANK_PUBLIC_KEY=keys.PUBLIC,
        PERMATA_SNAP_INBOUND_EXTERNAL_IDS=redis_server.url,
        PERMATA_SNAP_INBOUND_TIME_LIMIT="30",
    )
    command = gunicorn("--workers", "4", app="snap_va_flask:create_app()")
    with serving(command, env) as server:
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
        server.process.stop()
    db = sqlite3.connect(table)
    assert db.execute("select id, amount from payments").fetchall() == [("example-1", "10000.00")]
    db.close()
