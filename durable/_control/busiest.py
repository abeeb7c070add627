"""The busiest objects at this moment: an observer that sums up, report by report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import define, field

from durable._model.clock import Clock
from durable._model.observer import CommitEnded, DeliveryEnded, Event, Outcome

SHOWN_MAX = 50
# Objects and commits that are kept apart between two reports; the rest is only counted.
KEPT_MAX = 100_000

QueueLength = tuple[int, str, str | None]
"""How many deliveries wait for an object, and the names of its class and of the object."""


@define(eq=False)
class Doings:
    """What one object did since the last report."""

    class_name: str
    name: str | None
    deliveries: int = 0
    errors: int = 0
    queued_s: float = 0.0
    gate_wait_s: float = 0.0
    duration_s: float = 0.0
    commit_wait_s: float = 0.0


@define(eq=False)
class Busiest:
    """Give it to `Runtime.observe`, and ask it for a report now and then."""

    _clock: Clock
    _doings: dict[str, Doings] = field(factory=dict, init=False)
    _fsyncs: list[float] = field(factory=list, init=False)
    # What callers waited for, of deliveries that ended.
    _waits: list[float] = field(factory=list, init=False)
    _missed: int = field(default=0, init=False)
    # Of the statistics at the last report.
    _totals: tuple[int, int, int] | None = field(default=None, init=False)
    _since_s: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._since_s = self._clock.steady()

    def __call__(self, event: Event) -> None:
        if isinstance(event, DeliveryEnded):
            self._add(event)
        elif isinstance(event, CommitEnded) and len(self._fsyncs) < KEPT_MAX:
            self._fsyncs.append(event.fsync_s)

    def miss(self, count: int) -> None:
        """So many deliveries were left out; see `Sampler`."""
        self._missed += count

    def _add(self, event: DeliveryEnded) -> None:
        if len(self._waits) < KEPT_MAX:
            self._waits.append(event.queued_s + event.duration_s + event.commit_wait_s)
        doings = self._doings.get(event.object_id)
        if doings is None:
            if len(self._doings) >= KEPT_MAX:
                return
            doings = self._doings[event.object_id] = Doings(event.class_name, event.name)
        doings.deliveries += 1
        doings.errors += event.outcome is not Outcome.OK
        doings.queued_s += event.queued_s
        doings.gate_wait_s += event.gate_wait_s
        doings.duration_s += event.duration_s
        doings.commit_wait_s += event.commit_wait_s

    def report(
        self, statistics: Mapping[str, Any], queues: Mapping[str, QueueLength]
    ) -> dict[str, Any]:
        """What happened since the last report, for JSON. Times of objects are sums, in seconds.

        `deliveries`, `commits` and all that concerns objects count what was observed; `calls`,
        `errors` and `committed` count all, by the statistics.

        *queues*: the objects that have a queue at this moment, by id.
        """
        now_s = self._clock.steady()
        doings, self._doings = self._doings, {}
        fsyncs, self._fsyncs = sorted(self._fsyncs), []
        waits, self._waits = sorted(self._waits), []
        missed, self._missed = self._missed, 0
        period_s, self._since_s = now_s - self._since_s, now_s
        totals = _totals(statistics)
        before, self._totals = self._totals or totals, totals
        calls, errors, committed = (now - then for now, then in zip(totals, before, strict=True))
        busiest = sorted(
            {*doings, *queues},
            key=lambda raw: (
                queues[raw][0] if raw in queues else 0,
                doings[raw].deliveries if raw in doings else 0,
            ),
            reverse=True,
        )[:SHOWN_MAX]
        return {
            "pid": os.getpid(),
            "period_s": period_s,
            "deliveries": sum(each.deliveries for each in doings.values()),
            "commits": len(fsyncs),
            "calls": calls,
            "errors": errors,
            "committed": committed,
            "missed": missed,
            "call_s": {part: _part(waits, part) for part in (50, 99, 100)},
            "memory_bytes": memory_bytes(),
            "fsync_s": {part: _part(fsyncs, part) for part in (50, 99, 100)},
            "statistics": statistics,
            "objects": [
                {
                    "object_id": raw,
                    "queue": queues[raw][0] if raw in queues else 0,
                    **attrs.asdict(doings.get(raw) or Doings(*queues[raw][1:])),
                }
                for raw in busiest
            ],
        }


def _part(ordered: list[float], percent: int) -> float | None:
    """The value that *percent* of those in *ordered* do not exceed."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _totals(statistics: Mapping[str, Any]) -> tuple[int, int, int]:
    """Deliveries, errors and commits since the opening."""
    classes = statistics["classes"]
    return (
        sum(each["deliveries"] for each in classes),
        sum(each["errors"] for each in classes),
        statistics["commits"]["count"],
    )


def memory_bytes() -> int | None:
    """The memory of this process that is in use; None where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
