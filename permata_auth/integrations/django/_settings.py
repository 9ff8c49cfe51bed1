"""``settings.PERMATA_AUTH``, under the names of the environment variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from ..._app_settings import Settings
from ...events import Event
from ...exceptions import ConfigurationError
from ...stores.base import TokenStore

PREFIX = "PERMATA_"
_CACHE = "cache:"


class _Project(Mapping[str, Any]):
    """The project's own settings, read at each access: a mistake is raised by the access."""

    def __getitem__(self, name: str) -> Any:
        return self._given()[name.removeprefix(PREFIX)]

    def __iter__(self) -> Iterator[str]:
        return iter([f"{PREFIX}{name}" for name in self._given()])

    def __len__(self) -> int:
        return len(self._given())

    def _given(self) -> dict[str, Any]:
        found = getattr(settings, "PERMATA_AUTH", {})
        if not isinstance(found, dict):
            raise ConfigurationError("PERMATA_AUTH must be a dict")
        return found


class DjangoSettings(Settings):
    """Settings of a project, whose token store may be one of its caches."""

    def __init__(self) -> None:
        super().__init__(_Project())

    def names(self) -> list[str]:
        """Return the keys of ``PERMATA_AUTH``."""
        return [name.removeprefix(PREFIX) for name in self._given]

    def cache_alias(self) -> str | None:
        """Return the alias of the cache that ``TOKEN_STORE`` names, or None where it names none."""
        given = self.raw("PERMATA_TOKEN_STORE")
        if not isinstance(given, str) or not given.startswith(_CACHE):
            return None
        return given.removeprefix(_CACHE) or "default"

    def store(self) -> TokenStore | None:
        alias = self.cache_alias()
        if alias is None:
            return super().store()
        if alias not in settings.CACHES:
            raise ConfigurationError(
                f"PERMATA_TOKEN_STORE names the cache {alias!r}, which is not set"
            )
        from .cache import CacheTokenStore  # noqa: PLC0415 - needs an extra

        return CacheTokenStore(alias)

    def event_hook(self) -> Callable[[Event], object] | None:
        """Return ``ON_EVENT``, imported where it is a dotted path."""
        hook = self.raw("PERMATA_ON_EVENT")
        if isinstance(hook, str):
            hook = _imported(hook)
        if hook is not None and not callable(hook):
            raise ConfigurationError("PERMATA_ON_EVENT must be a callable, or its dotted path")
        found: Callable[[Event], object] | None = hook
        return found


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        reason = str(error)
    except Exception as error:  # of the module that is imported
        reason = type(error).__name__
    raise ConfigurationError(f"PERMATA_ON_EVENT cannot be imported: {reason}")
