"""Fuzz everything: ``python -m tests.fuzz --seconds 600``, or ``--cases 10000000``."""

from __future__ import annotations

import argparse
import random
import sys
import time

from .loop import Found, run, table
from .targets import TARGETS


def main() -> int:
    """Run, print the figures, and return 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long; 60 if nothing is said")
    parser.add_argument("--cases", type=int, help="how many cases in all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one")
    asked = parser.parse_args()
    seconds = 60.0 if asked.seconds is None and asked.cases is None else asked.seconds
    targets = [TARGETS[name] for name in asked.target or TARGETS]
    print(f"seed {asked.seed}, targets: {', '.join(t.name for t in targets)}", flush=True)
    began = time.monotonic()
    try:
        tallies = run(
            targets,
            seed=asked.seed,
            seconds=seconds,
            cases=asked.cases,
            report=lambda line: print(line, flush=True),
        )
    except Found as found:
        print(found, file=sys.stderr)
        return 1
    print(table(tallies, time.monotonic() - began))
    print("no case broke an invariant")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
