"""Prometheus: what handlers do, on the default registry or a given one.

::

    metrics = PermataMetrics()
    metrics.watch(handler)

==================================================  =========================================
permata_auth_token_seconds_left                     life left in the token, at the scrape
permata_auth_token_expiry_timestamp_seconds         when it expires, POSIX seconds
permata_auth_logins_total                           logins that gave a token
permata_auth_login_failures_total{reason}           logins that gave none, by class of error
permata_auth_login_duration_seconds{outcome}        histogram of both
permata_auth_tokens_shared_total                    tokens taken from the store, without a login
permata_auth_tokens_invalidated_total               tokens dropped before their time
permata_auth_refreshes_skipped_total                no time left to refresh ahead of expiry
permata_auth_logins_postponed_total                 pauses after failures
permata_auth_logins_abandoned_total                 logins that overran their budget
permata_auth_refreshes_late_total                   refreshes over five seconds late
permata_auth_credentials_reloaded_total             changes of the credentials
permata_auth_waiting_callers                        callers that wait for a login, at the scrape
==================================================  =========================================

All carry ``client``, the name given to :meth:`PermataMetrics.watch`. A handler that is gone leaves
its counts behind, and no more. ``registry.unregister(metrics)`` takes all of them away.

With several processes, in prometheus_client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``),
every process reports all of them but the two that are read at the scrape; for the first of these,
write ``permata_auth_token_expiry_timestamp_seconds - time()``. Each process has a token of its
own unless a store is shared, hence the expiry of each is kept, by pid.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime

from .. import _process
from ..events import (
    CredentialsReloaded,
    Event,
    LoginAbandoned,
    LoginFailed,
    LoginPostponed,
    LoginStarted,
    LoginSucceeded,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)
from ..exceptions import ConfigurationError
from ..handler import LoginHandler

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, values
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ImportError(
        "permata_auth.integrations.prometheus needs prometheus-client: "
        "pip install 'permata-auth[prometheus]'"
    ) from _error

_LATE_SECS = 5.0
_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PermataMetrics(Collector):
    """The metrics of any number of handlers, on one registry; make one for each registry.

    Holds the handlers weakly. Thread-safe.

    Args:
        registry: Where it registers itself; the default one of prometheus_client.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"permata_auth_{name}", text, ("client", *labels), registry=None)

        self._logins = counter("logins", "Logins that gave a token")
        self._failures = counter("login_failures", "Logins that gave no token", "reason")
        self._shared = counter("tokens_shared", "Tokens taken from the store")
        self._invalidated = counter("tokens_invalidated", "Tokens dropped before their time")
        self._skipped = counter("refreshes_skipped", "No time left to refresh ahead of expiry")
        self._postponed = counter("logins_postponed", "Pauses after failures", "reason")
        self._abandoned = counter("logins_abandoned", "Logins that overran their budget")
        self._reloaded = counter("credentials_reloaded", "Changes of the credentials")
        self._late = counter("refreshes_late", "Refreshes that began over five seconds late")
        self._duration = Histogram(
            "permata_auth_login_duration_seconds",
            "How long logins took, all attempts included",
            ("client", "outcome"),
            buckets=_BUCKETS,
            registry=None,
        )
        # Only for the files of multiprocess mode: at a scrape the handlers themselves are asked.
        self._expiry = Gauge(
            "permata_auth_token_expiry_timestamp_seconds",
            "When the token expires",
            ("client",),
            registry=None,
            multiprocess_mode="liveall",
        )
        self._watched: dict[str, weakref.ref[LoginHandler]] = {}
        registry.register(self)

    def watch(self, handler: LoginHandler, *, client: str = "permata") -> None:
        """Count what ``handler`` does from now on; its own event hooks go on being called.

        Does nothing for a handler that is watched by this name already. Raises ConfigurationError
        for another name, and for the name of another handler.

        Args:
            handler: Any; several each need a ``client`` of their own.
            client: The value of the label that all of its metrics carry.
        """
        if not isinstance(handler, LoginHandler) or not isinstance(client, str):
            raise ConfigurationError("watch() takes a LoginHandler, and a str as client")
        watched = dict(self._handlers())
        if watched.get(client) is handler:
            return
        if client in watched or handler in watched.values():
            raise ConfigurationError(
                f"client={client!r} is another handler's name, or this handler has another one; "
                "give each handler one name of its own"
            )
        self._watched[client] = weakref.ref(handler)
        handler.events.add(_Recorder(self, handler, client))

    def describe(self) -> Iterator[Metric]:
        """Return the families with no samples in them; asks no handler."""
        for metric in self._metrics():
            yield from metric.describe()
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        """Ask every handler for its state, which never blocks."""
        for metric in self._metrics():
            yield from metric.collect()
        seconds_left, waiting, expiry = families = _families()
        for client, handler in self._handlers():
            info = handler.info()
            seconds_left.add_metric([client], info.seconds_left)
            waiting.add_metric([client], info.waiting)
            if info.expires_at is not None:
                expiry.add_metric([client], info.expires_at.timestamp())
        yield from families

    def _metrics(self) -> Iterable[Counter | Histogram]:
        return (
            self._logins,
            self._failures,
            self._shared,
            self._invalidated,
            self._skipped,
            self._postponed,
            self._abandoned,
            self._reloaded,
            self._late,
            self._duration,
        )

    def _handlers(self) -> Iterator[tuple[str, LoginHandler]]:
        """Walk through the handlers that live, and forget the others."""
        for client, reference in list(self._watched.items()):
            handler = reference()
            if handler is not None:
                yield client, handler
            elif self._watched.pop(client, None) is not None and _is_multiprocess():
                self._expiry.labels(client).set(math.nan)  # a file's entries cannot be removed


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    def family(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"permata_auth_{name}", text, labels=["client"])

    return (
        family("token_seconds_left", "Life left in the token"),
        family("waiting_callers", "Callers that wait for a login"),
        family("token_expiry_timestamp_seconds", "When the token expires"),
    )


def _is_multiprocess() -> bool:
    return values.ValueClass is not values.MutexValue


class _Recorder:
    """The event hook of one handler. Holds neither the handler nor the metrics."""

    def __init__(self, metrics: PermataMetrics, handler: LoginHandler, client: str) -> None:
        self._metrics = weakref.ref(metrics)  # unregistered, it may be replaced by another
        self._handler = weakref.ref(handler)
        self._client = client
        self._due: datetime | None = None
        self._process: object = None
        self._begin(metrics)

    def __call__(self, event: Event) -> None:
        metrics = self._metrics()
        if metrics is None:
            return
        if self._process != _process.identity():
            self._begin(metrics)
        self._count(metrics, event)

    def _count(self, metrics: PermataMetrics, event: Event) -> None:
        client = self._client
        if isinstance(event, LoginStarted):
            self._note_start(metrics, event)
        elif isinstance(event, LoginSucceeded):
            metrics._logins.labels(client).inc()
            metrics._duration.labels(client, "success").observe(event.duration)
        elif isinstance(event, LoginFailed):
            metrics._failures.labels(client, event.error).inc()
            metrics._duration.labels(client, "failure").observe(event.duration)
        elif isinstance(event, TokenSwapped):
            self._due = None
            self._note_expiry(metrics, event.expires_at)
            if event.is_shared:
                metrics._shared.labels(client).inc()
        elif isinstance(event, RefreshScheduled):
            self._due = event.next_refresh_at
        elif isinstance(event, LoginPostponed):
            metrics._postponed.labels(client, event.error).inc()
        else:
            self._count_plainly(metrics, event)

    def _count_plainly(self, metrics: PermataMetrics, event: Event) -> None:
        counters = {
            TokenInvalidated: metrics._invalidated,
            RefreshSkipped: metrics._skipped,
            LoginAbandoned: metrics._abandoned,
            CredentialsReloaded: metrics._reloaded,
        }
        counter = counters.get(type(event))
        if counter is not None:
            counter.labels(self._client).inc()

    def _begin(self, metrics: PermataMetrics) -> None:
        """Tell once in each process where things stand: a child's files begin empty."""
        self._process = _process.identity()
        # So that rates and alerts have a zero to start from.
        for each in (metrics._logins, metrics._shared, metrics._skipped, metrics._late):
            each.labels(self._client)
        handler = self._handler()
        expires_at = handler.info().expires_at if handler is not None else None
        if expires_at is not None:
            self._note_expiry(metrics, expires_at)

    def _note_expiry(self, metrics: PermataMetrics, expires_at: datetime) -> None:
        if _is_multiprocess():
            list(metrics._handlers())  # forget those that are gone
            metrics._expiry.labels(self._client).set(expires_at.timestamp())

    def _note_start(self, metrics: PermataMetrics, event: LoginStarted) -> None:
        due, self._due = self._due, None  # the attempts after a failed one are not late
        handler = self._handler()
        # After shutdown() no refresh is due any more: the next login is on demand.
        if due is None or handler is None or not handler.scheduler.is_active:
            return
        if (event.at - due).total_seconds() > _LATE_SECS:
            metrics._late.labels(self._client).inc()
