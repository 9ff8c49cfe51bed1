"""The measures of every contestant. Each function runs in a process of its own (worker.py).

``port`` is that of an endpoint that nobody else uses.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

from .adapters import ADAPTERS, Adapter
from .endpoint import Endpoint

LATENCY = 0.3
HERD, FAILING_HERD, FAILING_LIMIT = 32, 20, 20.0
OUTAGE = 5.0
SHORT_LIFE, SHORT_CALLS = 15, 20
FORK_LATENCY, FORK_LIMIT = 1.0, 5.0
EXIT_LATENCY = 3.0


def live(names: list[str], port: int, threads: int, quick: bool) -> dict:
    """Microseconds for one call with a live token: medians of interleaved rounds."""
    url = Endpoint(port).url
    calls = {}
    for name in names:
        adapter = ADAPTERS[name](url)
        adapter.live()
        calls[name] = adapter.live
    budget = 0.01 if quick else 0.03
    counts = {name: max(1, int(budget / time_calls(call, 200) / threads)) * 200
              for name, call in calls.items()}  # fmt: skip
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3 if quick else 9):
        for name, call in calls.items():
            rounds[name].append(_time_threads(call, counts[name], threads))
    return {name: statistics.median(times) * 1e6 for name, times in rounds.items()}


def time_calls(call: Callable[[], object], count: int) -> float:
    """Seconds for ``count`` calls."""
    began = time.perf_counter()
    for _ in repeat(None, count):
        call()
    return time.perf_counter() - began


def _time_threads(call: Callable[[], object], count: int, threads: int) -> float:
    """Seconds for one call, ``threads`` of them making ``count`` each."""
    if threads == 1:
        return time_calls(call, count) / count
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        gate.wait()
        time_calls(call, count)
        gate.wait()

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    gate.wait()
    began = time.perf_counter()
    gate.wait()
    return (time.perf_counter() - began) / (count * threads)


def herd(get: Callable[[], str], threads: int, limit: float = 60.0) -> tuple[list, float]:
    """All call at once: (outcome, seconds) of each that ended in time, and seconds in all."""
    gate, outcomes = threading.Barrier(threads + 1), []

    def work() -> None:
        gate.wait()
        began = time.monotonic()
        try:
            outcome: object = get()
        except Exception as error:
            outcome = error
        outcomes.append((outcome, time.monotonic() - began))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait()
    began = time.monotonic()
    for worker in workers:
        worker.join(max(0.0, began + limit - time.monotonic()))
    return list(outcomes), time.monotonic() - began


def cold_herd(name: str, port: int, quick: bool) -> dict:
    endpoint = Endpoint(port, latency=LATENCY)
    adapter = ADAPTERS[name](endpoint.url)
    outcomes, seconds = herd(adapter.get, HERD)
    failed = sum(isinstance(outcome, Exception) for outcome, _ in outcomes)
    return {"logins": endpoint.logins, "seconds": seconds, "failed": failed}


def failing_herd(name: str, port: int, quick: bool) -> dict:
    endpoint = Endpoint(port, latency=LATENCY)
    adapter = ADAPTERS[name](endpoint.url)
    endpoint.set(down="slow 503")
    outcomes, seconds = herd(adapter.get, FAILING_HERD, 3.0 if quick else FAILING_LIMIT)
    is_over = len(outcomes) == FAILING_HERD
    return {"attempts": endpoint.attempts, "seconds": seconds, "is_over": is_over}


def _warm(name: str, endpoint: Endpoint, visible: int) -> Adapter:
    """A contestant with a token, whose window of refresh opens ``visible`` seconds from now."""
    kind = ADAPTERS[name]
    refresh_in = visible if kind.needs_refresh_in else 0
    endpoint.set(lifetime=kind.margin + visible, refresh_in=refresh_in)
    adapter = kind(endpoint.url, is_scaled=True, is_cold=False)
    adapter.get()
    return adapter


class _Callers:
    """Two threads that call every 10 ms, and take note."""

    def __init__(self, get: Callable[[], str]) -> None:
        self.get, self.is_over = get, threading.Event()
        self.calls = self.failed = 0
        self.slowest = 0.0
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def work(self) -> None:
        while not self.is_over.wait(0.01):
            began = time.perf_counter()
            try:
                self.get()
            except Exception:
                self.failed += 1
            self.calls += 1
            self.slowest = max(self.slowest, time.perf_counter() - began)

    def end(self) -> dict:
        self.is_over.set()
        for thread in self.threads:
            thread.join(30)
        return {"calls": self.calls, "failed": self.failed, "slowest": self.slowest * 1e3}


def refreshes(name: str, port: int, quick: bool) -> dict:
    """Callers through some refreshes, each login taking 300 ms."""
    endpoint = Endpoint(port, latency=LATENCY)
    callers = _Callers(_warm(name, endpoint, visible=1 if quick else 2).get)
    time.sleep(2 if quick else 7.2)
    return {**callers.end(), "logins": endpoint.logins - 1}


def outage(name: str, port: int, quick: bool, down: str) -> dict:
    """The endpoint fails from before the window of refresh opens; no token expires meanwhile."""
    endpoint = Endpoint(port, latency=LATENCY)
    callers = _Callers(_warm(name, endpoint, visible=3).get)
    time.sleep(1.5)  # some libraries round lifetimes down, and are up to a second early
    endpoint.set(down=down)
    before = endpoint.attempts
    time.sleep(2.5 if quick else OUTAGE)
    attempts = endpoint.attempts - before
    endpoint.set(down="")
    time.sleep(1.0 if quick else 7.0)
    return {**callers.end(), "attempts": attempts}


def short_tokens(name: str, port: int, quick: bool) -> dict:
    """Tokens that live shorter than the margin that the library has by default."""
    endpoint = Endpoint(port, lifetime=SHORT_LIFE)
    adapter = ADAPTERS[name](endpoint.url)
    for _ in range(SHORT_CALLS):
        adapter.get()
        time.sleep(0.05)
    return {"logins": endpoint.logins}


def fork_in_login(name: str, port: int, quick: bool) -> dict:
    """A child that is born while its parent logs in asks for a token."""
    endpoint = Endpoint(port, latency=FORK_LATENCY)
    adapter = ADAPTERS[name](endpoint.url)
    threading.Thread(target=adapter.get, daemon=True).start()
    deadline = time.monotonic() + 10
    while not endpoint.attempts and time.monotonic() < deadline:
        time.sleep(0.02)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        began = time.monotonic()
        try:
            adapter.get()
            os.write(writer, str(time.monotonic() - began).encode())
        finally:
            os._exit(0)
    os.close(writer)
    is_ready = select.select([reader], [], [], FORK_LIMIT)[0]
    text = os.read(reader, 100) if is_ready else b""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"seconds": float(text) if text else None}


def exit_in_flight(name: str, port: int, quick: bool) -> dict:
    """Main ends while a refresh is on its way, in the background where the library has one."""
    endpoint = Endpoint(port)
    adapter = _warm(name, endpoint, visible=1)
    endpoint.set(latency=EXIT_LATENCY)
    time.sleep(1.4)
    began = time.monotonic()
    adapter.get()
    return {"blocked": time.monotonic() - began}


def one_get(name: str, port: int, shared: str | None) -> dict:
    """One process of several: one token, once all are ready."""
    adapter = ADAPTERS[name](Endpoint(port).url, shared=Path(shared) if shared else None)
    print("ready", flush=True)
    sys.stdin.readline()
    adapter.get()
    return {}
