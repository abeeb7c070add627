"""What a runtime is doing and has done, as frozen values.

Gauges are of this moment; counters only rise, from the opening on. Nothing is computed on the path
of a call.
"""

from __future__ import annotations

from attrs import frozen

from durable._border.sockets import SocketTable
from durable._engine.measures import Measures
from durable._gates.abandoned import abandoned_in
from durable._object.services import Services

from .commits import Commits
from .live_counts import LiveCounts


@frozen
class ClassStatistics:
    """The objects of one class."""

    class_name: str
    # At this moment
    live_objects: int
    open_deliveries: int
    queued_deliveries: int
    # Since the opening
    deliveries: int
    subrequests: int  # deliveries sent by another object's code
    errors: int  # handlers that raised, and deliveries that a reset has ended
    overloaded: int  # calls that were refused because a queue was full
    alarms: int
    woken: int
    evicted: int
    broken: int  # resets and aborts
    # Of SQL, while queries are watched: by an observer, in debug mode, or by a collector for
    # Prometheus from when it was made on. Each counts as it has ended.
    queries: int  # calls of ctx.storage.sql.exec
    rows_read: int  # rows that they have given
    rows_written: int  # rows inserted, changed and deleted
    query_s: float  # real time within SQLite


@frozen
class CommitStatistics:
    """The commits since the opening."""

    count: int  # transactions, each with one fsync
    batches: int  # turns that wrote
    size: int  # bytes of keys and values
    fsync_s: float  # in all
    failed: int


@frozen
class Statistics:
    """What a runtime is doing at this moment, and has done since it was opened."""

    live_objects: int
    open_deliveries: int
    queued_deliveries: int
    websockets: int
    cache_bytes: int
    batches_waiting: int
    abandoned: int  # since the opening: coroutines that did not end after a reset
    commits: CommitStatistics
    store: Measures
    classes: tuple[ClassStatistics, ...]


def statistics_of(
    services: Services,
    counts: LiveCounts,
    commits: Commits,
    batches_waiting: int,
    store: Measures,
) -> Statistics:
    live, opened, queued = counts.live, counts.opened, counts.queued
    return Statistics(
        live_objects=live.total(),
        open_deliveries=opened.total(),
        queued_deliveries=queued.total(),
        websockets=sum(len(sockets) for sockets in services.find(SocketTable)),
        cache_bytes=services.budget.size,
        batches_waiting=batches_waiting,
        abandoned=abandoned_in(services.loop),
        commits=CommitStatistics(
            commits.count, commits.batches, commits.size, commits.fsync_s, commits.failed
        ),
        store=store,
        classes=tuple(
            ClassStatistics(
                class_name=counters.class_name,
                live_objects=live[number],
                open_deliveries=opened[number],
                queued_deliveries=queued[number],
                deliveries=counters.deliveries,
                subrequests=counters.subrequests,
                errors=counters.errors,
                overloaded=counters.overloaded,
                alarms=counters.alarms,
                woken=counters.woken,
                evicted=counters.evicted,
                broken=counters.broken,
                queries=counters.queries,
                rows_read=counters.rows_read,
                rows_written=counters.rows_written,
                query_s=counters.query_s,
            )
            for number, counters in sorted(services.counters_of_all.copy().items())
        ),
    )
