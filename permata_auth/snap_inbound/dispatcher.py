"""The merchant's function, on a thread of its own, for so long as the bank waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from .._latch import Latch, Once
from .._logging import Log
from .._threads import start_daemon
from .answers import Reply, general_error, too_slow
from .answers import reply as reply_of
from .ledger import Claim

logger = Log(__name__)

#: For notes in Redis, after a function that ended in time.
_MAX_SETTLE_SECS = 5.0


def dispatch(
    work: Callable[[], Reply], claim: Claim, *, service: int, time_limit_secs: float
) -> Reply:
    """Run ``work`` and settle its claim; return its reply, or 504 after the time limit.

    After 504 the function runs on. Its claim is renewed until it ends and released then, so that
    the bank may repeat the call.

    Args:
        work: Returns a reply, and never raises.
        claim: Of the request.
        service: The code of the service, for 504.
        time_limit_secs: How long the caller waits.
    """
    done, verdict = Latch(), Once()
    replies: list[Reply] = []

    def run() -> None:
        found = work()
        # A caller whose time is up takes the verdict first, and answers 504: the id is then
        # released. Without it, an id that was answered with 200 could be released, or one that
        # was answered with 504 kept for two days.
        is_late = not verdict.take()
        replies.append(found)
        claim.settle(found, is_late=is_late)
        done.set()

    try:
        start_daemon(run, "snap-function")
    except RuntimeError:
        logger.error("No thread can be started for a function")  # noqa: TRY400 - it says all
        refused = reply_of(service, general_error())
        claim.settle(refused, is_late=False)
        return refused
    try:
        if not done.wait(time_limit_secs) and verdict.take():
            logger.warning("The function for service %02d takes too long", service)
            _keep_claim(claim, done)
            return reply_of(service, too_slow())
        done.wait(_MAX_SETTLE_SECS)
        return replies[0]
    except BaseException:
        verdict.take()  # a signal handler ended the wait: the bank gets no answer, and may repeat
        raise


def _keep_claim(claim: Claim, done: Latch) -> None:
    """Renew a claim until the function has ended: nobody else may call it meanwhile."""

    def renew() -> None:
        while not done.is_set():
            claim.renew()
            done.wait(claim.ledger.claim_secs / 4)

    with suppress(RuntimeError):  # no thread to be had: the claim lasts for its first time
        start_daemon(renew, "snap-claim")
