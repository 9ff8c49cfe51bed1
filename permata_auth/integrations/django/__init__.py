"""Django: settings in ``PERMATA_AUTH``, checks, webhooks, commands, and tokens in the cache.

::

    INSTALLED_APPS = [..., "permata_auth.integrations.django"]
    PERMATA_AUTH = {
        "TOKEN_URL": "https://bank.invalid/apiservice/oauth/token",
        "TOKEN_STORE": "cache:default",
    }

    # urls.py
    path("permata/", include("permata_auth.integrations.django.urls"))

    # anywhere
    from permata_auth.integrations.django import get_session
    get_session().post(url, json=inquiry)

The keys of ``PERMATA_AUTH`` are the names of the environment variables without ``PERMATA_``; each
setting that is not there comes from the environment. Besides those of the credentials:
``TOKEN_STORE`` (a URL, ``cache:`` and the alias of a cache, or a TokenStore),
``REFRESH_BUFFER_SECS``, ``MIN_SCHEDULE_TIME_SECS``, ``BACKGROUND``, ``STOP_WHEN_IDLE``,
``CLOCK_CORRECTION``, ``WARM_UP`` (each process fetches a token in the background from its first
request or probe on), ``ON_EVENT`` (a callable, or its dotted path); for webhooks
``CALLBACK_STATUS_URL``, ``APP_SECRETS`` (a list, or text with commas in between),
``ALLOW_UNSIGNED_WEBHOOKS``, ``WEBHOOK_VERIFY_TOKEN``, ``MAX_BODY_BYTES``.
Without an app secret the webhook endpoint answers 503, unless unsigned webhooks are allowed. A
middleware may read the body of a webhook before by ``request.body``; where it has used the stream
up, the response is 400.

``manage.py check`` names every setting that is missing or wrong, ``manage.py permata_status`` shows
the shared token, ``manage.py permata_token`` prints one, and ``manage.py permata_doctor`` tries
everything out.

Nothing happens before the first use: no thread, no connection, no login. With ``WARM_UP`` the first
request of a process counts as one.
"""

from __future__ import annotations

import requests

from ...callback_status import CallbackStatusClient
from ...handler import LoginHandler

try:
    import django as _django
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.django needs Django: pip install 'permata-auth[django]'"
    ) from _error

from ._services import current

__all__ = ["get_callback_status", "get_handler", "get_session", "warm_up"]

del _django


def get_handler() -> LoginHandler:
    """Return this project's handler. Raises ConfigurationError for wrong settings."""
    return current().handler


def get_session() -> requests.Session:
    """Return a session whose calls are authorised, one for all threads of this process.

    A call waits 5 s to connect and 30 s for each read, unless ``timeout=`` says otherwise.
    """
    return current().session


def get_callback_status() -> CallbackStatusClient:
    """Return the client for ``CALLBACK_STATUS_URL``."""
    return current().callback_status


def warm_up() -> None:
    """Have a token fetched in the background of this process; returns at once.

    For a hook that a server calls in each worker, such as ``post_worker_init`` of gunicorn;
    ``WARM_UP`` does so at the first request. Raises ConfigurationError for wrong settings.
    """
    current().warm_up()
