"""``manage.py permata_snap``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from permata_auth.exceptions import PermataAuthError
from permata_auth.integrations.django._settings import DjangoSettings


class Command(BaseCommand):
    """Show the settings for the bank's calls."""

    help = "Check the settings for the bank's SNAP calls and show them. Issues no token."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            for name, value in DjangoSettings().inbound().items():
                self.stdout.write(f"{name}: {value}")
        except (PermataAuthError, ImportError) as error:  # the latter for a missing extra
            raise CommandError(str(error)) from None
