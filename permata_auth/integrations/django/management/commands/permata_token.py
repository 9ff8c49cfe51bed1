"""``manage.py permata_token``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from permata_auth.exceptions import PermataAuthError
from permata_auth.integrations.django import get_handler


class Command(BaseCommand):
    """Print one access token."""

    help = "Print one access token to stdout, from the token store or a login."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(get_handler().get_token())
        except (PermataAuthError, ImportError) as error:  # the latter for a missing extra
            raise CommandError(str(error)) from None
