"""The bank's memory: counters, which are exact, and the last records, within bounds."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from .limits import Seen, is_count
from .messages import Inbound, IssuedToken, RecordedRequest, Reply, fingerprint

_T = TypeVar("_T")

_MIB = 2**20
_MAX_PROOFS = 100_000
_PROOFS = {
    "classic": ("OAUTH-Timestamp", "OAUTH-Signature"),
    "snap": ("X-TIMESTAMP", "X-SIGNATURE"),
}


@attrs.define(eq=False)
class Records(Generic[_T]):
    """Records in order, the oldest dropped to keep within bounds. Not thread-safe."""

    _kept: deque[tuple[_T, int]] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def add(self, record: _T, size: int, *, max_records: int, max_bytes: int) -> None:
        """Keep this record, and as many of those before it as the bounds allow."""
        self._kept.append((record, size))
        self._bytes += size
        while len(self._kept) > max_records or (self._bytes > max_bytes and len(self._kept) > 1):
            self._bytes -= self._kept.popleft()[1]

    def all(self) -> tuple[_T, ...]:
        """Return the records, the oldest first."""
        return tuple(record for record, _ in self._kept)

    def clear(self) -> None:
        """Forget all records."""
        self._kept.clear()
        self._bytes = 0


@attrs.define(kw_only=True, eq=False)
class Ledger:
    """Counters and records. Thread-safe; nothing here blocks but :meth:`wait_until`.

    The counters count everything. ``requests``, ``deliveries`` and ``tokens_issued`` have the last
    records of their kind: a bank that runs for weeks needs no more memory than these.

    Args:
        max_records: So many records of each kind are kept; enough for any test that looks at them.
        max_record_bytes: So many bytes of bodies, headers and paths are kept of each kind.
    """

    max_records: int = attrs.field(default=10_000, validator=is_count)
    max_record_bytes: int = attrs.field(default=16 * _MIB, validator=is_count)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False, repr=False)
    _requests: Records[RecordedRequest] = attrs.field(factory=Records, init=False, repr=False)
    _deliveries: Records[bytes] = attrs.field(factory=Records, init=False, repr=False)
    _issued: Records[IssuedToken] = attrs.field(factory=Records, init=False, repr=False)
    _proofs: Seen = attrs.field(factory=lambda: Seen(_MAX_PROOFS), init=False, repr=False)
    _counts: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _calls: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)

    @property
    def logins(self) -> int:
        """Logins answered with a token so far, the same one given again included."""
        return self._counts["logins"]

    @property
    def login_attempts(self) -> int:
        """Token requests received, refused and faulted ones included."""
        return self._counts["login_attempts"]

    @property
    def refused_logins(self) -> int:
        """Logins refused for their credentials or because the account was locked."""
        return self._counts["refused_logins"]

    @property
    def limited_logins(self) -> int:
        """Logins answered with 429 because of ``login_limit``."""
        return self._counts["limited_logins"]

    @property
    def replays(self) -> int:
        """Token requests whose timestamp and signature one of the last 100,000 had too.

        On the SNAP side that is no fault: its timestamps have whole seconds.
        """
        return self._counts["replays"]

    @property
    def rejected_calls(self) -> int:
        """Calls answered "token rejected", for any fault of the token."""
        return self._counts["rejected_calls"]

    @property
    def duplicates(self) -> int:
        """SNAP calls refused because their X-EXTERNAL-ID had come before on that day."""
        return self._counts["duplicates"]

    @property
    def transfers(self) -> int:
        """Transfers that the SNAP side has made."""
        return self._counts["transfers"]

    @property
    def calls_by_status(self) -> dict[str, int]:
        """How many requests other than logins were answered with each status ("0": none sent)."""
        with self._changed:
            return dict(self._calls)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The last requests that were decided, logins included, in order."""
        with self._changed:
            return self._requests.all()

    @property
    def deliveries(self) -> tuple[bytes, ...]:
        """The last bodies that ``wa/callbackstatus`` accepted (answered with a 2xx), in order."""
        with self._changed:
            return self._deliveries.all()

    @property
    def tokens_issued(self) -> tuple[IssuedToken, ...]:
        """The last distinct tokens that were minted, in order."""
        with self._changed:
            return self._issued.all()

    def counters(self) -> dict[str, Any]:
        """Return all counters by name; ``calls`` is a dict by status."""
        names = (
            *("logins", "login_attempts", "refused_logins", "limited_logins", "replays"),
            *("deliveries", "rejected_calls", "duplicates", "transfers"),
        )
        with self._changed:
            return {name: self._counts[name] for name in names} | {"calls": dict(self._calls)}

    def reset_counters(self) -> None:
        """Forget counters and records."""
        with self._changed:
            for memory in (self._requests, self._deliveries, self._issued, self._proofs):
                memory.clear()
            self._counts.clear()
            self._calls.clear()

    def wait_until(self, predicate: Callable[[], object], timeout: float) -> bool:
        """Block until the predicate holds, looked at after each recorded request.

        Returns the truth of the predicate at the end; False after ``timeout`` seconds.
        """
        with self._changed:
            return bool(self._changed.wait_for(predicate, timeout))

    def _note_arrival(self, request: Inbound) -> None:
        if not request.is_login:
            return
        names = _PROOFS["snap" if request.is_snap else "classic"]
        proof = hash(tuple(request.headers.get(name) for name in names))
        with self._changed:
            self._counts["login_attempts"] += 1
            self._counts["replays"] += self._proofs.add(proof)

    def _note_issued(self, issued: IssuedToken) -> None:
        with self._changed:
            self._keep(self._issued, issued, 0)

    def _note_delivery(self, body: bytes) -> None:
        with self._changed:
            self._counts["deliveries"] += 1
            self._keep(self._deliveries, body, len(body))

    def _record(self, request: Inbound, reply: Reply, at: float) -> None:
        record = RecordedRequest(
            **attrs.asdict(request, recurse=False),
            status=reply.status,
            at=at,
            reason=reply.reason,
            token_fingerprint=reply.token_fingerprint or _presented(request),
        )
        with self._changed:
            self._keep(self._requests, record, record.size)
            if not request.is_login:
                self._calls[str(reply.status)] += 1
            self._changed.notify_all()

    def _keep(self, records: Records[_T], record: _T, size: int) -> None:
        bounds = {"max_records": self.max_records, "max_bytes": self.max_record_bytes}
        records.add(record, size, **bounds)


def _presented(request: Inbound) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return fingerprint(value) if scheme == "Bearer" and value else None
