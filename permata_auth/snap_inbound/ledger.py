"""The receiver's memory of requests, its outages, and how long a claim on a request lasts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from .._logging import Log, describe
from .._signals import is_thrown_by_signal
from .answers import Reply, store_down
from .external_ids import ExternalIds, MemoryExternalIds

logger = Log(__name__)

_T = TypeVar("_T")

KEPT_SECS = 48 * 3600.0
#: The bank may ask again for the outcome of a payment for some days.
OUTCOME_SECS = 7 * 86_400.0
_MIN_MARGIN_SECS = 5.0


class Ledger:
    """Ids and outcomes in an :class:`ExternalIds`. Thread-safe.

    Ids that cannot be renewed (no ``keep``) are claimed for 48 hours; documents that they cannot
    hold (no ``save`` and ``load``) are kept by this process.

    A claim lasts :attr:`claim_secs`, and is renewed while the function runs past its time limit:
    if its worker is killed, the bank's next request is served after that time. Once the function
    has ended, the claim becomes 48 hours, or is released.

    Args:
        ids: The store of both.
        time_limit_secs: The seconds that a function may take.
    """

    def __init__(self, ids: ExternalIds, time_limit_secs: float) -> None:
        self._ids = ids
        self._documents = ids if _has(ids, "save", "load") else MemoryExternalIds()
        self._can_keep = _has(ids, "keep")
        self.claim_secs = max(2 * time_limit_secs, time_limit_secs + _MIN_MARGIN_SECS)
        if not self._can_keep:
            self.claim_secs = KEPT_SECS
        self._is_down = False

    def claim(self, key: str) -> bool:
        """Claim a key; return False if it is taken. Raises CheckFailed during an outage.

        Args:
            key: As of :meth:`ExternalIds.add`.
        """
        return self._strictly(lambda: self._ids.add(key, self.claim_secs))

    def recall(self, key: str) -> Any:
        """Return a document, or None. Raises CheckFailed during an outage.

        Args:
            key: As given to :meth:`remember`.
        """
        value = self._strictly(lambda: self._documents.load(key))
        return json.loads(value) if value else None

    def renew(self, key: str) -> None:
        """Let a claim last :attr:`claim_secs` from now; never raises.

        Args:
            key: As claimed.
        """
        self._keep(key, self.claim_secs)

    def keep(self, key: str) -> None:
        """Let a claim last 48 hours from now; never raises.

        Args:
            key: As claimed.
        """
        self._keep(key, KEPT_SECS)

    def release(self, key: str) -> None:
        """End a claim; never raises.

        Args:
            key: As claimed.
        """
        self._leniently(lambda: self._ids.release(key))

    def remember(self, key: str, document: object, seconds: float) -> None:
        """Keep a document; never raises for an outage.

        Args:
            key: As of :meth:`ExternalIds.save`.
            document: Any that JSON can hold; a few hundred bytes.
            seconds: How long it is kept.
        """
        value = json.dumps(document, separators=(",", ":")).encode()
        self._leniently(lambda: self._documents.save(key, value, seconds))

    def _keep(self, key: str, seconds: float) -> None:
        if self._can_keep:
            self._leniently(lambda: self._ids.keep(key, seconds))

    def _strictly(self, step: Callable[[], _T]) -> _T:
        try:
            found = step()
        except Exception as error:
            if is_thrown_by_signal(error):
                raise
            self._note_outage(error)
        else:
            self._note_recovery()
            return found
        raise store_down()

    def _leniently(self, step: Callable[[], object]) -> None:
        # The function has run: its answer goes out, whether or not it can be noted.
        try:
            step()
        except Exception as error:
            if is_thrown_by_signal(error):
                raise
            self._note_outage(error)

    def _note_outage(self, error: Exception) -> None:
        if not self._is_down:
            self._is_down = True
            logger.error(
                "External ids cannot be stored, requests of the bank are refused until they can "
                "be: %s",
                describe(error),
            )

    def _note_recovery(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.info("External ids can be stored again")


def _has(ids: object, *methods: str) -> bool:
    return all(callable(getattr(ids, method, None)) for method in methods)


@attrs.define
class Claim:
    """The claim of one request: on its external id, and on the payment that it tells of.

    Args:
        ledger: The memory of claims.
        namespace: Begins all keys of the client.
        key: Of the external id, claimed already.
        answer_key: Where the answer is kept for a repeated request; None for nowhere.
        fingerprint: Of the request's body.
    """

    ledger: Ledger
    namespace: str
    key: str
    answer_key: str | None = None
    fingerprint: str = ""
    _more: list[str] = attrs.field(factory=list, init=False)

    def add(self, key: str) -> bool:
        """Claim one more key, until the function has ended; return False if it is taken.

        Args:
            key: As of :meth:`Ledger.claim`.
        """
        if not self.ledger.claim(key):
            return False
        self._more.append(key)
        return True

    def renew(self) -> None:
        for key in (self.key, *self._more):
            self.ledger.renew(key)

    def settle(self, reply: Reply, *, is_late: bool) -> None:
        """Note how it ended: released for the bank to repeat it, or kept.

        Args:
            reply: The function's.
            is_late: Whether the bank has been answered with 504 already.
        """
        for key in self._more:
            self.ledger.release(key)
        if is_late or reply.http_status >= 500:
            self.ledger.release(self.key)
            return
        if self.answer_key is not None:
            answer = {"of": self.fingerprint, "code": reply.code, "body": reply.content.decode()}
            self.ledger.remember(self.answer_key, answer, KEPT_SECS)
        self.ledger.keep(self.key)
