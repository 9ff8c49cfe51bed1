"""One authorised call: sent with a token, and once more with another if the bank rejects it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from . import _clock
from ._http import Reply
from .exceptions import PermataAuthError
from .handler import LoginHandler

_MIN_WAIT_SECS = 0.001


class LoginFailedError(Exception):
    """There is no token for a call; ``error`` says why. The login has had its own attempts."""

    def __init__(self, error: PermataAuthError) -> None:
        super().__init__(str(error))
        self.error = error


@attrs.define(eq=False)
class Call:
    """A call, whose token is replaced once in all its attempts. Not thread-safe.

    Args:
        handler: Gives the tokens, and judges the responses.
        send: Signs and sends the call with a token, and returns the response.
        until: When waiting for a token has to be over, on :mod:`permata_auth._clock`.
    """

    _handler: LoginHandler
    _send: Callable[[str], Reply]
    _until: float
    _has_renewed: bool = attrs.field(default=False, init=False)

    def attempt(self) -> Reply:
        """Send the call and return the response; send it once more after a rejected token.

        Raises LoginFailedError, and the errors of ``send``.
        """
        token = self._token()
        reply = self._send(token)
        if self._handler.note_response(
            token, reply.status_code, reply.body, is_second=self._has_renewed
        ):
            self._has_renewed = True
            return self.attempt()
        return reply

    def _token(self) -> str:
        try:
            return self._handler.get_token(max(self._until - _clock.now(), _MIN_WAIT_SECS))
        except PermataAuthError as error:
            raise LoginFailedError(error) from None
