"""How the bank responds to calls: the statuses that pass by themselves, and its JSON envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._json import json_object
from .exceptions import CallbackStatusError

SUCCESS, FAILURE = "00", "06"
#: ``ErrorDescription`` of a call whose signature the bank does not accept.
SIGNATURE_REFUSED = "Signature Not Valid"


def is_temporary(status_code: int) -> bool:
    """Tell whether waiting may help: the server is overloaded (429) or down (5xx).

    Args:
        status_code: The HTTP status of a response.
    """
    return status_code == 429 or status_code >= 500


def unavailable(status_code: int, retry_after: float | None = None) -> CallbackStatusError:
    """Return the error for a call that was answered with a temporary status.

    Args:
        status_code: The HTTP status.
        retry_after: The seconds that the bank asks to wait, if it does.
    """
    return CallbackStatusError(
        f"the bank is overloaded or down (HTTP {status_code}); wait",
        retryable=True,
        status_code=status_code,
        retry_after=retry_after,
    )


def envelope(status_code: str, description: str) -> dict[str, Any]:
    """Return a body in the shape of the bank's own.

    Args:
        status_code: :data:`SUCCESS` or :data:`FAILURE`.
        description: A sentence for a person.
    """
    return {"StatusCode": status_code, "StatusDesc": description}


def read_envelope(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the code and the description in a response's JSON object.

    Args:
        body: The bank's; its gateway has another shape for the calls that it refuses.
    """
    code = body.get("StatusCode", body.get("ErrorCode", FAILURE))
    return str(code), str(body.get("StatusDesc", body.get("ErrorDescription", "")))


def is_signature_refused(body: bytes) -> bool:
    """Tell whether the bank refused a call because of its signature.

    Args:
        body: The body of the response.
    """
    return (json_object(body) or {}).get("ErrorDescription") == SIGNATURE_REFUSED
