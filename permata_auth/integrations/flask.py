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
variables; each setting that is not in ``app.config`` comes from the environment. Besides those of
the credentials: ``PERMATA_TOKEN_STORE`` (a URL or a TokenStore), ``PERMATA_REFRESH_BUFFER_SECS``,
``PERMATA_MIN_SCHEDULE_TIME_SECS``, ``PERMATA_BACKGROUND``, ``PERMATA_STOP_WHEN_IDLE``,
``PERMATA_CLOCK_CORRECTION``, ``PERMATA_WARM_UP`` (each process fetches a token in the background
from its first request or probe on); to connect ``PERMATA_CLIENT_CERT``, ``PERMATA_CLIENT_KEY``,
``PERMATA_CLIENT_KEY_PASSWORD``, ``PERMATA_CA_BUNDLE``, ``PERMATA_PROXY``, for logins, callback
statuses and the session's calls alike; for webhooks
``PERMATA_CALLBACK_STATUS_URL``, ``PERMATA_APP_SECRETS`` (a list, or text with commas in between),
``PERMATA_ALLOW_UNSIGNED_WEBHOOKS``, ``PERMATA_WEBHOOK_VERIFY_TOKEN``, ``PERMATA_MAX_BODY_BYTES``.
Without an app secret the webhook endpoint answers 503, unless unsigned webhooks are allowed. A
middleware may read the body of a webhook before where Flask keeps the bytes
(``request.get_data()``); where it has used them up, the response is 400.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from .._app_settings import Settings
from ..callback_status import CallbackStatusClient
from ..events import Event
from ..exceptions import ConfigurationError, PermataAuthError, WebhookPayloadError
from ..handler import LoginHandler
from ..webhook import WebhookProcessor, WebhookResponse
from ._services import ALIVE, Services

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
    """The handler of the current application, with its session and its webhooks.

    May be made at import, in a process that forks its workers too: neither it nor ``init_app()``
    starts a thread, opens a connection or reads a setting. The properties need an application
    context, which every request and command has. Raises ConfigurationError for wrong arguments.

    Args:
        app: An application for :meth:`init_app`, or None for an application factory.
        handler: One handler for every application of this extension; by default each application
            makes its own from its settings, at the first use.
        on_event: The event hook of the handlers that are made; none by default.
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
        self._new_services({})  # refuses wrong arguments here and not at the first request
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> Flask:
        """Put this extension to use in ``app``, and add the commands ``flask permata …``.

        Returns ``app``. An application has one extension, and so one account at the bank: for a
        second one a ConfigurationError is raised. A second account is a
        :class:`permata_auth.LoginHandler` of its own.

        Args:
            app: The application; its settings are read at the first use.
        """
        if not isinstance(app, Flask):
            raise ConfigurationError("app must be a Flask application")
        if _KEY in app.extensions:
            raise ConfigurationError(
                "this app has a PermataAuthExtension already; use a LoginHandler for a second "
                "account at the bank"
            )
        services = app.extensions[_KEY] = self._new_services(app.config)
        # At the first request and no sooner: the master of a server that forks gets none.
        app.before_request(services.keep_warm)
        app.cli.add_command(commands)
        return app

    @property
    def handler(self) -> LoginHandler:
        """The current application's handler. Raises ConfigurationError for wrong settings."""
        return self._services.handler

    @property
    def session(self) -> requests.Session:
        """A session whose calls are authorised, one for all threads of this process.

        A call waits 5 s to connect and 30 s for each read, unless ``timeout=`` says otherwise.
        """
        return self._services.session

    @property
    def callback_status(self) -> CallbackStatusClient:
        """The client for ``PERMATA_CALLBACK_STATUS_URL``."""
        return self._services.callback_status

    @property
    def webhooks(self) -> WebhookProcessor:
        """The processor by which the blueprint answers webhooks."""
        return self._services.webhooks

    def warm_up(self) -> None:
        """Have a token fetched in the background of this process; returns at once.

        For a hook that a server calls in each worker, such as ``post_worker_init`` of gunicorn;
        ``PERMATA_WARM_UP`` does so at the first request. Raises ConfigurationError for wrong
        settings.
        """
        self._services.warm_up()

    @property
    def _services(self) -> Services:
        services = _current()
        if self._handler is not None and services.handler is not self._handler:
            raise RuntimeError("this app has another PermataAuthExtension, with another handler")
        return services

    def _new_services(self, settings: Mapping[str, Any]) -> Services:
        return Services(settings, handler=self._handler, on_event=self._on_event)


def _current() -> Services:
    try:
        services: Services = current_app.extensions[_KEY]
    except KeyError:
        raise RuntimeError("PermataAuthExtension.init_app() was not called for this app") from None
    return services


#: ``POST /webhook``, and ``GET`` of ``/webhook``, ``/health``, ``/health/live``, ``/health/ready``.
#: They check no CSRF token: where an extension does so for all views, exempt this blueprint.
#: ``PERMATA_APP_SECRETS`` identifies the sender of a webhook, ``PERMATA_WEBHOOK_VERIFY_TOKEN`` the
#: sender of a verification.
blueprint = Blueprint("permata_auth", __name__)


@blueprint.post("/webhook")
def webhook() -> Response:
    """Answer one webhook with the bank's response. Blocks as long as the bank takes."""
    return _response(_current().webhook(_body, dict(request.headers)))


@blueprint.get("/webhook")
def verify() -> Response:
    """Answer the provider's verification of this endpoint with its challenge."""
    return _response(_current().verification(request.query_string))


def _response(answer: WebhookResponse) -> Response:
    response = Response(answer.content, answer.http_status, content_type=answer.content_type)
    response.headers["X-Content-Type-Options"] = "nosniff"  # a challenge is never a page
    return response


def _body(limit: int) -> bytes:
    """Return the request's body; of a body that is too large, one byte more than is allowed.

    Where other code has read the body before this view, Flask may have kept the bytes.
    """
    body = bytearray()
    try:
        while len(body) <= limit and (chunk := request.stream.read(limit + 1 - len(body))):
            body += chunk  # a stream may give less than it is asked for
        found = bytes(body) or request.get_data()
    except RequestEntityTooLarge:  # MAX_CONTENT_LENGTH of the app
        raise WebhookPayloadError("the body is too large", status_code=413) from None
    if not found or len(found) < min(request.content_length or 0, limit):
        raise WebhookPayloadError("the body did not arrive, or was read before this view")
    return found


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """Say whether calls can be authorised: 200, or 503 after a failed login. Never blocks."""
    status, document = _current().health()
    return jsonify(document), status


@blueprint.get("/health/live")
def live() -> tuple[Response, int]:
    """Say that this process answers, for a probe that restarts those that do not."""
    return jsonify(ALIVE), 200


@blueprint.get("/health/ready")
def ready() -> tuple[Response, int]:
    """Say whether to send requests here: 200, or 503 while no call could be authorised."""
    status, document = _current().readiness()
    return jsonify(document), status


commands = AppGroup("permata", help="Access tokens of PermataBank.")


@contextmanager
def _expected_errors() -> Iterator[None]:
    try:
        yield
    except (PermataAuthError, ImportError) as error:  # the latter for an extra that is missing
        raise click.ClickException(str(error)) from None


@commands.command()
def token() -> None:
    """Print one access token to stdout, from the token store or a login."""
    with _expected_errors():
        click.echo(_current().handler.get_token())


@commands.command()
def status() -> None:
    """Check the settings and show the shared token, if any. Makes no login."""
    with _expected_errors():
        for name, value in _current().status().items():
            click.echo(f"{name}: {value}")


@commands.command()
def snap() -> None:
    """Check the settings for the bank's SNAP calls and show them. Issues no token."""
    with _expected_errors():
        from ._snap import inbound_summary  # noqa: PLC0415 - needs an extra

        for name, value in inbound_summary(Settings(current_app.config)).items():
            click.echo(f"{name}: {value}")


@commands.command()
@click.option("--url", help="Where to POST {} as a signed call; PERMATA_CALLBACK_STATUS_URL.")
def doctor(url: str | None) -> None:
    """Check settings, name, connection, clock, login, signature and store, as permata-auth doctor.

    Logs in once. Ends with 0 if all is well, 75 if waiting may help, 1 if it will not.
    """
    with _expected_errors():
        examination = _current().examination(url)
        for finding in examination.run():
            click.echo(str(finding))
    raise click.exceptions.Exit(examination.exit_code)
