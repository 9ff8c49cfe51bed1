"""The loop: every target in turn, for a while, as fast as it goes."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from faulthandler import cancel_dump_traceback_later, dump_traceback_later
from random import Random
from typing import Any

import attrs

from .targets import Target, checked

_TURN = 0.1  #: seconds that one target has before the next one's turn
_STUCK = 60.0  #: seconds after which a case counts as endless


@attrs.define
class Tally:
    """What became of one target."""

    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0

    @property
    def rate(self) -> float:
        return self.cases / self.seconds if self.seconds else 0.0


class Found(Exception):
    """A case that broke an invariant; ``str()`` says how to see it again."""

    def __init__(self, target: str, case: Any, seed: int, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(error))
        super().__init__(
            f"{trace}\nFound with seed {seed}. To see it again:\n"
            f'    from tests.fuzz.targets import TARGETS; TARGETS["{target}"].check({case!r})'
        )


def run(
    targets: Sequence[Target],
    *,
    seed: int,
    seconds: float | None = None,
    cases: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Tally]:
    """Feed random cases to each target in turn, for so long or so many in all; raise Found."""
    logging.disable(logging.CRITICAL)  # else each refused webhook makes a record
    tallies = {target.name: Tally() for target in targets}
    generators = {target.name: Random(f"{seed} {target.name}") for target in targets}
    began = last_report = time.monotonic()
    try:
        while True:
            for target in targets:
                left = None if cases is None else cases - sum(t.cases for t in tallies.values())
                ran = time.monotonic() - began
                if (seconds is not None and ran >= seconds) or (left is not None and left <= 0):
                    return tallies
                dump_traceback_later(_STUCK, exit=True)
                _turn(target, generators[target.name], tallies[target.name], seed, left)
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                report(_progress(tallies, last_report - began))
    finally:
        cancel_dump_traceback_later()
        logging.disable(logging.NOTSET)


def _turn(target: Target, rng: Random, tally: Tally, seed: int, left: int | None) -> None:
    most = sys.maxsize if left is None else left
    began = at = time.perf_counter()
    count = 0
    while at - began < _TURN and count < most:
        case = target.make(rng)
        try:
            checked(target, case)
        except AssertionError as error:
            raise Found(target.name, case, seed, error) from None
        count += 1
        now = time.perf_counter()
        tally.slowest = max(tally.slowest, now - at)
        at = now
    tally.cases += count
    tally.seconds += at - began


def _progress(tallies: dict[str, Tally], seconds: float) -> str:
    total = sum(tally.cases for tally in tallies.values())
    return f"{seconds:6.0f} s  {total:12,} cases  {total / seconds:9,.0f} a second"


def table(tallies: dict[str, Tally], seconds: float) -> str:
    """Return the figures of a run, a line for each target."""
    lines = [
        f"{name:<18}{tally.cases:>12,} cases {tally.rate:>10,.0f} a second, "
        f"slowest {tally.slowest * 1000:.1f} ms"
        for name, tally in tallies.items()
    ]
    return "\n".join([*lines, "", f"all:  {_progress(tallies, seconds).strip()}"])
