"""For programs that fork: children that report, hang for a bounded time only, and are reaped."""

from __future__ import annotations

import ctypes
import faulthandler
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

from permata_auth import PermataCredentials

#: With Python's hooks, and as a C program forks (uWSGI), without them.
#: A fork in C copies CPython's own locks as they are: one that comes while another thread wants
#: the GIL leaves a child in which no thread can ever start. So the other threads have to be at
#: rest, as they are in a server that forks its workers, and the bank in another process.
FORKS: dict[str, Callable[[], int]] = {
    "hooked": os.fork,
    "in_c": lambda: time.sleep(0.05) or ctypes.PyDLL(None).fork(),
}


def in_child(body: Callable[[], object], fork: str = "hooked", *, timeout: float = 20.0) -> int:
    """Run ``body`` in a forked child and return its pid; it ends when ``body`` does.

    A child that hangs shows where, and is killed: sooner than a login's budget, so that one which
    waits for a thread that it does not have fails its test.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = FORKS[fork]()
    if pid:
        return pid
    status = 1
    try:
        # Its own: pytest-timeout has put a handler there that a child which hangs never gets to.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        # Not dump_traceback_later(): its thread and its lock do not survive a second fork.
        faulthandler.register(signal.SIGALRM, all_threads=False, chain=True)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def reap(*pids: int) -> None:
    """Wait for children, and fail unless all of them ended well."""
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert not any(statuses), f"children ended with {statuses}"


def wait_for(condition: Callable[[], object], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


class RemoteBank:
    """A sandbox in a process of its own, driven over its admin path; a context manager."""

    _CODE = """if True:
        import json, sys
        from permata_auth.sandbox import Sandbox
        bank = Sandbox(**json.loads(sys.argv[1])).start()
        print(json.dumps(bank.environment()), flush=True)
        sys.stdin.read()
    """

    def __init__(self, **arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._CODE, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._environment = json.loads(self._process.stdout.readline())
        self._pid = os.getpid()

    def __enter__(self) -> RemoteBank:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def credentials(self, **overrides: str) -> PermataCredentials:
        environment = {f"PERMATA_{name.upper()}": value for name, value in overrides.items()}
        return PermataCredentials.from_env(self._environment | environment)

    @property
    def logins(self) -> int:
        return self._ask("GET", "counters")["logins"]

    @property
    def login_attempts(self) -> int:
        return self._ask("GET", "counters")["login_attempts"]

    def set(self, **settings: object) -> None:
        self._ask("POST", "settings", settings)

    def fail_next(self, fault: str, **arguments: object) -> None:
        self._ask("POST", "faults", {"fault": fault, "on": "token", "arguments": arguments})

    def _ask(self, method: str, action: str, document: object = None) -> dict:
        url = urlsplit(self._environment["PERMATA_TOKEN_URL"])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
        try:
            connection.request(method, f"/__sandbox__/{action}", json.dumps(document or {}))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())
        finally:
            connection.close()


class Stepper:
    """Stops the other threads of this process at one line of their way, to fork right there."""

    def __init__(self, step: int, *parts: str) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.where = ""
        self._left = step
        self._parts = parts
        self._pid = os.getpid()
        self._is_done = False

    def __enter__(self) -> Stepper:
        self._previous = threading.gettrace()  # of a measurement of the coverage, say
        threading.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        threading.settrace(self._previous)
        self._is_done = True
        self.go_on.set()

    def _trace(self, frame, event, argument):
        name = frame.f_code.co_filename
        if self._is_done or os.getpid() != self._pid:
            return None
        if not any(part in name for part in self._parts):
            return None
        if not threading.current_thread().name.startswith("permata-auth"):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.where = f"{name}:{frame.f_lineno}"
                self.reached.set()
                self.go_on.wait(20)
        return self._trace
