"""``permata-auth sign``: the text that is signed for a call, and the signature."""

from __future__ import annotations

import os

import click

from .. import _clock
from .._settings import url_problem
from ..schemes.canonical import CANONICALIZERS
from ..schemes.classic import PermataCredentials
from ..tokens import AccessToken
from .base import Body, cli, example, handler_from_env, timeout_option


def _token_in(
    ctx: click.Context, param: click.Parameter, variable: str | None
) -> AccessToken | None:
    """Read the token from the environment: a command line is there for all users to read."""
    if variable is None:
        return None
    try:
        value = os.environ.get(variable, "").strip()
        return AccessToken(value=value, expires_at=_clock.at(_clock.now()))
    except ValueError as error:
        raise click.BadParameter(f"{variable} holds no token: {error}") from None


@cli.command(
    epilog=example(
        "permata-auth sign POST https://bank.invalid/apiservice/x/add --data @body.json",
        "TOKEN=... permata-auth sign POST https://bank.invalid/x --data '{}' --token-env TOKEN",
    )
)
@click.argument("method", type=str.upper)
@click.argument("url")
@click.option("--data", "body", type=Body(), default=b"", help="The body; none by default.")
@click.option(
    "--canonicalizer", type=click.Choice(list(CANONICALIZERS)), help="The signed form of the body."
)
@click.option(
    "--token-env",
    "token",
    metavar="NAME",
    callback=_token_in,
    help="Take the token from this environment variable instead of logging in.",
)
@timeout_option
@click.option("--show-token", is_flag=True, help="Show the token itself: never in a ticket.")
def sign(
    *,
    method: str,
    url: str,
    body: bytes,
    canonicalizer: str | None,
    token: AccessToken | None,
    timeout: float | None,
    show_token: bool,
) -> None:
    """Show the text that is signed for a call, and the headers, without making the call.

    For support calls: the token is named by the first digits of its SHA-256, and the keys are
    never shown. Logs in, unless given a token.
    """
    credentials = PermataCredentials.from_env()
    problem = url_problem(url, allow_insecure_http=credentials.allow_insecure_http)
    if problem:
        raise click.BadParameter(problem, param_hint="URL")
    if token is None:
        with handler_from_env(background=False) as handler:
            token = handler.get_access_token(timeout)
    shown = token.value if show_token else f"<token {token.fingerprint}>"
    headers = credentials.sign(token.value, method, url, body, canonicalizer=canonicalizer)
    headers["Authorization"] = f"Bearer {shown}"
    rule = canonicalizer or credentials.canonicalizer
    payload = CANONICALIZERS[rule](body).decode(errors="backslashreplace")
    stamp = headers["permata-timestamp"]
    rows = {
        "Request": f"{method} {url} (neither is signed)",
        "Canonicalizer": rule,
        "Timestamp": stamp,
        "Payload": payload,
        "String to sign": f"{shown}:{stamp}:{payload}",
    }
    for label, value in rows.items():
        click.echo(f"{label + ':':<16}{value}")
    click.echo("Headers:")
    for name, value in headers.items():
        click.echo(f"  {name}: {value}")
