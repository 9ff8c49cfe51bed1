"""The way into the command ``permata-auth``, also as ``python -m permata_auth``."""

from __future__ import annotations

import sys


def run() -> int:
    """Run the command on ``sys.argv`` and return its exit code."""
    try:
        from .cli import main  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print("permata-auth needs click and rich: pip install 'permata-auth[cli]'", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    raise SystemExit(run())
