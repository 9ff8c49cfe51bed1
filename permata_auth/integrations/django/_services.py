"""The project's services, kept by the app's AppConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from ...events import Event
from ...snap_inbound import SnapReceiver
from .._services import Services
from ._settings import DjangoSettings

LABEL = "permata_auth"


class DjangoServices(Services):
    """Services made from ``settings.PERMATA_AUTH``, which is read at their first use."""

    _settings: DjangoSettings

    def __init__(self) -> None:
        super().__init__(DjangoSettings())

    @property
    def receiver(self) -> SnapReceiver:
        """The receiver of the bank's calls, the same for all threads."""
        return self._once("receiver", self._settings.receiver)

    def _event_hook(self) -> Callable[[Event], object] | None:
        return self._settings.event_hook()


def current() -> DjangoServices:
    """Return the services of this project."""
    try:
        config: Any = apps.get_app_config(LABEL)
    except LookupError:
        raise ImproperlyConfigured(
            "INSTALLED_APPS does not have 'permata_auth.integrations.django'"
        ) from None
    services: DjangoServices = config.services
    return services
