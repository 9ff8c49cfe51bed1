"""The ``PERMATA_…`` settings of an application: its own first, then the environment's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ._settings import flag, flag_or_none, number, whole_number
from .exceptions import ConfigurationError
from .scheduler import SchedulerConfig
from .schemes.classic import PermataCredentials
from .stores import store_from_env
from .stores.base import TokenStore
from .webhook import DEFAULT_MAX_BODY_BYTES

_FLAGS = (
    "PERMATA_ALLOW_INSECURE_HTTP",
    "PERMATA_ALLOW_UNSIGNED_WEBHOOKS",
    "PERMATA_BACKGROUND",
    "PERMATA_CLOCK_CORRECTION",
    "PERMATA_STOP_WHEN_IDLE",
    "PERMATA_WARM_UP",
)
_STORE_METHODS = ("load", "save", "discard", "lock")


class Settings(Mapping[str, str]):
    """Settings as text, and the typed values that are made of them.

    Every method raises a ConfigurationError that names the wrong setting and shows no value. The
    repr shows none either, since error reports show the locals of a frame.

    Args:
        given: The application's own settings; a value of None counts as not set.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise ConfigurationError("settings must be a mapping")
        self._given = given

    def __getitem__(self, name: str) -> str:
        value = self.raw(name)
        if value is None:
            raise KeyError(name)
        if isinstance(value, int) and name in _FLAGS:
            return str(value)
        if not isinstance(value, str):  # an int may have lost a zero, bytes have no encoding
            raise ConfigurationError(f"{name} must be a str")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter({name for name in (*os.environ, *self._given) if name.startswith("PERMATA_")})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def raw(self, name: str) -> Any:
        """Return a setting unchanged, the application's or the environment's, or None."""
        value = self._given.get(name)
        return os.environ.get(name) if value is None else value

    def credentials(self) -> PermataCredentials:
        return PermataCredentials.from_env(self)

    def store(self) -> TokenStore | None:
        """Return the store that ``PERMATA_TOKEN_STORE`` is or names, or None."""
        given = self.raw("PERMATA_TOKEN_STORE")
        if given is None or isinstance(given, str):
            return store_from_env(self)
        has_all = all(callable(getattr(given, method, None)) for method in _STORE_METHODS)
        if isinstance(given, type) or not has_all:
            raise ConfigurationError("PERMATA_TOKEN_STORE must be a URL or a TokenStore")
        store: TokenStore = given
        return store

    def margins(self) -> SchedulerConfig:
        default = SchedulerConfig()
        return SchedulerConfig(
            self._seconds("PERMATA_REFRESH_BUFFER_SECS", default.refresh_buffer_secs),
            self._seconds("PERMATA_MIN_SCHEDULE_TIME_SECS", default.min_schedule_time_secs),
        )

    def is_background(self) -> bool:
        return self._flag("PERMATA_BACKGROUND", default=True)

    def stops_when_idle(self) -> bool:
        return self._flag("PERMATA_STOP_WHEN_IDLE", default=False)

    def corrects_clock(self) -> bool:
        return self._flag("PERMATA_CLOCK_CORRECTION", default=True)

    def warms_up(self) -> bool:
        """Tell whether each process is to have a token before the first call that needs one."""
        return self._flag("PERMATA_WARM_UP", default=False)

    def callback_status_url(self) -> str:
        url = self.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
        if not url:
            raise ConfigurationError("PERMATA_CALLBACK_STATUS_URL is missing")
        return url

    def allows_insecure_http(self) -> bool:
        """Tell whether plain http is allowed; a value that is no flag is named by credentials()."""
        return flag_or_none(self.raw("PERMATA_ALLOW_INSECURE_HTTP")) is True

    def webhook_arguments(self) -> dict[str, Any]:
        """Return all arguments of a WebhookProcessor except its client."""
        return {
            "app_secrets": self.app_secrets(),
            "allow_unsigned": self.allows_unsigned(),
            "verify_token": self.verify_token(),
            "max_body_bytes": self.max_body_bytes(),
        }

    def closed_webhooks(self) -> str | None:
        """Say why every webhook would be refused: no secret, and none without one; else None."""
        if self.app_secrets() or self.allows_unsigned():
            return None
        return (
            "PERMATA_APP_SECRETS is missing: set it to the app secret of the WhatsApp Business "
            "provider, or PERMATA_ALLOW_UNSIGNED_WEBHOOKS to take webhooks from anybody"
        )

    def allows_unsigned(self) -> bool:
        return self._flag("PERMATA_ALLOW_UNSIGNED_WEBHOOKS", default=False)

    def verify_token(self) -> str | None:
        return self.get("PERMATA_WEBHOOK_VERIFY_TOKEN", "").strip() or None

    def app_secrets(self) -> tuple[str, ...]:
        """Return the app secrets: a list, or text with commas in between."""
        name = "PERMATA_APP_SECRETS"
        given = self.raw(name)
        if given is None or isinstance(given, str):
            texts = [text.strip() for text in (given or "").split(",")]
            return tuple(text for text in texts if text)
        if not isinstance(given, list | tuple | set | frozenset):
            raise ConfigurationError(f"{name} must be a str or a list of str")
        if not all(isinstance(text, str) and text.strip() for text in given):
            raise ConfigurationError(f"each of {name} must be a str that is not blank")
        return tuple(given)

    def max_body_bytes(self) -> int:
        name = "PERMATA_MAX_BODY_BYTES"
        return whole_number(name, self._or_default(name, DEFAULT_MAX_BODY_BYTES))

    def _flag(self, name: str, *, default: bool) -> bool:
        return flag(name, self._or_default(name, default))

    def _seconds(self, name: str, default: float) -> float:
        value = self._or_default(name, default)
        found = value.total_seconds() if isinstance(value, timedelta) else number(name, value)
        if found < 0:
            raise ConfigurationError(f"{name} must be at least 0 seconds")
        return found

    def _or_default(self, name: str, default: object) -> object:
        value = self.raw(name)
        is_blank = value is None or (isinstance(value, str) and not value.strip())
        return default if is_blank else value
