"""The Django app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import register
from django.core.signals import request_started, setting_changed

from ._services import LABEL, DjangoServices
from .checks import check_deployment, check_settings


class PermataAuthConfig(AppConfig):
    """Registers the checks; everything else waits for its first use."""

    name = "permata_auth.integrations.django"
    label = LABEL
    verbose_name = "PermataBank access tokens"
    _services: DjangoServices | None = None

    def ready(self) -> None:
        register(check_settings)
        register(check_deployment, deploy=True)
        setting_changed.connect(self._on_setting_changed)
        # At the first request and no sooner: the master of a server that forks gets none.
        request_started.connect(self._on_request)

    @property
    def services(self) -> DjangoServices:
        """The services of this project, made at the first call."""
        services = self._services
        if services is None:
            # setdefault() is atomic: all threads use the first that is put in.
            services = vars(self).setdefault("_services", DjangoServices())
        return services

    def _on_request(self, **_: Any) -> None:
        self.services.keep_warm()

    def _on_setting_changed(self, *, setting: str, **_: Any) -> None:
        """Start anew where a test overrides the settings."""
        if setting == "PERMATA_AUTH":
            services = vars(self).pop("_services", None)
            if services is not None:
                services.close()
