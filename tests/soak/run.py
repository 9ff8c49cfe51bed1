"""The run: callers, mischief, samples."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import attrs
import requests

from permata_auth import (
    FileTokenStore,
    LoginClient,
    LoginHandler,
    PermataAuth,
    PermataAuthError,
    RetryPolicy,
    TokenStoreError,
)
from permata_auth.sandbox import Sandbox

CALLERS = 6
LIFETIME = 1.5
# A login is given up well within a token's life, as thirty seconds are within three hours.
RETRY = RetryPolicy(attempts=2, wait_initial=0.02, wait_max=0.1, timeout=1.0)
FAULTS = (
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 429, "retry_after": 1},
    {"fault": "status", "status": 401},
    {"fault": "drop"},
    {"fault": "reset", "at": "body"},
    {"fault": "truncated"},
    {"fault": "slow", "seconds": 0.4},
    {"fault": "html"},
    {"fault": "json", "json_fields": {"expires_in": 0}},
)


class FlakyStore:
    """A FileTokenStore that can be told to fail."""

    def __init__(self, folder: str) -> None:
        self._store = FileTokenStore(folder)
        self.is_out = False

    def __getattr__(self, name):
        if self.is_out:
            raise TokenStoreError("out of order")
        return getattr(self._store, name)

    def load(self, key):
        return self.__getattr__("load")(key)

    def save(self, key, token):
        self.__getattr__("save")(key, token)

    def discard(self, key, token):
        self.__getattr__("discard")(key, token)

    def lock(self, key):
        return self.__getattr__("lock")(key)


@attrs.frozen
class Sample:
    """The holdings of the process at one moment."""

    at: float
    threads: int
    descriptors: int
    megabytes: float
    objects: int


@attrs.define(slots=False)
class Soak:
    """``seconds`` of it; ``seed`` decides which mischief comes when."""

    seconds: float
    seed: int
    samples: list[Sample] = attrs.Factory(list)
    counts: Counter[str] = attrs.Factory(Counter)
    failures: list[str] = attrs.Factory(list)

    def run(self) -> None:
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # forks are the point
        self.dice = random.Random(self.seed)
        self.over = threading.Event()
        with tempfile.TemporaryDirectory() as folder, Sandbox(token_lifetime=LIFETIME) as bank:
            self.bank, self.store = bank, FlakyStore(folder)
            self.client = LoginClient(bank.credentials(), retry=RETRY, timeout=0.5)
            with LoginHandler(bank.credentials(), client=self.client, store=self.store) as handler:
                handler.get_token()
                self._run(handler)
            self.client.close()

    def _run(self, handler: LoginHandler) -> None:
        callers = [
            threading.Thread(target=self._call, args=[handler], name=f"soak-{number}", daemon=True)
            for number in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        self.began = time.monotonic()
        while (elapsed := time.monotonic() - self.began) < self.seconds:
            self.dice.choice((self._fault, self._outage, self._fork, self._drop, self._reject))(
                handler
            )
            if not self.samples or elapsed - self.samples[-1].at > 1.0:
                self.bank.reset_counters()
                self.samples.append(sample(elapsed))
            self.over.wait(self.dice.uniform(0.02, 0.3))
        self.over.set()
        for caller in callers:
            caller.join(10)
            if caller.is_alive():
                self.failures.append(f"{caller.name} hangs")

    def _call(self, handler: LoginHandler) -> None:
        session = requests.Session()
        session.auth = PermataAuth(handler)
        url = f"{self.bank.url}/apiservice/InquiryServices/BalanceInfo/inq"
        while not self.over.wait(0.005):
            cached = handler._snapshot
            try:
                handler.get_token()
                self.counts["calls"] += 1
            except PermataAuthError as error:
                self.counts["raised without a token"] += 1
                if cached.live is not None:  # it lived all the while
                    self.failures.append(f"raised while a token lived: {error!r}")
            except Exception as error:
                self.failures.append(f"not of our tree: {error!r}")
            if random.random() < 0.05:
                try:
                    self.counts[
                        f"answered {session.post(url, json={}, timeout=2).status_code}"
                    ] += 1
                except (PermataAuthError, requests.RequestException):
                    self.counts["unanswered"] += 1
        session.close()

    def _fault(self, handler: LoginHandler) -> None:
        self.bank.fail_next(self.dice.randint(1, 3), on="token", **self.dice.choice(FAULTS))

    def _outage(self, handler: LoginHandler) -> None:
        self.store.is_out = not self.store.is_out
        if self.dice.random() < 0.3:
            with self.bank.down():
                self.over.wait(self.dice.uniform(0.1, 2 * LIFETIME))

    def _drop(self, handler: LoginHandler) -> None:
        """Use a handler of one's own for a moment, and leave it to the collector."""
        short = LoginHandler(self.bank.credentials(), client=self.client)
        try:
            short.get_token()
        except PermataAuthError:
            self.counts["raised without a token"] += 1

    def _reject(self, handler: LoginHandler) -> None:
        handler.invalidate()

    def _fork(self, handler: LoginHandler) -> None:
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # a child that hangs is a failure
            status = 3
            try:
                handler.get_token()
                status = 0
            except PermataAuthError:
                status = 0 if handler._snapshot.live is None else 4
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.counts["forks"] += 1
        if status:
            self.failures.append(f"a forked child ended with {status}")


def sample(at: float) -> Sample:
    gc.collect()
    return Sample(
        at=at,
        threads=threading.active_count(),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        megabytes=_resident() / 2**20,
        objects=len(gc.get_objects()),
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
