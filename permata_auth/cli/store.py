"""``permata-auth store``: the content of the shared token store."""

from __future__ import annotations

import click

from ..schemes.classic import PermataCredentials
from ..stores import store_from_env
from ..stores.base import TokenStore, bound
from .base import MissingExtra, cli, example
from .screen import clock_time


@cli.group()
def store() -> None:
    """See or empty the token store that PERMATA_TOKEN_STORE names."""


@store.command(epilog=example("PERMATA_TOKEN_STORE=file:///run/permata permata-auth store show"))
def show() -> None:
    """Show the stored token's life. The token is named by the first digits of its SHA-256."""
    store, key = _store_and_key()
    token = store.load(key)
    life = f"{token.expires_in():.0f} s left, until {clock_time(token.expires_at)}" if token else ""
    rows = {
        "Store": repr(store),
        "Key": key,
        "Token": f"{token.fingerprint}, {life}" if token else "none that lives",
    }
    for label, value in rows.items():
        click.echo(f"{label + ':':<7}{value}")


@store.command(epilog=example("permata-auth store clear"))
def clear() -> None:
    """Remove the stored token; the next process that needs one logs in."""
    store, key = _store_and_key()
    token = store.load(key)
    if token is not None:
        store.discard(key, token)
    click.echo(f"Removed token {token.fingerprint}." if token else "There was no token to remove.")


def named_store(credentials: PermataCredentials) -> TokenStore | None:
    """Return the store of the environment, ready for use, or None where none is named.

    Args:
        credentials: A sealed store derives its keys from them.
    """
    try:
        named = store_from_env()
    except ImportError as error:
        raise MissingExtra(str(error)) from None
    return None if named is None else bound(named, credentials)


def _store_and_key() -> tuple[TokenStore, str]:
    credentials = PermataCredentials.from_env()
    store = named_store(credentials)
    if store is None:
        raise click.ClickException("PERMATA_TOKEN_STORE is not set: each process has its own token")
    return store, credentials.key
