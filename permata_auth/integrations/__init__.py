"""Where the handler lives: web frameworks, task queues, metrics. Each module needs its package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..events import Event


def chain(*hooks: Callable[[Event], object]) -> Callable[[Event], None]:
    """Return one event hook, for ``LoginHandler(on_event=…)``, that calls several in turn.

    Each is called whatever the others raise; the last of their errors is raised at the end.
    """

    def call_all(event: Event) -> None:
        with ExitStack() as stack:
            for hook in reversed(hooks):
                stack.callback(hook, event)

    return call_all
