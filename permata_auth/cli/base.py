"""The parts that commands share: ``-v``, one line for an error, exit codes, bodies, a handler."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .._bank import is_temporary
from .._version import __version__
from ..credentials import credentials_from_env
from ..exceptions import PermataAuthError
from ..handler import LoginHandler

_INTERRUPTED, _TERMINATED = 130, 143  # 128 + the signal's number, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; expected errors are printed, not raised.

    Args:
        arguments: The words after the command's name, in place of those of the process.
    """
    signal.signal(signal.SIGTERM, _terminate)
    _accept_any_text()
    try:
        code = cli.main(arguments, "permata-auth", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return code if isinstance(code, int) else 0


def _accept_any_text() -> None:
    """Write a question mark for characters that the terminal lacks, in place of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not so under pythonw, or in a test
            stream.reconfigure(errors="replace")


def _terminate(*_: object) -> NoReturn:
    """End as Ctrl-C does: connections are closed, and the terminal gets its cursor back."""
    raise SystemExit(_TERMINATED)


class _Command(click.Command):
    """A command with ``-v``, whose errors of our tree end in one line and an exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        verbosity = click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_log_to_stderr,
            help="Print log records to stderr; -vv: details too.",
        )
        self.params.append(verbosity)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PermataAuthError as error:
            kind = TemporaryFailure if error.retryable else click.ClickException
            raise kind(str(error)) from None


class _Group(click.Group):
    command_class = _Command
    group_class = type


class TemporaryFailure(click.ClickException):
    """The same command may succeed later; the code is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75


class MissingExtra(click.ClickException):
    """A package that this command needs is not installed."""

    exit_code = 2


class _Stderr(logging.Handler):
    """Write to the present ``sys.stderr``: a live view replaces it for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201
        except OSError:
            self.handleError(record)


def _log_to_stderr(ctx: click.Context, param: click.Parameter, verbosity: int) -> None:
    if verbosity:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        ours = logging.getLogger("permata_auth")
        ours.addHandler(handler)
        ours.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


def example(*lines: str) -> str:
    """Return the end of a command's help.

    Args:
        lines: Commands to try.
    """
    return "\n  ".join(["\b\nExample:", *lines])


#: For commands that wait for a login.
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Give up after so many seconds; by default as a login does.",
)


class Body(click.ParamType):  # type: ignore[type-arg]  # generic in newer click alone
    """A request body: text as it is, ``@FILE``, or ``@-`` for stdin; bytes are never changed."""

    name = "TEXT|@FILE|@-"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        if isinstance(value, bytes):
            return value
        if not value.startswith("@"):
            return os.fsencode(value)
        try:
            with click.open_file(value[1:], "rb") as file:
                return bytes(file.read())
        except OSError as error:
            self.fail(f"cannot read {value[1:]}: {error.strerror}", param, ctx)


@click.group(cls=_Group)
@click.version_option(__version__)
def cli() -> None:
    """Keep PermataBank access tokens fresh.

    Credentials come from the environment: PERMATA_TOKEN_URL, PERMATA_API_KEY,
    PERMATA_CLIENT_ID, PERMATA_CLIENT_SECRET, PERMATA_STATIC_KEY and, to sign calls,
    PERMATA_ORGANIZATION_NAME. Each may come from a file instead, as in
    PERMATA_CLIENT_SECRET_FILE. With PERMATA_SCHEME=snap they are PERMATA_SNAP_TOKEN_URL,
    PERMATA_SNAP_CLIENT_ID, PERMATA_SNAP_CLIENT_SECRET, PERMATA_SNAP_PRIVATE_KEY and, to sign
    calls, PERMATA_SNAP_PARTNER_ID and PERMATA_SNAP_CHANNEL_ID. The commands "demo" and
    "sandbox" need none.
    PERMATA_CLIENT_CERT, PERMATA_CLIENT_KEY, PERMATA_CA_BUNDLE and PERMATA_PROXY say how to connect.

    Exit codes: 0 ok, 1 permanent failure, 2 wrong command line, 75 temporary failure (the same
    command may succeed later), 130 Ctrl-C.
    """


def handler_from_env(**arguments: Any) -> LoginHandler:
    """Return a handler for the credentials, and the store, that the environment names."""
    return LoginHandler.from_env(**arguments)


def allows_insecure_http() -> bool:
    """Tell whether the environment allows plain http to other machines."""
    return getattr(credentials_from_env(), "allow_insecure_http", False)


def fail_unless_ok(status_code: int) -> None:
    """End the command with 75 or 1 where the bank's response is no 2xx.

    Args:
        status_code: The HTTP status of the response.
    """
    if not 200 <= status_code < 300:
        kind = TemporaryFailure if is_temporary(status_code) else click.ClickException
        raise kind(f"the bank answered with HTTP {status_code}")
