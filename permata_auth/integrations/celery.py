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

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import requests
import urllib3

from .._bank import is_temporary, unavailable
from .._http import Response
from ..events import Event
from ..exceptions import ConfigurationError, PermataAuthError
from ..handler import LoginHandler
from ._services import Services

try:
    from celery import Celery, Task
    from celery.signals import worker_process_shutdown, worker_shutdown
    from celery.utils.time import get_exponential_backoff_interval
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.celery needs Celery: pip install 'permata-auth[celery]'"
    ) from _error

_SHUTDOWN_TIMEOUT_SECS = 1.0


class PermataTask(Task):  # type: ignore[type-arg]
    """A base for tasks that call the bank.

    A task is tried again after an error of this library with ``retryable`` true, and after an
    error of requests from before anything was sent: the name is unknown, the connection refused or
    not made in time, the proxy not reached. The next try comes after the error's ``retry_after``
    seconds or an exponential wait with jitter (600 s at most), the longer of the two; there are
    ten at most (``max_retries``). Every other error fails the task at once. Errors pass through
    the result backend: with the JSON serialiser as their class and message, with pickle whole.

    A task is run again from its start: if its second call fails, its first call is repeated too.
    Make two tasks where that does harm.
    """

    abstract = True
    autoretry_for = (PermataAuthError,)
    max_retries = 10
    retry_backoff = True
    retry_backoff_max = 600
    retry_jitter = True
    #: Set it to true in a task that may be done twice: the task is then tried again also after a
    #: connection that broke, a response that did not come in time, and an HTTPError of 429 or 5xx.
    retry_sent = False
    #: The longest wait in seconds that a ``retry_after`` can ask for. With a broker on Redis, a
    #: task that waits for longer than the broker's visibility timeout (an hour) is run twice.
    max_retry_after = 1800.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            return self.run(*args, **kwargs)
        except requests.RequestException as error:
            if not (_is_unsent(error) or (self.retry_sent and _is_temporary(error))):
                raise
            asked = self._bounded(_retry_after(error.response))
            raise self.retry(exc=error, countdown=max(self._backoff_secs(), asked)) from None

    def retry(self, *args: Any, **options: Any) -> Any:
        """Retry as Celery does, no sooner than the error allows; raise one that is permanent.

        The error is ``exc``, or the one that is being handled. An ``eta`` is used unchanged.

        Args:
            args: As of Celery's own ``retry()``, by position.
            options: As of Celery's own ``retry()``, by name.
        """
        options |= zip(_RETRY_ARGUMENTS, args, strict=False)
        error = options.get("exc") or sys.exc_info()[1]
        if isinstance(error, PermataAuthError):
            if not error.retryable:
                raise error
            asked = self._bounded(getattr(error, "retry_after", None))
            if asked and options.get("eta") is None:
                options["countdown"] = max(options.get("countdown") or 0.0, asked)
        return super().retry(**options)

    def _backoff_secs(self) -> float:
        """Return the seconds that Celery's own options ask for before the next attempt."""
        if not self.retry_backoff:
            return float(self.default_retry_delay)
        return get_exponential_backoff_interval(
            factor=max(1, int(self.retry_backoff)),
            retries=self.request.retries,
            maximum=self.retry_backoff_max,
            full_jitter=self.retry_jitter,
        )

    def _bounded(self, retry_after: float | None) -> float:
        return min(retry_after or 0.0, self.max_retry_after)


_RETRY_ARGUMENTS = ("args", "kwargs", "exc", "throw", "eta", "countdown", "max_retries")
_REDIRECT: CodeType = requests.Session.resolve_redirects.__code__
_ATTEMPT: CodeType = urllib3.HTTPConnectionPool.urlopen.__code__
_PROXY_REFUSAL = re.compile(r"Tunnel connection failed: (\d{3})\b")


def _is_unsent(error: requests.RequestException) -> bool:
    """Tell whether the bank can have seen nothing of the request, nor of one before it."""
    for cause in _causes(error):
        codes = [frame.f_code for frame, _ in traceback.walk_tb(cause.__traceback__)]
        if _REDIRECT in codes or codes.count(_ATTEMPT) > 1:
            # requests follows a redirect, or urllib3 calls itself to try again: this request
            # was not sent, but one before it was.
            return False
    return isinstance(error, requests.ConnectTimeout) or any(
        isinstance(cause, urllib3.exceptions.ConnectTimeoutError)  # NewConnectionError is one
        or _is_proxy_unavailable(cause)
        for cause in _causes(error)
    )


def _is_proxy_unavailable(cause: BaseException) -> bool:
    refusal = _PROXY_REFUSAL.match(str(cause))
    return refusal is not None and is_temporary(int(refusal[1]))


def _is_temporary(error: requests.RequestException) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return is_temporary(error.response.status_code)
    return isinstance(error, _BROKEN)


_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error of requests down to the innermost error that it wraps."""
    at: object = error
    while isinstance(at, BaseException):
        yield at
        wrapped = (getattr(at, "reason", None), getattr(at, "original_error", None), *at.args[:1])
        at = next((inner for inner in wrapped if isinstance(inner, BaseException)), None)


def _retry_after(response: requests.Response | None) -> float | None:
    if response is None:
        return None
    bare = Response(
        status_code=response.status_code, headers=response.headers, body=b"", is_complete=True
    )
    return bare.retry_after


class CeleryServices(Services):
    """The services of a Celery app. Its parts are made in the process that asks for them."""

    #: The task that delivers one callback status: ``.delay(payload, request_id=…)``. The payload
    #: is str (sent unchanged), dict or list. Its result is ``{"http_status": …, "body": …}``. The
    #: task is tried again after 429 and 5xx, and where no response arrived.
    send_callback_status: Task[Any, Any]

    def on_shutdown(self, **_: object) -> None:
        """Shut down the handler at the end of a worker; Celery's signal calls this."""
        self.close(_SHUTDOWN_TIMEOUT_SECS)


def init_celery(
    app: Celery,
    *,
    name: str = "permata_auth",
    handler: LoginHandler | None = None,
    settings: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> CeleryServices:
    """Return the services for the tasks of an app: ``.handler``, ``.session`` and the others.

    Starts nothing, reads no setting. Raises ConfigurationError for a name that the app has.

    Args:
        app: The Celery app.
        name: The task that delivers callback statuses is called ``<name>.send_callback_status``.
            An app with two banks, or two merchants, needs a name for each.
        handler: A handler that exists, in place of one made from settings.
        settings: ``{"PERMATA_TOKEN_URL": …}`` and so on; each setting that is not in it comes from
            the environment.
        on_event: Called with each event of the handler that is made.
    """
    _claim(app, name)
    services = CeleryServices(settings or {}, handler=handler, on_event=on_event)

    @app.task(base=PermataTask, name=f"{name}.send_callback_status", shared=False)
    def send_callback_status(
        payload: str | dict[str, Any] | list[Any], request_id: str | None = None
    ) -> dict[str, Any]:
        """Deliver one callback status to the bank."""
        response = services.callback_status.send(payload, request_id=request_id)
        if is_temporary(response.http_status):
            raise unavailable(response.http_status, response.retry_after)
        return {"http_status": response.http_status, "body": response.body}

    services.send_callback_status = send_callback_status
    # Held weakly, both: an app that is dropped takes its services with it.
    worker_process_shutdown.connect(services.on_shutdown)
    worker_shutdown.connect(services.on_shutdown)
    return services


def _claim(app: Celery, name: str) -> None:
    if not isinstance(app, Celery):
        raise ConfigurationError("app must be a Celery app")
    if not isinstance(name, str) or not name:
        raise ConfigurationError("name must be a text that is not empty")
    # Kept with the app: Celery's own registry of tasks is not complete before it is finalised.
    names: set[str] = vars(app).setdefault("_permata_auth_names", set())
    if name in names:
        raise ConfigurationError(
            f"init_celery() was called before for this app with name={name!r}; its tasks would use "
            "one bank of the two; give each call a name of its own"
        )
    names.add(name)
