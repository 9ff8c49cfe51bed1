"""One authorised call: signed, sent, and sent once more where there is a remedy for a refusal."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs

from . import _clock
from ._clock_offset import Reading
from ._http import Response
from ._remedies import Remedies
from .exceptions import PermataAuthError
from .handler import LoginHandler
from .schemes.base import needs_token

_MIN_WAIT_SECS = 0.001

#: ``Scheme.sign`` with the token and the clock's offset bound to it.
Sign = Callable[..., dict[str, str]]


class LoginFailedError(Exception):
    """There is no token for a call; ``error`` says why. Its login has had its own attempts."""

    def __init__(self, error: PermataAuthError) -> None:
        super().__init__(str(error))
        self.error = error


@attrs.define(eq=False)
class Call:
    """A call in all its attempts, in which each remedy is tried once. Not thread-safe.

    Args:
        handler: Gives the tokens, and judges the responses.
        url: The call's URL.
        send: Signs with the function that it is given, sends, and returns the response.
        until: The moment by which the wait for a token has to end, on :mod:`permata_auth._clock`.
    """

    _handler: LoginHandler
    _url: str
    _send: Callable[[Sign], Response]
    _until: float
    _remedies: Remedies = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._remedies = Remedies(self._handler)

    def attempt(self) -> Response:
        """Sign and send the call, once more where there is a remedy; return the response.

        Raises LoginFailedError, and the errors of ``send``.
        """
        token = self._token()
        used, began = self._handler.clock.current, _clock.now()
        signer = self._remedies.signer()
        response = self._send(functools.partial(signer.sign, token, **used.arguments))
        took = _clock.now() - began
        reading = Reading(url=self._url, headers=response.headers, took=took, used=used)
        if self._remedies.apply(token, response.status_code, response.body, reading):
            return self.attempt()
        return response

    def _token(self) -> str:
        if not needs_token(self._handler.credentials):
            return ""
        try:
            return self._handler.get_token(max(self._until - _clock.now(), _MIN_WAIT_SECS))
        except PermataAuthError as error:
            raise LoginFailedError(error) from None
