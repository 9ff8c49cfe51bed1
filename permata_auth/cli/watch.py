"""``permata-auth watch``: the life of a token, until Ctrl-C."""

from __future__ import annotations

import time

from rich.console import RenderableType

from ..events import Event, TokenSwapped
from ..exceptions import PermataAuthError, RequestTimeoutError
from ..handler import HandlerInfo, LoginHandler
from .base import cli, example, handler_from_env, timeout_option
from .screen import Screen, clock_time, token_rows


@cli.command(epilog=example("permata-auth watch", "permata-auth watch >> token-life.log"))
@timeout_option
def watch(timeout: float | None) -> None:
    """Keep a token fresh and show its life, until Ctrl-C.

    Names the token by the first digits of its SHA-256, never shows it. Prints one line for each
    event where stdout is no terminal.
    """
    screen, life = Screen(), 0.0

    def note_event(event: Event) -> None:
        nonlocal life
        if isinstance(event, TokenSwapped):
            life = (event.expires_at - event.at).total_seconds()
        screen.note_event(event)

    with handler_from_env(on_event=note_event) as handler:
        handler.get_token(timeout)
        with screen.open():
            while True:
                _keep_fresh(handler)
                for _ in range(16):
                    screen.draw("permata-auth watch", _watched(handler.info(), life))
                    time.sleep(0.25)


def _keep_fresh(handler: LoginHandler) -> None:
    """Have a login started if the refresh ahead of expiry has given up; does not wait for it."""
    try:
        handler.get_token(timeout=0)
    except RequestTimeoutError:
        pass
    except PermataAuthError as error:
        if not error.retryable:
            raise


def _watched(info: HandlerInfo, life: float) -> list[tuple[str, RenderableType]]:
    logins = f"{info.logins}, and {info.failed_logins} failed"
    rows = [*token_rows(info, life), ("Logins", logins)]
    if info.last_error and info.last_error_at:
        rows.append(("Last error", f"{clock_time(info.last_error_at)} {info.last_error}"))
    return rows
