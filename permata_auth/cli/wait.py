"""``permata-auth wait``: end once the bank gives out a token, for programs that start then."""

from __future__ import annotations

import click

from .base import cli, example, handler_from_env


@cli.command(
    epilog=example(
        "permata-auth wait --timeout 120",
        "ExecStartPre=/opt/app/bin/permata-auth wait --timeout 60",
    )
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so many seconds.",
)
def wait(timeout: float) -> None:
    """Wait until there is a token: in the token store, or from a login, tried again if need be.

    For init containers and systemd's ExecStartPre. The token stays in the store that
    PERMATA_TOKEN_STORE names, for the program that comes after. Exit codes: 0 there is a token, 75
    there was none in time and waiting on may help, 1 it will not help (refused credentials are
    tried three times at most), 2 wrong command line.
    """
    with handler_from_env(background=False) as handler:
        token = handler.wait_until_ready(timeout)
    click.echo(f"ready: token {token.fingerprint}, {token.expires_in():.0f} s left")
