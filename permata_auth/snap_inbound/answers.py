"""The responses to the bank: response codes, the merchant's own answers and refusals, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from ..schemes.jakarta import timestamp

MAX_MESSAGE_CHARS = 150  # of a responseMessage, by the standard

_CODE = re.compile(r"[2-5][0-9]{2}[0-9A-Za-z]{2}[0-9]{2}")


@attrs.frozen(kw_only=True)
class SnapResponse:
    """The response to one request of the bank, for a web framework to write.

    Args:
        http_status: The HTTP status.
        headers: Its headers, by name.
        body: The bytes of its body.
    """

    http_status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class SnapAnswer:
    """The answer of a merchant's function, where a dict alone does not say enough.

    Args:
        body: The JSON object. Its ``responseCode``, where it has one, decides over the HTTP status.
        http_status: For a body without ``responseCode``: its first three digits. 200 by default.
    """

    body: Mapping[str, Any]
    http_status: int = attrs.field(default=200, kw_only=True)


class SnapRefusal(Exception):  # noqa: N818 - an answer of the merchant's, no failure
    """Raised by a merchant's function to answer with a code of the standard.

    ``SnapRefusal("12", "Bill not found")`` is answered with 404ss12. Other cases of 404 are 13
    (wrong amount), 14 (paid) and 19 (expired).

    Args:
        case: The last two digits of the response code.
        message: ``responseMessage``, cut after 150 characters. The bank sees it.
        http_status: The first three digits of the response code. 404 by default, as for bills.
        body: More members of the response; None for none.
    """

    def __init__(
        self,
        case: str,
        message: str,
        *,
        http_status: int = 404,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(case, str) or not re.fullmatch("[0-9]{2}", case):
            raise ValueError("case must be the last two digits of a response code, as a str")
        if isinstance(http_status, bool) or http_status not in range(200, 600):
            raise ValueError("http_status must be a whole number from 200 to 599")
        super().__init__(message)
        self.case = case
        self.message = str(message)[:MAX_MESSAGE_CHARS]
        self.http_status = http_status
        self.body = dict(body or {})

    def __reduce__(self) -> Any:
        return _refusal, (type(self), self.case, self.message, self.http_status, self.body)


def _refusal(
    kind: type[SnapRefusal], case: str, message: str, http_status: int, body: dict[str, Any]
) -> SnapRefusal:
    return kind(case, message, http_status=http_status, body=body)


class CheckFailed(SnapRefusal):
    """A request that did not pass one of the receiver's own checks.

    Args:
        check: The name of the check, for records of the log and events.
        http_status: The first three digits of the response code.
        case: Its last two digits.
        message: ``responseMessage``. The bank sees it.
    """

    def __init__(self, check: str, http_status: int, case: str, message: str) -> None:
        super().__init__(case, message, http_status=http_status)
        self.check = check

    def __reduce__(self) -> Any:
        return CheckFailed, (self.check, self.http_status, self.case, self.message)


def bad_request(check: str) -> CheckFailed:
    """Refuse a request that is of no use as a whole.

    Args:
        check: The name of the check; the bank sees it.
    """
    return CheckFailed(check, 400, "00", f"Bad Request. [{check}]")


def bad_format(name: str) -> CheckFailed:
    """Refuse a header or a field that is there, and wrong.

    Args:
        name: The header's or field's, as the standard writes it; the bank sees it.
    """
    return CheckFailed(name, 400, "01", f"Invalid Field Format [{name}]")


def missing(name: str) -> CheckFailed:
    """Refuse for a header or a field that is not there.

    Args:
        name: As in :func:`bad_format`.
    """
    return CheckFailed(name, 400, "02", f"Invalid Mandatory Field [{name}]")


def unauthorized(reason: str) -> CheckFailed:
    """Refuse a sender that is not known to be the bank.

    Args:
        reason: The check that failed, in the standard's words; the sender sees it.
    """
    return CheckFailed(reason, 401, "00", f"Unauthorized. [{reason}]")


def invalid_token() -> CheckFailed:
    """Refuse for a token that is missing, expired, or another's."""
    return CheckFailed("Token", 401, "01", "Invalid Token (B2B)")


def not_found() -> CheckFailed:
    """Refuse a path that has no service."""
    return CheckFailed("Path", 404, "00", "Not Found")


def not_supported() -> CheckFailed:
    """Refuse a method that is not POST."""
    return CheckFailed("Method", 405, "00", "Requested Function Is Not Supported")


def conflict() -> CheckFailed:
    """Refuse an external id that was used before on this day."""
    return CheckFailed("X-EXTERNAL-ID", 409, "00", "Conflict")


def general_error() -> CheckFailed:
    """Say that the function failed, or this package."""
    return CheckFailed("Function", 500, "00", "General Error")


def store_down() -> CheckFailed:
    """Say that external ids cannot be stored: the bank may repeat the call later."""
    return CheckFailed("External ids", 500, "02", "External Server Error")


def too_slow() -> CheckFailed:
    """Say that the function has not ended yet: the bank may repeat the call later."""
    return CheckFailed("Time limit", 504, "00", "Timeout")


@attrs.frozen
class Reply:
    """An answer that is ready to be sent, and to be sent again.

    Args:
        code: ``responseCode``: HTTP status, service and case.
        content: The bytes of the body.
        check: The check that refused the request; None, the default, where none did.
    """

    code: str
    content: bytes = attrs.field(repr=False)
    check: str | None = None

    @property
    def http_status(self) -> int:
        return int(self.code[:3])

    def response(self, client_key: str | None = None) -> SnapResponse:
        """Return it with the headers of now.

        Args:
            client_key: As the bank sent it; for answers to token requests.
        """
        headers = {"Content-Type": "application/json", "X-TIMESTAMP": timestamp(form="seconds")}
        if client_key is not None:
            headers["X-CLIENT-KEY"] = client_key
        return SnapResponse(http_status=self.http_status, headers=headers, body=self.content)


def reply(service: int, given: Mapping[str, Any] | SnapAnswer | SnapRefusal) -> Reply:
    """Return the reply that an answer or a refusal means; raise ValueError or TypeError for others.

    Args:
        service: The code of the service that was called; 0 where none is known.
        given: As a merchant's function returned or raised it.
    """
    if isinstance(given, SnapRefusal):
        code = f"{given.http_status}{service:02d}{given.case}"
        body = {**given.body, "responseCode": code, "responseMessage": given.message}
        check = given.check if isinstance(given, CheckFailed) else None
        return Reply(code, _content(body), check)
    answer = given if isinstance(given, SnapAnswer) else SnapAnswer(given)
    if not isinstance(answer.body, Mapping):
        raise TypeError(f"a function returns a dict or a SnapAnswer, not {type(given).__name__}")
    body = dict(answer.body)
    code = str(body.get("responseCode", f"{answer.http_status}{service:02d}00"))
    if not _CODE.fullmatch(code):
        raise ValueError("responseCode must be an HTTP status, a service code and a case")
    message = body.get("responseMessage", "Successful" if code < "3" else "Refused")
    body |= {"responseCode": code, "responseMessage": str(message)[:MAX_MESSAGE_CHARS]}
    return Reply(code, _content(body))


def _content(body: Mapping[str, Any]) -> bytes:
    first = {name: body[name] for name in ("responseCode", "responseMessage")}
    return json.dumps({**first, **body}, separators=(",", ":"), allow_nan=False).encode()
