"""``permata-auth sandbox``: a bank on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any

import click

from .base import MissingExtra, cli, example

if TYPE_CHECKING:
    from ..sandbox import Sandbox


def new_sandbox(**settings: Any) -> Sandbox:
    """Return a bank that is not started; an argument that it refuses is a usage error.

    Args:
        settings: The arguments of the Sandbox.
    """
    try:
        from ..sandbox import Sandbox  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingExtra(str(error)) from None
    try:
        return Sandbox(**settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@cli.command(
    # Options after the name of the command to run are that command's.
    context_settings={"allow_interspersed_args": False},
    epilog=example(
        "permata-auth sandbox permata-auth token",
        "permata-auth sandbox --token-lifetime 5 sh -c 'permata-auth token; permata-auth doctor'",
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="The port to listen on.",
)
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
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
def sandbox(command: tuple[str, ...], **settings: Any) -> None:
    """Run a bank on this machine, until Ctrl-C or, given a command, for as long as that runs.

    The command has the environment that points a client at the bank, and its exit code is this
    one's. Without a command that environment is printed to stdout, for a shell to read. The
    credentials are made up, and good for this bank alone. With -v each request is logged.
    """
    bank = new_sandbox(log_requests=True, **settings)
    try:
        bank.start()
    except OSError as error:
        message = f"cannot listen on port {bank.port}: {error.strerror}"
        raise click.ClickException(message) from None
    with bank:
        if command:
            raise click.exceptions.Exit(_run(command, bank.environment()))
        for name, value in bank.environment().items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo(f"The bank is open at {bank.url}; Ctrl-C closes it.", err=True)
        while True:
            time.sleep(3600)


def _run(command: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a command to its end and return its exit code, as a shell has it."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("PERMATA_")}
    for name in ("no_proxy", "NO_PROXY"):  # no proxy has a way to this machine's loopback
        ours[name] = ",".join(filter(None, [ours.get(name), "127.0.0.1"]))
    try:
        code = subprocess.run(command, env=ours | environment, check=False).returncode  # noqa: S603
    except OSError as error:
        raise click.UsageError(f"cannot run {command[0]}: {error.strerror}") from None
    return code if code >= 0 else 128 - code
