"""``permata-auth sign``: the text that is signed for a call, and the signature."""

from __future__ import annotations

import os
from typing import Any

import attrs
import click

from .. import _clock
from .._rotation import rotation_of
from .._settings import url_problem
from ..credentials import credentials_from_env
from ..schemes.base import needs_token
from ..schemes.canonical import CANONICALIZERS
from ..schemes.explained import SignedCall
from ..tokens import AccessToken
from .base import Body, allows_insecure_http, cli, example, handler_from_env, timeout_option

#: The headers that hold the timestamp of a call, in either dialect.
_TIMESTAMPS = ("permata-timestamp", "X-TIMESTAMP")


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
        "TOKEN=... permata-auth sign POST https://bank.invalid/x --data @body.json --explain "
        "--token-env TOKEN --timestamp 2025-09-11T15:24:18+07:00 --expected '4qs1YIwWqwHO...'",
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
@click.option(
    "--explain", is_flag=True, help="Show the text alone, offline: without a login, no headers."
)
@click.option(
    "--timestamp",
    metavar="TEXT",
    help="With --explain: the timestamp of the call in question; now by default.",
)
@click.option(
    "--expected",
    metavar="SIGNATURE",
    help="With --explain: a signature that the bank expected or sent, or its first 12 characters; "
    "says whether it is right, or which known mistake makes it.",
)
def sign(
    *,
    token: AccessToken | None,
    timeout: float | None,
    show_token: bool,
    explain: bool,
    timestamp: str | None,
    expected: str | None,
    **call: Any,
) -> None:
    """Show the text that is signed for a call, and the headers, without making the call.

    For support calls: the token is named by the first digits of its SHA-256, and the keys are
    never shown. Logs in, unless given a token, or where calls carry none. With --explain it sends
    nothing at all; without a token it shows the text, but can compare no signature with it.
    """
    if not explain and (timestamp or expected):
        raise click.UsageError("--timestamp and --expected need --explain")
    scheme = rotation_of(credentials_from_env()).current
    if expected and token is None and needs_token(scheme):
        raise click.UsageError("--expected needs the token of that call: --token-env")
    problem = url_problem(call["url"], allow_insecure_http=allows_insecure_http())
    if problem:
        raise click.BadParameter(problem, param_hint="URL")
    if token is None and not explain and needs_token(scheme):
        with handler_from_env(background=False) as handler:
            token = handler.get_access_token(timeout)
    _show(scheme, token, show_token, timestamp, call, explain=explain, expected=expected)


def _show(
    scheme: Any,
    token: AccessToken | None,
    show_token: bool,
    timestamp: str | None,
    call: dict[str, Any],
    *,
    explain: bool,
    expected: str | None,
) -> None:
    asked = SignedCall(timestamp=timestamp, **call)
    if token is not None:
        shown = token.value if show_token else f"<token {token.fingerprint}>"
        asked = attrs.evolve(asked, token=token.value, shown=shown)
    headers: dict[str, str] = {}
    if not explain:
        headers = scheme.sign(asked.token or "", **call)
        stamp = next(headers[name] for name in _TIMESTAMPS if name in headers)
        asked = attrs.evolve(asked, timestamp=stamp)
    if "Authorization" in headers:
        headers["Authorization"] = f"Bearer {asked.shown}"
    explanation = scheme.explain(asked)
    rows = dict(explanation.rows)
    if expected:
        rows["Expected"] = explanation.recognise(expected)
    for label, text in rows.items():
        click.echo(f"{label + ':':<16}{text}")
    if headers:
        click.echo("Headers:")
    for name, text in headers.items():
        click.echo(f"  {name}: {text}")
