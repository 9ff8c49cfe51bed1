"""Real servers, each in a session of its own, driven until every worker has had several tokens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import requests
from gunicorn.config import make_settings

from permata_auth.sandbox import Sandbox

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
BIN = Path(sys.executable).parent
LIFETIME = 2.0
TOKENS = 4  # each worker serves with that many, so it lives through three expiries
gunicorn_settings = make_settings()
_BALANCE = "/apiservice/InquiryServices/BalanceInfo/inq"
_ESTABLISHED_IS_NOT = "0A"  # the kernel's number for a socket that listens


def environment(bank: Sandbox, **more: str) -> dict[str, str]:
    """Return the environment of a process that uses ``bank``, and nothing of this session's."""
    given = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    path = os.pathsep.join(map(str, [HERE / "apps", EXAMPLES, EXAMPLES / "django_project"]))
    return {
        **given,
        **bank.environment(),
        "BALANCE_URL": bank.url + _BALANCE,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def session_members(session: int) -> list[int]:
    """Return the processes of a session, zombies left out."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # The process may have ended by now; a glob() for its file would raise on Python 3.10.
        with contextlib.suppress(OSError):
            stat = process.joinpath("stat").read_text()
            state, _, _, sid = stat.rpartition(")")[2].split()[:4]
            if int(sid) == session and state != "Z":
                found.append(int(process.name))
    return found


def connections(pid: int) -> list[str]:
    """Return the TCP sockets of a process that do not listen, as the kernel lists them."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(fd.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [" ".join(row) for row in rows if row[9] in inodes and row[3] != _ESTABLISHED_IS_NOT]


def open_files(session: int) -> set[Path]:
    """Return the files that the processes of a session hold open."""
    found = set()
    for pid in session_members(session):
        with contextlib.suppress(OSError):  # a process or a file may be gone meanwhile
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(fd.readlink())
    return found


def threads(pid: int) -> list[str]:
    """Return the names of a process's threads, as the kernel has them."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            names.append(task.joinpath("comm").read_text().strip())
    return names


@attrs.define
class Process:
    """A server or worker in a session of its own; ``pid`` is its first process, the master."""

    popen: subprocess.Popen
    output: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def text(self) -> str:
        return self.output.read_text()

    def stop(self, how: int = signal.SIGTERM, timeout: float = 20.0) -> float:
        """Ask for a graceful stop; return the seconds until the whole session is gone."""
        began = time.monotonic()
        self.popen.send_signal(how)
        self.popen.wait(timeout)
        while left := session_members(self.pid):
            assert time.monotonic() - began < timeout, f"orphans: {left}\n{self.text()}"
            time.sleep(0.02)
        return time.monotonic() - began


def seconds_without_a_wait() -> float:
    """Return a bound for ends that waited for no shutdown to give up, which takes five seconds.

    It grows with the time that this machine takes just now for starting and ending a Python.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return 4.0 + 20.0 * (time.monotonic() - began)


@contextlib.contextmanager
def started(
    command: list[str], env: dict[str, str], *, fds: tuple[int, ...] = ()
) -> Iterator[Process]:
    """Run a command for the length of the with-block, then kill the rest of it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        with output.open("wb") as sink:
            popen = subprocess.Popen(
                command,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                start_new_session=True,
            )
        try:
            yield Process(popen, output)
        finally:
            for pid in session_members(popen.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            popen.wait(10)


@attrs.define
class Seen:
    """A client's view of a server: per worker the tokens it used, and all that went wrong."""

    tokens: dict[str, set[str]] = attrs.Factory(lambda: defaultdict(set))
    failures: list[str] = attrs.Factory(list)
    requests: int = 0
    is_complete: bool = False


@attrs.define
class WebServer:
    """A web server on a port of its own."""

    process: Process
    url: str

    def drive(self, workers: int, *, path: str = "/balance/1", timeout: float = 120.0) -> Seen:
        """Send requests from two threads until each worker has served with enough tokens."""
        seen = Seen()
        ends = time.monotonic() + timeout

        def is_over() -> bool:
            seen.is_complete = len(seen.tokens) >= workers and all(
                len(tokens) >= TOKENS for tokens in list(seen.tokens.values())
            )
            return seen.is_complete or bool(seen.failures) or time.monotonic() > ends

        def ask() -> None:
            while not is_over():
                self._ask(path, seen)
                time.sleep(0.1)

        clients = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(timeout + 70)
        return seen

    def _ask(self, path: str, seen: Seen) -> None:
        try:
            # A connection for each request, so that every worker gets some.
            answer = requests.get(self.url + path, timeout=60, headers={"Connection": "close"})
        except requests.RequestException as error:
            seen.failures.append(repr(error))
            return
        seen.requests += 1
        seen.tokens[answer.headers.get("X-Pid", "?")].add(answer.headers.get("X-Token", "?"))
        if answer.status_code != 200:
            seen.failures.append(f"{answer.status_code} {answer.text[:500]}")


@contextlib.contextmanager
def serving(command: list[str], env: dict[str, str]) -> Iterator[WebServer]:
    """Run a web server; ``{fd}`` in its command is the listening socket that it inherits."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        fd, port = listening.fileno(), listening.getsockname()[1]
        command = [word.replace("{fd}", str(fd)) for word in command]
        with started(command, env, fds=(fd,)) as process:
            listening.close()
            yield WebServer(process, f"http://127.0.0.1:{port}")


def gunicorn(*arguments: str, app: str = "flask_probe:app") -> list[str]:
    """Return the command of a gunicorn that writes warnings only."""
    quiet = ["--log-level", "warning"]
    if "control_socket_disable" in gunicorn_settings:
        quiet.append("--no-control-socket")  # a thread of the master, and a file at home
    return [str(BIN / "gunicorn"), "--bind", "fd://{fd}", *quiet, *arguments, app]


def uwsgi(*arguments: str, app: str = "flask_probe:app") -> list[str]:
    """Return the command of a uWSGI that logs no requests."""
    quiet = ["--disable-logging", "--master", "--die-on-term", "--need-app"]
    return [str(BIN / "uwsgi"), "--http-socket", "fd://{fd}", *quiet, *arguments, "--module", app]
