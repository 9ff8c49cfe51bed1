"""The bank's SNAP calls in a Flask application.

::

    receiver = snap_receiver(app)
    receiver.on_payment(book)
    app.register_blueprint(snap_blueprint(receiver))

The settings are ``app.config["PERMATA_SNAP_INBOUND_CLIENT_KEY"]`` and so on, under the names of
the environment variables; each that is not in ``app.config`` comes from the environment. ``flask
permata snap`` shows them.
"""

from __future__ import annotations

from .._app_settings import Settings
from ..snap_inbound import SnapReceiver
from ..snap_inbound.checks import MAX_BODY_BYTES
from ._snap import raw_path

try:
    from flask import Blueprint, Flask, Response, request
    from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.flask_snap needs Flask: pip install 'permata-auth[flask]'"
    ) from _error

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def snap_receiver(app: Flask) -> SnapReceiver:
    """Return a new receiver from the settings of an application.

    Raises ConfigurationError for settings that are wrong.

    Args:
        app: Its ``config`` has the settings; those that it lacks come from the environment.
    """
    return SnapReceiver.from_env(Settings(app.config))


def snap_blueprint(receiver: SnapReceiver) -> Blueprint:
    """Return a blueprint that has ``receiver`` answer every path below a version (``/v1.0/…``).

    A prefix of the bank's own is the ``url_prefix`` of its registration. It checks no CSRF token:
    where an extension does so for all views, exempt it. The path is verified as the server
    received it, which gunicorn, uWSGI and Flask's own server tell; elsewhere it is escaped anew.

    Args:
        receiver: Of the bank's calls. Blocks for its time limit at most.
    """
    snap = Blueprint("permata_snap", __name__)

    @snap.route("/<version>/<path:below>", methods=_METHODS, merge_slashes=False)
    def answer(**_: str) -> Response:
        found = receiver.process(
            request.method, raw_path(request.environ), list(request.headers), _body()
        )
        return Response(found.body, found.http_status, headers=dict(found.headers))

    return snap


def _body() -> bytes:
    """Return the body, or one byte more than is allowed; nothing where it broke off."""
    limit = MAX_BODY_BYTES + 1
    body = bytearray()
    try:
        while len(body) < limit and (chunk := request.stream.read(limit - len(body))):
            body += chunk  # a stream may give less than it is asked for
    except RequestEntityTooLarge:  # MAX_CONTENT_LENGTH of the app
        return b" " * limit
    except (ClientDisconnected, OSError):
        return b""
    return bytes(body) or request.get_data()  # where something has read it before this view
