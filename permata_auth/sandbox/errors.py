"""The shape that an error has: each dialect of the bank, and the token endpoint, has its own."""

from __future__ import annotations

from typing import Any

from .messages import Inbound, Reply, bank_error, oauth_error
from .snap.services import snap_error

_OAUTH_ERRORS = {400: "invalid_request", 401: "invalid_client"}


def error_reply(request: Inbound, status: int, description: str, **fields: Any) -> Reply:
    """Return an error as the endpoint that was asked has it.

    Args:
        request: Its path decides on the form.
        status: The HTTP status.
        description: The bank's words.
        fields: More of :class:`Reply`.
    """
    if request.is_snap:
        return snap_error(request, status, "00", description, **fields)
    if request.is_login and status in _OAUTH_ERRORS:
        return oauth_error(status, _OAUTH_ERRORS[status], description, **fields)
    return bank_error(status, description, **fields)
