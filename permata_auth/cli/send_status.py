"""``permata-auth send-status``: one callback status, the bank's response on stdout."""

from __future__ import annotations

import json

import click

from ..callback_status import CallbackStatusClient
from ..login import RetryPolicy
from .base import (
    allows_insecure_http,
    cli,
    example,
    fail_unless_ok,
    handler_from_env,
    timeout_option,
)


@cli.command(epilog=example("permata-auth send-status receipt.json"))
@click.argument(
    "path", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE|-"
)
@click.option(
    "--url",
    envvar="PERMATA_CALLBACK_STATUS_URL",
    show_envvar=True,
    required=True,
    help="The bank's endpoint for callback statuses.",
)
@click.option("--request-id", help="Marks the log records.")
@timeout_option
def send_status(*, path: str, url: str, request_id: str | None, timeout: float | None) -> None:
    """Send one callback status, its bytes unchanged, and print the bank's response.

    Tried again after 429, 5xx and where there is no response. Exit codes: 0 for a 2xx, 75 if a
    later try may succeed, else 1.
    """
    with click.open_file(path, "rb") as file:
        payload = file.read()
    is_open = allows_insecure_http()
    retry = None if timeout is None else RetryPolicy(timeout=timeout)
    with (
        handler_from_env(background=False) as handler,
        CallbackStatusClient(handler, url, retry=retry, allow_insecure_http=is_open) as client,
    ):
        response = client.send(payload, request_id=request_id)
    click.echo(json.dumps(response.body))
    fail_unless_ok(response.http_status)
