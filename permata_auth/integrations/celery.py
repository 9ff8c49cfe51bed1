"""Celery: the handler in tasks, and tasks that try again when the bank says so.

::

    app = Celery("payments", broker=..., backend=...)
    permata = init_celery(app)

    @app.task(base=PermataTask)
    def balance(inquiry):
        return permata.session.post(url, json=inquiry).json()

    permata.send_callback_status.delay(payload, request_id="req-1")

For every pool: prefork, threads, gevent, eventlet, solo. Each worker process logs in at its first
need, or takes the token from ``PERMATA_TOKEN_STORE``; the worker's shutdown stops the refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..events import Event
from ..exceptions import CallbackStatusError, PermataAuthError
from ..handler import LoginHandler
from ._services import Services

try:
    from celery import Celery, Task
    from celery.signals import worker_process_shutdown, worker_shutdown
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.celery needs Celery: pip install 'permata-auth[celery]'"
    ) from _error

_SHUTDOWN_TIMEOUT = 1.0


class PermataTask(Task):  # type: ignore[type-arg]
    """A base for tasks that call the bank.

    An error of ours with ``retryable`` true is tried again: after its ``retry_after`` seconds, or
    after an exponential wait with jitter (600 s at most), whichever is longer; ten times
    (``max_retries``). Every other error fails the task at once. Errors pass through the result
    backend: with the JSON serialiser as their class and message, with pickle whole.
    """

    abstract = True
    autoretry_for = (PermataAuthError,)
    max_retries = 10
    retry_backoff = True
    retry_backoff_max = 600
    retry_jitter = True

    def retry(self, *args: Any, **options: Any) -> Any:
        """Retry as Celery does, no sooner than the error allows; raise one that is permanent."""
        error = options.get("exc")
        if isinstance(error, PermataAuthError):
            if not error.retryable:
                raise error
            asked = getattr(error, "retry_after", None) or 0.0
            options["countdown"] = max(options.get("countdown") or 0.0, asked)
        return super().retry(*args, **options)


class CeleryServices(Services):
    """What :func:`init_celery` returns. Its parts are made in the process that asks for them."""

    #: The task that delivers one callback status: ``.delay(payload, request_id=…)``. The payload
    #: is str (sent unchanged), dict or list. Returns ``{"http_status": …, "body": …}``; an answer
    #: 429 or 5xx, and no answer, are tried again, whatever else the bank answers is the result.
    send_callback_status: Task[Any, Any]

    def _stop(self, **_: object) -> None:
        self.close(_SHUTDOWN_TIMEOUT)


def init_celery(
    app: Celery,
    *,
    handler: LoginHandler | None = None,
    settings: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> CeleryServices:
    """Give the tasks of ``app`` a handler, and return what they use: ``.handler``, ``.session``.

    ``settings``: ``{"PERMATA_TOKEN_URL": …}`` and so on; the environment's values for what is not
    in it. ``handler``: one that exists, in place of one made from settings. Starts nothing, reads
    no setting.
    """
    services = CeleryServices(settings or {}, handler=handler, on_event=on_event)

    @app.task(base=PermataTask, name="permata_auth.send_callback_status", shared=False)
    def send_callback_status(
        payload: str | dict[str, Any] | list[Any], request_id: str | None = None
    ) -> dict[str, Any]:
        """Deliver one callback status to the bank."""
        answer = services.callback_status.send(payload, request_id=request_id)
        if answer.http_status == 429 or answer.http_status >= 500:
            raise CallbackStatusError(
                f"the bank is overloaded or down (HTTP {answer.http_status}); wait",
                retryable=True,
                status_code=answer.http_status,
                retry_after=getattr(answer, "retry_after", None),
            )
        return {"http_status": answer.http_status, "body": answer.body}

    services.send_callback_status = send_callback_status
    # Held weakly, both: an app that is dropped takes its services with it.
    worker_process_shutdown.connect(services._stop)
    worker_shutdown.connect(services._stop)
    return services
