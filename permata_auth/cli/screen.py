"""The screen of "demo" and "watch"."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .. import _clock
from ..events import (
    Event,
    LoginFailed,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)
from ..handler import HandlerInfo


class Screen:
    """Lines that stay and, on a terminal, a picture below them that changes.

    Any thread may call :meth:`note`. Only the main thread writes, so that a closed pipe ends the
    command.
    """

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty()
        self.console = Console(force_terminal=is_terminal, highlight=False)
        self.is_live = is_terminal and not self.console.is_dumb_terminal
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._last = ""
        self._noted: queue.SimpleQueue[tuple[datetime, str]] = queue.SimpleQueue()

    @contextmanager
    def open(self) -> Iterator[Screen]:
        """Show the picture for the length of the with-block."""
        try:
            if self.is_live:
                self._live.start()
            yield self
        finally:
            self._live.stop()
            self.write()

    def note(self, text: str, at: datetime | None = None) -> None:
        self._noted.put((at or _clock.at(_clock.now()), text))

    def note_event(self, event: Event) -> None:
        text = _describe(event)
        if text and text != self._last:  # a long outage is no reason for a long list
            self.note(text, event.at)
            self._last = text

    def write(self) -> None:
        """Print the noted lines."""
        while not self._noted.empty():
            at, text = self._noted.get()
            local = at.astimezone()
            stamp = f"{local:%H:%M:%S}" if self.is_live else local.isoformat(" ", "milliseconds")
            line = Text.assemble((stamp, "dim"), "  ", text)
            self.console.print(line, soft_wrap=not self.is_live)

    def summarise(self, rows: Iterable[tuple[str, str | Text]]) -> None:
        """Print lines that no width cuts: a narrow terminal wraps them, a file has them whole.

        Args:
            rows: Labels and values.
        """
        self.console.print()
        for label, text in rows:
            line = Text.assemble((f"{label:<14}", "dim"), text)
            self.console.print(line, soft_wrap=True)

    def draw(self, title: str, rows: Iterable[tuple[str, RenderableType]]) -> None:
        """Print the noted lines, and renew the picture.

        Args:
            title: The title of the picture's frame.
            rows: Labels and values.
        """
        self.write()
        if self.is_live:
            width = min(80, self.console.width)
            panel = Panel(_grid(rows), title=title, title_align="left", width=width)
            panel.border_style = "dim"
            self._live.update(panel, refresh=True)


def _describe(event: Event) -> str | None:
    if isinstance(event, TokenSwapped):
        origin = " from the store" if event.is_shared else ""
        return f"new token {event.fingerprint}{origin}, good until {clock_time(event.expires_at)}"
    if isinstance(event, RefreshScheduled):
        return f"refresh due at {clock_time(event.next_refresh_at)}"
    if isinstance(event, RefreshSkipped):
        return "no refresh ahead of expiry, the next login is on demand"
    if isinstance(event, LoginFailed):
        return f"login failed: {event.message or event.error}"
    if isinstance(event, TokenInvalidated):
        return f"token {event.fingerprint} dropped"
    return None


def clock_time(at: datetime) -> str:
    """Return the local time of day.

    Args:
        at: The moment; an aware datetime.
    """
    return f"{at.astimezone():%H:%M:%S}"


def _span(secs: float) -> str:
    return f"{secs:.1f} s" if secs < 100 else str(timedelta(seconds=round(secs)))


def _grid(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return labels and values in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, value)
    return table


def token_rows(info: HandlerInfo, life: float) -> list[tuple[str, RenderableType]]:
    """Return the rows that show a token: its age, refresh and expiry.

    Args:
        info: The handler's state.
        life: The seconds of the token's whole life.
    """
    if info.fingerprint is None:
        return [("Token", Text("none", style="bold red")), ("Age", "-"), ("Refresh", "-")]
    life = max(life, info.seconds_left)
    due = (info.next_refresh_at - _clock.at(_clock.now())) if info.next_refresh_at else None
    is_overdue = due is None or due.total_seconds() < 0
    colour = "yellow" if is_overdue else "green"
    bar = ProgressBar(life, life - info.seconds_left, width=40, complete_style=colour)
    age = Table.grid(padding=(0, 2))
    age.add_row(bar, f"expires in {_span(info.seconds_left)}")
    refresh = "on demand" if due is None else f"in {_span(max(due.total_seconds(), 0.0))}"
    return [("Token", info.fingerprint), ("Age", age), ("Refresh", refresh)]
