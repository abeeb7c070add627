"""OpenTelemetry and Prometheus see what observers and statistics see."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field

from .conftest import Watched

trace = pytest.importorskip("opentelemetry.trace")
prometheus_client = pytest.importorskip("prometheus_client")

from durable.otel import Telemetry  # noqa: E402
from durable.prometheus import RuntimeCollector  # noqa: E402


@define(eq=False)
class Spans(trace.TracerProvider):  # type: ignore[name-defined, misc]
    """Keeps the spans that are started."""

    started: list[Any] = field(factory=list)

    def get_tracer(self, *args: Any, **options: Any) -> Any:
        return Tracer(self)


@define(eq=False)
class Tracer(trace.Tracer):  # type: ignore[name-defined, misc]
    spans: Spans

    def start_span(self, name: str, context: Any = None, **options: Any) -> Any:
        span = Span(name, trace.get_current_span(context), dict(options["attributes"]))
        self.spans.started.append(span)
        return span

    def start_as_current_span(self, name: str, **options: Any) -> Any:
        raise NotImplementedError


class Span(trace.NonRecordingSpan):  # type: ignore[name-defined, misc]
    def __init__(self, name: str, parent: Any, attributes: dict[str, Any]) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.name, self.parent, self.attributes = name, parent, attributes
        self.status: Any = None
        self.events: list[tuple[str, Any]] = []
        self.has_ended = False

    def set_attributes(self, attributes: Any) -> None:
        self.attributes.update(attributes)

    def add_event(self, name: str, attributes: Any = None, timestamp: Any = None) -> None:
        self.events.append((name, dict(attributes)))

    def set_status(self, status: Any, description: Any = None) -> None:
        self.status = status

    def end(self, end_time: Any = None) -> None:
        self.has_ended = True


async def test_spans_follow_a_call_from_object_to_object(watched: Watched) -> None:
    """The span of a delivery is the parent of those of the calls that its handler makes."""
    spans = Spans()
    async with watched.open(observer=Telemetry(spans)) as runtime:
        await runtime.env.WORKERS.get_by_name("one").relay("two", "relay", "three", "put", "x", 1)
        await runtime.env.WORKERS.get_by_name("one").get("x")

    one, two, three, alone = spans.started
    assert [span.name for span in spans.started] == [
        "Worker.relay", "Worker.relay", "Worker.put", "Worker.get",
    ]  # fmt: skip
    assert (three.parent, two.parent) == (two, one)
    assert one.parent is alone.parent is trace.INVALID_SPAN
    assert three.attributes["durable.name"] == "three"
    assert three.attributes["durable.outcome"] == "ok"
    assert all(span.has_ended for span in spans.started)
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_query_of_sql_is_an_event_of_the_span(watched: Watched) -> None:
    """Of the delivery that has asked."""
    pytest.importorskip("apsw")
    spans = Spans()
    async with watched.open(observer=Telemetry(spans)) as runtime:
        await runtime.env.WORKERS.get_by_name("one").ask("SELECT 1 AS one UNION SELECT 2")

    (span,) = spans.started
    ((name, attributes),) = span.events
    assert name == "durable.query"
    assert attributes.pop("durable.duration_s") > 0
    assert attributes == {
        "db.query.text": "SELECT 1 AS one UNION SELECT 2",
        "durable.rows_read": 2,
        "durable.rows_written": 0,
    }


async def test_a_failed_delivery_is_a_failed_span(watched: Watched) -> None:
    """Its status says what the caller got."""
    spans = Spans()
    async with watched.open(observer=Telemetry(spans)) as runtime:
        with pytest.raises(LookupError):
            await runtime.env.WORKERS.get_by_name("one").fail()

    (span,) = spans.started
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "LookupError: not here"


async def test_an_alarm_begins_a_trace_of_its_own(watched: Watched) -> None:
    """Whoever set it is long done."""
    spans = Spans()
    async with watched.open(observer=Telemetry(spans)) as runtime:
        await runtime.env.WORKERS.get_by_name("one").set_alarm(5)
        await watched.clock.advance(5)

    (alarm,) = [span for span in spans.started if span.name == "Worker.alarm"]
    assert alarm.parent is trace.INVALID_SPAN
    assert alarm.has_ended


async def test_prometheus_reads_when_it_scrapes(watched: Watched) -> None:
    """A registry has the statistics of the moment, and nothing of a closed runtime."""
    registry = prometheus_client.CollectorRegistry()
    async with watched.open(observer=None) as runtime:
        registry.register(RuntimeCollector(runtime))
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
        labels = {"class": "Worker"}
        assert registry.get_sample_value("durable_deliveries_total", labels) == 1
        assert registry.get_sample_value("durable_live_objects", labels) == 1
        assert registry.get_sample_value("durable_commits_total") == 1
        assert registry.get_sample_value("durable_stored_objects") == 1
        text = prometheus_client.generate_latest(registry).decode()

    assert 'durable_woken_total{class="Worker"} 1.0' in text
    assert prometheus_client.generate_latest(registry) == b""


async def test_prometheus_counts_queries_from_its_collector_on(watched: Watched) -> None:
    """By class, with their rows and their time; those before it were not watched."""
    pytest.importorskip("apsw")
    registry = prometheus_client.CollectorRegistry()
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.ask("SELECT 0 AS before")
        registry.register(RuntimeCollector(runtime))
        await worker.ask("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)")
        await worker.ask("SELECT value FROM t")

        def value(name: str) -> float:
            found = registry.get_sample_value(f"durable_sql_{name}_total", {"class": "Worker"})
            assert found is not None
            return found

        (statistics,) = [s for s in runtime.statistics().classes if s.class_name == "Worker"]
        counted = statistics.queries, statistics.rows_read, statistics.rows_written
        assert counted == (value("queries"), value("rows_read"), value("rows_written")) == (2, 3, 3)
        assert statistics.query_s == value("seconds") > 0


async def test_queries_stay_counted_when_an_observer_has_gone(watched: Watched) -> None:
    """The collector is there yet."""
    pytest.importorskip("apsw")
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        RuntimeCollector(runtime)
        runtime.observe(lambda event: None)()
        await worker.ask("SELECT 1 AS one")

        assert [s.queries for s in runtime.statistics().classes if s.class_name == "Worker"] == [1]
