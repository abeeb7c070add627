"""OpenTelemetry: a span for each delivery, and metrics. Needs `durable-objects[otel]`: the API.

    async with durable.open("state", observer=Telemetry()) as runtime: ...

A delivery's span is the current one while its handler runs, and the parent of those of the calls
that the handler makes: so a trace follows a call from object to object, and an HTTP client that is
instrumented joins it. Without an SDK set up by the program nothing is recorded, at little cost.
"""

from __future__ import annotations

from durable._model.errors import MissingExtra
from durable._model.observer import (
    AlarmRang,
    CommitEnded,
    DeliveryCame,
    DeliveryEnded,
    Event,
    ObjectBroken,
    ObjectEvicted,
    ObjectWoken,
    Outcome,
    Overloaded,
    QueryEnded,
    TurnTookLong,
)

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise MissingExtra("durable.otel needs the API of OpenTelemetry", "otel") from error

NAME = "durable"


class Telemetry:
    """An observer. *tracer_provider* and *meter_provider* replace the global ones.

    Metrics have the class, the method and the outcome as attributes, and never an object's id or
    name, of which there are too many; those are attributes of spans.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        self._spans: dict[int, Span] = {}
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "durable.delivery.duration", "s", "From the first step of the handler to its end."
        )
        self._queued = meter.create_histogram(
            "durable.delivery.queued", "s", "From the call to the first step of the handler."
        )
        self._gate_wait = meter.create_histogram(
            "durable.delivery.gate_wait", "s", "Waits for the input gate after the first step."
        )
        self._commit_wait = meter.create_histogram(
            "durable.delivery.commit_wait", "s", "From the handler's end until the answer left."
        )
        self._fsync = meter.create_histogram(
            "durable.commit.fsync", "s", "One transaction, with its fsync."
        )
        self._batches = meter.create_counter(
            "durable.commit.batches", "{batch}", "Turns whose writes were committed."
        )
        self._size = meter.create_counter(
            "durable.commit.size", "By", "Bytes of keys and values that were committed."
        )
        self._late = meter.create_histogram(
            "durable.alarm.late", "s", "How long after its time an alarm rang."
        )
        self._query = meter.create_histogram(
            "durable.query.duration", "s", "Time of a query of SQL within SQLite."
        )
        self._woken = meter.create_counter("durable.object.woken", "{object}")
        self._evicted = meter.create_counter("durable.object.evicted", "{object}")
        self._broken = meter.create_counter("durable.object.broken", "{object}")
        self._overloaded = meter.create_counter("durable.object.overloaded", "{call}")

    def __call__(self, event: Event) -> None:
        match event:
            case DeliveryCame():
                self._begin(event)
            case DeliveryEnded():
                self._end(event)
            case CommitEnded():
                self._fsync.record(event.fsync_s, {"error": event.error is not None})
                if event.error is None:
                    self._batches.add(event.batches)
                    self._size.add(event.size)
            case AlarmRang():
                self._late.record(event.late_s, {"class": event.class_name})
            case ObjectWoken():
                self._woken.add(1, {"class": event.class_name})
            case ObjectEvicted():
                self._evicted.add(1, {"class": event.class_name})
            case ObjectBroken():
                self._broken.add(1, {"class": event.class_name, "reason": event.error})
            case Overloaded():
                self._overloaded.add(1, {"class": event.class_name})
            case QueryEnded():
                self._queried(event)
            case TurnTookLong():
                pass  # its time is seen in the span of its delivery

    def _begin(self, event: DeliveryCame) -> None:
        """In the delivery's own context, which has the caller's span in it."""
        # An alarm has no caller; its context may have a parent from the code that set it.
        parent = Context() if event.kind in {"alarm", "timer"} else None
        span = self._tracer.start_span(
            f"{event.class_name}.{event.method}",
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes={
                "durable.class": event.class_name,
                "durable.id": event.object_id,
                "durable.kind": event.kind,
                "durable.method": event.method,
                **({} if event.name is None else {"durable.name": event.name}),
            },
        )
        self._spans[event.number] = span
        # Never detached: the context is the delivery's and ends with it.
        context.attach(trace.set_span_in_context(span, parent))

    def _queried(self, event: QueryEnded) -> None:
        """An event of the span of the delivery that has asked, which is the current one."""
        self._query.record(
            event.duration_s, {"class": event.class_name, "error": event.error is not None}
        )
        trace.get_current_span().add_event(
            "durable.query",
            {
                "db.query.text": event.query,
                "durable.rows_read": event.rows_read,
                "durable.rows_written": event.rows_written,
                "durable.duration_s": event.duration_s,
                **({} if event.error is None else {"durable.error": event.error}),
            },
        )

    def _end(self, event: DeliveryEnded) -> None:
        labels = {
            "class": event.class_name, "kind": event.kind, "method": event.method,
            "outcome": str(event.outcome),
        }  # fmt: skip
        self._duration.record(event.duration_s, labels)
        self._queued.record(event.queued_s, labels)
        self._gate_wait.record(event.gate_wait_s, labels)
        self._commit_wait.record(event.commit_wait_s, labels)
        span = self._spans.pop(event.number, None)
        if span is None:
            return
        span.set_attributes(
            {
                "durable.queued_s": event.queued_s,
                "durable.gate_wait_s": event.gate_wait_s,
                "durable.duration_s": event.duration_s,
                "durable.commit_wait_s": event.commit_wait_s,
                "durable.outcome": str(event.outcome),
            }
        )
        if event.outcome is not Outcome.OK:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()


__all__ = ["Telemetry"]
