"""The causes of a failed exchange, and the step at which it failed."""

from __future__ import annotations

import http.client
import ssl
import traceback
from collections.abc import Iterator

RESOLVING = "the look-up of the host's name"
CONNECTING = "connecting"
_HANDSHAKE = "the TLS handshake"
_SENDING = "sending the request"
_WAITING = "waiting for the response"
_READING = "reading the response"

#: Functions of socket, ssl, http.client, urllib3 and this package, and the step each belongs to.
_STEP_OF = {
    "getaddrinfo": RESOLVING,
    "_new_conn": CONNECTING,
    "do_handshake": _HANDSHAKE,
    "wrap_socket": _HANDSHAKE,
    "ssl_wrap_socket": _HANDSHAKE,
    "_tunnel": "asking the proxy for a tunnel",
    "endheaders": _SENDING,
    "getresponse": _WAITING,
    "_read_response": _READING,
}


def step_of(causes: tuple[BaseException, ...]) -> str:
    """Name the step by the innermost known function, of the innermost cause first.

    Args:
        causes: The exceptions, the outermost first.
    """
    for cause in reversed(causes):
        if isinstance(cause, OSError) and type(cause).__name__ == "gaierror":
            return RESOLVING
        for frame, _ in reversed(list(traceback.walk_tb(cause.__traceback__))):
            if frame.f_code.co_name in _STEP_OF:
                return _STEP_OF[frame.f_code.co_name]
    return "the exchange"


def reason_of(cause: BaseException) -> str:
    """Return the class of a cause, and its reason where that quotes neither side.

    Args:
        cause: The exception.
    """
    reason: object = None
    if isinstance(cause, http.client.RemoteDisconnected):
        reason = "the other side closed the connection"
    elif isinstance(cause, ssl.SSLError):
        reason = cause.reason or cause.strerror
    elif isinstance(cause, OSError):
        reason = cause.strerror
    name = type(cause).__name__
    return f"{name}: {reason}" if isinstance(reason, str) and reason else name


def walk(failure: BaseException) -> Iterator[BaseException]:
    """Walk from an exception of requests down to its innermost cause.

    Args:
        failure: The exception.
    """
    seen: list[BaseException] = []
    at: object = failure
    while isinstance(at, BaseException) and at not in seen:
        seen.append(at)
        yield at
        context = None if at.__suppress_context__ else at.__context__
        inner = [getattr(at, "reason", None), *at.args, at.__cause__, context]
        at = next((i for i in inner if isinstance(i, BaseException) and i not in seen), None)
