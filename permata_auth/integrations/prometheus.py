"""Prometheus: metrics of handlers and receivers, on the default registry or another.

::

    metrics = PermataMetrics()
    metrics.watch(handler)
    metrics.watch(receiver)

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
permata_auth_inbound_calls_total                    requests of the bank to a receiver
==================================================  =========================================

All carry ``client``, the name given to :meth:`PermataMetrics.watch`. The requests of the bank carry
``service`` (73, or 00 for an unknown path), ``outcome`` and ``check`` too, as
:class:`InboundCallAnswered` has them. A handler that is gone leaves its counts behind, and no more.
``registry.unregister(metrics)`` takes all of them away.

With several processes, in prometheus_client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``),
every process reports all of them but the two that are read at the scrape; for the first of these,
write ``permata_auth_token_expiry_timestamp_seconds - time()``. Each process has a token of its
own unless a store is shared, hence the expiry of each is kept, by pid.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from datetime import datetime

import attrs

from .. import _process
from ..events import (
    CredentialsReloaded,
    Event,
    InboundCallAnswered,
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
from ..snap_inbound import SnapReceiver

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
    """The metrics of any number of handlers and receivers; make one for each registry.

    Holds them weakly. Thread-safe.

    Args:
        registry: The registry that serves the metrics; the default one of prometheus_client.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"permata_auth_{name}", text, ("client", *labels), registry=None)

        self._families = _Families(
            logins=counter("logins", "Logins that gave a token"),
            failures=counter("login_failures", "Logins that gave no token", "reason"),
            shared=counter("tokens_shared", "Tokens taken from the store"),
            invalidated=counter("tokens_invalidated", "Tokens dropped before their time"),
            skipped=counter("refreshes_skipped", "No time left to refresh ahead of expiry"),
            postponed=counter("logins_postponed", "Pauses after failures", "reason"),
            abandoned=counter("logins_abandoned", "Logins that overran their budget"),
            reloaded=counter("credentials_reloaded", "Changes of the credentials"),
            late=counter("refreshes_late", "Refreshes that began over five seconds late"),
            inbound=counter("inbound_calls", "Requests of the bank", "service", "outcome", "check"),
            duration=Histogram(
                "permata_auth_login_duration_seconds",
                "How long logins took, all attempts included",
                ("client", "outcome"),
                buckets=_BUCKETS,
                registry=None,
            ),
            expiry=Gauge(
                "permata_auth_token_expiry_timestamp_seconds",
                "When the token expires",
                ("client",),
                registry=None,
                multiprocess_mode="liveall",
            ),
        )
        self._watched: dict[str, weakref.ref[LoginHandler]] = {}
        self._receivers: dict[str, weakref.ref[SnapReceiver]] = {}
        registry.register(self)

    def watch(self, handler: LoginHandler | SnapReceiver, *, client: str = "permata") -> None:
        """Count the events of ``handler`` from now on; its own event hooks go on being called.

        Does nothing for a handler that is watched by this name already. Raises ConfigurationError
        for another name, and for the name of another handler.

        Args:
            handler: The handler to watch, or the receiver; each of several handlers needs a
                ``client`` of its own, and so does each of several receivers.
            client: The value of the label that all of its metrics carry.
        """
        if not isinstance(handler, LoginHandler | SnapReceiver) or not isinstance(client, str):
            raise ConfigurationError(
                "watch() takes a LoginHandler or a SnapReceiver, and a str as client"
            )
        if isinstance(handler, SnapReceiver):
            living = {name: each for name, ref in self._receivers.items() if (each := ref())}
            if _is_new(client, handler, living):
                self._receivers[client] = weakref.ref(handler)
                handler.events.add(_InboundRecorder(self._families, client))
        elif _is_new(client, handler, dict(self.handlers())):
            self._watched[client] = weakref.ref(handler)
            handler.events.add(_Recorder(self, self._families, handler, client))

    def describe(self) -> Iterator[Metric]:
        """Return the families with no samples in them; asks no handler."""
        for metric in self._families.counted:
            yield from metric.describe()
        yield from _states()

    def collect(self) -> Iterator[Metric]:
        """Ask every handler for its state, which never blocks."""
        for metric in self._families.counted:
            yield from metric.collect()
        seconds_left, waiting, expiry = states = _states()
        for client, handler in self.handlers():
            info = handler.info()
            seconds_left.add_metric([client], info.seconds_left)
            waiting.add_metric([client], info.waiting)
            if info.expires_at is not None:
                expiry.add_metric([client], info.expires_at.timestamp())
        yield from states

    def handlers(self) -> Iterator[tuple[str, LoginHandler]]:
        """Yield the handlers that live, each after its ``client``, and forget the others."""
        for client, reference in list(self._watched.items()):
            handler = reference()
            if handler is not None:
                yield client, handler
            elif self._watched.pop(client, None) is not None and _is_multiprocess():
                # An entry of a file cannot be removed.
                self._families.expiry.labels(client).set(math.nan)


def _is_new(client: str, handler: object, watched: Mapping[str, object]) -> bool:
    """Return False where a handler has this name already; raise ConfigurationError for a clash."""
    if watched.get(client) is handler:
        return False
    if client in watched or any(each is handler for each in watched.values()):
        raise ConfigurationError(
            f"client={client!r} is another handler's name, or this handler has another one; "
            "give each handler one name of its own"
        )
    return True


@attrs.frozen(kw_only=True, eq=False)
class _Families:
    """The metrics that are counted as events happen."""

    logins: Counter
    failures: Counter
    shared: Counter
    invalidated: Counter
    skipped: Counter
    postponed: Counter
    abandoned: Counter
    reloaded: Counter
    late: Counter
    inbound: Counter
    duration: Histogram
    #: Only for the files of multiprocess mode: a scrape reads the handlers themselves.
    expiry: Gauge

    @property
    def counted(self) -> Iterator[Counter | Histogram]:
        """All but the expiry."""
        return (each for each in attrs.astuple(self, recurse=False) if each is not self.expiry)


def _states() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    """Return the metrics that are read at a scrape, with no samples in them."""

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

    def __init__(
        self, metrics: PermataMetrics, families: _Families, handler: LoginHandler, client: str
    ) -> None:
        # Weak, so that metrics which were unregistered and dropped count no longer.
        self._metrics = weakref.ref(metrics)
        self._families = weakref.ref(families)
        self._handler = weakref.ref(handler)
        self._client = client
        self._due: datetime | None = None
        self._process: object = None
        self._begin(families)

    def __call__(self, event: Event) -> None:
        families = self._families()
        if families is None:
            return
        if self._process != _process.identity():
            self._begin(families)
        self._count(families, event)

    def _count(self, families: _Families, event: Event) -> None:
        client = self._client
        if isinstance(event, LoginStarted):
            self._note_start(families, event)
        elif isinstance(event, LoginSucceeded):
            families.logins.labels(client).inc()
            families.duration.labels(client, "success").observe(event.duration)
        elif isinstance(event, LoginFailed):
            families.failures.labels(client, event.error).inc()
            families.duration.labels(client, "failure").observe(event.duration)
        elif isinstance(event, TokenSwapped):
            self._due = None
            self._note_expiry(families, event.expires_at)
            if event.is_shared:
                families.shared.labels(client).inc()
        elif isinstance(event, RefreshScheduled):
            self._due = event.next_refresh_at
        elif isinstance(event, LoginPostponed):
            families.postponed.labels(client, event.error).inc()
        else:
            self._count_plainly(families, event)

    def _count_plainly(self, families: _Families, event: Event) -> None:
        counters = {
            TokenInvalidated: families.invalidated,
            RefreshSkipped: families.skipped,
            LoginAbandoned: families.abandoned,
            CredentialsReloaded: families.reloaded,
        }
        counter = counters.get(type(event))
        if counter is not None:
            counter.labels(self._client).inc()

    def _begin(self, families: _Families) -> None:
        """Record the state once in each process: a child's files begin empty."""
        self._process = _process.identity()
        # So that rates and alerts have a zero to start from.
        for each in (families.logins, families.shared, families.skipped, families.late):
            each.labels(self._client)
        handler = self._handler()
        expires_at = handler.info().expires_at if handler is not None else None
        if expires_at is not None:
            self._note_expiry(families, expires_at)

    def _note_expiry(self, families: _Families, expires_at: datetime) -> None:
        metrics = self._metrics()
        if _is_multiprocess() and metrics is not None:
            list(metrics.handlers())  # forget those that are gone
            families.expiry.labels(self._client).set(expires_at.timestamp())

    def _note_start(self, families: _Families, event: LoginStarted) -> None:
        due, self._due = self._due, None  # the attempts after a failed one are not late
        handler = self._handler()
        # After shutdown() no refresh is due any more: the next login is on demand.
        if due is None or handler is None or not handler.scheduler.is_active:
            return
        if (event.at - due).total_seconds() > _LATE_SECS:
            families.late.labels(self._client).inc()


class _InboundRecorder:
    """The event hook of one receiver. Holds neither the receiver nor the metrics."""

    def __init__(self, families: _Families, client: str) -> None:
        self._families = weakref.ref(families)
        self._client = client

    def __call__(self, event: Event) -> None:
        families = self._families()
        if families is None or not isinstance(event, InboundCallAnswered):
            return
        # Of the receiver's own words alone: no value that a stranger sends becomes a time series.
        families.inbound.labels(
            self._client, f"{event.service:02d}", event.outcome, event.check or ""
        ).inc()
