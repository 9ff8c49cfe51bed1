"""``permata-auth token``: one access token on stdout."""

from __future__ import annotations

import json

import click

from .base import cli, example, handler_from_env, timeout_option


@cli.command(epilog=example("TOKEN=$(permata-auth token)"))
@click.option("--json", "as_json", is_flag=True, help="Print its type, scope and expiry too.")
@timeout_option
def token(as_json: bool, timeout: float | None) -> None:
    """Log in and print one access token to stdout, and nothing else."""
    with handler_from_env(background=False) as handler:
        token = handler.get_access_token(timeout)
    document = {
        "access_token": token.value,
        "token_type": token.token_type,
        "expires_in": max(int(token.expires_in()), 0),
        "expires_at": token.expires_at.isoformat(timespec="seconds"),
        "scope": token.scope,
    }
    click.echo(json.dumps(document) if as_json else token.value)
