from __future__ import annotations

import gc
import logging
import signal
import threading
import time

import pytest
from hypothesis import HealthCheck, settings
from support.clock import FakeClock
from support.fleet import Host
from support.secrets import LogWatch, Secrets

from permata_auth import LoginHandler, SchedulerConfig, TokenScheduler
from permata_auth.sandbox import Sandbox

_THREADS_END_WITHIN = 20.0

# A machine that is busy with other things makes a test slow, and not wrong.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell starts background programs with Ctrl-C ignored, and every script that a test
# starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    """Fail a test after which a thread of the product still runs."""
    before = set(threading.enumerate())
    yield
    if not set(_product_threads()) - before:
        return
    deadline = time.monotonic() + _THREADS_END_WITHIN
    gc.collect()  # a handler that the test has dropped takes its threads with it
    while left := [t for t in _product_threads() if t not in before]:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left running: {left}")
        time.sleep(0.02)  # join() raises for a thread that another one is just starting


def _product_threads():
    return [t for t in threading.enumerate() if t.name.startswith("permata-auth-")]


@pytest.fixture(autouse=True)
def secrets(_leaves_no_thread):
    """Fail a test during which a known secret showed up in a log record; knows the bank's."""
    known = Secrets()
    watch = LogWatch()
    root = logging.getLogger()
    level = root.level
    root.addHandler(watch)
    root.setLevel(logging.DEBUG)
    yield known
    root.removeHandler(watch)
    root.setLevel(level)
    found = known.found_in(*watch.texts)
    assert not found, f"secrets in log records: {found}"


@pytest.fixture
def untraced_threads():
    """Start threads without a trace function: coverage keeps some objects of each for ever."""
    previous = threading.gettrace()
    threading.settrace(None)
    yield
    threading.settrace(previous)


@pytest.fixture
def make_bank(secrets):
    """Start banks: ``make_bank(token_lifetime=2.0)``."""
    banks = []

    def make(**arguments) -> Sandbox:
        bank = Sandbox(**arguments).start()
        banks.append(bank)
        secrets.watch(bank)
        return bank

    yield make
    for bank in banks:
        bank.stop()
    for bank in banks:
        bank.check()


@pytest.fixture
def bank(request, make_bank):
    """A started bank; ``@pytest.mark.bank(token_lifetime=2.0)`` gives its arguments."""
    marker = request.node.get_closest_marker("bank")
    return make_bank(**(marker.kwargs if marker else {}))


@pytest.fixture
def make_handler():
    """Make handlers that are shut down at the end: ``make_handler(credentials, **arguments)``."""
    handlers = []

    def make(credentials, **arguments) -> LoginHandler:
        handler = LoginHandler(credentials, **arguments)
        handlers.append(handler)
        return handler

    yield make
    for handler in handlers:
        handler.shutdown()


@pytest.fixture
def make_hosts():
    """Start hosts that are stopped at the end: ``make_hosts(3, bank, url, processes=8)``."""
    hosts: list[Host] = []

    def make(
        count: int, bank: Sandbox, url: str, *, environment: dict[str, str] | None = None, **rest
    ) -> list[Host]:
        made = [Host(environment or bank.environment(), url, **rest) for _ in range(count)]
        hosts.extend(made)
        return made

    yield make
    for host in hosts:
        host.__exit__()


@pytest.fixture
def one_server():
    """The first Redis or Valkey server there is, where it does not matter which."""
    pytest.importorskip("redis")
    redis_server = pytest.importorskip("support.redis_server")
    if not redis_server.servers():
        pytest.skip("no Redis or Valkey server")
    server = redis_server.RedisServer(next(iter(redis_server.servers().values()))).come_up()
    yield server
    server.close()


@pytest.fixture(params=["file", "redis"])
def store_url(request, tmp_path):
    """The URL of a store of each kind; the Redis server is started only if it is asked for."""
    if request.param == "file":
        pytest.importorskip("filelock")
        return tmp_path.as_uri()
    return request.getfixturevalue("one_server").url


@pytest.fixture
def make_scheduler():
    """Make schedulers that are shut down at the end: ``make_scheduler(buffer, minimum)``."""
    schedulers = []

    def make(buffer=300.0, minimum=60.0, **arguments) -> TokenScheduler:
        scheduler = TokenScheduler(SchedulerConfig(buffer, minimum), **arguments)
        schedulers.append(scheduler)
        return scheduler

    yield make
    for scheduler in schedulers:
        scheduler.shutdown()


@pytest.fixture
def clock():
    """A clock that moves only when it is told to; see :class:`support.clock.FakeClock`."""
    with FakeClock() as clock:
        yield clock
