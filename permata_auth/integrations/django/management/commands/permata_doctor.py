"""``manage.py permata_doctor``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from permata_auth.exceptions import PermataAuthError
from permata_auth.integrations.django._services import current


class Command(BaseCommand):
    """Make the checks of ``permata-auth doctor`` with the project's settings."""

    help = (
        "Check settings, name, connection, clock, login, signature and store, as permata-auth "
        "doctor. Logs in once. Ends with 0 if all is well, 75 if waiting may help, 1 if it will "
        "not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", help="Where to POST {} as a signed call; CALLBACK_STATUS_URL by default."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            examination = current().examination(options["url"])
            for finding in examination.run():
                self.stdout.write(str(finding))
        except (PermataAuthError, ImportError) as error:  # the latter for a missing extra
            raise CommandError(str(error)) from None
        if examination.exit_code:
            raise CommandError("not all is well", returncode=examination.exit_code)
