"""The project's services: made from ``settings.PERMATA_AUTH``, kept by the app's AppConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ...events import Event
from ...exceptions import ConfigurationError
from ...stores.base import TokenStore
from .._services import Services

if TYPE_CHECKING:
    from .apps import PermataAuthConfig

LABEL = "permata_auth"
_CACHE = "cache:"


class DjangoServices(Services):
    """Services whose token store may be one of the project's caches."""

    def _new_store(self) -> TokenStore | None:
        url = self._settings.get("PERMATA_TOKEN_STORE", "")
        if not url.startswith(_CACHE):
            return super()._new_store()
        from .cache import CacheTokenStore  # noqa: PLC0415 - needs an extra

        return CacheTokenStore(url.removeprefix(_CACHE) or "default")


def given() -> dict[str, Any]:
    """Return ``settings.PERMATA_AUTH`` under the names of the environment variables."""
    found = getattr(settings, "PERMATA_AUTH", {})
    if not isinstance(found, dict):
        raise ConfigurationError("PERMATA_AUTH must be a dict")
    return {f"PERMATA_{name}": value for name, value in found.items()}


def make() -> DjangoServices:
    """Make services from the settings; nothing but ``ON_EVENT`` is read yet."""
    found = given()
    return DjangoServices(found, on_event=_event_hook(found.get("PERMATA_ON_EVENT")))


def current() -> DjangoServices:
    """Return the services of this project."""
    try:
        config = cast("PermataAuthConfig", apps.get_app_config(LABEL))
    except LookupError:
        raise ImproperlyConfigured(
            "INSTALLED_APPS does not have 'permata_auth.integrations.django'"
        ) from None
    return config.services


def _event_hook(hook: object) -> Callable[[Event], object] | None:
    if isinstance(hook, str):
        try:
            hook = import_string(hook)
        except ImportError as error:
            raise ConfigurationError(f"PERMATA_ON_EVENT: {error}") from None
    if hook is not None and not callable(hook):
        raise ConfigurationError("PERMATA_ON_EVENT must be a callable, or its dotted path")
    return hook
