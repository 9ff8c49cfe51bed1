"""Every error that permata_auth raises.

::

    PermataAuthError
    ├── ConfigurationError (ValueError)        a setting is missing or wrong
    ├── TransportError                         no HTTP response arrived
    │   ├── RequestTimeoutError (TimeoutError)
    │   └── CertificateError                   the server's TLS certificate was refused
    ├── TokenEndpointError                     the token endpoint responded, but with no token
    │   ├── InvalidRequestError                RFC 6749 section 5.2 ``invalid_request``
    │   ├── InvalidClientError                 ``invalid_client``: the credentials were refused
    │   ├── InvalidGrantError                  ``invalid_grant``
    │   ├── UnauthorizedClientError            ``unauthorized_client``
    │   ├── UnsupportedGrantTypeError          ``unsupported_grant_type``
    │   ├── InvalidScopeError                  ``invalid_scope``
    │   ├── ClockError                         the bank refused our timestamp
    │   ├── TokenEndpointUnavailableError      429 or 5xx
    │   └── InvalidTokenResponseError          a 2xx that holds no usable token
    ├── CallbackStatusError                    a callback status could not be delivered
    ├── SignatureError                         a request or a webhook cannot be signed or verified
    ├── WebhookPayloadError                    a webhook's body is not acceptable
    └── TokenStoreError                        a shared token store failed

``retryable`` says whether the same call may succeed later with nothing changed, ``retry_after``
after how many seconds at the earliest, where that is known. No error holds a request, a response,
a token or a secret; all of them survive :mod:`pickle` and :mod:`copy`.

After a failed login no other one starts for a while. A call with a live token never notices; a call
without one raises a copy of the error at once, whose ``retry_after`` is the rest of the pause.

=======================================  ============================================  =============
after                                    pause                                         for
=======================================  ============================================  =============
no response, 429, 5xx                    0.25 to 0.5 s, doubled each time to 5 s       callers,
                                                                                       ``refresh()``
the same in the background               1 s, doubled to 60 s, with one attempt in     the timer
                                         the last 10 s before expiry
the same with ``Retry-After``            as long as it says, 300 s at most             everything
refused credentials                      5 s (``refusal_memory_secs``), doubled to     callers, the
                                         300 s                                         timer
any other failure                        5 s, doubled to 60 s                          callers, the
                                                                                       timer
the second token in a row that the bank  5 s, doubled to 300 s; meanwhile the token    callers, the
rejects before it accepted a call        stays, and callers get the bank's response    timer
=======================================  ============================================  =============

A success ends all pauses. With a token store all processes share one series of attempts; a worker
with corrected secrets is not held up by the others.
"""

from __future__ import annotations


class PermataAuthError(Exception):
    """The root of the tree: catch it to catch everything that this library raises on purpose.

    Attributes:
        retryable: Whether the same call may succeed later with nothing changed.
        retry_after: The seconds until it makes sense to try again, or None where that is unknown.
        handler: The name of the handler that raised the error, shown at the end of its text.
    """

    retryable: bool = False
    retry_after: float | None = None
    handler: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} [{self.handler}]" if self.handler else text


class ConfigurationError(PermataAuthError, ValueError):
    """A setting is missing or malformed; the operator corrects it."""


class TransportError(PermataAuthError):
    """No HTTP response arrived; the message names the remedy, ``retryable`` says if waiting helps.

    The message names the step that failed: the name's look-up, connecting, TLS, a proxy, the
    protocol.

    Args:
        message: The sentence that ``str()`` shows.
        retry_after: The seconds until it makes sense to try again; None where that is unknown.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimeoutError(TransportError, TimeoutError):
    """No response arrived in the time allowed; wait, or allow more time."""


class CertificateError(TransportError):
    """The server's TLS certificate was refused; the operator checks the URL and the CA bundle."""

    retryable = False


class TokenEndpointError(PermataAuthError):
    """The token endpoint responded without a token; the message names the remedy.

    Args:
        message: The sentence that ``str()`` shows.
        status_code: The HTTP status of the response, or None.
        error: The bank's error code, or None. Like the description it is in the bank's own words,
            shortened, and with every credential removed.
        error_description: The bank's sentence for a person, or None.
        retry_after: The seconds that the bank asks to wait (``Retry-After``), or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error = error
        self.error_description = error_description
        self.retry_after = retry_after


class InvalidRequestError(TokenEndpointError):
    """The bank found the token request malformed; the operator checks URL and header names."""


class InvalidClientError(TokenEndpointError):
    """The bank refused the credentials; the operator corrects them."""


class InvalidGrantError(TokenEndpointError):
    """The bank refused the grant; the operator asks the bank to enable it."""


class UnauthorizedClientError(TokenEndpointError):
    """This client may not use client credentials; the operator asks the bank to allow it."""


class UnsupportedGrantTypeError(TokenEndpointError):
    """The endpoint knows no client credentials grant; the operator checks the token URL."""


class InvalidScopeError(TokenEndpointError):
    """The bank refused the scope; the operator asks the bank which scopes the client has."""


class ClockError(TokenEndpointError):
    """The bank refused our timestamp; the operator corrects this machine's clock."""


class TokenEndpointUnavailableError(TokenEndpointError):
    """The token endpoint is overloaded or down (429, 5xx); wait."""

    retryable = True


class InvalidTokenResponseError(TokenEndpointError):
    """A 2xx response with no usable token; the bank corrects it, or the operator the token URL."""


class CallbackStatusError(PermataAuthError):
    """A callback status could not be delivered; the message says whether to send it again.

    Args:
        message: The sentence that ``str()`` shows.
        retryable: Whether waiting may help; not by default, as a wrong payload stays wrong.
        status_code: The HTTP status of the bank's response, or None.
        retry_after: The seconds that the bank asks to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        status_code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status_code = status_code
        self.retry_after = retry_after


class SignatureError(PermataAuthError):
    """A request cannot be signed, or a signature does not match; the caller corrects it."""


class WebhookPayloadError(PermataAuthError):
    """A webhook's body is not acceptable; its sender corrects it.

    Args:
        message: The sentence that ``str()`` and the response show.
        status_code: The HTTP status of the response; 400 by default, a malformed request.
    """

    def __init__(self, message: str, *, status_code: int = 400) -> None:
        super().__init__(message)
        self.status_code = status_code


class TokenStoreError(PermataAuthError):
    """A shared token store failed; the operator repairs it, logins go on without it."""

    retryable = True
