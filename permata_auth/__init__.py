"""Keep PermataBank access tokens fresh: log in once, refresh ahead of expiry, sign every call.

::

    handler = LoginHandler(PermataCredentials.from_env())
    token = handler.get_token()

The names of the design document (Rust) and the names here:

================================================  ================================================
``TokenScheduler::new()``, ``with_config(c)``     ``TokenScheduler()``, ``TokenScheduler(c)``
``start_refresh_scheduler_async``, ``…_simple``   ``TokenScheduler.start(expires_at, callback)``
``get_scheduler_info()``                          ``TokenScheduler.info()``
``get_config()``, ``update_config(c)``            ``TokenScheduler.config``, ``update_config(c)``
``LoginHandler`` (``permata_login.rs``)           ``LoginHandler``; ``LoginClient`` for one login
``get_token_with_context(unique_id, request_id)`` ``get_token(unique_id=…, request_id=…)``
``token_cache.clear()``                           ``LoginHandler.clear_cache()``
``permata_callbackstatus_client.rs``              ``CallbackStatusClient``
``webhook_processor.rs``                          ``WebhookProcessor``
================================================  ================================================

PYTEST_DONT_REWRITE: the pytest plugin is no reason for pytest to warn of an import before it.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__
from .exceptions import (
    CallbackStatusError,
    CertificateError,
    ClockError,
    ConfigurationError,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTokenResponseError,
    PermataAuthError,
    RequestTimeoutError,
    SignatureError,
    TokenEndpointError,
    TokenEndpointUnavailableError,
    TokenStoreError,
    TransportError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
    WebhookPayloadError,
)
from .scheduler import SchedulerConfig, SchedulerInfo, TokenScheduler
from .schemes.classic import PermataCredentials
from .stores.base import TokenStore
from .stores.memory import MemoryTokenStore
from .tokens import AccessToken

if TYPE_CHECKING:
    from .auth import PermataAuth, sign_request
    from .callback_status import CallbackStatusClient, CallbackStatusResponse
    from .handler import HandlerInfo, Health, LoginHandler
    from .login import LoginClient, RetryPolicy
    from .schemes.snap import SnapCredentials
    from .stores.file import FileTokenStore
    from .stores.redis import RedisTokenStore
    from .webhook import WebhookProcessor, WebhookResponse

__all__ = [
    "AccessToken",
    "CallbackStatusClient",
    "CallbackStatusError",
    "CallbackStatusResponse",
    "CertificateError",
    "ClockError",
    "ConfigurationError",
    "FileTokenStore",
    "HandlerInfo",
    "Health",
    "InvalidClientError",
    "InvalidGrantError",
    "InvalidRequestError",
    "InvalidScopeError",
    "InvalidTokenResponseError",
    "LoginClient",
    "LoginHandler",
    "MemoryTokenStore",
    "PermataAuth",
    "PermataAuthError",
    "PermataCredentials",
    "RedisTokenStore",
    "RequestTimeoutError",
    "RetryPolicy",
    "SchedulerConfig",
    "SchedulerInfo",
    "SignatureError",
    "SnapCredentials",
    "TokenEndpointError",
    "TokenEndpointUnavailableError",
    "TokenScheduler",
    "TokenStore",
    "TokenStoreError",
    "TransportError",
    "UnauthorizedClientError",
    "UnsupportedGrantTypeError",
    "WebhookPayloadError",
    "WebhookProcessor",
    "WebhookResponse",
    "sign_request",
]

# These bring requests or an extra along, so each is imported at its first use.
_LAZY = {
    "CallbackStatusClient": ".callback_status",
    "CallbackStatusResponse": ".callback_status",
    "FileTokenStore": ".stores.file",
    "HandlerInfo": ".handler",
    "Health": ".handler",
    "LoginClient": ".login",
    "LoginHandler": ".handler",
    "PermataAuth": ".auth",
    "RedisTokenStore": ".stores.redis",
    "RetryPolicy": ".login",
    "SnapCredentials": ".schemes.snap",
    "WebhookProcessor": ".webhook",
    "WebhookResponse": ".webhook",
    "sign_request": ".auth",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # to a type checker every name would exist

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_LAZY[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
