"""Tables for a terminal, Markdown and an SVG chart, out of the figures of one run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape


@dataclass
class Cell:
    """A figure, and its text where digits alone do not say it. None: not measured."""

    value: float | None
    text: str = ""

    def shown(self, digits: int) -> str:
        return self.text or ("-" if self.value is None else f"{self.value:,.{digits}f}")


@dataclass
class Column:
    """One measure of the contestants; lower is better."""

    title: str
    digits: int
    cells: dict[str, Cell] = field(default_factory=dict)
    is_charted: bool = True
    is_compared: bool = True

    def ahead_of(self, name: str) -> list[str]:
        """The contestants that are better than this one by more than a tenth."""
        ours = self.cells.get(name)
        if not self.is_compared or ours is None or ours.value is None:
            return []
        found = [(cell.value, other) for other, cell in self.cells.items()
                 if cell.value is not None and cell.value < ours.value / 1.1]  # fmt: skip
        return [f"{other} ({self.cells[other].shown(self.digits)})" for _, other in sorted(found)]


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, title: str, columns: list[Column], names: Iterable[str], *notes: str) -> Table:
        rows = [
            [name, *(column.cells.get(name, Cell(None)).shown(column.digits) for column in columns)]
            for name in names
        ]
        return cls(title, ["", *(column.title for column in columns)], rows, list(notes))

    def text(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        drawn = [
            "  ".join(
                cell.rjust(width) if index and len(self.header) > 4 else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        drawn.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([f"\n{self.title}", *drawn, *self.notes])

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([f"## {self.title}", table, *self.notes])


_WIDTH, _ROW, _LABEL, _BAR, _GAP = 1000, 16, 190, 200, 34


def svg(columns: list[Column], names: list[str], title: str) -> str:
    """Draw a panel of bars for each column, two abreast, the first name's bar in a colour."""
    height = 30 + len(names) * _ROW + _GAP
    parts = [f'<text x="20" y="28" class="t">{escape(title)}</text>']
    for index, column in enumerate(columns):
        x, y = 20 + index % 2 * (_WIDTH // 2), 60 + index // 2 * height
        parts += _panel(column, names, x, y)
    total = 60 + math.ceil(len(columns) / 2) * height
    style = (
        "text{font:11px sans-serif;fill:#222}.t{font-size:17px;font-weight:bold}"
        ".h{font-weight:bold;font-size:12px}.o{font-weight:bold}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {total}" '
        f'width="{_WIDTH}" height="{total}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(column: Column, names: list[str], x: int, y: int) -> Iterable[str]:
    shown = {name: column.cells.get(name, Cell(None)) for name in names}
    values = [cell.value for cell in shown.values() if cell.value]
    is_log = bool(values) and max(values) > 30 * min(values)
    scale = " (log scale)" if is_log else ""
    yield f'<text x="{x}" y="{y}" class="h">{escape(column.title)}{scale}</text>'
    for index, (name, cell) in enumerate(shown.items()):
        top = y + 10 + index * _ROW
        colour, css = ("#1769aa", "o") if index == 0 else ("#b8c4ce", "")
        width = _length(cell.value, values, is_log)
        yield f'<text x="{x}" y="{top + 10}" class="{css}">{escape(name)}</text>'
        yield f'<rect x="{x + _LABEL}" y="{top}" width="{width:.0f}" height="12" fill="{colour}"/>'
        label = escape(cell.shown(column.digits))
        yield f'<text x="{x + _LABEL + width + 5:.0f}" y="{top + 10}" class="{css}">{label}</text>'


def _length(value: float | None, values: list[float], is_log: bool) -> float:
    if not value or not values:
        return 1.0
    if is_log:
        low = min(values) / 2
        return _BAR * math.log(value / low) / math.log(max(values) / low)
    return _BAR * value / max(values)
