"""A service that starts while the bank is down: it waits for its first token, and tells its health.

    python wait_until_ready.py

A program of another language waits by ``permata-auth wait --timeout 60``. Without
``PERMATA_TOKEN_URL`` in the environment it runs against a bank on this machine, which is down at
first.
"""

from __future__ import annotations

import os
import sys

from permata_auth import LoginHandler, PermataAuthError

if "PERMATA_TOKEN_URL" not in os.environ:  # not in production
    from permata_auth.sandbox import Sandbox

    bank = Sandbox().start()
    bank.fail_next(4, status=503, on="token")  # more than one login tries
    os.environ |= bank.environment()


def main() -> int:
    try:
        with LoginHandler.from_env() as handler:
            print("health:", handler.health().state)
            handler.wait_until_ready(timeout=60)
            print("health:", handler.health().state)
    except PermataAuthError as error:
        print(error, file=sys.stderr)
        return 75 if error.retryable else 1  # whether a supervisor should start it again
    return 0


if __name__ == "__main__":
    sys.exit(main())
