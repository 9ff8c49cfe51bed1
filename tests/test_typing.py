"""What type checkers see of the package, where they are installed: ``--group lint``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_CHECKERS = {
    "mypy": ["mypy", "--config-file", str(_ROOT / "pyproject.toml")],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.fixture(params=_CHECKERS)
def check(request):
    """Run a type checker over one file; return its exit code and its output."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")

    def check(file: Path) -> tuple[int, str]:
        command = [sys.executable, "-m", *_CHECKERS[request.param], str(file)]
        done = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return check


def test_the_public_names_have_the_types_that_callers_rely_on(check):
    code, output = check(_ROOT / "tests" / "typecheck" / "public.py")
    assert code == 0, output


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("from permata_auth import Nope", "Nope"),
        ("import permata_auth; permata_auth.LoginHandlr", "LoginHandlr"),
        (
            "import permata_auth as p\n\ndef f(h: p.LoginHandler) -> int:\n    return h.info()",
            "int",
        ),
    ],
    ids=["import", "attribute", "return type"],
)
def test_a_wrong_name_or_type_is_an_error(check, tmp_path, wrong, found):
    file = tmp_path / "wrong.py"
    file.write_text(wrong + "\n")
    code, output = check(file)
    assert code == 1, output
    (line,) = [line for line in output.splitlines() if "error" in line and "wrong.py" in line]
    assert found in line
