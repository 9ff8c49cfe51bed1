"""``permata-auth call`` and ``send-status``: one signed request, its answer on stdout."""

from __future__ import annotations

import json

import click

from .. import _clock
from .._http import Reply, connect_and_read, exchange, new_session
from .._settings import url_problem
from ..callback_status import CallbackStatusClient
from ..login import RetryPolicy
from ..schemes.canonical import CANONICALIZERS
from ..schemes.classic import PermataCredentials
from .base import Body, TemporaryFailure, cli, example, handler_from_env, timeout_option


@cli.command(
    epilog=example("permata-auth call POST https://bank.invalid/apiservice/x/inq --data @body.json")
)
@click.argument("method", type=str.upper)
@click.argument("url")
@click.option("--data", "body", type=Body(), default=b"", help="The body; none by default.")
@click.option("--content-type", default="application/json", show_default=True)
@click.option("--canonicalizer", type=click.Choice(list(CANONICALIZERS)), help="What is signed.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=30.0, metavar="SECONDS")
def call(
    *,
    method: str,
    url: str,
    body: bytes,
    content_type: str,
    canonicalizer: str | None,
    timeout: float,
) -> None:
    """Sign and send one request, and print the body of the answer.

    Sent once, since it might be a transfer; a second time only if the bank rejects the token.
    Redirects are not followed. Exit codes: 0 for a 2xx, 75 for 429, 5xx and no answer, else 1.
    """
    problem = url_problem(url, allow_insecure_http=_allows_insecure_http())
    if problem:
        raise click.BadParameter(problem, param_hint="URL")
    headers = {"Content-Type": content_type} if body else {}
    with handler_from_env(background=False) as handler, new_session(1) as session:
        until = _clock.now() + timeout

        def send(token: str) -> Reply:
            sign = handler.credentials.sign
            return exchange(
                session,
                method,
                url,
                headers=headers | sign(token, method, url, body, canonicalizer=canonicalizer),
                body=body,
                timeout=connect_and_read(timeout),
                deadline=until,
            )

        token = handler.get_token(timeout)
        reply = send(token)
        if handler.note_response(token, reply.status_code, reply.body):
            token = handler.get_token(max(until - _clock.now(), 0.0))
            reply = send(token)
            handler.note_response(token, reply.status_code, reply.body, is_second=True)
    click.echo(reply.body)
    _judge(reply.status_code)


@cli.command(epilog=example("permata-auth send-status receipt.json"))
@click.argument(
    "path", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE|-"
)
@click.option(
    "--url",
    envvar="PERMATA_CALLBACK_STATUS_URL",
    show_envvar=True,
    required=True,
    help="Where to.",
)
@click.option("--request-id", help="What the log records are marked with.")
@timeout_option
def send_status(*, path: str, url: str, request_id: str | None, timeout: float | None) -> None:
    """Send one callback status, its bytes unchanged, and print the bank's answer.

    Tried again after 429, 5xx and where there is no answer. Exit codes: 0 for a 2xx, 75 if a
    later try may succeed, else 1.
    """
    with click.open_file(path, "rb") as file:
        payload = file.read()
    is_open = _allows_insecure_http()
    retry = None if timeout is None else RetryPolicy(timeout=timeout)
    with (
        handler_from_env(background=False) as handler,
        CallbackStatusClient(handler, url, retry=retry, allow_insecure_http=is_open) as client,
    ):
        answer = client.send(payload, request_id=request_id)
    click.echo(json.dumps(answer.body))
    _judge(answer.http_status)


def _allows_insecure_http() -> bool:
    return PermataCredentials.from_env().allow_insecure_http


def _judge(status: int) -> None:
    if not 200 <= status < 300:
        kind = TemporaryFailure if status == 429 or status >= 500 else click.ClickException
        raise kind(f"the bank answered with HTTP {status}")
