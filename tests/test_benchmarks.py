"""The benchmarks run, and write the promised files. Their figures are for people, not for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False
    )


def test_a_run_prints_its_tables_and_writes_markdown_and_a_chart(tmp_path):
    measures = ["hot_path", "cold_500", "live", "cold_herd", "short_tokens"]
    done = run("--out", str(tmp_path), *(f"--only={measure}" for measure in measures))
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    for heading in ("permata-auth by itself", "Cost of a call", "Cold start", "Refresh"):
        assert heading in done.stdout
        assert heading in written
    ElementTree.parse(tmp_path / "RESULTS.svg")
    chart = (tmp_path / "RESULTS.svg").read_text(encoding="utf-8")
    assert "32 cold threads: logins" in chart
    assert "lock + dict by hand" in chart


def test_counts_that_do_not_depend_on_the_machine_come_out(tmp_path):
    done = run("--out", str(tmp_path), "--only=cold_herd", "--only=short_tokens")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("permata-auth ")]
    herd, refresh = rows[0].split(), rows[1].split()
    assert herd[1] == "1"  # one login for all the threads
    assert refresh[1] == "1"  # and for all the calls, though the margin is longer than the life


def test_a_peer_that_is_not_installed_is_left_out_and_named(tmp_path):
    hide = (
        "import sys; sys.modules['requests_auth'] = None; import runpy; "
        "runpy.run_module('tests.benchmarks', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", hide, "--quick", "--only=live"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[0]
    assert line.startswith("left out, not installed: ")
    assert "requests_auth" in line


def test_an_unknown_measure_is_refused():
    done = run("--only=nothing")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


@pytest.mark.parametrize("value", [[], [0.0], [1.0, 1000.0], [None, 3.0]])
def test_a_chart_of_any_figures_is_well_formed(value):
    from benchmarks.report import Cell, Column, svg

    names = [f"<contestant {index}>" for index in range(len(value))]
    cells = {name: Cell(each) for name, each in zip(names, value, strict=True)}
    ElementTree.fromstring(svg([Column("a & b", 1, cells)] * 3, names, "title"))


def test_a_contestant_is_ahead_only_by_more_than_a_tenth():
    from benchmarks.report import Cell, Column

    column = Column("", 1, {"us": Cell(10.0), "near": Cell(9.5), "far": Cell(5.0), "-": Cell(None)})
    assert column.ahead_of("us") == ["far (5.0)"]
