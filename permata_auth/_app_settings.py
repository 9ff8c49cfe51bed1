"""The ``PERMATA_…`` settings of a handler and of an application, as typed values.

An application has settings of its own, and takes the environment's for all others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ._settings import MAX_BODY_BYTES, flag, flag_or_none, number, whole_number
from ._sources import Sources
from .credentials import credentials_from_env
from .exceptions import ConfigurationError
from .scheduler import SchedulerConfig
from .schemes.base import Scheme
from .stores import store_from_env
from .stores.base import TokenStore
from .transport import Transport, transport_from_env

_PREFIX = "PERMATA_"
_FLAGS = (
    "PERMATA_ALLOW_INSECURE_HTTP",
    "PERMATA_ALLOW_UNSIGNED_WEBHOOKS",
    "PERMATA_BACKGROUND",
    "PERMATA_CLOCK_CORRECTION",
    "PERMATA_SNAP_ALLOW_INSECURE_HTTP",
    "PERMATA_SNAP_ALLOW_SHORT_KEY",
    "PERMATA_SNAP_SIGN_QUERY",
    "PERMATA_STOP_WHEN_IDLE",
    "PERMATA_WARM_UP",
)
#: May be an int in an application's settings.
_NUMBERS = ("PERMATA_SNAP_EXTERNAL_ID_LENGTH",)
_STORE_METHODS = ("load", "save", "discard", "lock")


class Settings(Mapping[str, str]):
    """Settings as text, and the typed values that are made of them.

    Every method raises a ConfigurationError that names the wrong setting and shows no value. The
    repr shows none either, since error reports show the locals of a frame.

    Args:
        given: The application's own settings; a value of None counts as not set.
        others: Has the settings that are missing there; None: the environment.
        prefix: Begins the names of all settings, which are asked for by their usual names.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        others: Mapping[str, str] | None = None,
        prefix: str = _PREFIX,
    ) -> None:
        if not isinstance(given, Mapping):
            raise ConfigurationError("settings must be a mapping")
        self._given = given
        self._others = os.environ if others is None else others
        self._prefix = prefix
        self._origins: dict[str, str] = {}

    @classmethod
    def of_environment(cls, environ: Mapping[str, Any] | None, prefix: str) -> Settings:
        """Return the settings of an environment; settings already made stay the same."""
        if isinstance(environ, Settings):
            return environ
        return cls({}, prefix=prefix) if environ is None else cls(environ, others={}, prefix=prefix)

    def __getitem__(self, name: str) -> str:
        value = self.raw(name)
        if value is None:
            raise KeyError(name)
        usual = _PREFIX + name.removeprefix(self._prefix)
        if isinstance(value, int) and usual in (*_FLAGS, *_NUMBERS):
            return str(value)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str):  # an int may have lost a zero, bytes have no encoding
            raise ConfigurationError(f"{name} must be a str")
        return value

    def __iter__(self) -> Iterator[str]:
        names = {*self._others, *self._given}
        return iter({name for name in names if name.startswith(self._prefix)})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def raw(self, name: str) -> Any:
        """Return a setting unchanged, the application's or the environment's, or None."""
        name = self._named(name)
        value = self._given.get(name)
        return self._others.get(name) if value is None else value

    def credentials(self) -> Scheme:
        found = Sources(self, prefix=self._prefix)
        self._origins = found.origins
        return credentials_from_env(found, prefix=self._prefix)

    @property
    def origins(self) -> dict[str, str]:
        """Where each setting that :meth:`credentials` has read came from; no value."""
        return {
            name: "the settings" if self._given.get(name) is not None else place
            for name, place in self._origins.items()
        }

    def handler_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a LoginHandler but its credentials and its margins.

        Args:
            given: Those that are taken as they are; the settings for them are not looked at.
        """
        made = {
            "store": self.store,
            "background": self.is_background,
            "stop_when_idle": self.stops_when_idle,
            "clock_correction": self.corrects_clock,
            "transport": self.transport,
        }
        if given.get("client") is not None:  # which has a clock and a transport of its own
            del made["clock_correction"], made["transport"]
        return {name: make() for name, make in made.items() if name not in given} | dict(given)

    def transport(self) -> Transport | None:
        """Return how to connect, or None where no setting says so; reads the files it names."""
        return transport_from_env(self, prefix=self._prefix)

    def store(self) -> TokenStore | None:
        """Return the store that ``PERMATA_TOKEN_STORE`` is or names, or None."""
        given = self.raw("PERMATA_TOKEN_STORE")
        if given is None or isinstance(given, str):
            return store_from_env(self, prefix=self._prefix)
        has_all = all(callable(getattr(given, method, None)) for method in _STORE_METHODS)
        if isinstance(given, type) or not has_all:
            name = self._named("PERMATA_TOKEN_STORE")
            raise ConfigurationError(f"{name} must be a URL or a TokenStore")
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
        is_snap = str(self.raw("PERMATA_SCHEME")).strip().lower() == "snap"
        name = f"PERMATA_{'SNAP_' if is_snap else ''}ALLOW_INSECURE_HTTP"
        return flag_or_none(self.raw(name)) is True

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
        return self._secret("PERMATA_WEBHOOK_VERIFY_TOKEN") or None

    def app_secrets(self) -> tuple[str, ...]:
        """Return the app secrets: a list, or text with commas in between."""
        name = "PERMATA_APP_SECRETS"
        given = self.raw(name)
        if given is None or isinstance(given, str):
            texts = [text.strip() for text in self._secret(name).split(",")]
            return tuple(text for text in texts if text)
        if not isinstance(given, list | tuple | set | frozenset):
            raise ConfigurationError(f"{name} must be a str or a list of str")
        if not all(isinstance(text, str) and text.strip() for text in given):
            raise ConfigurationError(f"each of {name} must be a str that is not blank")
        return tuple(given)

    def max_body_bytes(self) -> int:
        name = "PERMATA_MAX_BODY_BYTES"
        return whole_number(name, self._or_default(name, MAX_BODY_BYTES))

    def _named(self, name: str) -> str:
        is_usual = name.startswith(_PREFIX)
        return self._prefix + name.removeprefix(_PREFIX) if is_usual else name

    def _secret(self, name: str) -> str:
        """Return a text that may come from a file, blank where there is none."""
        found = Sources(self, prefix=self._prefix)
        text: str = found.get(self._named(name), "")
        found.check()
        return text.strip()

    def _flag(self, name: str, *, default: bool) -> bool:
        return flag(self._named(name), self._or_default(name, default))

    def _seconds(self, name: str, default: float) -> float:
        value = self._or_default(name, default)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        found = number(self._named(name), value)
        if found < 0:
            raise ConfigurationError(f"{self._named(name)} must be at least 0 seconds")
        return found

    def _or_default(self, name: str, default: object) -> object:
        value = self.raw(name)
        is_blank = value is None or (isinstance(value, str) and not value.strip())
        return default if is_blank else value
