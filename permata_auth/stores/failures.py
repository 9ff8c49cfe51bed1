"""The record of a failed login that the processes of a fleet share."""

from __future__ import annotations

from typing import Protocol

import attrs
from attrs import validators

from .. import _clock, exceptions
from .._pace import Pause, Row
from .._settings import duration, is_int, seconds
from ..exceptions import PermataAuthError, TokenEndpointError, TransportError

#: The life of a failure in a store: that of the longest pause, so that the count of failures in a
#: row outlives each pause.
RETENTION_SECS = 300.0
_MAX_TEXT_CHARS = 300

_is_text = validators.instance_of(str)
_may_be_text = validators.optional(_is_text)


def _is_whole_number(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not is_int(value):
        raise TypeError(f"{attribute.name} must be an int")


@attrs.frozen(kw_only=True)
class StoredFailure:
    """A login that failed, as a token store keeps it. Holds no secret.

    Args:
        row: The kind of failure, a value of :class:`~permata_auth._pace.Row`.
        count: The number of failures of this kind in a row, this one included.
        pause: The seconds from the failure to the next login.
        expires_in: The seconds for which the store still keeps the failure; set by the store as it
            loads one.
        proof: A hash that only the credentials which met the failure have, so that a process with
            corrected secrets of the same name is not held up.
        kind: The name of the error's class.
        message: The error's text.
        status_code: The HTTP status of the token endpoint, or None.
        error: The bank's error code, or None.
        error_description: The bank's own words, or None.
        rejected: The fingerprint of the token that the bank rejected, or None for another failure.
    """

    row: str = attrs.field(validator=_is_text)
    count: int = attrs.field(validator=_is_whole_number)
    pause: float = attrs.field(converter=seconds, validator=duration())
    expires_in: float = attrs.field(default=RETENTION_SECS, converter=seconds, validator=duration())
    proof: str = attrs.field(validator=_is_text)
    kind: str = attrs.field(validator=_is_text)
    message: str = attrs.field(validator=_is_text)
    status_code: int | None = attrs.field(
        default=None, validator=validators.optional(_is_whole_number)
    )
    error: str | None = attrs.field(default=None, validator=_may_be_text)
    error_description: str | None = attrs.field(default=None, validator=_may_be_text)
    rejected: str | None = attrs.field(default=None, validator=_may_be_text)

    @classmethod
    def of(cls, pause: Pause, proof: str) -> StoredFailure:
        """Return the record of a pause.

        Args:
            pause: The pause after the failure.
            proof: As the field of this name.
        """
        error = pause.error
        return cls(
            row=pause.row.value,
            count=pause.count,
            pause=pause.until - pause.failed_at,
            proof=proof,
            kind=type(error).__name__,
            message=str(error)[:_MAX_TEXT_CHARS] if isinstance(error, PermataAuthError) else "",
            status_code=getattr(error, "status_code", None),
            error=getattr(error, "error", None),
            error_description=getattr(error, "error_description", None),
            rejected=pause.rejected,
        )

    def to_pause(self) -> Pause:
        """Return the pause that follows from this failure; raise ValueError for an unknown row."""
        failed_at = _clock.now() - max(RETENTION_SECS - self.expires_in, 0.0)
        return Pause(
            row=Row(self.row),
            error=self._to_error(),
            count=self.count,
            failed_at=failed_at,
            until=failed_at + self.pause,
            is_shared=True,
            rejected=self.rejected,
        )

    def _to_error(self) -> PermataAuthError:
        kind = getattr(exceptions, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, PermataAuthError)):
            return TransportError(f"the login of another process failed with {self.kind}")
        error = kind(self.message)
        if isinstance(error, TokenEndpointError):
            error.status_code, error.error = self.status_code, self.error
            error.error_description = self.error_description
        return error


class FailureStore(Protocol):
    """A token store that shares failures too. With any other, each process paces itself."""

    def load_failure(self, key: str) -> StoredFailure | None:
        """Return the stored failure while it is kept, or None where none can be read.

        Args:
            key: The name of the credentials, sometimes with a suffix.
        """

    def save_failure(self, key: str, failure: StoredFailure | None) -> None:
        """Store ``failure`` in place of any other, for its ``expires_in``.

        Args:
            key: As in :meth:`load_failure`.
            failure: The failure; None removes the one that is stored.
        """
