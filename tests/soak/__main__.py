"""``python -m tests.soak --seconds 120 [--seed N] [--out FOLDER]``; fails on growth or failure."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import attrs

from .report import growth, plot
from .run import LIFETIME, Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--out", type=Path, help="write the samples and a plot into this folder")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds / LIFETIME:.0f} lives of a token", flush=True)
    soak = Soak(options.seconds, options.seed)
    soak.run()
    grown = growth(soak.samples)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        samples = [attrs.asdict(sample) for sample in soak.samples]
        (options.out / "soak.json").write_text(json.dumps(samples))
        (options.out / "soak.svg").write_text(plot(soak.samples))
    print(", ".join(f"{count:,} {what}" for what, count in sorted(soak.counts.items())))
    print("first", soak.samples[0])
    print("last ", soak.samples[-1])
    for failure in soak.failures[:20]:
        print("FAILED", failure)
    for name, by in grown.items():
        print("GROWN", name, f"by {by:g}")
    return 1 if soak.failures or grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
