"""The services of SNAP BI: their codes, their paths below the version, their response codes."""

from __future__ import annotations

from typing import Any

from ..messages import SNAP_PREFIX, Inbound, Reply, json_reply

VERSION = "/v1.0"
TOKEN_PATH = "/access-token/b2b"

#: The path of each service below the version, by its code.
PATHS: dict[str, str] = {
    "11": "/balance-inquiry",
    "12": "/transaction-history-list",
    "13": "/transaction-history-detail",
    "14": "/bank-statement",
    "15": "/account-inquiry-internal",
    "16": "/account-inquiry-external",
    "17": "/transfer-intrabank",
    "18": "/transfer-interbank",
    "19": "/transfer-request-for-payment",
    "20": "/transfer-interbank-bulk",
    "21": "/transfer-interbank-bulk/notify",
    "22": "/transfer-rtgs",
    "23": "/transfer-skn",
    "24": "/transfer-va/inquiry",
    "25": "/transfer-va/payment",
    "26": "/transfer-va/status",
    "27": "/transfer-va/create-va",
    "28": "/transfer-va/update-va",
    "29": "/transfer-va/update-status",
    "30": "/transfer-va/inquiry-va",
    "31": "/transfer-va/delete-va",
    "32": "/transfer-va/inquiry-intrabank",
    "33": "/transfer-va/payment-intrabank",
    "34": "/transfer-va/notify-payment-intrabank",
    "35": "/transfer-va/report",
    "36": "/transfer/status",
    "47": "/qr/qr-mpm-generate",
    "48": "/qr/qr-mpm-decode",
    "50": "/qr/qr-mpm-payment",
    "51": "/qr/qr-mpm-query",
    "52": "/qr/qr-mpm-notify",
    "53": "/qr/qr-mpm-status",
    "54": "/debit/payment-host-to-host",
    "55": "/debit/status",
    "56": "/debit/notify",
    "57": "/debit/cancel",
    "58": "/debit/refund",
    "73": TOKEN_PATH,
    "75": "/transfer-skn/notify",
    "76": "/transfer-rtgs/notify",
    "77": "/qr/qr-mpm-cancel",
    "78": "/qr/qr-mpm-refund",
}

#: The methods of a service, where POST is not the only one.
_METHODS = {"28": ("PUT",), "29": ("PUT",), "31": ("DELETE",), "35": ("GET", "POST")}
_CODES = {SNAP_PREFIX + VERSION + path: code for code, path in PATHS.items()}


def service_code(request: Inbound) -> str | None:
    """Return the code of the service that the path names, or None.

    Args:
        request: Any.
    """
    return _CODES.get(request.path)


def methods(code: str) -> tuple[str, ...]:
    """Return the methods that the service takes.

    Args:
        code: The service's two digits.
    """
    return _METHODS.get(code, ("POST",))


def snap_reply(request: Inbound, status: int, case: str, message: str, **fields: Any) -> Reply:
    """Return a response with its responseCode: HTTP status, service, case.

    Args:
        request: Its path names the service.
        status: The HTTP status.
        case: The last two digits of the code.
        message: ``responseMessage``.
        fields: ``document``, more members of the body; the others are of :class:`Reply`.
    """
    code = f"{status}{service_code(request) or '00'}{case}"
    document = {"responseCode": code, "responseMessage": message}
    return json_reply(status, document | fields.pop("document", {}), **fields)


def snap_error(request: Inbound, status: int, case: str, message: str, **fields: Any) -> Reply:
    """Return an error response; its message is the reason that the bank records, too.

    Args:
        request: As of :func:`snap_reply`, and so all others.
        status: The HTTP status.
        case: The last two digits of the code.
        message: ``responseMessage``.
        fields: More of :class:`Reply`.
    """
    return snap_reply(request, status, case, message, **{"reason": message, **fields})
