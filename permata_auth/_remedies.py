"""The further tries of a call that the bank has refused."""

from __future__ import annotations

from ._clock_offset import Reading
from ._rotation import rotation_of
from .handler import LoginHandler
from .schemes.base import Scheme, is_signature_rejected, is_timestamp_rejected


class Remedies:
    """The remedies of one call, each tried once: a new token, a right timestamp, other credentials.

    Args:
        handler: Replaces its token, corrects the timestamps, and has the credentials.
        signed_by: The credentials that the call was signed with; None: it is still to be signed.
    """

    def __init__(self, handler: LoginHandler, signed_by: Scheme | None = None) -> None:
        self._handler = handler
        self._rotation = rotation_of(handler.credentials)
        self._signed_by = signed_by or self._rotation.current
        self._other: Scheme | None = None
        self._tried: set[str] = set()

    def signer(self) -> Scheme:
        """Return the credentials to sign the call with now; its response goes to :meth:`apply`."""
        self._signed_by = self._other or self._rotation.current
        return self._signed_by

    def apply(self, token: str, status_code: int, body: bytes, reading: Reading) -> bool:
        """Note how the bank received the call; return whether to sign and send it once more.

        Blocks for a store alone, after a rejected token, and for credentials that are looked at,
        5 seconds at most, after a refused signature.

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
        if is_signature_rejected(self._signed_by, status_code, body):
            return self._change_signer()
        if self._other is not None and status_code < 400:
            self._rotation.accept(self._other)
        if not is_timestamp_rejected(handler.credentials, status_code, body):
            return False
        is_second = "clock" in self._tried
        self._tried.add("clock")
        return handler.clock.correct(reading, is_second=is_second)

    def _change_signer(self) -> bool:
        """Have the call signed by the credentials that came meanwhile, or by those of before."""
        if "signer" in self._tried:
            return False
        self._tried.add("signer")
        self._other = self._rotation.other_signer(self._signed_by)
        return self._other is not None
