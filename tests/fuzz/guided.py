"""One target under libFuzzer, which looks for inputs that reach new code.

``pip install atheris``, then ``python -m tests.fuzz.guided webhook -max_total_time=60``. What
follows the target's name goes to libFuzzer as it is.
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["permata_auth", "json"]):
    from .targets import TARGETS, checked


def main() -> None:
    """Run until something is found, or as long as libFuzzer was told to."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"give one of: {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, lambda data: checked(target, target.read(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
