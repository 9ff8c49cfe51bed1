"""Which measures there are, in which order they run, and what their figures are put into."""

from __future__ import annotations

import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from . import peers, worker
from .adapters import ADAPTERS
from .endpoint import Endpoint
from .report import Cell, Column

OURS = "permata-auth"
PROCESSES = 8


class Suite:
    """One run. ``columns`` collects the contestants' figures, ``alone`` the rows about us."""

    def __init__(self, names: list[str], pythons: list[str], *, quick: bool) -> None:
        self.names, self.pythons, self.quick = names, pythons, quick
        self.columns: dict[str, list[Column]] = {}
        self.alone: list[list[str]] = []

    def run(self, measure: str) -> None:
        print(f"{measure} …", file=sys.stderr, end=" ", flush=True)
        began = time.monotonic()
        getattr(self, measure)()
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)

    # Of the product alone: figure, target, and whether it is met.

    def hot_path(self) -> None:
        for python in self.pythons:
            found = self._ours("hot_path", python=python)
            text = f"{found['ratio']:.2f} x ({found['ours']:.0f} ns / {found['bare']:.0f} ns)"
            title = (
                f"Live get_token() over a bare read, clock and compare, Python {found['python']}"
            )
            self._row(title, text, "≤ 1.15 x", found["ratio"] <= 1.15)

    def store(self) -> None:
        stores = self._ours("store")["stores"]
        if not stores:
            print("left out, without the extras file and redis", file=sys.stderr, end=" ")
        bare = stores.pop("none", (0.0, 1.0))[0]
        for name, (ours, ratio) in stores.items():
            text = f"{ratio:.2f} x ({ours:.0f} ns / {bare:.0f} ns)"
            title = f"Live get_token() with a store ({name}) over the same without"
            self._row(title, text, "1 x", ratio <= 1.03)

    def sign(self) -> None:
        found = self._ours("sign")
        for bare, what in (
            ("bare", "the bare timestamp, HMAC, base64 and headers"),
            ("fixed", "the same without a timestamp or canonicaliser"),
        ):
            ratio = found["sign"] / found[bare]
            text = f"{ratio:.2f} x ({found['sign']:.1f} µs / {found[bare]:.1f} µs)"
            target = "≤ 1.5 x"
            self._row(f"Signing 2 KiB over {what}", text, target, ratio <= 1.5)

    def snap(self) -> None:
        found = self._ours("snap")
        for ours, bare, what in (
            ("sign", "bare", "Signing 2 KiB in SNAP over the bare timestamp, hashes and headers"),
            ("sign", "fixed", "The same over SHA-256, HMAC-SHA512 and base64 alone"),
            ("login", "rsa", "Signing a login in SNAP over the bare RSA signature"),
        ):
            ratio = found[ours] / found[bare]
            text = f"{ratio:.2f} x ({found[ours]:.1f} µs / {found[bare]:.1f} µs)"
            self._row(what, text, "≤ 1.5 x", ratio <= 1.5)

    def snap_inbound(self) -> None:
        found = self._ours("snap_inbound")
        for ours, bare, what in (
            ("verify", "bare", "Verifying a call of 2 KiB in SNAP over the bare cryptography"),
            ("verify_spaced", "bare", "The same with spaces in its strings"),
            ("process", "bare", "The same with the answer, the function and its thread"),
            ("verify_token_request", "rsa", "Verifying a token request over the bare RSA"),
        ):
            ratio = found[ours] / found[bare]
            text = f"{ratio:.2f} x ({found[ours]:.1f} µs / {found[bare]:.1f} µs)"
            target, is_met = ("-", "-") if ours == "process" else ("≤ 2 x", ratio <= 2)
            self._row(what, text, target, is_met)

    def cold_500(self) -> None:
        found = [self._ours("cold_500") for _ in range(1 if self.quick else 5)]
        logins = max(max(run["logins"], run["tokens"]) for run in found)
        over, floor = (statistics.median(run[key] for run in found) for key in ("over", "floor"))
        text = f"{logins} login, slowest: the login + {over:.0f} ms (a bare event: {floor:.0f} ms)"
        title = f"Cold, {found[0]['threads']} threads at once"
        self._row(title, text, "1, + 100 ms", logins == 1 and over <= 100)

    def down_500(self) -> None:
        found = self._ours("down_500")
        text = (
            f"{found['attempts']} attempts, {found['errors']} errors, "
            f"slowest {found['slowest']:.1f} s of a budget of {found['budget']:.0f} s"
        )
        is_met = (
            found["attempts"] <= 3
            and found["errors"] == found["threads"]
            and found["slowest"] <= found["budget"]
        )
        title = f"The bank down, {found['threads']} threads at once"
        self._row(title, text, "one series, one outcome", is_met)

    def slow_login(self) -> None:
        """A thread that never pauses gets the interpreter's switch interval, 5 ms, thrown in."""
        login, runs = ("1 s", 1) if self.quick else ("5 s", 3)
        for threads, how in ((4, "four threads, 1 ms pause"), (1, "one thread, no pause")):
            found = [self._ours("slow_login", threads=threads) for _ in range(runs)]
            slowest = statistics.median(run["slowest"] for run in found)
            floor = statistics.median(run["floor"] for run in found)
            text = f"{slowest:.2f} ms (bare method in turns: {floor:.2f} ms)"
            title = f"Slowest call while a login takes {login}, {how}"
            is_noise = slowest >= 5 and floor >= 5
            self._row(title, text, "< 5 ms", "noise" if is_noise else slowest < 5)

    def exit(self) -> None:
        """How long two scripts live on after main: one with us, and the same without."""
        with Endpoint() as endpoint:
            scripts = [script.format(url=endpoint.url) for script in (_WITH_US, _WITHOUT_US)]
            rounds = [[_tail(script) for script in scripts] for _ in range(3 if self.quick else 9)]
        ours, bare = (statistics.median(times) * 1e3 for times in zip(*rounds, strict=True))
        text = f"{ours - bare:+.1f} ms ({ours:.1f} / {bare:.1f})"
        self._row("End of a script after one get_token()", text, "≤ + 50 ms", ours - bare <= 50)

    # Of all contestants.

    def live(self) -> None:
        columns = []
        for threads in (1, 8, 64):
            with Endpoint() as endpoint:
                found = self._measure("live", endpoint, names=self.names, threads=threads)
            title = f"live call, {threads} thread{'s' * (threads > 1)}, µs"
            cells = {name: Cell(found[name]) for name in self.names}
            columns.append(Column(title, 2, cells, is_charted=threads != 8))
        self.columns["live"] = columns

    def cold_herd(self) -> None:
        found = self._all("cold_herd", at_once=2)
        self.columns["cold_herd"] = [
            Column(f"{peers.HERD} cold threads: logins", 0, _cells(found, "logins")),
            Column("last token, s", 2, _cells(found, "seconds"), is_charted=False),
        ]

    def failing_herd(self) -> None:
        def text(answer: dict) -> str:
            return "" if answer["is_over"] else f"> {answer['seconds']:.0f}"

        found = self._all("failing_herd", at_once=4)
        self.columns["failing_herd"] = [
            Column(f"{peers.FAILING_HERD} cold threads, 503: attempts", 0,
                   _cells(found, "attempts")),
            Column("20 cold threads, 503: last error, s", 1, _cells(found, "seconds", text)),
        ]  # fmt: skip

    def refreshes(self) -> None:
        found = self._all("refreshes", at_once=2)
        self.columns["refreshes"] = [
            Column("slowest call across refreshes, ms", 1, _cells(found, "slowest")),
            Column("refreshes in that time", 0, _cells(found, "logins"), is_charted=False,
                   is_compared=False),
        ]  # fmt: skip

    def outage(self) -> None:
        def text(answer: dict) -> str:
            return f"{answer['failed']} of {answer['calls']}"

        columns = []
        for down in ("503", "closed"):
            found = self._all("outage", at_once=6, down=down)
            columns += [
                Column(f"{down} for 5 s: failed calls", 0, _cells(found, "failed", text)),
                Column(f"{down} for 5 s: slowest call, ms", 1, _cells(found, "slowest")),
                Column(f"{down} for 5 s: attempts", 0, _cells(found, "attempts")),
            ]
        self.columns["outage"] = columns

    def short_tokens(self) -> None:
        found = self._all("short_tokens", at_once=4)
        title = f"tokens of {peers.SHORT_LIFE} s, {peers.SHORT_CALLS} calls in 1 s: logins"
        self.columns["short_tokens"] = [Column(title, 0, _cells(found, "logins"))]

    def fork_in_login(self) -> None:
        found = self._all("fork_in_login", at_once=4)
        cells = {}
        for name, answer in found.items():
            is_stuck = answer["seconds"] is None
            text = f"hangs (> {peers.FORK_LIMIT:.0f})" if is_stuck else ""
            cells[name] = Cell(peers.FORK_LIMIT if is_stuck else answer["seconds"], text)
        title = f"fork in a login of {peers.FORK_LATENCY:.0f} s: child's first call, s"
        self.columns["fork"] = [Column(title, 2, cells)]

    def exit_in_flight(self) -> None:
        def text(answer: dict) -> str:
            is_blocked = answer["blocked"] > 1
            answer["wait"] = answer["blocked"] + answer["tail"]
            return f"{answer['wait']:.2f}" + (" in the call" if is_blocked else "")

        found = self._all("exit_in_flight", at_once=4)
        texts = {name: text(answer) for name, answer in found.items()}
        cells = {name: Cell(answer["wait"], texts[name]) for name, answer in found.items()}
        title = f"exit, login of {peers.EXIT_LATENCY:.0f} s due or under way: wait, s"
        self.columns["exit_in_flight"] = [Column(title, 2, cells)]

    def imports(self) -> None:
        """Seconds inside the interpreter, and its growth; interleaved processes."""
        wanted = {name: ADAPTERS[name].modules for name in self.names}
        wanted |= {
            "": ("time",),
            "root": ("permata_auth",),
            "requests+attrs+tenacity": ("requests", "attrs", "tenacity"),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
        for turn in range(3 if self.quick else 6):
            for name, modules in wanted.items():
                figures = _import(modules)
                if turn:  # the first one compiles, and fills the disk's cache
                    found[name].append(figures)
        medians = {
            name: [statistics.median(values) for values in zip(*runs, strict=True)]
            for name, runs in found.items()
        }
        _, floor = medians.pop("")
        ours, base = medians.pop("root")[0], medians.pop("requests+attrs+tenacity")[0]
        text = f"{ours / base:.2f} x ({ours * 1e3:.0f} ms / {base * 1e3:.0f} ms)"
        title = "import permata_auth over import requests, attrs, tenacity"
        self._row(title, text, "≤ 1 x", ours <= base)
        self.columns["imports"] = [
            Column("import, ms", 0, {name: Cell(m[0] * 1e3) for name, m in medians.items()}),
            Column("memory after it, MiB", 1, {name: Cell(m[1] - floor)
                                               for name, m in medians.items()}),
        ]  # fmt: skip

    def processes(self) -> None:
        at_once, later = {}, {}
        for name in self.names:
            with (
                Endpoint(latency=peers.LATENCY) as endpoint,
                tempfile.TemporaryDirectory() as folder,
            ):
                shared = folder if ADAPTERS[name].shares else None
                _fleet(name, endpoint, shared)
                at_once[name] = Cell(endpoint.logins)
                if shared:
                    before = endpoint.logins
                    _fleet(name, endpoint, shared)
                    later[name] = Cell(endpoint.logins - before)
                else:
                    later[name] = Cell(None, "no store")
        self.columns["processes"] = [
            Column(f"{PROCESSES} cold processes at once: logins", 0, at_once),
            Column("8 more afterwards: logins", 0, later, is_charted=False),
        ]

    def _row(self, title: str, figure: str, target: str, is_met: bool | str) -> None:
        met = is_met if isinstance(is_met, str) else "yes" if is_met else "NO"
        self.alone.append([title, figure, target, met])

    def _ours(self, measure: str, **job: object) -> dict:
        with Endpoint() as endpoint:
            return self._measure(measure, endpoint, **job)

    def _measure(self, measure: str, endpoint: Endpoint, **job: object) -> dict:
        return worker.run(measure, port=endpoint.port, quick=self.quick, **job)

    def _all(self, measure: str, *, at_once: int, **job: object) -> dict[str, dict]:
        def one(name: str) -> dict:
            with Endpoint() as endpoint:
                return self._measure(measure, endpoint, name=name, **job)

        with ThreadPoolExecutor(at_once) as pool:
            return dict(zip(self.names, pool.map(one, self.names), strict=True))


MEASURES = [
    name
    for name, function in vars(Suite).items()
    if inspect.isfunction(function) and not name.startswith("_") and name != "run"
]

_TAIL = """
import sys, time
sys.stdout.write(str(time.monotonic()))
sys.stdout.flush()
"""
_WITH_US = (
    """
from permata_auth import LoginHandler, PermataCredentials
handler = LoginHandler(PermataCredentials(
    token_url="{url}", api_key="example-api-key", client_id="example-client-id",
    client_secret="example-client-secret", static_key="example-static-key",
))
handler.get_token()
"""
    + _TAIL
)
_WITHOUT_US = (
    """
import requests
form = dict(grant_type="client_credentials")
requests.post("{url}", form, auth=("example-client-id", "example-client-secret"))
"""
    + _TAIL
)


def _tail(script: str) -> float:
    """Seconds from the end of the script's main to the end of its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()
    )
    process.wait(60)
    ended = time.monotonic()
    with process.stdout as output:
        return ended - float(output.read())


_IMPORT = """
import time
began = time.perf_counter()
import {modules}
seconds = time.perf_counter() - began
import mmap
pages = int(open("/proc/self/statm").read().split()[1])
print(seconds, pages * mmap.PAGESIZE / 2**20)
"""


def _import(modules: tuple[str, ...]) -> tuple[float, float]:
    """Seconds that importing them takes, and MiB that the process is then resident with."""
    command = [sys.executable, "-c", _IMPORT.format(modules=", ".join(modules))]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir(),
        env=environment,  # nobody's application compiles its modules at each start
    ).stdout  # fmt: skip
    seconds, memory = output.split()
    return float(seconds), float(memory)


def _fleet(name: str, endpoint: Endpoint, shared: str | None) -> None:
    """Let eight processes ask for a token at the same moment."""
    job = {"name": name, "port": endpoint.port, "shared": shared}
    processes = [worker.start("one_get", **job) for _ in range(PROCESSES)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert output, f"a process of {name} has failed"


def _cells(
    found: dict[str, dict], key: str, text: Callable[[dict], str] = lambda answer: ""
) -> dict[str, Cell]:
    return {name: Cell(answer[key], text(answer)) for name, answer in found.items()}
