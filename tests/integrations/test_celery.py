"""Celery workers of every pool, over a real broker and result backend."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
import time
import weakref

import attrs
import pytest

celery = pytest.importorskip("celery")
pytest.importorskip("gevent")

import kombu.pools
from celery.signals import worker_process_shutdown, worker_shutdown
from support.redis_server import RedisServer, servers
from support.threads import until

from permata_auth import InvalidClientError
from permata_auth.integrations.celery import init_celery
from permata_auth.sandbox import Sandbox

from .servers import (
    BIN,
    LIFETIME,
    TOKENS,
    Process,
    connections,
    environment,
    seconds_without_a_wait,
    started,
)

_SERVERS = servers()
pytestmark = [
    pytest.mark.skipif(not _SERVERS, reason="no redis-server here, and none from PyPI"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at the workers through /proc"),
]
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
_POOLS = {
    "prefork": (4, ["-P", "prefork", "-c", "4", "-O", "fair"]),
    "threads": (1, ["-P", "threads", "-c", "4"]),
    "gevent": (1, ["-P", "gevent", "-c", "4"]),
    "solo": (1, ["-P", "solo"]),
}


@attrs.define
class Worker:
    """A worker of one pool, and a client that gives it work."""

    process: Process
    client: celery.Celery
    bank: Sandbox

    def ask(self, task: str, *arguments):
        return self.client.send_task(task, arguments)

    def drive(self, processes: int, timeout: float = 40.0) -> dict[int, set[str]]:
        """Have tasks run until each process of the pool has called with enough tokens."""
        tokens: dict[int, set[str]] = {}
        ends = time.monotonic() + timeout
        while len(tokens) < processes or min(map(len, tokens.values())) < TOKENS:
            assert time.monotonic() < ends, f"too few tokens: {tokens}\n{self.process.text()}"
            for result in [self.ask("celery_probe.who") for _ in range(2 * processes)]:
                pid, token, status = result.get(timeout=15)
                assert status == 200
                tokens.setdefault(pid, set()).add(token)
            time.sleep(0.05)
        return tokens


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer(_SERVERS.get("redis") or _SERVERS["valkey"]).come_up()
    yield server
    kombu.pools.reset()  # which all clients of one broker share
    server.close()


@contextlib.contextmanager
def _worker(redis_server, bank, *pool: str, **more: str):
    queue = f"queue-{bank.url.rpartition(':')[2]}"
    # Not one of this process's: Celery's current app is a global.
    client = celery.Celery(broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    serializer = more.get("PROBE_SERIALIZER", "json")
    client.conf.update(
        task_default_queue=queue, result_serializer=serializer, accept_content=[serializer]
    )
    env = environment(
        bank,
        CELERY_BROKER_URL=redis_server.url,
        CELERY_RESULT_BACKEND=redis_server.url,
        C_FORCE_ROOT="1",
        **more,
    )
    command = [str(BIN / "celery"), "-A", "celery_probe", "worker", "-Q", queue, *pool, *_QUIET]
    with started(command, env) as process:
        try:
            yield Worker(process, client, bank)
        finally:
            _disconnect(client)


def _disconnect(client: celery.Celery) -> None:
    """Close every socket of a client, which close() alone does not."""
    client.backend.result_consumer.stop()
    client.backend.client.connection_pool.disconnect()
    client.close()


@pytest.mark.long
@pytest.mark.parametrize("pool", _POOLS)
def test_every_process_of_a_pool_works_through_three_expiries(make_bank, redis_server, pool):
    processes, arguments = _POOLS[pool]
    bank = make_bank(token_lifetime=LIFETIME)
    with _worker(redis_server, bank, *arguments) as worker:
        tokens = worker.drive(processes)
        of_master = connections(worker.process.pid)
        port = f":{int(bank.url.rpartition(':')[2]):04X}"
        bound = seconds_without_a_wait()
        worker.process.stop()
        output = worker.process.text()

    assert set(bank.calls_by_status) == {"200"}, "a token that the bank did not accept was sent"
    if pool == "prefork":
        assert worker.process.pid not in tokens
        assert not [row for row in of_master if port in row], "the master has called the bank"
    ours = [float(seconds) for seconds in re.findall(r"handler shut down in (\S+) s", output)]
    assert len(ours) == processes
    assert max(ours) < bound
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def solo(redis_server):
    """A worker of two threads, for what does not depend on the pool."""
    with Sandbox() as bank, _worker(redis_server, bank, "-P", "threads", "-c", "2") as worker:
        yield worker


def test_an_error_that_is_retryable_is_tried_again_after_its_delay(solo):
    began = solo.ask("celery_probe.unavailable", 1, 2.5).get(timeout=30)

    assert len(began) == 2
    assert began[1] - began[0] >= 2.5


def test_an_error_without_a_delay_is_tried_again_after_a_short_wait(solo):
    began = solo.ask("celery_probe.unavailable", 2, None).get(timeout=30)

    assert len(began) == 3


def test_a_permanent_error_is_not_tried_again_and_survives_the_json_backend(solo):
    with pytest.raises(InvalidClientError, match="refused at attempt 1"):
        solo.ask("celery_probe.refused").get(timeout=30)


def test_an_error_survives_the_pickle_backend_whole(redis_server, bank):
    with (
        _worker(redis_server, bank, "-P", "solo", PROBE_SERIALIZER="pickle") as worker,
        pytest.raises(InvalidClientError) as caught,
    ):
        worker.ask("celery_probe.refused").get(timeout=30)

    assert caught.value.status_code == 401
    assert caught.value.error == "invalid_client"


def test_a_callback_status_is_delivered_once_the_bank_is_back(solo):
    body = '{"xid": "1", "error": null}'
    solo.bank.fail_next(3, status=503, retry_after=0, on="calls")  # each attempt of one delivery
    result = solo.client.send_task(
        "permata_auth.send_callback_status", [body], {"request_id": "req-1"}
    )

    answer = result.get(timeout=30)

    assert answer["http_status"] == 200
    assert answer["body"]["StatusCode"] == "00"
    assert solo.bank.deliveries == (body.encode(),)
    assert solo.bank.calls_by_status["503"] == 3


def test_a_callback_status_that_the_bank_refuses_is_the_result(solo):
    solo.bank.fail_next(1, status=400, on="calls")

    answer = solo.client.send_task("permata_auth.send_callback_status", [{"error": None}]).get(
        timeout=30
    )

    assert answer["http_status"] == 400


def test_setting_it_up_starts_nothing(monkeypatch):
    monkeypatch.delenv("PERMATA_TOKEN_URL", raising=False)
    app = celery.Celery("test", set_as_current=False)

    services = init_celery(app)

    assert "permata_auth.send_callback_status" in app.tasks
    worker_process_shutdown.send(sender=None)
    worker_shutdown.send(sender=None)
    assert services._made == {}


@pytest.mark.parametrize("signal", [worker_process_shutdown, worker_shutdown])
def test_the_shutdown_of_a_worker_stops_the_schedule(bank, signal):
    app = celery.Celery("test", set_as_current=False)
    services = init_celery(app, settings=bank.environment())
    services.handler.get_token()
    assert services.handler.scheduler.is_active

    signal.send(sender=None)

    assert not services.handler.scheduler.is_active


def test_a_given_handler_is_used_and_left_to_its_owner(bank, make_handler):
    handler = make_handler(bank.credentials())
    services = init_celery(celery.Celery("test", set_as_current=False), handler=handler)
    handler.get_token()

    worker_shutdown.send(sender=None)

    assert services.handler is handler
    assert handler.scheduler.is_active


def test_a_dropped_app_takes_its_handler_with_it(bank):
    services = init_celery(celery.Celery("test", set_as_current=False), settings=bank.environment())
    services.handler.get_token()
    handler = weakref.ref(services.handler)

    del services

    def is_gone():
        gc.collect()
        return handler() is None

    until(is_gone, what="the handler is collected")
