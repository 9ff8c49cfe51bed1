"""``permata-auth demo``: a token refreshed under load, and through an outage of the bank."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import click
import requests
from rich.console import RenderableType
from rich.text import Text

from ..events import Event, RefreshScheduled, TokenSwapped
from ..exceptions import PermataAuthError
from ..handler import LoginHandler
from ..login import LoginClient, RetryPolicy
from ..tokens import AccessToken
from .base import cli, example
from .sandbox import new_sandbox
from .screen import Screen, token_rows

if TYPE_CHECKING:
    from ..sandbox import Sandbox


_INQUIRY = b'{"accountNo":"7001234567"}'


@attrs.define(eq=False)
class _Tally:
    """The count of one calling thread. Written by that thread alone."""

    calls: int = 0
    failed: int = 0
    slowest: float = 0.0


class _Witness(LoginHandler):
    """A handler that counts the calls which found no live token, and so waited for a login."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waited: list[None] = []

    def _obtain(self, *args: Any) -> AccessToken:
        self.waited.append(None)  # atomic, unlike += 1
        return super()._obtain(*args)


class _Demo:
    """Many threads that ask for the token without a break, while it is refreshed under them.

    A call is counted as one that waited by fact, not by its duration: a busy machine may stop any
    thread for a while, between any two instructions.
    """

    def __init__(self, bank: Sandbox, scheme: str, seconds: int, threads: int) -> None:
        self.bank, self.seconds, self.is_snap = bank, seconds, scheme == "snap"
        bank.token_lifetime = min(max(seconds / 5, 2.5), 6.0)
        bank.latency = 0.05
        self.screen = Screen()
        self.tallies = [_Tally() for _ in range(threads)]
        self.signed_calls: Counter[str] = Counter()
        self.is_down = False
        self.began: float | None = None
        self.over = threading.Event()
        self.swaps = 0
        self.outage_is_next = threading.Event()
        # The environment's proxy has no way to this machine's loopback.
        self.session = requests.Session()
        self.session.trust_env = False
        self.credentials = bank.snap_credentials() if self.is_snap else bank.credentials()
        # One attempt: all others are left to the scheduler, as the bank's outage is short.
        client = LoginClient(self.credentials, retry=RetryPolicy(attempts=1), session=self.session)
        self.handler = _Witness(self.credentials, client=client, on_event=self._note_event)

    def run(self) -> bool:
        """Show it, print the summary, and return whether no call failed or waited."""
        workers = [threading.Thread(target=self._call, args=[tally]) for tally in self.tallies]
        workers += [threading.Thread(target=each) for each in (self._call_bank, self._take_down)]
        try:
            with self.screen.open(), self.handler:
                try:
                    self._show(workers)
                finally:
                    self.over.set()
                    self.outage_is_next.set()
                for worker in workers:
                    worker.join(5.0)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or a signal to end
            if self.began is not None:
                self._summarise("interrupted; so far ")
            raise
        return self._summarise()

    def _show(self, workers: list[threading.Thread]) -> None:
        for worker in workers:
            worker.daemon = True
            worker.start()
        self.handler.get_token()
        while not all(tally.calls for tally in self.tallies):
            time.sleep(0.01)
        self.screen.note(f"{len(self.tallies)} threads shared {self.bank.logins} first login")
        self.handler.waited.clear()
        self.began = time.perf_counter()
        reports = 1
        while (elapsed := self._elapsed()) < self.seconds:
            if elapsed > reports * self.seconds / 5 and not self.screen.is_live:
                reports += 1
                self.screen.note(f"calls: {self._calls()}, slowest {self._slowest()}")
            progress = f"permata-auth demo, {elapsed:.0f} of {self.seconds} s"
            self.screen.draw(progress, self._picture())
            time.sleep(0.1)

    def _elapsed(self) -> float:
        return 0.0 if self.began is None else time.perf_counter() - self.began

    def _call(self, tally: _Tally) -> None:
        self._ask(tally)
        tally.slowest = 0.0  # that call waited for the first login, as there was no token yet
        # Batches with a pause between them: two processors have to do for all threads, the bank
        # and the refresh.
        while not self.over.wait(len(self.tallies) / 1000):
            for _ in range(100):
                self._ask(tally)

    def _ask(self, tally: _Tally) -> None:
        began = time.perf_counter()
        try:
            self.handler.get_token()
        except PermataAuthError:
            tally.failed += 1
        tally.slowest = max(tally.slowest, time.perf_counter() - began)
        tally.calls += 1

    def _call_bank(self) -> None:
        while not self.over.wait(0.2):
            self.signed_calls[self._call_signed()] += 1

    def _call_signed(self) -> str:
        """Make one signed call, to see that the bank takes the token."""
        url = f"{self.bank.url}/apiservice/InquiryServices/BalanceInfo/inq"
        if self.is_snap:
            url = f"{self.bank.snap_url}/v1.0/balance-inquiry"
        try:
            headers = self.credentials.sign(self.handler.get_token(), "POST", url, _INQUIRY)
            answer = self.session.post(url, data=_INQUIRY, headers=headers, timeout=5.0)
        except (PermataAuthError, requests.RequestException):
            return "unanswered"
        return "accepted" if answer.ok else "refused"

    def _take_down(self) -> None:
        """Take the bank down for three tenths of a token's life, around its refresh at half."""
        self.outage_is_next.wait()
        life = self.bank.token_lifetime
        if self.over.wait(0.4 * life):
            return
        self.screen.note("the bank goes DOWN, shortly before the refresh")
        self.is_down = True
        with self.bank.down():
            self.over.wait(0.3 * life)
        self.is_down = False
        self.screen.note("the bank is back")

    def _note_event(self, event: Event) -> None:
        if isinstance(event, TokenSwapped):
            self.swaps += 1
            if self.swaps > self.seconds / self.bank.token_lifetime * 2 / 3:
                self.outage_is_next.set()
        if not isinstance(event, RefreshScheduled):
            self.screen.note_event(event)

    def _picture(self) -> list[tuple[str, RenderableType]]:
        bank = Text("DOWN", style="bold red") if self.is_down else Text("up", style="green")
        rows = token_rows(self.handler.info(), self.bank.token_lifetime)
        return [*rows, ("Bank", bank), *self._results()]

    def _results(self) -> list[tuple[str, str]]:
        info, signed = self.handler.info(), sorted(self.signed_calls.items())
        refreshes = max(info.logins - 1, 0)
        return [
            ("Calls", f"{self._calls()}, from {len(self.tallies)} threads"),
            ("Failed calls", str(self._failed())),
            ("Waited calls", f"{len(self.handler.waited)} since the first login"),
            ("Slowest call", self._slowest()),
            (
                "Logins",
                f"{info.logins}, {refreshes} of them refreshes; {info.failed_logins} failed",
            ),
            ("Signed calls", ", ".join(f"{count} {outcome}" for outcome, count in signed)),
        ]

    def _calls(self) -> str:
        calls = sum(tally.calls for tally in self.tallies)
        return f"{calls:,}, {calls / max(self._elapsed(), 0.1):,.0f} a second"

    def _failed(self) -> int:
        return sum(tally.failed for tally in self.tallies)

    def _slowest(self) -> str:
        return f"{max(tally.slowest for tally in self.tallies) * 1000:.2f} ms"

    def _summarise(self, beginning: str = "") -> bool:
        is_good = not (self._failed() or self.handler.waited or self.signed_calls["refused"])
        verdict = (
            Text(f"{beginning}no call failed, no call waited for a login", style="bold green")
            if is_good
            else Text(
                f"{beginning}a call failed, was refused, or waited for a login", style="bold red"
            )
        )
        self.screen.summarise([*self._results(), ("Result", verdict)])
        return is_good


@cli.command(epilog=example("permata-auth demo --seconds 10 --threads 100"))
@click.option(
    "--seconds",
    type=click.IntRange(min=5),
    default=30,
    show_default=True,
    help="The length of the demo.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="The number of threads that call.",
)
@click.option(
    "--scheme",
    type=click.Choice(["classic", "snap"]),
    default="classic",
    show_default=True,
    help="The bank's dialect that is spoken.",
)
def demo(seconds: int, threads: int, scheme: str) -> None:
    """Watch a token being refreshed under load, and through an outage of the bank.

    Starts a bank on this machine, whose tokens live for seconds, and calls get_token() from many
    threads. Ends with 1 if a call failed or had to wait for a login.
    """
    with new_sandbox() as bank:
        is_good = _Demo(bank, scheme, seconds, threads).run()
    if not is_good:
        raise click.exceptions.Exit(1)
