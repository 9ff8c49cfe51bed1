"""``permata-auth sandbox``: a bank on this machine."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from .base import MissingExtra, cli, example

if TYPE_CHECKING:
    from ..sandbox import Sandbox


def new_sandbox(**settings: Any) -> Sandbox:
    """Return a bank that is not started; what it refuses is a wrong command line."""
    try:
        from ..sandbox import Sandbox  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingExtra(str(error)) from None
    try:
        return Sandbox(**settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@cli.command(
    epilog=example(
        "permata-auth sandbox --port 8080 > bank.env &",
        "set -a; . ./bank.env; permata-auth token",
    )
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one")
@click.option("--token-lifetime", type=float, default=900.0, show_default=True, help="In seconds.")
@click.option("--latency", type=float, default=0.0, help="Seconds before each answer.")
@click.option("--clock-skew", type=float, default=0.0, help="Seconds; how far its clock is off.")
@click.option("--single-token", is_flag=True, help="A new login kills the token before it.")
@click.option("--reuse-token", is_flag=True, help="Every login gives the same token until it dies.")
@click.option("--reject-tokens", is_flag=True, help="Every call is answered: token rejected.")
@click.option(
    "--lock-after",
    type=click.IntRange(1),
    metavar="N",
    help="N refused logins within five minutes lock the account.",
)
@click.option(
    "--login-limit",
    type=click.IntRange(1),
    metavar="N",
    help="Logins beyond N a minute get a 429 with Retry-After.",
)
def sandbox(**settings: Any) -> None:
    """Run a bank on this machine, until Ctrl-C.

    Prints the environment that points a client at it to stdout, for a shell to read. The
    credentials are made up, and good for this bank alone.
    """
    bank = new_sandbox(**settings)
    try:
        bank.start()
    except OSError as error:
        message = f"cannot listen on port {bank.port}: {error.strerror}"
        raise click.ClickException(message) from None
    with bank:
        for name, value in bank.environment().items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo(f"The bank is open at {bank.url}; Ctrl-C closes it.", err=True)
        while True:
            time.sleep(3600)
