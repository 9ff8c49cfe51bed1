"""The measures of permata_auth alone. Each function runs in a process of its own."""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
from contextlib import suppress

from permata_auth import _clock

from . import bench_sign, bench_snap, bench_snap_inbound
from .adapters import PermataAuth
from .endpoint import Endpoint
from .peers import LATENCY, herd, time_calls


class _Bare:
    """The least that a cache of something that expires can do."""

    def __init__(self) -> None:
        self.value, self.valid_until = "example-token", _clock.now() + 3600

    def get(self) -> str:
        if _clock.now() < self.valid_until:
            return self.value
        raise LookupError


class _Alarm:
    """An event that sets itself a while after it is first waited for."""

    def __init__(self, seconds: float) -> None:
        self._event = threading.Event()
        self._first = [threading.Timer(seconds, self._event.set)]

    def wait(self) -> bool:
        with suppress(IndexError):
            self._first.pop().start()
        return self._event.wait()


def hot_path(port: int, quick: bool) -> dict:
    """A call with a live token over a call of the bare method, timed in turns."""
    ours, bare = PermataAuth(Endpoint(port).url).get, _Bare().get
    ours()
    count = 20_000 if quick else 100_000
    time_calls(ours, count)
    time_calls(bare, count)
    gc.disable()
    rounds = [(time_calls(ours, count), time_calls(bare, count)) for _ in range(7 if quick else 31)]
    times, bare_times = zip(*rounds, strict=True)
    return {
        "python": "{}.{}.{}".format(*sys.version_info),
        "ratio": statistics.median(ours / bare for ours, bare in rounds),
        "ours": statistics.median(times) / count * 1e9,
        "bare": statistics.median(bare_times) / count * 1e9,
    }


def store(port: int, quick: bool) -> dict:
    """Nanoseconds of a call with a live token by store, and over a call without one."""
    try:
        from . import bench_store
    except ImportError:  # an extra is missing
        return {"stores": {}}
    return {"stores": bench_store.measure(rounds=11 if quick else bench_store.ROUNDS)}


def sign(port: int, quick: bool) -> dict:
    """Microseconds for signing 2 KiB."""
    return bench_sign.measure(rounds=50 if quick else bench_sign.ROUNDS)


def snap(port: int, quick: bool) -> dict:
    """Signing one request of 2 KiB and one login in SNAP, over the bare computation."""
    return bench_snap.measure(rounds=50 if quick else bench_snap.ROUNDS)


def snap_inbound(port: int, quick: bool) -> dict:
    """Verifying one call of 2 KiB and one request for a token, over the bare cryptography."""
    return bench_snap_inbound.measure(rounds=50 if quick else bench_snap_inbound.ROUNDS)


def cold_500(port: int, quick: bool) -> dict:
    """500 threads without a token.

    The floor is how late the last of as many learns that an event was set: the interpreter's time
    to wake them one by one.
    """
    endpoint, threads = Endpoint(port, latency=LATENCY), 100 if quick else 500
    outcomes, _ = herd(PermataAuth(endpoint.url).get, threads)
    floor, _ = herd(_Alarm(LATENCY).wait, threads)
    return {
        "logins": endpoint.logins,
        "over": (max(seconds for _, seconds in outcomes) - LATENCY) * 1e3,
        "floor": (max(seconds for _, seconds in floor) - LATENCY) * 1e3,
        "tokens": len({outcome for outcome, _ in outcomes}),
        "threads": len(outcomes),
    }


def down_500(port: int, quick: bool) -> dict:
    """500 threads without a token, and nobody to give one."""
    endpoint = Endpoint(port, latency=LATENCY)
    adapter = PermataAuth(endpoint.url)
    endpoint.set(down="slow 503")
    outcomes, _ = herd(adapter.get, 100 if quick else 500)
    return {
        "attempts": endpoint.attempts,
        "slowest": max(seconds for _, seconds in outcomes),
        "errors": len({id(outcome) for outcome, _ in outcomes}),
        "threads": len(outcomes),
        "budget": adapter.handler._client.retry.timeout,
    }


def slow_login(port: int, quick: bool, threads: int) -> dict:
    """Milliseconds of the slowest call while a login of 5 s replaces the token.

    The floor is the slowest call of the bare method, made in turns with ours by the same threads:
    the switch interval of the interpreter and the load of the machine meet both.
    """
    latency = 1.0 if quick else 5.0
    endpoint = Endpoint(port, lifetime=PermataAuth.margin + 1)
    adapter = PermataAuth(endpoint.url, is_scaled=True)
    adapter.get()
    endpoint.set(latency=latency, lifetime=3600)
    slowest, floor = _slowest(adapter.get, _Bare().get, threads, latency + 1.5)
    assert endpoint.logins == 2, "the refresh has not come about"
    return {"slowest": slowest * 1e3, "floor": floor * 1e3}


def _slowest(ours, bare, threads: int, seconds: float) -> tuple[float, float]:
    """One thread calls without a pause; several rest a millisecond after each pair of calls."""
    until, worst = time.perf_counter() + seconds, []

    def work() -> None:
        slowest = floor = began = 0.0
        while began < until:
            began = time.perf_counter()
            ours()
            between = time.perf_counter()
            bare()
            ended = time.perf_counter()
            slowest, floor = max(slowest, between - began), max(floor, ended - between)
            if threads > 1:
                time.sleep(0.001)
        worst.append((slowest, floor))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    slowest, floors = zip(*worst, strict=True)
    return max(slowest), max(floors)
