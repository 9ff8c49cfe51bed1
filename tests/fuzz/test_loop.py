from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from .loop import Found, run
from .targets import TARGETS

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_the_loop_finds_nothing_in_a_moment(name):
    tallies = run([TARGETS[name]], seed=1, cases=300)
    assert tallies[name].cases == 300


def test_the_same_seed_makes_the_same_cases():
    def drawn(seed):
        seen = []
        spies = [attrs.evolve(TARGETS[name], check=seen.append) for name in ("grant", "webhook")]
        run(spies[:1], seed=seed, cases=100)
        run(spies[1:], seed=seed, cases=100)
        return seen

    assert drawn(7) == drawn(7) != drawn(8)


@pytest.mark.parametrize("broken", [ZeroDivisionError("planted"), AssertionError("planted")])
def test_what_it_finds_it_shows_with_the_case_and_the_seed(broken):
    def check(case):
        if b"NaN" in case:
            raise broken

    with pytest.raises(Found, match="seed 3") as found:
        run([attrs.evolve(TARGETS["grant"], check=check)], seed=3, cases=100_000)
    assert "planted" in str(found.value)
    assert 'TARGETS["grant"].check(b' in str(found.value)


def _fuzz(*arguments):
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_command_counts_its_cases():
    done = _fuzz("--cases", "3000", "--seed", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "seed 5" in done.stdout
    assert "3,000 cases" in done.stdout
    assert "no case broke an invariant" in done.stdout


def test_the_command_stops_when_the_time_is_over():
    done = _fuzz("--seconds", "1", "--target", "url")
    assert done.returncode == 0, done.stderr
