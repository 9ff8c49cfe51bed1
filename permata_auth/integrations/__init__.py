"""Web frameworks, task queues and metrics. Each module needs the package that it is named after."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..events import Event


def chain(*hooks: Callable[[Event], object]) -> Callable[[Event], None]:
    """Return one event hook, for ``LoginHandler(on_event=…)``, that calls several in turn.

    Each is called though others raise; the last of their errors is raised at the end.

    Args:
        hooks: The hooks, in the order of their calls.
    """

    def call_all(event: Event) -> None:
        with ExitStack() as stack:
            for hook in reversed(hooks):
                stack.callback(hook, event)

    return call_all
