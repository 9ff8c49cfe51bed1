"""The bank's SNAP calls in a Django project.

::

    # urls.py
    re_path(r"^v[0-9.]+/", snap_view())

    # ready() of an AppConfig
    get_receiver().on_payment(book)

The settings are ``PERMATA_AUTH["SNAP_INBOUND_CLIENT_KEY"]`` and so on, or else the environment's.
``SNAP_INBOUND_EXTERNAL_IDS`` may be ``cache:`` and the alias of a cache that all processes share,
or an object with the methods of ExternalIds. ``manage.py permata_snap`` shows them.
"""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from ...snap_inbound import SnapReceiver
from ...snap_inbound.checks import MAX_BODY_BYTES
from .._snap import raw_path
from ._databases import own_connections
from ._services import current

_TOO_LARGE = b" " * (MAX_BODY_BYTES + 1)


def get_receiver() -> SnapReceiver:
    """Return this project's receiver. Raises ConfigurationError for wrong settings."""
    return current().receiver


def snap_view(receiver: SnapReceiver | None = None) -> Callable[..., HttpResponse]:
    """Return a view that has ``receiver`` answer each request.

    The path is verified as the server received it, which gunicorn and uWSGI tell; elsewhere it is
    escaped anew. The view checks no CSRF token: the bank's signature tells the sender. The
    merchant's function runs on a thread of its own, outside of the request's transaction; database
    connections that it opens there are closed when it ends.

    Args:
        receiver: Of the bank's calls. Blocks for its time limit at most. None for the project's
            own, made from its settings at the first request.
    """

    @csrf_exempt
    def view(request: HttpRequest, *_: object, **__: object) -> HttpResponse:
        found = (receiver or get_receiver()).process(
            request.method or "",
            raw_path(request.META),
            list(request.headers.items()),
            _body(request),
            around=own_connections,
        )
        return HttpResponse(found.body, status=found.http_status, headers=dict(found.headers))

    return view


def _body(request: HttpRequest) -> bytes:
    """Return the body, or one byte more than is allowed; nothing where it cannot be had."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    # Before Django reads it: its own limit may be larger, or off.
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return _TOO_LARGE
    try:
        return request.body
    except RequestDataTooBig:
        return _TOO_LARGE
    except OSError:  # it broke off on its way
        return b""
