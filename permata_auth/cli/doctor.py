"""``permata-auth doctor``: the checks of :mod:`permata_auth._doctor`, one line each."""

from __future__ import annotations

import os

import click

from .._doctor import Examination
from ..schemes.classic import PermataCredentials
from ..stores import store_from_env
from .base import cli, example


@cli.command(epilog=example("permata-auth doctor", "permata-auth sandbox > b.env & ... doctor"))
@click.option("--url", help="Where to POST {} as a signed call; PERMATA_CALLBACK_STATUS_URL.")
def doctor(url: str | None) -> None:
    """Check configuration, name, connection, clock, login, signature and store, in this order.

    Prints for each whether it works, or else the person to ask. Logs in once and, if it knows a
    URL for it, makes one signed call with an empty JSON object. Shows no secret. Ends with 0 if
    all is well, 75 if waiting may help, 1 if it will not.
    """
    url = url or os.environ.get("PERMATA_CALLBACK_STATUS_URL", "").strip()
    examination = Examination(PermataCredentials.from_env, store_from_env, url)
    for finding in examination.run():
        click.echo(str(finding))
    raise click.exceptions.Exit(examination.exit_code)
