"""Processes of many hosts that share one token through Redis or Valkey: one login for all.

    PERMATA_TOKEN_STORE=redis://localhost:6379/0 python shared_token_redis.py

Start it as often as you like, on as many hosts as you like: within a token's life only the first
one logs in. The token is stored encrypted, with a key derived from the credentials. While the
server is away each process logs in for itself, and shares again once it is back.
"""

from __future__ import annotations

import os
from multiprocessing import get_context

from permata_auth import LoginHandler, RedisTokenStore

URL = os.environ.get("PERMATA_TOKEN_STORE", "redis://localhost:6379/0")
PROCESSES = 4


def work(number: int) -> tuple[int, str | None, int]:
    # In each process: neither a handler nor a store can be sent to another one.
    with LoginHandler.from_env(store=RedisTokenStore(URL)) as handler:
        handler.get_token()
        info = handler.info()
    return number, info.fingerprint, info.logins


if __name__ == "__main__":
    with get_context("spawn").Pool(PROCESSES) as pool:
        for number, fingerprint, logins in pool.imap(work, range(PROCESSES)):
            print(f"process {number}: token {fingerprint}, {logins} logins of its own")
