"""A pytest plugin, there as soon as permata_auth is installed: a bank for your own tests.

``permata_sandbox``: a bank on this machine, whose tokens live for 900 seconds
(:class:`permata_auth.sandbox.Sandbox`; needs the extra ``sandbox``). ``permata_handler``: a
:class:`LoginHandler` that logs in there, and is shut down after the test. ``no_backoff``: for that
test, attempts of one login or of one delivery follow each other without a wait.

::

    def test_the_bank_is_down_for_a_moment(permata_sandbox, permata_handler, no_backoff):
        permata_sandbox.fail_next(2, status=503)
        assert permata_handler.get_token()
        assert permata_sandbox.login_attempts == 3
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .handler import LoginHandler
    from .sandbox import Sandbox


@pytest.fixture
def permata_sandbox() -> Iterator[Sandbox]:
    """Run a bank on this machine; an error inside it fails the test."""
    from .sandbox import Sandbox  # noqa: PLC0415 - needs an extra

    with Sandbox() as bank:
        yield bank


@pytest.fixture
def permata_handler(permata_sandbox: Sandbox) -> Iterator[LoginHandler]:
    """Make a handler with the credentials of ``permata_sandbox``."""
    from .handler import LoginHandler  # noqa: PLC0415 - what every test session would import

    with LoginHandler(permata_sandbox.credentials()) as handler:
        yield handler


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the waits between attempts zero, ``Retry-After`` included."""
    from .login import RetryPolicy  # noqa: PLC0415 - what every test session would import

    retrying = RetryPolicy.retrying

    def without_waits(*args: object) -> object:
        loop = retrying(*args)  # type: ignore[arg-type]
        loop.wait = lambda _: 0.0
        return loop

    monkeypatch.setattr(RetryPolicy, "retrying", without_waits)
