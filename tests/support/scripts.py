"""Python programs of their own, for what happens at exits and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import attrs

_TESTS = Path(__file__).parents[1]
# That forking with threads around is risky is known: the tests are about that.
_FLAGS = ("-X", "faulthandler", "-W", "error", "-W", "ignore:This process:DeprecationWarning")


@attrs.frozen
class Ended:
    """A program that has ended; ``seconds`` is its whole run, the interpreter's start included."""

    status: int
    out: str
    err: str
    seconds: float


class Script:
    """A running program; it is killed with its children at the end of the with-block."""

    def __init__(self, code: str, *args: str, env: dict[str, str] | None = None) -> None:
        self._began = time.monotonic()
        path = os.pathsep.join([str(_TESTS), str(_TESTS.parent)])
        self.process = subprocess.Popen(
            [sys.executable, *_FLAGS, "-c", textwrap.dedent(code), *args],
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            stdin=subprocess.PIPE,  # held open: a program can read it to wait for end()
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.communicate(timeout=60)

    def line(self) -> str:
        """Return the next line of output; blocks until there is one."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, timeout: float = 60.0) -> Ended:
        """Wait for the end; fail after ``timeout`` seconds."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 6)  # faulthandler shows where it hangs
            out, err = self.process.communicate(timeout=60)
            raise AssertionError(f"no end within {timeout} s\n{out}\n{err}") from None
        return Ended(self.process.returncode, out, err, time.monotonic() - self._began)


def run(code: str, *args: str, timeout: float = 60.0, env: dict[str, str] | None = None) -> Ended:
    """Run a program to its end."""
    with Script(code, *args, env=env) as script:
        return script.end(timeout)
