"""Login clients whose outcomes a test writes down in advance."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

from permata_auth import AccessToken, PermataCredentials, RetryPolicy, _clock
from permata_auth._http import Response

from .clock import FakeClock
from .threads import PATIENCE

_serial = itertools.count(1)


def credentials(**overrides: Any) -> PermataCredentials:
    """Return credentials for a bank that does not exist."""
    given = {
        "token_url": "https://bank.invalid/apiservice/oauth/token",
        "api_key": "example-api-key",
        "client_id": "example-client-id",
        "client_secret": "example-client-secret",
        "static_key": "example-static-key",
        "organization_name": "example-organization",
    }
    return PermataCredentials(**(given | overrides))


def token(lifetime: float = 900.0, value: str | None = None) -> AccessToken:
    """Return a new token that lives for ``lifetime`` seconds from now."""
    now = _clock.wall()
    return AccessToken(
        value=value or f"example-token-{next(_serial)}",
        issued_at=_clock.to_datetime(now),
        expires_at=_clock.to_datetime(now + lifetime),
    )


class Hold:
    """Keeps one login on its way until it is released."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()

    def wait_arrived(self) -> None:
        assert self.arrived.wait(PATIENCE), "no login came"

    def release(self) -> None:
        self._released.set()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class ScriptedClient:
    """Stands in for a LoginClient; ``login()`` answers with the outcomes given, in their order.

    An outcome is a lifetime in seconds, an AccessToken, an error (class or instance) to raise, or
    a callable that returns one of these. When none is left, ``then`` is used, again and again.
    ``calls`` lists the moments of the logins, on the product's clock.
    """

    def __init__(
        self,
        *outcomes: Any,
        then: Any = 900.0,
        clock: FakeClock | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.outcomes = list(outcomes)
        self.then = then
        self.clock = clock
        self.retry = retry or RetryPolicy()
        self.calls: list[float] = []
        self.issued: list[AccessToken] = []
        self.most_at_once = 0
        self.is_closed = False
        self._at_once = 0
        self._holds: list[Hold] = []

    def hold_next(self) -> Hold:
        """Hold the next login, before it has an outcome."""
        self._holds.append(Hold())
        return self._holds[-1]

    def login(self) -> AccessToken:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.calls.append(_clock.now())
            if self._holds:
                self._wait_at(self._holds.pop(0))
            return self._answer(self.outcomes.pop(0) if self.outcomes else self.then)
        finally:
            self._at_once -= 1

    def close(self) -> None:
        self.is_closed = True

    def _wait_at(self, hold: Hold) -> None:
        hold.arrived.set()
        if self.clock is not None:
            self.clock.park(hold._released)
        assert hold._released.wait(60), "the test forgot to release a login"

    def _answer(self, outcome: Any) -> AccessToken:
        if isinstance(outcome, BaseException) or (
            isinstance(outcome, type) and issubclass(outcome, BaseException)
        ):
            raise outcome
        if callable(outcome):
            return self._answer(outcome())
        answer = outcome if isinstance(outcome, AccessToken) else token(outcome)
        self.issued.append(answer)
        return answer


class ScriptedWire:
    """Stands in for ``permata_auth.login.exchange``: everything above the network is real.

    A response is (status, body) or (status, body, headers); a body that is not bytes goes out as
    JSON. The last one is repeated. ``calls`` lists the moments of the requests.
    """

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)
        self.calls: list[float] = []
        self.answer: Callable[[], Any] | None = None

    def __call__(self, session: Any, method: str, url: str, **request: Any) -> Response:
        self.calls.append(_clock.now())
        if self.answer is not None:
            response = self.answer()
        else:
            response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, BaseException):
            raise response
        status, body, *headers = response
        return Response(
            status_code=status,
            headers=headers[0] if headers else {},
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            is_complete=True,
        )
