"""``python -m tests.soak.torture [--calls 600000]``: one handler among threads that never rest.

Python switches threads after a microsecond, so that it does so between any two steps. Logins are
local and last up to two milliseconds; tokens live for up to half a second.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timezone

from permata_auth import (
    AccessToken,
    InvalidClientError,
    LoginHandler,
    PermataAuthError,
    PermataCredentials,
    RetryPolicy,
    TransportError,
    _clock,
)

_THREADS = 16
_LIVES = (0.02, 0.05, 0.5)
_MAX_LOGIN_SECS = 0.002
#: After a call that raised, since the next ones would too, until the pause is over.
_NAP_SECS = 0.01
_JOIN_SECS = 60.0


class _Client:
    """Logs in without a network: one in ten fails, some are refused."""

    def __init__(self, seed: int) -> None:
        self.retry = RetryPolicy()
        self.logins = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._dice = random.Random(seed)

    def login(self) -> AccessToken:
        with self._lock:
            self.logins += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            serial, pause, luck = self.logins, self._dice.random(), self._dice.random()
            life = self._dice.choice(_LIVES)
        try:
            time.sleep(pause * _MAX_LOGIN_SECS)
            if luck < 0.1:
                raise TransportError("example outage")
            if luck < 0.12:
                raise InvalidClientError("example refusal", status_code=401)
            now = time.time()
            return AccessToken(
                value=f"example-token-{serial}",
                issued_at=datetime.fromtimestamp(now, timezone.utc),
                expires_at=datetime.fromtimestamp(now + life, timezone.utc),
            )
        finally:
            with self._lock:
                self._at_once -= 1

    def close(self) -> None:
        pass


class Torture:
    """Calls, accepted and rejected tokens, forced refreshes and ``info()``, all at once.

    Args:
        calls: How many there are in all.
        seed: Decides on the action of each thread.
    """

    def __init__(self, calls: int, seed: int) -> None:
        self.client = _Client(seed)
        self.handler = LoginHandler(
            PermataCredentials(
                token_url="https://bank.invalid/apiservice/oauth/token",
                api_key="example-api-key",
                client_id="example-client-id",
                client_secret="example-client-secret",
                static_key="example-static-key",
            ),
            client=self.client,  # type: ignore[arg-type]
            refusal_memory_secs=0.01,
        )
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self._calls = calls
        self._seed = seed
        self._begun = itertools.count()
        self._last = 0
        #: When the bank has rejected a token that it had accepted before.
        self._retired: dict[str, float] = {}

    def run(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [
                threading.Thread(target=self._call, args=(number,), daemon=True)
                for number in range(_THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                self._join(thread)
        finally:
            sys.setswitchinterval(interval)
            self.handler.shutdown()
        if self.client.most_at_once > 1:
            self.failures.append(f"{self.client.most_at_once} logins at once")

    def _join(self, thread: threading.Thread) -> None:
        """Wait for a thread, as long as any of them makes a call now and then."""
        while thread.is_alive():
            before = self._last
            thread.join(_JOIN_SECS)
            if thread.is_alive() and self._last == before:
                self.failures.append(f"{thread.name} hangs")
                return

    def _call(self, number: int) -> None:
        dice, counts = random.Random(f"{self._seed} {number}"), Counter[str]()
        while (begun := next(self._begun)) < self._calls:
            self._last = begun
            what = dice.random()
            try:
                if what < 0.9:
                    self._use(dice, counts)
                elif what < 0.91:
                    counts["refreshes"] += 1
                    self.handler.refresh()
                elif what < 0.911:
                    counts["times forgotten"] += 1
                    self.handler.clear_cache()
                else:
                    counts["infos"] += 1
                    self.handler.info()
            except PermataAuthError:
                counts["raised"] += 1
                time.sleep(_NAP_SECS)
            except Exception as error:
                self.failures.append(f"not of our tree: {error!r}")
        self.counts.update(counts)

    def _use(self, dice: random.Random, counts: Counter[str]) -> None:
        began = _clock.now()
        token = self.handler.get_access_token()
        counts["tokens"] += 1
        if token.deadline <= began:
            self.failures.append(f"{token.value} was dead {began - token.deadline:g} s before")
        if self._retired.get(token.value, began) < began:
            self.failures.append(f"{token.value} was served after its rejection")
        what = dice.random()
        if what < 0.01:
            self.handler.note_response(token.value, 200)
            self.handler.invalidate(token.value)
            self._retired.setdefault(token.value, _clock.now())
            counts["rejected after it was accepted"] += 1
        elif what < 0.02:
            self.handler.invalidate(token.value)
            counts["rejected"] += 1
        elif what < 0.03:
            self.handler.note_response(token.value, 200)
            counts["accepted"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.torture")
    parser.add_argument("--calls", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {options.seed}", flush=True)
    torture = Torture(options.calls, options.seed)
    began = time.monotonic()
    torture.run()
    print(
        f"{options.calls:,} calls in {time.monotonic() - began:.0f} s, "
        f"{torture.client.logins:,} logins, {torture.client.most_at_once} at once at the most"
    )
    print(", ".join(f"{count:,} {what}" for what, count in sorted(torture.counts.items())))
    print(torture.handler.info())
    for failure in torture.failures[:20]:
        print("FAILED", failure)
    return 1 if torture.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
