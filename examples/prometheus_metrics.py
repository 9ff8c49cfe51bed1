"""Prometheus: the metrics of a handler, on the default registry.

    python prometheus_metrics.py

Prints a scrape. Without ``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this
machine.
"""

from __future__ import annotations

import os

from prometheus_client import generate_latest

from permata_auth import LoginHandler, PermataCredentials
from permata_auth.integrations.prometheus import PermataMetrics

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    os.environ |= Sandbox().start().environment()


def main() -> None:
    metrics = PermataMetrics()
    with LoginHandler(PermataCredentials.from_env()) as handler:
        metrics.watch(handler)
        handler.get_token()
    for line in generate_latest().decode().splitlines():
        if line.startswith("permata_auth_"):
            print(line)


if __name__ == "__main__":
    main()
