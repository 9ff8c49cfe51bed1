"""Celery workers of every pool, over a real broker and result backend."""

from __future__ import annotations

import contextlib
import gc
import re
import socket
import sys
import threading
import time
import weakref

import attrs
import pytest

celery = pytest.importorskip("celery")
pytest.importorskip("gevent")

import kombu.pools
import requests
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_process_shutdown, worker_shutdown
from support.redis_server import RedisServer, servers
from support.threads import until

from permata_auth import ConfigurationError, InvalidClientError
from permata_auth.integrations.celery import PermataTask, init_celery
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

    def drive(self, processes: int, timeout: float = 120.0) -> dict[int, set[str]]:
        """Have tasks run until each process of the pool has called with enough tokens."""
        tokens: dict[int, set[str]] = {}
        ends = time.monotonic() + timeout
        while len(tokens) < processes or min(map(len, tokens.values())) < TOKENS:
            assert time.monotonic() < ends, f"too few tokens: {tokens}\n{self.process.text()}"
            for result in [self.ask("celery_probe.who") for _ in range(2 * processes)]:
                pid, token, status = result.get(timeout=60)
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
    """A worker of two threads, for tests that do not depend on the pool."""
    with Sandbox() as bank, _worker(redis_server, bank, "-P", "threads", "-c", "2") as worker:
        yield worker


@pytest.fixture(scope="module")
def workers(redis_server):
    """Workers of a prefork pool, by the serialiser of their results."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Worker] = {}

        def worker(serializer: str) -> Worker:
            if serializer not in made:
                bank = stack.enter_context(Sandbox())
                pool = ("-P", "prefork", "-c", "1")
                made[serializer] = stack.enter_context(
                    _worker(redis_server, bank, *pool, PROBE_SERIALIZER=serializer)
                )
            return made[serializer]

        yield worker


class OnceThenClosed:
    """A server that reads one request, then is gone without a word."""

    def __enter__(self):
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def _serve(self):
        connection, _ = self._listening.accept()
        self._listening.close()
        with connection:
            if b"POST" in connection.recv(65536):
                self.requests += 1

    def __exit__(self, *exc_info):
        self._listening.close()
        self._thread.join(10)


@contextlib.contextmanager
def full_queue():
    """Give the address of a server that takes no more connections, and does not say so."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class BusyProxy:
    """A proxy that has no way to anywhere."""

    def __enter__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 503 No Way\r\nContent-Length: 0\r\n\r\n")

    def __exit__(self, *exc_info):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


def test_an_error_that_is_retryable_is_tried_again_after_its_delay(solo):
    began = solo.ask("celery_probe.unavailable", 1, 2.5).get(timeout=60)

    assert len(began) == 2
    assert began[1] - began[0] >= 2.5


def test_an_error_without_a_delay_is_tried_again_after_a_short_wait(solo):
    began = solo.ask("celery_probe.unavailable", 2, None).get(timeout=60)

    assert len(began) == 3


def test_a_permanent_error_is_not_tried_again_and_survives_the_json_backend(solo):
    with pytest.raises(InvalidClientError, match="refused at attempt 1"):
        solo.ask("celery_probe.refused").get(timeout=60)


def test_an_error_survives_the_pickle_backend_whole(redis_server, bank):
    with (
        _worker(redis_server, bank, "-P", "solo", PROBE_SERIALIZER="pickle") as worker,
        pytest.raises(InvalidClientError) as caught,
    ):
        worker.ask("celery_probe.refused").get(timeout=60)

    assert caught.value.status_code == 401
    assert caught.value.error == "invalid_client"


def test_a_callback_status_is_delivered_once_the_bank_is_back(solo):
    body = '{"xid": "1", "error": null}'
    solo.bank.fail_next(3, status=503, retry_after=0, on="calls")  # each attempt of one delivery
    result = solo.client.send_task(
        "permata_auth.send_callback_status", [body], {"request_id": "req-1"}
    )

    answer = result.get(timeout=60)

    assert answer["http_status"] == 200
    assert answer["body"]["StatusCode"] == "00"
    assert solo.bank.deliveries == (body.encode(),)
    assert solo.bank.calls_by_status["503"] == 3


def test_a_callback_status_that_the_bank_refuses_is_the_result(solo):
    solo.bank.fail_next(1, status=400, on="calls")

    answer = solo.client.send_task("permata_auth.send_callback_status", [{"error": None}]).get(
        timeout=60
    )

    assert answer["http_status"] == 400


def _attempts(worker, result) -> int:
    return worker.client.backend.client.llen(f"attempts:{result.id}")


def _seconds_until_retry(worker, result) -> float:
    """Return how long Celery was told to wait before it runs a task again."""
    key = f"waits:{result.id}"
    until(lambda: worker.client.backend.client.llen(key), timeout=60, what="it is to be run again")
    return float(worker.client.backend.client.lindex(key, 0))


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("failure", ["refused", "unknown name", "proxy", "proxy busy", "slow"])
def test_a_call_that_was_never_sent_is_tried_again(workers, failure, serializer):
    """Whichever way it could not be sent, also where its error is pickled."""
    worker = workers(serializer)
    good = worker.bank.url + "/apiservice/x"
    with socket.socket() as closed, full_queue() as stuck, BusyProxy() as busy:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        url, how = {
            "refused": (f"http://{nowhere}/apiservice/x", {}),
            "unknown name": ("https://bank.invalid/apiservice/x", {}),
            "proxy": ("https://bank.invalid/x", {"proxies": {"https": f"http://{nowhere}"}}),
            "proxy busy": ("https://bank.invalid/x", {"proxies": {"https": busy.url}}),
            "slow": (f"http://{stuck}/apiservice/x", {"timeout": [0.5, 20]}),
        }[failure]

        result = worker.ask("celery_probe.post", url, good, how)

        assert result.get(timeout=60) == [2, 200]


def test_a_call_that_may_have_been_sent_is_not_tried_again(solo):
    for fault, arguments in [("drop", {}), ("reset", {}), ("slow", {"seconds": 30})]:
        solo.bank.fail_next(1, fault, on="calls", **arguments)
        result = solo.ask(
            "celery_probe.post", solo.bank.url + "/apiservice/x", None, {"timeout": [5, 1]}
        )
        with pytest.raises(Exception, match=r"timed out|Connection") as caught:
            result.get(timeout=60)
        assert type(caught.value).__module__.startswith("requests")
        assert _attempts(solo, result) == 1


def test_what_follows_a_redirect_is_not_tried_again(solo):
    location = "http://127.0.0.1:9/apiservice/y"  # where nobody listens
    solo.bank.fail_next(1, "redirect", on="calls", location=location, status=303)
    result = solo.ask("celery_probe.post", solo.bank.url + "/apiservice/x")

    with pytest.raises(Exception, match="refused"):
        result.get(timeout=60)

    assert _attempts(solo, result) == 1


def test_a_call_that_urllib3_has_tried_before_is_not_tried_again(solo):
    with OnceThenClosed() as server:
        result = solo.ask("celery_probe.post_with_retries_of_urllib3", server.url)
        with pytest.raises(Exception, match="refused"):
            result.get(timeout=60)

    assert server.requests == 1
    assert _attempts(solo, result) == 1


def test_a_task_may_opt_in_to_being_done_twice(solo):
    for fault, arguments in [
        ("drop", {}),
        ("slow", {"seconds": 30}),
        ("truncated", {}),
        ("status", {"status": 503}),
        ("status", {"status": 429, "retry_after": 0}),
    ]:
        solo.bank.fail_next(1, fault, on="calls", **arguments)
        result = solo.ask("celery_probe.post_twice_if_need_be", solo.bank.url + "/apiservice/x")
        assert result.get(timeout=60) == [2, 200], fault
    solo.bank.fail_next(1, status=400, on="calls")
    result = solo.ask("celery_probe.post_twice_if_need_be", solo.bank.url + "/apiservice/x")
    with pytest.raises(Exception, match="400"):
        result.get(timeout=60)
    assert _attempts(solo, result) == 1


@pytest.mark.parametrize(
    ("retry_after", "countdown", "how", "seconds"),
    [
        (None, None, "exc", 77),  # Celery's own delay
        (0, None, "exc", 77),
        (120, None, "exc", 120),
        (120, None, "positional", 120),
        (120, None, "handled", 120),
        (120, 5, "exc", 120),
        (120, 200, "exc", 200),
        (7200, None, "exc", 1800),  # longer, and Redis would deliver the task twice
    ],
)
def test_a_retry_by_hand_waits_as_the_error_asks_or_as_celery_does(
    solo, retry_after, countdown, how, seconds
):
    result = solo.ask("celery_probe.retry_by_hand", retry_after, countdown, how)

    assert _seconds_until_retry(solo, result) == seconds


@pytest.mark.parametrize("task", ["permata_auth.send_callback_status", "celery_probe.login"])
def test_a_429_is_waited_for_as_long_as_it_asks(workers, task):
    worker = workers("json")
    on = "calls" if task.endswith("status") else "token"
    try:
        worker.bank.fail_for(60, status=429, retry_after=120, on=on)
        result = worker.ask(task, "{}")
        seconds = _seconds_until_retry(worker, result)
    finally:
        worker.bank.clear_faults()

    assert 119 < seconds <= 132  # a login's own jitter is on top


def test_the_soft_time_limit_ends_a_task_wherever_it_waits(redis_server, bank):
    with _worker(redis_server, bank, "-P", "prefork", "-c", "1") as worker:
        for on in ("token", "calls"):
            with bank.hold_next(on=on) as gate:
                result = worker.ask("celery_probe.wait_for_the_bank")
                with pytest.raises(SoftTimeLimitExceeded):
                    result.get(timeout=60)
                assert gate.arrived.is_set()
            assert _attempts(worker, result) == 1


def test_a_second_set_up_of_one_app_needs_a_name_of_its_own(bank, make_handler):
    app = celery.Celery("test", set_as_current=False)
    first = init_celery(app, settings=bank.environment())

    with pytest.raises(ConfigurationError, match="name='permata_auth'"):
        init_celery(app, handler=make_handler(bank.credentials()))
    second = init_celery(app, name="other", settings=bank.environment())

    assert first.send_callback_status.name == "permata_auth.send_callback_status"
    assert second.send_callback_status.name == "other.send_callback_status"
    assert first.handler is not second.handler
    init_celery(celery.Celery("another", set_as_current=False))


@pytest.mark.parametrize("arguments", [{"app": "payments"}, {"name": ""}, {"name": None}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        init_celery(**{"app": celery.Celery("test", set_as_current=False)} | arguments)


def test_a_task_that_is_called_directly_raises_what_happened():
    app = celery.Celery("test", set_as_current=False)

    @app.task(base=PermataTask)
    def call():
        raise requests.ConnectTimeout

    with pytest.raises(requests.ConnectTimeout):
        call()


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
