"""``permata-auth sandbox`` and ``snap-call``: a bank on this machine, and how it calls you."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any

import click

from .base import Body, MissingExtra, TemporaryFailure, cli, example

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
@click.option(
    "--scheme",
    type=click.Choice(["classic", "snap"]),
    default="classic",
    show_default=True,
    help="Which of its two dialects the environment is for.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
def sandbox(command: tuple[str, ...], scheme: str, **settings: Any) -> None:
    """Run a bank on this machine, until Ctrl-C or, given a command, for as long as that runs.

    The command has the environment that points a client at the bank, and its exit code is this
    one's. Without a command that environment is printed to stdout, for a shell to read. The
    credentials are made up, and good for this bank alone. With -v each request is logged.

    The bank speaks both dialects; with --scheme snap the environment is that of a client of its
    SNAP side, and of a merchant that it calls (permata-auth snap-call).
    """
    bank = new_sandbox(log_requests=True, **settings)
    try:
        bank.start()
    except OSError as error:
        message = f"cannot listen on port {bank.port}: {error.strerror}"
        raise click.ClickException(message) from None
    with bank:
        environment = bank.environment(scheme)
        if scheme == "snap":
            environment |= bank.merchant_environment()
        if command:
            raise click.exceptions.Exit(_run(command, environment))
        for name, value in environment.items():
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


def _argument(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE; a value that is JSON is taken as such, any other one as text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter("must be NAME=VALUE", param_hint="--with")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@cli.command(
    "snap-call",
    epilog=example(
        "permata-auth snap-call http://127.0.0.1:8000 24 @inquiry.json",
        "permata-auth snap-call http://127.0.0.1:8000 25 @payment.json --fault stale "
        "--with seconds=400",
    ),
)
@click.argument("url")
@click.argument("service")
@click.argument("body", type=Body(), default=b"{}")
@click.option("--fault", metavar="NAME", help="Call in a wrong form: missing, stale, signature …")
@click.option("--with", "arguments", multiple=True, metavar="NAME=VALUE", help="Of the fault.")
@click.option("--token", help="In place of one that the merchant is asked for.")
@click.option("--external-id", metavar="ID", help="The X-EXTERNAL-ID, in place of a new one.")
def snap_call(
    *,
    url: str,
    service: str,
    body: bytes,
    fault: str | None,
    arguments: tuple[str, ...],
    token: str | None,
    external_id: str | None,
) -> None:
    """Call a merchant as the sandbox's bank does over SNAP, and print its response.

    URL is the merchant's, below which /v1.0/… begins; SERVICE is a code (73 asks for a token and
    does no more) or a path below the version. The merchant needs the settings that
    "permata-auth sandbox --scheme snap" prints. Exit codes: 0 for a 2xx, 75 for no answer, else 1.
    """
    bank = new_sandbox()
    try:
        response = bank.call_merchant(
            url,
            service,
            body,
            fault,
            token=token,
            external_id=external_id,
            **dict(map(_argument, arguments)),
        )
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryFailure(f"the merchant did not answer: {error}") from None
    sent = f", X-EXTERNAL-ID {response.external_id}" if response.external_id else ""
    click.echo(f"HTTP {response.status}{sent}", err=True)
    click.echo(response.body)
    if not 200 <= response.status < 300:
        raise click.exceptions.Exit(1)
