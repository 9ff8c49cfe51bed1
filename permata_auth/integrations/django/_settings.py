"""``settings.PERMATA_AUTH``, under the names of the environment variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from ..._app_settings import Settings
from ...events import Event
from ...exceptions import ConfigurationError
from ...snap_inbound import ExternalIds, SnapReceiver
from ...stores.base import TokenStore

PREFIX = "PERMATA_"
_CACHE = "cache:"
_INBOUND = ("PERMATA_SNAP_INBOUND_", "PERMATA_SNAP_BANK_PUBLIC_KEY")


def is_of_one_process(alias: str | None) -> bool:
    """Tell whether a cache shares nothing between processes; False for no cache.

    Args:
        alias: The cache's name in ``CACHES``; None: no cache.
    """
    backend = str(settings.CACHES[alias].get("BACKEND")) if alias else ""
    return backend.endswith(("LocMemCache", "DummyCache"))


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


class _Without(Mapping[str, str]):
    """Settings without one of them."""

    def __init__(self, given: Mapping[str, str], name: str) -> None:
        self._given, self._name = given, name

    def __getitem__(self, name: str) -> str:
        if name == self._name:
            raise KeyError(name)
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._given if name != self._name)

    def __len__(self) -> int:
        return len(list(iter(self)))


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

    def external_ids(self) -> ExternalIds | None:
        """Return what ``SNAP_INBOUND_EXTERNAL_IDS`` names, where it is no text for a receiver."""
        name = "PERMATA_SNAP_INBOUND_EXTERNAL_IDS"
        given = self.raw(name)
        if not isinstance(given, str):
            ids: ExternalIds | None = given
            return ids
        if not given.startswith(_CACHE):
            return None
        alias = given.removeprefix(_CACHE) or "default"
        if alias not in settings.CACHES:
            raise ConfigurationError(f"{name} names the cache {alias!r}, which is not set")
        from .cache import CacheExternalIds  # noqa: PLC0415 - needs an extra

        return CacheExternalIds(alias)

    def has_inbound(self) -> bool:
        """Tell whether any setting for the bank's calls is there."""
        names = {*self, *(f"{PREFIX}{name}" for name in self.names())}
        return any(name.startswith(_INBOUND) and self.raw(name) for name in names)

    def shares_external_ids(self) -> bool:
        """Tell whether all processes share the ids that one has seen, as far as settings say."""
        given = self.raw("PERMATA_SNAP_INBOUND_EXTERNAL_IDS")
        if isinstance(given, str) and given.startswith(_CACHE):
            return not is_of_one_process(given.removeprefix(_CACHE) or "default")
        return bool(given)

    def inbound(self) -> dict[str, str]:
        """Describe the settings for the bank's calls; raises for those that are wrong."""
        from .._snap import inbound_summary  # noqa: PLC0415 - needs an extra

        return inbound_summary(self._texts(), self.external_ids())

    def receiver(self) -> SnapReceiver:
        """Return a new receiver of the bank's calls."""
        return SnapReceiver.from_env(
            self._texts(), external_ids=self.external_ids(), on_event=self.event_hook()
        )

    def _texts(self) -> Mapping[str, str]:
        """Return these settings without external ids that are no text."""
        name = "PERMATA_SNAP_INBOUND_EXTERNAL_IDS"
        return self if isinstance(self.raw(name), str | None) else _Without(self, name)

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
