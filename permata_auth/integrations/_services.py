"""What one application has of this library: made from its settings, each part at its first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import requests

from .. import _process
from ..auth import PermataAuth
from ..callback_status import CallbackStatusClient
from ..events import Event
from ..exceptions import ConfigurationError
from ..handler import LoginHandler
from ..scheduler import SchedulerConfig
from ..schemes.classic import PermataCredentials
from ..stores import store_from_env
from ..stores.base import TokenStore, bound
from ..webhook import WebhookProcessor

_T = TypeVar("_T")

_CALL_TIMEOUT = (5.0, 30.0)


class Settings(Mapping[str, str]):
    """The ``PERMATA_…`` settings: the application's own, the environment's for all others.

    Its repr, and so an error report that shows the locals of a frame, holds no value.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def __getitem__(self, name: str) -> str:
        value = self._given.get(name)
        if value is None:
            return os.environ[name]
        return ",".join(value) if isinstance(value, list | tuple) else str(value)

    def __iter__(self) -> Iterator[str]:
        return iter({name for name in (*os.environ, *self._given) if name.startswith("PERMATA_")})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def credentials(self) -> PermataCredentials:
        return PermataCredentials.from_env(self)

    def store(self) -> TokenStore | None:
        """Return the store that ``PERMATA_TOKEN_STORE`` is, or is the URL of."""
        given = self._given.get("PERMATA_TOKEN_STORE")
        return store_from_env(self) if given is None or isinstance(given, str) else given

    def margins(self) -> SchedulerConfig:
        default = SchedulerConfig()
        return SchedulerConfig(
            self._number("PERMATA_REFRESH_BUFFER_SECS", default.refresh_buffer_secs),
            self._number("PERMATA_MIN_SCHEDULE_TIME_SECS", default.min_schedule_time_secs),
        )

    def is_background(self) -> bool:
        text = self.get("PERMATA_BACKGROUND", "true").strip().lower()
        if text not in _FLAGS:
            raise ConfigurationError("PERMATA_BACKGROUND must be true or false")
        return _FLAGS[text]

    def callback_status_url(self) -> str:
        url = self.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
        if not url:
            raise ConfigurationError("PERMATA_CALLBACK_STATUS_URL is missing")
        return url

    def app_secrets(self) -> tuple[str, ...]:
        texts = self.get("PERMATA_APP_SECRETS", "").split(",")
        return tuple(text.strip() for text in texts if text.strip())

    def max_body_bytes(self) -> int:
        return int(self._number("PERMATA_MAX_BODY_BYTES", 1_048_576))

    def _number(self, name: str, default: float) -> float:
        try:
            return float(self.get(name, default))
        except ValueError:
            raise ConfigurationError(f"{name} must be a number") from None


_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "": True} | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


class Services:
    """The handler of one application, and what goes with it.

    Nothing is made before it is asked for, so a mistake in the settings is a ConfigurationError
    there. Thread-safe; a forked child has connections of its own.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        handler: LoginHandler | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self._settings = Settings(settings)
        self._given = handler
        self._on_event = on_event
        self._made: dict[object, Any] = {}

    @property
    def handler(self) -> LoginHandler:
        """The handler: ``handler.get_token()``."""
        return self._given or self._once("handler", self._new_handler)

    @property
    def session(self) -> requests.Session:
        """A session whose calls are authorised, one for all threads of this process.

        A call waits 5 s to connect and 30 s for each read, unless ``timeout=`` says otherwise.
        """
        # An ancestor's session stays where it is: to collect it in a child could mean to wait for
        # a lock that a thread of the ancestor held at the fork.
        return self._once(("session", _process.identity()), lambda: _Session(self.handler))

    @property
    def callback_status(self) -> CallbackStatusClient:
        """The client for ``PERMATA_CALLBACK_STATUS_URL``."""
        return self._once("callback_status", self._new_callback_status)

    @property
    def webhooks(self) -> WebhookProcessor:
        """What answers inbound webhooks, and forwards them by :attr:`callback_status`."""
        return self._once("webhooks", self._new_webhooks)

    def health(self) -> tuple[int, dict[str, object]]:
        """Return an HTTP status and a document. Never blocks, never logs in, shows no secret.

        503 where the settings are wrong, and where the last login failed and no token lives.
        """
        try:
            handler = self.handler
        except ConfigurationError:
            return 503, _health("error", "not configured; the status command says why", 0.0)
        info = handler.info()
        if info.fingerprint is not None:
            return 200, _health("success", "a token lives", info.seconds_left)
        if _last_login_failed(handler):
            kind = (info.last_error or "").partition(":")[0]
            return 503, _health("error", f"no token, the last login failed: {kind}", 0.0)
        return 200, _health("success", "no token is needed yet", 0.0)

    def status(self) -> dict[str, str]:
        """Say for a person how things stand, without a login. May block for a slow token store."""
        credentials = self.handler.credentials
        lines = {"token endpoint": getattr(credentials, "token_url", "-")}
        store = self._made.get("store")
        if store is None:
            return lines | {"token store": "none, each process has a token of its own"}
        token = bound(store, credentials).load(credentials.key)
        found = f"{token.fingerprint}, {token.expires_in():.0f} s left" if token else "none"
        return lines | {"token store": repr(store), "token in it": found}

    def close(self, timeout: float = 1.0) -> None:
        """Stop what this process runs, if it was ever used; waits ``timeout`` seconds at most."""
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
        settings = self._settings
        handler = LoginHandler(
            settings.credentials(),
            store=self._once("store", self._new_store),
            on_event=self._on_event,
            background=settings.is_background(),
        )
        handler.scheduler.update_config(settings.margins())
        return handler

    def _new_store(self) -> TokenStore | None:
        return self._settings.store()

    def _new_callback_status(self) -> CallbackStatusClient:
        return CallbackStatusClient(self.handler, self._settings.callback_status_url())

    def _new_webhooks(self) -> WebhookProcessor:
        return WebhookProcessor(
            self.callback_status,
            app_secrets=self._settings.app_secrets(),
            max_body_bytes=self._settings.max_body_bytes(),
        )


class _Session(requests.Session):
    def __init__(self, handler: LoginHandler) -> None:
        super().__init__()
        self.auth = PermataAuth(handler)

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        if how.get("timeout") is None:  # which requests takes to mean for ever
            how["timeout"] = _CALL_TIMEOUT
        return super().send(request, **how)


def failure(status: int, text: str) -> tuple[int, dict[str, object]]:
    """Return the answer to a webhook that cannot be processed, in the form of all others."""
    return status, {"StatusCode": "06", "StatusDesc": text}


def _health(status: str, message: str, seconds_left: float) -> dict[str, object]:
    return {"status": status, "message": message, "token_seconds_left": round(seconds_left, 1)}


def _last_login_failed(handler: LoginHandler) -> bool:
    info = handler.info()
    failed_at, last = info.last_error_at, info.last_login_at
    return failed_at is not None and (last is None or last < failed_at)
