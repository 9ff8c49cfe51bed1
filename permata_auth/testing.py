"""A pytest plugin, there as soon as permata_auth is installed: a bank for your own tests.

===================  =============================================================================
permata_sandbox      a bank on this machine, whose tokens live for 900 seconds
                     (:class:`permata_auth.sandbox.Sandbox`; needs the extra ``sandbox``)
permata_handler      a :class:`LoginHandler` that logs in there, shut down after the test
permata_environment  the ``PERMATA_…`` variables of that bank, set for the test, and no others
permata_clock        ``permata_clock.move(901)``: tokens are older by so many seconds; with it, they
                     also age when freezegun or time-machine move the time
no_backoff           attempts of one login or of one delivery follow each other without a wait
===================  =============================================================================

::

    def test_the_bank_is_down_for_a_moment(permata_sandbox, permata_handler, no_backoff):
        permata_sandbox.fail_next(2, status=503)
        assert permata_handler.get_token()
        assert permata_sandbox.login_attempts == 3

    def test_an_expired_token_is_replaced(permata_sandbox, permata_handler, permata_clock):
        token = permata_handler.get_token()
        permata_clock.move(901)
        assert permata_handler.get_token() != token
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .handler import LoginHandler
    from .sandbox import Sandbox

_LOOPBACK = "127.0.0.1,localhost,::1"


@pytest.fixture
def permata_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Run a bank on this machine; an error inside it fails the test.

    Args:
        monkeypatch: Excepts this machine from the proxy of the environment, until the test ends.
    """
    from .sandbox import Sandbox  # noqa: PLC0415 - needs an extra

    # A proxy that the environment names cannot reach this machine's loopback.
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), _LOOPBACK])))
    with Sandbox() as bank:
        yield bank


@pytest.fixture
def permata_handler(permata_sandbox: Sandbox) -> Iterator[LoginHandler]:
    """Make a handler with the credentials of the bank, and shut it down after the test.

    Args:
        permata_sandbox: The bank.
    """
    from .handler import LoginHandler  # noqa: PLC0415 - else every test session would import it

    with LoginHandler(permata_sandbox.credentials()) as handler:
        yield handler


@pytest.fixture
def permata_environment(
    permata_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Set the variables that point a client at the bank, and return them by their names.

    Args:
        permata_sandbox: The bank.
        monkeypatch: Sets them, and hides all other ``PERMATA_…`` ones, until the test ends.
    """
    for name in list(os.environ):
        if name.startswith("PERMATA_"):
            monkeypatch.delenv(name)
    environment = permata_sandbox.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


class PermataClock:
    """The clock of token lifetimes, which a test moves; made by ``permata_clock``.

    It goes with the time of the process: the wall clock, or the time that freezegun or
    time-machine set. Signatures bear that time unmoved, since the bank checks it.

    Args:
        now: The seconds that it shows at first, on the clock of :mod:`permata_auth._clock`.
    """

    def __init__(self, now: float) -> None:
        self._offset = now - _wall()
        self._moved = 0.0

    def move(self, seconds: float) -> None:
        """Let so many seconds pass at once. Timers do not notice: a due refresh comes on demand.

        Args:
            seconds: The time by which all tokens age; a token of the bank lives for 900.
        """
        self._moved += seconds

    def now(self) -> float:
        """Return its seconds."""
        return _wall() + self._offset + self._moved


def _wall() -> float:
    # Not time.time(): freezegun shows the real time to some threads.
    return datetime.datetime.now(datetime.timezone.utc).timestamp()


@pytest.fixture
def permata_clock(monkeypatch: pytest.MonkeyPatch) -> PermataClock:
    """Make tokens age as the test moves the clock, or as it moves the time of the whole process.

    Args:
        monkeypatch: Puts the clock in place, until the test ends.
    """
    from . import _clock, handler  # noqa: PLC0415 - else every test session would import it

    clock = PermataClock(_clock.now())
    monkeypatch.setattr(_clock, "now", clock.now)
    monkeypatch.setattr(_clock, "wall", _wall)
    monkeypatch.setattr(handler, "_now", clock.now)  # its own name for the clock
    return clock


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the waits between attempts zero, ``Retry-After`` included.

    Args:
        monkeypatch: Takes the waits away, until the test ends.
    """
    from .login import RetryPolicy  # noqa: PLC0415 - else every test session would import it

    retrying = RetryPolicy.retrying

    def without_waits(*args: Any, **arguments: Any) -> object:
        loop = retrying(*args, **arguments)
        loop.wait = lambda _: 0.0
        return loop

    monkeypatch.setattr(RetryPolicy, "retrying", without_waits)
