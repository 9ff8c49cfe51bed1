"""``manage.py permata_status``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from permata_auth.exceptions import PermataAuthError
from permata_auth.integrations.django._services import current


class Command(BaseCommand):
    """Show how things stand."""

    help = "Check the settings and show the shared token, if any. Makes no login."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            for name, value in current().status().items():
                self.stdout.write(f"{name}: {value}")
        except (PermataAuthError, ImportError) as error:  # the latter for a missing extra
            raise CommandError(str(error)) from None
