"""Flask: settings in ``app.config``, a signed session in every request, webhooks, a command.

::

    permata = PermataAuthExtension()

    def create_app():
        app = Flask(__name__)
        permata.init_app(app)
        app.register_blueprint(blueprint, url_prefix="/permata")
        return app

    @app.post("/balance")
    def balance():
        return permata.session.post(url, json=inquiry).json()

The settings are ``app.config["PERMATA_TOKEN_URL"]`` and so on, under the names of the environment
variables, and the environment's own values for what is not in ``app.config``. Besides those of the
credentials: ``PERMATA_TOKEN_STORE`` (a URL or a TokenStore), ``PERMATA_REFRESH_BUFFER_SECS``,
``PERMATA_MIN_SCHEDULE_TIME_SECS``, ``PERMATA_BACKGROUND``; for webhooks
``PERMATA_CALLBACK_STATUS_URL``, ``PERMATA_APP_SECRETS``, ``PERMATA_MAX_BODY_BYTES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from ..callback_status import CallbackStatusClient
from ..events import Event
from ..exceptions import PermataAuthError
from ..handler import LoginHandler
from ..webhook import WebhookProcessor
from ._services import Services, failure

try:
    import click
    from flask import Blueprint, Flask, Response, current_app, jsonify, request
    from flask.cli import AppGroup
    from werkzeug.exceptions import RequestEntityTooLarge
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.flask needs Flask: pip install 'permata-auth[flask]'"
    ) from _error

_KEY = "permata_auth"


class PermataAuthExtension:
    """The handler of the current application, and what goes with it.

    ``handler``: one to be used by every application of this extension; otherwise each makes its
    own from its settings, at first use. ``on_event``: the event hook of those. May be made at
    import, in a process that forks its workers too: neither it nor ``init_app()`` starts a thread,
    opens a connection or reads a setting.

    The properties need an application context, which every request and command has.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        handler: LoginHandler | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self._handler = handler
        self._on_event = on_event
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put this extension to use in ``app``, and add the commands ``flask permata …``."""
        app.extensions[_KEY] = Services(app.config, handler=self._handler, on_event=self._on_event)
        app.cli.add_command(commands)

    @property
    def handler(self) -> LoginHandler:
        """The current application's handler. Raises ConfigurationError for wrong settings."""
        return _services().handler

    @property
    def session(self) -> requests.Session:
        """A session whose calls are authorised, one for all threads of this process.

        A call waits 5 s to connect and 30 s for each read, unless ``timeout=`` says otherwise.
        """
        return _services().session

    @property
    def callback_status(self) -> CallbackStatusClient:
        """The client for ``PERMATA_CALLBACK_STATUS_URL``."""
        return _services().callback_status

    @property
    def webhooks(self) -> WebhookProcessor:
        """What the blueprint answers webhooks with."""
        return _services().webhooks


def _services() -> Services:
    try:
        services: Services = current_app.extensions[_KEY]
    except KeyError:
        raise RuntimeError("PermataAuthExtension.init_app() was not called for this app") from None
    return services


#: ``POST /webhook`` and ``GET /health``. They check no CSRF token: where an extension does so for
#: all views, exempt this blueprint. ``PERMATA_APP_SECRETS`` is what tells the sender.
blueprint = Blueprint("permata_auth", __name__)


@blueprint.post("/webhook")
def webhook() -> tuple[Response, int]:
    """Answer one webhook with what the bank says to it. Blocks as long as the bank takes."""
    processor = _services().webhooks
    try:
        body = _body(processor._max_body_bytes)
    except RequestEntityTooLarge:  # MAX_CONTENT_LENGTH of the app
        status, document = failure(413, "the body is too large")
    else:
        answer = processor.process(body, dict(request.headers))
        status, document = answer.http_status, answer.body
    return jsonify(document), status


def _body(limit: int) -> bytes:
    """Read the body, or one byte more than is allowed, which tells enough of a larger one."""
    body = bytearray()
    while len(body) <= limit and (chunk := request.stream.read(limit + 1 - len(body))):
        body += chunk  # a stream may give less than it is asked for
    return bytes(body)


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """Say whether calls can be authorised: 200, or 503 after a failed login. Never blocks."""
    status, document = _services().health()
    return jsonify(document), status


commands = AppGroup("permata", help="Access tokens of PermataBank.")


@contextmanager
def _expected_errors() -> Iterator[None]:
    try:
        yield
    except PermataAuthError as error:
        raise click.ClickException(str(error)) from None


@commands.command()
def token() -> None:
    """Print one access token to stdout, from the token store or a login."""
    with _expected_errors():
        click.echo(_services().handler.get_token())


@commands.command()
def status() -> None:
    """Check the settings and show the shared token, if any. Logs nobody in."""
    with _expected_errors():
        for name, value in _services().status().items():
            click.echo(f"{name}: {value}")
