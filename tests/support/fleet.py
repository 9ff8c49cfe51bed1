"""Fleets of real processes: a host is a program that forks workers, as a pre-forking server does.

Run as a program this module is a host. It makes one handler from its environment alone, forks, and
sends every line of its input, a JSON command, to each worker; each answers with one JSON line.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from permata_auth import AccessToken, LoginHandler, RetryPolicy, SchedulerConfig
from permata_auth.credentials import credentials_from_env
from permata_auth.login import LoginClient
from permata_auth.scheduler import TokenScheduler
from permata_auth.stores import store_from_env

_PATIENCE = 60.0


class Host:
    """``processes`` workers of one host, each with a handler and ``threads`` threads to use it."""

    def __init__(
        self,
        environment: dict[str, str],
        store_url: str,
        *,
        processes: int,
        threads: int = 1,
        buffer: float = 300.0,
        minimum: float = 60.0,
        store_timeout: float = 5.0,
    ) -> None:
        self.processes = processes
        settings = {
            "processes": processes,
            "threads": threads,
            "config": [buffer, minimum],
            "store_timeout": store_timeout,
        }
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tests), str(tests.parent)])
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the host
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from support.fleet import main; main()", json.dumps(settings)],
            env={
                **os.environ,
                **environment,
                "PYTHONPATH": path,
                "PERMATA_TOKEN_STORE": store_url,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        self.pids = [answer["pid"] for answer in self.answers(processes)]

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=60)
        self._log.close()

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a command to every worker."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        stdin.flush()

    def answers(self, count: int | None = None) -> list[dict[str, Any]]:
        """Return one answer of each worker (or of ``count`` of them)."""
        stdout = self._process.stdout
        assert stdout is not None
        lines = [stdout.readline() for _ in range(self.processes if count is None else count)]
        if not all(lines):
            raise AssertionError(f"a host ended:\n{self.log}")
        return [json.loads(line) for line in lines]

    def kill(self, pid: int) -> None:
        """Kill one worker, and expect no more answers from it."""
        os.kill(pid, signal.SIGKILL)
        self.processes -= 1

    @property
    def log(self) -> str:
        """The records of the workers, at WARNING and above, and the errors that ended them."""
        self._log.seek(0)
        return self._log.read()

    def ask(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        self.tell(do, **arguments)
        return self.answers()


def ask_all(hosts: list[Host], do: str, **arguments: Any) -> list[dict[str, Any]]:
    """Send one command to all workers of all hosts, at about the same time; return the answers."""
    for host in hosts:
        host.tell(do, **arguments)
    return [answer for host in hosts for answer in host.answers()]


class _Worker:
    def __init__(self, handler: LoginHandler, threads: int) -> None:
        self._handler = handler
        self._threads = threads
        self._url = os.environ.get("PERMATA_CALLBACK_STATUS_URL") or _balance_url()
        self._rejected = 0

    def run(self, do: str, **arguments: Any) -> dict[str, Any]:
        answer = getattr(self, do)(**arguments)
        info = self._handler.info()
        return {"pid": os.getpid(), "logins": info.logins, **answer}

    def get(self) -> dict[str, Any]:
        """Get a token in every thread at the same moment."""
        began = time.monotonic()
        outcomes = self._in_threads(lambda: self._handler.get_access_token().fingerprint)
        return {**outcomes, "seconds": time.monotonic() - began}

    def call(self, seconds: float, interval: float = 0.1) -> dict[str, Any]:
        """Make signed calls in every thread, one each ``interval``, for ``seconds``."""
        until = time.monotonic() + seconds
        longest = [0.0]

        def work() -> int:
            count = 0
            with requests.Session() as session:
                while (began := time.monotonic()) < until:
                    self._call(session)
                    count += 1
                    longest[0] = max(longest[0], time.monotonic() - began)
                    time.sleep(interval)
            return count

        outcomes = self._in_threads(work)
        return {**outcomes, "rejected": self._rejected, "longest": longest[0]}

    def call_on(self, seconds: float, interval: float) -> dict[str, Any]:
        """Call as ``call`` does, and go on after a failure; return when each began and ended."""
        until = time.monotonic() + seconds

        def work() -> dict[str, Any]:
            accepted, failures = 0, []
            with requests.Session() as session:
                while (began := time.monotonic()) < until:
                    error = self._failure(session)
                    accepted += error is None
                    failures += [[began, time.monotonic(), error]] if error else []
                    time.sleep(interval)
            return {"accepted": accepted, "failures": failures}

        return self._in_threads(work)

    def _failure(self, session: requests.Session) -> str | None:
        try:
            self._call(session)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _call(self, session: requests.Session) -> None:
        """Call the bank; a token that it rejects is replaced, and the call made again, once."""
        began = time.monotonic()
        reply, token = self._post(session)
        if self._handler.note_response(token.value, reply.status_code, reply.content):
            left = token.expires_in()
            has_expired_on_the_way = left <= 0 < left + time.monotonic() - began
            self._rejected += not has_expired_on_the_way  # as it may on a busy machine
            reply, token = self._post(session)
            self._handler.note_response(
                token.value, reply.status_code, reply.content, is_second=True
            )
        if reply.status_code != 200:
            raise AssertionError(f"the call failed: {reply.status_code} {reply.text}")

    def _post(self, session: requests.Session) -> tuple[requests.Response, AccessToken]:
        token = self._handler.get_access_token()
        body = b'{"xid":"example-1","accountNo":"7001234567"}'
        headers = self._handler.credentials.sign(token.value, "POST", self._url, body)
        headers["Content-Type"] = "application/json"
        return session.post(self._url, data=body, headers=headers, timeout=20), token

    def _in_threads(self, work: Callable[[], Any]) -> dict[str, list[Any]]:
        results: list[Any] = []
        errors: list[str] = []
        barrier = threading.Barrier(self._threads)

        def run() -> None:
            try:
                barrier.wait(_PATIENCE)
                results.append(work())
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=run, daemon=True) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_PATIENCE)
        return {"results": results, "errors": errors}


def main() -> None:
    settings = json.loads(sys.argv[1])
    logging.basicConfig(format="%(process)d %(name)s: %(message)s", level=logging.WARNING)
    credentials = credentials_from_env()
    handler = LoginHandler(
        credentials,
        client=LoginClient(credentials, retry=RetryPolicy(wait_initial=0.05, timeout=20.0)),
        scheduler=TokenScheduler(SchedulerConfig(*settings["config"])),
        store=store_from_env(),
        store_timeout_secs=settings["store_timeout"],
    )
    pipes = []
    for _ in range(settings["processes"]):
        reading, writing = os.pipe()
        if os.fork() == 0:
            for other in (writing, *pipes):
                os.close(other)
            _serve(_Worker(handler, settings["threads"]), reading)
        os.close(reading)
        pipes.append(writing)
    for line in sys.stdin:
        for pipe in pipes:
            with suppress(BrokenPipeError):  # a worker that was killed
                os.write(pipe, line.encode())
    os._exit(0)


def _balance_url() -> str:
    return os.environ["PERMATA_SNAP_TOKEN_URL"].replace("/access-token/b2b", "/balance-inquiry")


def _serve(worker: _Worker, commands: int) -> None:
    _say({"pid": os.getpid()})
    with os.fdopen(commands) as lines:
        for line in lines:
            _say(worker.run(**json.loads(line)))
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    os.write(1, (json.dumps(answer) + "\n").encode())  # one write, so that lines do not mix
