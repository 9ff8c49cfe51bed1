"""Growth, and the plot."""

from __future__ import annotations

import statistics

from .run import Sample

#: How much more the last quarter may hold than the second one: objects that go with a login, a
#: fork or a handler that has just been dropped. A leak of one thread, socket or token for each
#: life of 1.5 seconds is beyond it within a minute; memory also settles in the allocator's arenas.
ALLOWED = {"threads": 8, "descriptors": 20, "megabytes": 10.0, "objects": 3000}

_MIN_SECS = 60.0


def growth(samples: list[Sample]) -> dict[str, float]:
    """Return the things that have grown by more than is allowed, and by how much.

    Nothing, for a run of less than a minute: a busy machine makes them go up and down.
    """
    if not samples or samples[-1].at < _MIN_SECS:
        return {}
    quarter = max(len(samples) // 4, 1)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    grown = {
        name: statistics.median(getattr(each, name) for each in late)
        - statistics.median(getattr(each, name) for each in early)
        for name in ALLOWED
    }
    return {name: by for name, by in grown.items() if by > ALLOWED[name]}


def plot(samples: list[Sample]) -> str:
    """Return an SVG with one line for each thing that was sampled."""
    width, height, rows = 720, 110, []
    for index, name in enumerate(ALLOWED):
        values = [float(getattr(each, name)) for each in samples]
        top, end = max(values) or 1.0, samples[-1].at or 1.0
        points = " ".join(
            f"{10 + (width - 20) * each.at / end:.1f},"
            f"{height - 10 - (height - 35) * value / top:.1f}"
            for each, value in zip(samples, values, strict=True)
        )
        rows.append(
            f'<g transform="translate(0,{index * height})">'
            f'<text x="10" y="18">{name}, up to {top:g}, over {end:.0f} s</text>'
            f'<polyline points="{points}" fill="none" stroke="#26c" stroke-width="1.5"/></g>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height * len(ALLOWED)}"'
        f' font-family="sans-serif" font-size="12">{"".join(rows)}</svg>'
    )
