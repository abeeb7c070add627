"""A view of a store of shards, made of views of each. With views of one snapshot each, a shard is
seen as it was at one moment; those of two shards may differ a little."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from operator import itemgetter

from attrs import define

from .batch import DueAlarm, ObjectRecord
from .catalog import Catalog
from .measures import Measures, sum_of
from .shards import shard_of
from .view import Listed, Malformed, Row, View


@define(eq=False)
class WholeView(View):
    """A `View` of all shards, with the keyspaces of a `WholeStore`."""

    shards: Sequence[View]
    known: Catalog

    def catalog(self) -> Catalog:
        return self.known

    def _whole(self, shard: int, record: ObjectRecord) -> ObjectRecord:
        count = len(self.shards)
        history = record.history * count + shard if record.history else 0
        return record._replace(keyspace=record.keyspace * count + shard, history=history)

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        shard = shard_of(base, len(self.shards))
        record = self.shards[shard].find(class_number, base)
        return None if record is None else self._whole(shard, record)

    def count(self, class_number: int, after: bytes | None, count_max: int) -> list[bytes]:
        found = (shard.count(class_number, after, count_max) for shard in self.shards)
        return heapq.nsmallest(count_max, (base for bases in found for base in bases))

    def listed(
        self, class_number: int, after: bytes | None, count_max: int, *, weigh: bool
    ) -> Listed:
        parts = [shard.listed(class_number, after, count_max, weigh=weigh) for shard in self.shards]
        # Beyond the last base of a shard that has more, the next object is not known.
        last = min((part.last for part in parts if part.last is not None), default=None)
        rows = sorted(
            (
                self._row(number, row)
                for number, part in enumerate(parts)
                for row in part.rows
                if last is None or row[0] <= last
            ),
            key=itemgetter(0),
        )
        if len(rows) > count_max:
            rows = rows[:count_max]
            last = rows[-1][0]
        damaged = sorted(
            found for part in parts for found in part.damaged if last is None or found[0] <= last
        )
        return Listed(rows, damaged, last)

    def _row(self, shard: int, row: Row) -> Row:
        base, (keyspace, *rest), weight = row
        count = len(self.shards)
        if len(rest) in {3, 7}:  # with a history
            rest[-1] = rest[-1] * count + shard
        return base, [keyspace * count + shard, *rest], weight

    def scan(
        self, keyspace: int, lower: str, upper: str | None
    ) -> tuple[list[tuple[str, bytes]], bool]:
        own, shard = divmod(keyspace, len(self.shards))
        return self.shards[shard].scan(own, lower, upper)

    def sides(self, keyspace: int, lower: bytes, upper: bytes) -> list[tuple[bytes, bytes]]:
        own, shard = divmod(keyspace, len(self.shards))
        return self.shards[shard].sides(own, lower, upper)

    def alarmed(
        self, after: DueAlarm | None, count_max: int
    ) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
        found = [
            (due, self._whole(number, record) if isinstance(record, ObjectRecord) else record)
            for number, shard in enumerate(self.shards)
            for due, record in shard.alarmed(after, count_max)
        ]
        return heapq.nsmallest(count_max, found, key=itemgetter(0))

    def measure(self) -> Measures:
        return sum_of([shard.measure() for shard in self.shards])

    def close(self) -> None:
        for shard in self.shards:
            shard.close()
