"""What is tried again after the bank has refused a call."""

from __future__ import annotations

from ._clock_offset import Reading
from .handler import LoginHandler
from .schemes.base import is_timestamp_rejected


class Remedies:
    """The remedies of one call, each of which is tried once: a new token, a corrected timestamp.

    Args:
        handler: Replaces its token, and corrects the timestamps that its credentials sign.
    """

    def __init__(self, handler: LoginHandler) -> None:
        self._handler = handler
        self._tried: set[str] = set()

    def apply(self, token: str, status_code: int, body: bytes, reading: Reading) -> bool:
        """Note how the bank received the call; return whether to sign and send it once more.

        Blocks for a store alone, after a rejected token.

        Args:
            token: The value that the call carried.
            status_code: The HTTP status of the response.
            body: The body of the response; needed for 400, 401 and 403 alone.
            reading: The response, as far as it shows the bank's clock.
        """
        handler = self._handler
        if handler.note_response(token, status_code, body, is_second="token" in self._tried):
            self._tried.add("token")
            return True
        if not is_timestamp_rejected(handler.credentials, status_code, body):
            return False
        is_second = "clock" in self._tried
        self._tried.add("clock")
        return handler.clock.correct(reading, is_second=is_second)
