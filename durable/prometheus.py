"""Prometheus: the statistics of a runtime, read when they are scraped.

    from prometheus_client import REGISTRY

    REGISTRY.register(RuntimeCollector(runtime))

Needs `durable-objects[prometheus]`. Nothing is kept: each scrape is one `runtime.statistics()`,
which any thread may ask for. Queries of SQL are counted and timed from when the collector is made
on; nothing else is observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from durable._model.errors import MissingExtra, RuntimeClosed
from durable._runtime.runtime import Runtime
from durable._runtime.statistics import ClassStatistics, Statistics

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ImportError as _missing:
    raise MissingExtra("durable.prometheus needs prometheus-client", "prometheus") from _missing

_CLASS_GAUGES = {
    "live_objects": "Objects in memory",
    "open_deliveries": "Deliveries that have no answer yet",
    "queued_deliveries": "Deliveries and tasks that wait for their turn",
}
_CLASS_COUNTERS = {
    "deliveries": "Calls, alarms and socket messages that reached an object",
    "subrequests": "Deliveries that another object's code has sent",
    "errors": "Handlers that raised, and deliveries that a reset has ended",
    "overloaded": "Calls that were refused because a queue was full",
    "alarms": "Alarms that rang",
    "woken": "Instances that were built",
    "evicted": "Idle objects that were evicted from memory",
    "broken": "Objects that were reset or aborted",
}
_SQL_COUNTERS = {
    "queries": ("durable_sql_queries", "Calls of ctx.storage.sql.exec"),
    "rows_read": ("durable_sql_rows_read", "Rows that queries have given"),
    "rows_written": ("durable_sql_rows_written", "Rows inserted, changed and deleted"),
    "query_s": ("durable_sql_seconds", "Time within SQLite, which holds up the loop"),
}
_COMMIT_COUNTERS = {
    "count": ("durable_commits", "Transactions, each with one fsync"),
    "batches": ("durable_committed_batches", "Turns whose writes were committed"),
    "size": ("durable_committed_bytes", "Bytes of keys and values that were committed"),
    "fsync_s": ("durable_commit_seconds", "Time that commits took"),
    "failed": ("durable_failed_commits", "Transactions that failed"),
}
_STORE_GAUGES = {
    "file_size": ("durable_store_bytes", "Size of the file"),
    "objects": ("durable_stored_objects", "Objects that have a key or an alarm"),
    "records": ("durable_stored_records", "Stored keys"),
    "alarms": ("durable_stored_alarms", "Alarms that are pending"),
    "free_pages": ("durable_store_free_pages", "Free pages, used before the file grows"),
}


class RuntimeCollector:
    """The metrics of one runtime: none once it is closed. If the store is shared with other
    processes, each metric has a label `process`.

    The runtime's queries of SQL are counted from now on, at two to three microseconds each.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        runtime._services.sql.watch.count()

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise ask for the metrics at once."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        try:
            statistics = self._runtime.statistics()
        except RuntimeClosed:
            return
        process = self._runtime._process
        for metric in (*_of_classes(statistics.classes), *_of_store(statistics)):
            yield metric if process is None else _with_process(metric, process)


def _with_process(metric: Metric, process: str) -> Metric:
    """*metric* with the label of this process: the sum over all processes is the store's."""
    metric.samples = [
        sample._replace(labels={**sample.labels, "process": process}) for sample in metric.samples
    ]
    return metric


def _of_classes(classes: tuple[ClassStatistics, ...]) -> Iterator[Metric]:
    for name, text in _CLASS_GAUGES.items():
        gauge = GaugeMetricFamily(f"durable_{name}", text, labels=["class"])
        yield _filled(gauge, name, classes)
    for name, text in _CLASS_COUNTERS.items():
        counter = CounterMetricFamily(f"durable_{name}", text, labels=["class"])
        yield _filled(counter, name, classes)
    for key, (name, text) in _SQL_COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=["class"])
        yield _filled(counter, key, classes)


def _filled(family: Any, key: str, classes: tuple[ClassStatistics, ...]) -> Metric:
    """*family* with the number *key* of each class."""
    for each in classes:
        family.add_metric([each.class_name], getattr(each, key))
    filled: Metric = family
    return filled


def _of_store(statistics: Statistics) -> Iterator[Metric]:
    for key, (name, text) in _COMMIT_COUNTERS.items():
        yield CounterMetricFamily(name, text, value=getattr(statistics.commits, key))
    for key, (name, text) in _STORE_GAUGES.items():
        yield GaugeMetricFamily(name, text, value=getattr(statistics.store, key))
    yield CounterMetricFamily(
        "durable_abandoned", "Coroutines that did not end after a reset", value=statistics.abandoned
    )
    yield GaugeMetricFamily(
        "durable_websockets", "Web sockets that objects have accepted", value=statistics.websockets
    )
    yield GaugeMetricFamily(
        "durable_cache_bytes", "Bytes of values in memory", value=statistics.cache_bytes
    )
    yield GaugeMetricFamily(
        "durable_batches_waiting",
        "Batches on their way to the disk",
        value=statistics.batches_waiting,
    )


__all__ = ["RuntimeCollector"]
