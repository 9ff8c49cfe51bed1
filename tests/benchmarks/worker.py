"""One measure in a fresh process: ``python -m tests.benchmarks.worker JSON`` prints JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(measure: str, *, python: str = sys.executable, timeout: float = 120, **job: object) -> dict:
    """Run a measure; ``tail`` in the answer is how long the process lived on after its main."""
    process = start(measure, python=python, **job)
    try:
        line = process.stdout.readline()
        process.wait(timeout)
        ended = time.monotonic()
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
    if not line:
        raise RuntimeError(f"the measure {measure} gave no answer: {job}")
    answer = json.loads(line)
    return {**answer, "tail": ended - answer["ended"]}


def start(measure: str, *, python: str = sys.executable, **job: object) -> subprocess.Popen:
    """Start a measure; its answer will be one line on ``stdout``."""
    arguments = json.dumps({"measure": measure, **job}, default=str)
    command = [python, "-m", "tests.benchmarks.worker", arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=ROOT, **pipes)


def main() -> None:
    from . import alone, peers

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # of peers; and of 3.12+, that a process with threads forks
    job = json.loads(sys.argv[1])
    measure = job.pop("measure")
    answer = (getattr(peers, measure, None) or getattr(alone, measure))(**job)
    print(json.dumps({**answer, "ended": time.monotonic()}), flush=True)
    if measure != "exit_in_flight":
        os._exit(0)  # threads that are stuck in a peer are not to be waited for


if __name__ == "__main__":
    main()
