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
permata_auth_refreshes_late_total                   refreshes over five seconds late
permata_auth_waiting_callers                        callers that wait for a login, at the scrape
==================================================  =========================================

All carry ``client``, the name given to :meth:`PermataMetrics.watch`.

With several processes, in prometheus_client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``),
every process reports all of them but the two that are read at the scrape; for the first of these,
write ``permata_auth_token_expiry_timestamp_seconds - time()``. Each process has a token of its
own unless a store is shared, hence the expiry of each is kept, by pid.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from datetime import datetime

from ..events import (
    Event,
    LoginFailed,
    LoginStarted,
    LoginSucceeded,
    RefreshScheduled,
    RefreshSkipped,
    TokenInvalidated,
    TokenSwapped,
)
from ..handler import LoginHandler

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
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
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"permata_auth_{name}", text, ("client", *labels), registry=registry)

        self._logins = counter("logins", "Logins that gave a token")
        self._failures = counter("login_failures", "Logins that gave no token", "reason")
        self._shared = counter("tokens_shared", "Tokens taken from the store")
        self._invalidated = counter("tokens_invalidated", "Tokens dropped before their time")
        self._skipped = counter("refreshes_skipped", "No time left to refresh ahead of expiry")
        self._late = counter("refreshes_late", "Refreshes that began over five seconds late")
        self._duration = Histogram(
            "permata_auth_login_duration_seconds",
            "How long logins took, all attempts included",
            ("client", "outcome"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._expiry = Gauge(
            "permata_auth_token_expiry_timestamp_seconds",
            "When the token expires",
            ("client",),
            registry=registry,
            multiprocess_mode="liveall",
        )
        self._handlers: weakref.WeakValueDictionary[str, LoginHandler] = (
            weakref.WeakValueDictionary()
        )
        registry.register(self)

    def watch(self, handler: LoginHandler, *, client: str = "permata") -> None:
        """Count what ``handler`` does from now on; its own event hook goes on being called."""
        handler.events.add(_Recorder(self, client))
        self._handlers[client] = handler

    def describe(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        """Return the families with no samples in them; asks no handler."""
        return (
            GaugeMetricFamily(
                "permata_auth_token_seconds_left", "Life left in the token", labels=["client"]
            ),
            GaugeMetricFamily(
                "permata_auth_waiting_callers", "Callers that wait for a login", labels=["client"]
            ),
        )

    def collect(self) -> Iterable[Metric]:
        """Ask every handler for its state, which never blocks."""
        seconds_left, waiting = families = self.describe()
        for client, handler in list(self._handlers.items()):
            info = handler.info()
            seconds_left.add_metric([client], info.seconds_left)
            waiting.add_metric([client], info.waiting)
        return families


class _Recorder:
    """The event hook of one handler."""

    def __init__(self, metrics: PermataMetrics, client: str) -> None:
        self._metrics = metrics
        self._client = client
        self._due: datetime | None = None
        # So that rates and alerts have a zero to start from.
        for each in (metrics._logins, metrics._shared, metrics._skipped, metrics._late):
            each.labels(client)

    def __call__(self, event: Event) -> None:
        metrics, client = self._metrics, self._client
        if isinstance(event, LoginStarted):
            self._note_start(event)
        elif isinstance(event, LoginSucceeded):
            metrics._logins.labels(client).inc()
            metrics._duration.labels(client, "success").observe(event.duration)
        elif isinstance(event, LoginFailed):
            metrics._failures.labels(client, event.error).inc()
            metrics._duration.labels(client, "failure").observe(event.duration)
        elif isinstance(event, TokenSwapped):
            self._due = None
            metrics._expiry.labels(client).set(event.expires_at.timestamp())
            if event.is_shared:
                metrics._shared.labels(client).inc()
        elif isinstance(event, TokenInvalidated):
            metrics._invalidated.labels(client).inc()
        elif isinstance(event, RefreshScheduled):
            self._due = event.next_refresh_at
        elif isinstance(event, RefreshSkipped):
            metrics._skipped.labels(client).inc()

    def _note_start(self, event: LoginStarted) -> None:
        due, self._due = self._due, None  # the attempts after a failed one are not late
        if due is not None and (event.at - due).total_seconds() > _LATE_SECS:
            self._metrics._late.labels(self._client).inc()
