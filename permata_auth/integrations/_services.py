"""The services of one application, each made from its settings at its first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests

from .. import _process
from .._app_settings import Settings
from .._doctor import Examination
from .._logging import Log
from ..auth import PermataAuth
from ..callback_status import CallbackStatusClient
from ..events import Event
from ..exceptions import ConfigurationError, WebhookPayloadError
from ..handler import Health, LoginHandler
from ..stores.base import TokenStore, bound
from ..webhook import WebhookProcessor, WebhookResponse, refused
from ._warm_up import WarmUp

logger = Log(__name__)

_T = TypeVar("_T")

_CALL_TIMEOUT_SECS = (5.0, 30.0)
_NOT_CONFIGURED = "not configured; the status command says why"
#: The answer to a liveness probe: no restart of this process mends a bank that is down.
ALIVE = {"status": "success", "message": "alive"}
_WRONG_SETTINGS = (ConfigurationError, ImportError)  # the latter for an extra that is missing


class Services:
    """The handler of one application, with its session, its webhooks and its health.

    Each service is made at its first use, where a mistake in the settings is a
    ConfigurationError. Thread-safe; a forked child has connections of its own.

    Args:
        settings: The application's own settings, by the names of the environment variables.
        handler: A handler that exists, in place of one made from the settings.
        on_event: Called with each event of the handler that is made.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        handler: LoginHandler | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if handler is not None and not isinstance(handler, LoginHandler):
            raise ConfigurationError("handler must be a LoginHandler")
        if on_event is not None and not callable(on_event):
            raise ConfigurationError("on_event must be callable")
        self._settings = settings if isinstance(settings, Settings) else Settings(settings)
        self._given = handler
        self._on_event = on_event
        self._made: dict[object, Any] = {}
        self._warm_up = _process.PerProcess(lambda: WarmUp(self.handler))

    @property
    def handler(self) -> LoginHandler:
        """The handler: ``handler.get_token()``."""
        return self._given or self._once("handler", self._new_handler)

    @property
    def session(self) -> requests.Session:
        """A session whose calls are authorised, one for all threads of this process.

        A call waits 5 s to connect and 30 s for each read, unless ``timeout=`` says otherwise.
        """
        # The session of the process before a fork stays in the dict: to collect it in the child
        # could mean to wait for a lock that a thread of the parent held at the fork.
        return self._once(("session", _process.identity()), lambda: _Session(self.handler))

    @property
    def callback_status(self) -> CallbackStatusClient:
        """The client for ``PERMATA_CALLBACK_STATUS_URL``."""
        return self._once("callback_status", self._new_callback_status)

    @property
    def webhooks(self) -> WebhookProcessor:
        """The processor of inbound webhooks, which forwards them by :attr:`callback_status`."""
        return self._once("webhooks", self._new_webhooks)

    def webhook(self, read: Callable[[int], bytes], headers: Mapping[str, str]) -> WebhookResponse:
        """Return the response to one webhook, as :meth:`WebhookProcessor.process`; never raises.

        The response is 503 where the settings are wrong or have no app secret.

        Args:
            read: Reads the request's body; called with the size in bytes above which the body is
                refused. Raises WebhookPayloadError for a body that is refused or was read before;
                any other exception means that the body broke off on its way.
            headers: The request's headers.
        """
        processor = self._processor()
        if processor is None:
            return _not_configured()
        try:
            body = read(processor.max_body_bytes)
        except WebhookPayloadError as error:
            return refused(error)
        except Exception as error:  # each server has errors of its own for this
            return refused(WebhookPayloadError(f"the body did not arrive ({type(error).__name__})"))
        return processor.process(body, headers)

    def verification(self, query: str | bytes) -> WebhookResponse:
        """Return the response to a GET request of the provider; never raises, 503 as above.

        Args:
            query: The query as received.
        """
        processor = self._processor()
        return _not_configured() if processor is None else processor.verify(query)

    def health(self) -> tuple[int, dict[str, object]]:
        """Return an HTTP status and a document. Never blocks, never logs in, shows no secret.

        503 where the settings are wrong, and where the last login failed and no token lives.
        """
        try:
            found = self.handler.health()
        except _WRONG_SETTINGS:
            return 503, _health("error", _NOT_CONFIGURED, 0.0)
        return _judged(found)

    def readiness(self) -> tuple[int, dict[str, object]]:
        """Return the same as :meth:`health`, for a probe that decides over requests; never blocks.

        With ``PERMATA_WARM_UP`` also 503 until there has been a token, which is being fetched in
        the background; so is one after an outage. No request is needed for this process to become
        ready. Without that setting a probe never leads to a login.
        """
        try:
            is_warm = not self._settings.warms_up() or self.handler.health().since is not None
        except _WRONG_SETTINGS:
            return 503, _health("error", _NOT_CONFIGURED, 0.0)
        self.keep_warm()
        if is_warm:
            return self.health()
        message = "no token yet, the first login is under way"
        return 503, _health("error", message, 0.0) | {"state": "cold"}

    def keep_warm(self) -> None:
        """Have a token fetched in the background where ``PERMATA_WARM_UP`` asks for one.

        For every request and probe: does nothing while there is a token, or there has been one and
        no login has failed. Wrong settings are left to the first call that needs them.
        """
        try:
            if not self._once("warms_up", self._settings.warms_up):
                return
            found = self.handler.health()
        except _WRONG_SETTINGS:
            return
        if found.since is None or found.state == "down":
            self.warm_up()

    def warm_up(self) -> None:
        """Have a token fetched in the background of this process; returns at once.

        Raises ConfigurationError for wrong settings.
        """
        self._warm_up.get().start()

    def status(self) -> dict[str, str]:
        """Describe the settings and the shared token, without a login. May block for a slow store.

        Raises ConfigurationError, or ImportError for an extra that is missing.
        """
        credentials = self.handler.credentials
        lines = {"token endpoint": getattr(credentials, "token_url", "-")}
        lines["webhooks"] = self._webhook_status()
        store = self._made.get("store")
        if store is None:
            return lines | {"token store": "none, each process has a token of its own"}
        store = bound(store, credentials)
        token = store.load(credentials.key)
        found = f"{token.fingerprint}, {token.expires_in():.0f} s left" if token else "none"
        return lines | {"token store": repr(store), "token in it": found}

    def examination(self, url: str | None = None) -> Examination:
        """Return the checks of ``permata-auth doctor`` for these settings.

        Args:
            url: The URL for a signed call, in place of ``PERMATA_CALLBACK_STATUS_URL``.
        """
        settings, given = self._settings, self._given
        url = url or settings.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
        if given is None:
            return Examination(
                settings.credentials,
                self._new_store,
                url,
                origins=lambda: settings.origins,
                transport=settings.transport,
            )
        # A handler that the application made has its own store, which only it knows.
        return Examination(
            lambda: given.credentials, lambda: None, url, transport=lambda: given.transport
        )

    def close(self, timeout: float = 1.0) -> None:
        """Shut down the handler, if it was ever used in this process.

        Args:
            timeout: The seconds to wait at most for a refresh that is running; one by default, so
                that a server's shutdown is not held up.
        """
        handler = self._made.get("handler")
        if handler is not None:
            handler.shutdown(timeout)

    def _once(self, name: object, make: Callable[[], _T]) -> _T:
        if name not in self._made:
            # Two threads may both make one; all use the first that is put in.
            self._made.setdefault(name, make())
        made: _T = self._made[name]
        return made

    def _new_handler(self) -> LoginHandler:
        self._settings.warms_up()  # a mistake in it shows up at the first use too
        store = self._once("store", self._new_store)
        return LoginHandler.from_env(self._settings, store=store, on_event=self._event_hook())

    def _event_hook(self) -> Callable[[Event], object] | None:
        return self._on_event

    def _new_store(self) -> TokenStore | None:
        return self._settings.store()

    def _new_callback_status(self) -> CallbackStatusClient:
        is_open = getattr(self.handler.credentials, "allow_insecure_http", False)
        return CallbackStatusClient(
            self.handler, self._settings.callback_status_url(), allow_insecure_http=is_open
        )

    def _new_webhooks(self) -> WebhookProcessor:
        client, closed = self.callback_status, self._settings.closed_webhooks()
        if closed is not None:
            raise ConfigurationError(closed)
        return WebhookProcessor(client, **self._settings.webhook_arguments())

    def _processor(self) -> WebhookProcessor | None:
        try:
            return self.webhooks
        except _WRONG_SETTINGS as error:
            logger.error(  # noqa: TRY400 - its text is the whole of it
                "Webhooks are answered with HTTP 503, the settings are wrong: %s", error
            )
            return None

    def _webhook_status(self) -> str:
        settings = self._settings
        given, closed = settings.webhook_arguments(), settings.closed_webhooks()
        if not settings.get("PERMATA_CALLBACK_STATUS_URL", "").strip():
            return "none, PERMATA_CALLBACK_STATUS_URL is not set"
        if closed is not None:
            _ = self.callback_status
            return f"closed, {closed}"
        _ = self.webhooks
        count = len(given["app_secrets"])
        return f"signed with one of {count} app secrets" if count else "taken from anybody"


class _Session(requests.Session):
    def __init__(self, handler: LoginHandler) -> None:
        super().__init__()
        if handler.transport is not None:
            handler.transport.mount(self)
        self.auth = PermataAuth(handler)

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        if how.get("timeout") is None:  # requests would wait without end
            how["timeout"] = _CALL_TIMEOUT_SECS
        return super().send(request, **how)


def _not_configured() -> WebhookResponse:
    return refused(WebhookPayloadError(_NOT_CONFIGURED, status_code=503))


def _health(status: str, message: str, seconds_left: float) -> dict[str, object]:
    return {"status": status, "message": message, "token_seconds_left": round(seconds_left, 1)}


def _judged(found: Health) -> tuple[int, dict[str, object]]:
    kind = (found.last_error or "").partition(":")[0]
    if found.state == "down":
        message = f"no token, the last login failed: {kind}"
        return 503, _health("error", message, 0.0) | {"state": "down"}
    message = {
        "cold": "no token is needed yet",
        "ready": "a token lives",
        "degraded": f"a token lives, but the last login failed: {kind}",
    }[found.state]
    return 200, _health("success", message, found.seconds_left) | {"state": found.state}
