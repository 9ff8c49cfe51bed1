"""OpenTelemetry: a metric and a span for each login, from the handler's event hook.

    python opentelemetry_events.py

Prints the records that an exporter would send. In an app, set up the exporters as
always and pass ``record_event``.
"""

from __future__ import annotations

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from permata_auth import LoginHandler, PermataCredentials
from permata_auth.events import Event, LoginFailed, LoginSucceeded

tracer = trace.get_tracer("permata_auth")
meter = metrics.get_meter("permata_auth")
logins = meter.create_counter("permata_auth.logins", description="Logins, by outcome")
duration = meter.create_histogram("permata_auth.login.duration", unit="s")


def record_event(event: Event) -> None:
    """Record the end of a login; every other event is left out."""
    if not isinstance(event, LoginSucceeded | LoginFailed):
        return
    outcome = event.error if isinstance(event, LoginFailed) else "success"
    logins.add(1, {"outcome": outcome})
    duration.record(event.duration, {"outcome": outcome})
    ended = int(event.at.timestamp() * 1e9)
    span = tracer.start_span("permata_auth.login", start_time=ended - int(event.duration * 1e9))
    span.set_attribute("permata_auth.outcome", outcome)
    span.end(ended)


def main() -> None:
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(spans)
    readings = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
    metrics.set_meter_provider(readings)
    with LoginHandler(PermataCredentials.from_env(), on_event=record_event) as handler:
        handler.get_token()
    readings.shutdown()
    spans.shutdown()


if __name__ == "__main__":
    main()
