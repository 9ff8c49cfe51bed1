"""The cost of a store in ``get_token()`` with a live token: none, it is not asked.

Run it as a script: ``python tests/benchmarks/bench_store.py``. The handlers are timed in turns, so
that whatever else the machine does meets all of them; a ratio is the median of the rounds'.
"""

from __future__ import annotations

import statistics
import tempfile
import timeit
from datetime import datetime, timedelta, timezone

from permata_auth import (
    AccessToken,
    FileTokenStore,
    LoginHandler,
    PermataCredentials,
    RedisTokenStore,
)

ROUNDS = 101
CALLS = 20_000

credentials = PermataCredentials(
    token_url="https://bank.invalid/apiservice/oauth/token",
    api_key="example-api-key",
    client_id="example-client-id",
    client_secret="example-client-secret",
    static_key="example-static-key",
)


class Client:
    """Log in without a network."""

    def login(self) -> AccessToken:
        expires = datetime.now(timezone.utc) + timedelta(hours=1)
        return AccessToken(value="example-token", expires_at=expires)


def measure(rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Return, by store, the median in nanoseconds and the ratio to no store at all."""
    with tempfile.TemporaryDirectory() as folder:
        # Nobody answers at that port: the handler has logged in without the store, once.
        stores = {
            "none": None,
            "file": FileTokenStore(f"{folder}/tokens"),
            "redis, down": RedisTokenStore("redis://127.0.0.1:1"),
        }
        handlers = {
            name: LoginHandler(credentials, client=Client(), store=store)
            for name, store in stores.items()
        }
        timings: dict[str, list[float]] = {name: [] for name in handlers}
        for handler in handlers.values():
            handler.get_token()
        for _ in range(rounds):
            for name, handler in handlers.items():
                seconds = timeit.timeit(handler.get_token, number=CALLS)
                timings[name].append(seconds / CALLS * 1e9)
        for handler in handlers.values():
            handler.shutdown()
    return {
        name: (
            statistics.median(each),
            statistics.median(a / b for a, b in zip(each, timings["none"], strict=True)),
        )
        for name, each in timings.items()
    }


def main() -> None:
    """Print a row of a table for each store."""
    print("| store | get_token() | ratio |")
    for name, (nanoseconds, ratio) in measure().items():
        print(f"| {name} | {nanoseconds:.1f} ns | {ratio:.3f} |")


if __name__ == "__main__":
    main()
