"""Fork a number of times, each right after a login, and print how many children hang.

A login computes an HMAC with OpenSSL on a thread that is just ending then.
"""

from __future__ import annotations

import hmac
import os
import signal
import sys
import time
import warnings

from permata_auth import LoginHandler
from support.forking import RemoteBank

_MAX_CHILD_SECS = 30.0
_POLL_SECS = 0.002


def main(count: int) -> None:
    # Not in a with-statement: a child that leaves it would end the parent's bank.
    bank = RemoteBank()
    handler = LoginHandler(bank.credentials(), background=False)
    hung = failed = 0
    for number in range(count):
        handler.refresh()
        pid = os.fork()
        if not pid:
            warnings.simplefilter("ignore")  # that the child leaves the parent's bank running
            hmac.digest(b"key", b"message", "sha256")
            if number % 4 == 0:
                handler.refresh()
            sys.exit(0)  # through the interpreter's end, where OpenSSL cleans up
        status = _wait(pid)
        hung += status is None
        failed += bool(status)
    handler.shutdown()
    bank.__exit__()
    print(f"children: {count}, hung: {hung}, failed: {failed}", flush=True)


def _wait(pid: int) -> int | None:
    """Return the child's status, or None for one that had to be killed."""
    deadline = time.monotonic() + _MAX_CHILD_SECS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(_POLL_SECS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]))
