from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .report import growth
from .run import Sample
from .torture import Torture


def test_what_grows_is_found():
    steady = [Sample(2.0 * i, 10, 20, 50.0, 9000) for i in range(40)]
    assert growth(steady) == {}
    leaking = [Sample(2.0 * i, 10 + i, 20, 50.0, 9000 + 500 * i) for i in range(40)]
    assert set(growth(leaking)) == {"threads", "objects"}
    assert growth(leaking[:30]) == growth([]) == {}


def test_threads_that_never_rest_meet_one_login_and_live_tokens_alone():
    torture = Torture(5_000, seed=7)
    torture.run()
    assert torture.failures == []
    assert torture.counts["tokens"] > 1_000
    assert torture.client.logins > 10


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="samples itself through /proc")
def test_a_short_soak_fails_no_call_and_leaves_files(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--seconds", "15", "--seed", "7", "--out", tmp_path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"soak.json", "soak.svg"}
