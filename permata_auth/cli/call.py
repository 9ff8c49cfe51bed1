"""``permata-auth call``: one signed request, the body of its response on stdout."""

from __future__ import annotations

import click

from .. import _clock
from .._calls import Call, LoginFailedError, Sign
from .._http import Response, connect_and_read, exchange
from .._settings import url_problem
from ..schemes.canonical import CANONICALIZERS
from ..transport import session_by
from .base import Body, allows_insecure_http, cli, example, fail_unless_ok, handler_from_env


@cli.command(
    epilog=example("permata-auth call POST https://bank.invalid/apiservice/x/inq --data @body.json")
)
@click.argument("method", type=str.upper)
@click.argument("url")
@click.option("--data", "body", type=Body(), default=b"", help="The body; none by default.")
@click.option(
    "--content-type",
    default="application/json",
    show_default=True,
    help="The header of this name, if there is a body.",
)
@click.option(
    "--canonicalizer", type=click.Choice(list(CANONICALIZERS)), help="The signed form of the body."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so many seconds, a login included.",
)
def call(
    *,
    method: str,
    url: str,
    body: bytes,
    content_type: str,
    canonicalizer: str | None,
    timeout: float,
) -> None:
    """Sign and send one request, and print the body of the response.

    Sent once, since it might be a transfer; once more only if the bank rejects the token, the
    timestamp of a wrong clock, or the signature of credentials that have changed meanwhile.
    Redirects are not followed. Exit codes: 0 for a 2xx, 75 for 429, 5xx and no response, else 1.
    """
    problem = url_problem(url, allow_insecure_http=allows_insecure_http())
    if problem:
        raise click.BadParameter(problem, param_hint="URL")
    headers = {"Content-Type": content_type} if body else {}
    with (
        handler_from_env(background=False) as handler,
        session_by(handler.transport, 1) as session,
    ):
        until = _clock.now() + timeout

        def send(sign: Sign) -> Response:
            return exchange(
                session,
                method,
                url,
                headers=headers | sign(method, url, body, canonicalizer=canonicalizer),
                body=body,
                timeout=connect_and_read(timeout),
                deadline=until,
            )

        try:
            response = Call(handler, url, send, until).attempt()
        except LoginFailedError as failure:
            raise failure.error from None
    click.echo(response.body)
    fail_unless_ok(response.status_code)
