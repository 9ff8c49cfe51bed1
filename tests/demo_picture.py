"""Take the picture of README: ``python -m tests.demo_picture`` writes examples/demo.svg.

It runs the demo in tmux, and takes the screen while the bank is down and a login has just failed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

_PICTURE = Path(__file__).parents[1] / "examples" / "demo.svg"
_SESSION = "permata-auth-demo-picture"
_COLUMNS, _LINES = 96, 30
_MAX_WAIT_SECS = 60.0


def _tmux(*arguments: str) -> str:
    command = ["tmux", "-L", _SESSION, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _screen() -> str:
    return _tmux("capture-pane", "-e", "-p", "-t", _SESSION)


def _is_outage(screen: str) -> bool:
    _, is_down, after = screen.partition("the bank goes DOWN")
    return bool(is_down) and "login failed" in after and "Bank" in after and "DOWN" in after


def _outage() -> str:
    """Run the demo until its bank is down, and return the screen with its colours."""
    size = ("-x", str(_COLUMNS), "-y", str(_LINES))
    demo = f"{sys.executable} -m permata_auth demo; sleep 60"
    _tmux("new-session", "-d", "-s", _SESSION, *size, demo)
    try:
        until = time.monotonic() + _MAX_WAIT_SECS
        while not _is_outage(screen := _screen()):
            if time.monotonic() > until:
                raise SystemExit(f"no outage was seen:\n{screen}")
            time.sleep(0.1)
        return screen
    finally:
        _tmux("kill-server")


def main() -> None:
    """Take the picture and write it."""
    lines = _outage().rstrip().splitlines()
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(["$ permata-auth demo", *lines])))
    _PICTURE.write_text(console.export_svg(title="permata-auth demo"), encoding="utf-8")


if __name__ == "__main__":
    main()
