"""Queries of a store for objects, alarms and classes, each by one statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from attrs import frozen

from durable._engine.batch import Alarm, DueAlarm, ObjectRecord, Woken
from durable._engine.catalog import Weight
from durable._engine.checksums import OVERHEAD
from durable._engine.measures import Measures
from durable._engine.waking import WOKEN_COUNT_MAX, WOKEN_SIZE_MAX
from durable._model.errors import StoreDamaged

from .connection import Connection
from .reader import PostgresReader

_FIELDS: Final = "keyspace, created_us, name, due_us, scheduled_us, retry_count, backoff, history"
_FIND: Final = f"select {_FIELDS} from durable.objects where class_number = %s and base = %s"
_WAKE: Final = "select * from durable.wake(%s, %s, %s, %s)"
_FIND_SOME: Final = (
    f"select o.class_number, o.base, {_FIELDS} "
    "from unnest(%s::integer[], %s::bytea[]) as wanted (class_number, base) "
    "join durable.objects as o on o.class_number = wanted.class_number and o.base = wanted.base"
)
_OBJECTS: Final = (
    f"select base, {_FIELDS} from durable.objects "
    "where class_number = %s and base > %s order by base limit %s"
)
_ALARMS: Final = (
    "select due_us, class_number, base from durable.objects "
    "where due_us is not null and (due_us, class_number, base) > (%s, %s, %s) "
    "order by due_us, class_number, base limit %s"
)
# The first alarms of each shard, and of those the first.
_ALARMS_OF_SHARDS: Final = (
    "select first.due_us, first.class_number, first.base "
    "from unnest(%s::integer[]) as mine (shard) "
    "cross join lateral (select due_us, class_number, base from durable.objects as o "
    "where o.shard = mine.shard and due_us is not null "
    "and (due_us, class_number, base) > (%s, %s, %s) "
    "order by due_us, class_number, base limit %s) as first "
    "order by first.due_us, first.class_number, first.base limit %s"
)
_WEIGH: Final = (
    "select (select count(*) from durable.objects where class_number = %s), "
    "(select count(*) from durable.objects where class_number = %s and due_us is not null), "
    "(select coalesce(sum(octet_length(r.key) + octet_length(r.value) - %s), 0)::bigint "
    "from durable.objects as o join durable.records as r on r.keyspace = o.keyspace "
    "where o.class_number = %s)"
)
# Counted as far as that is cheap, and estimated beyond.
_COUNT_MAX: Final = 10_000
_MEASURE: Final = (
    "select (select count(*) from durable.classes), "
    "(select count(*) from (select from durable.objects limit %(most)s) as part), "
    "(select count(*) from (select from durable.records limit %(most)s) as part), "
    "(select count(*) from (select from durable.objects where due_us is not null limit %(most)s) "
    "as part), "
    "(select count(*) from (select from durable.garbage limit %(most)s) as part) + "
    "(select count(*) from durable.garbage_histories) + "
    "(select count(*) from durable.garbage_classes), "
    "(select reltuples from pg_class where oid = 'durable.objects'::regclass)::bigint, "
    "(select reltuples from pg_class where oid = 'durable.records'::regclass)::bigint, "
    "(select reltuples from pg_class where oid = 'durable.alarms_by_time'::regclass)::bigint, "
    "(select sum(pg_total_relation_size(c.oid))::bigint from pg_class as c "
    "where c.relnamespace = 'durable'::regnamespace and c.relkind = 'r'), "
    "pg_snapshot_xmax(pg_current_snapshot())::text::bigint, "
    "current_setting('block_size')::bigint"
)

_BEFORE_ALL: Final = DueAlarm(-(1 << 63), 0, b"")


def record_of(fields: Iterable[Any]) -> ObjectRecord:
    keyspace, created_us, name, due_us, scheduled_us, retry_count, backoff, history = fields
    alarm = None if due_us is None else Alarm(due_us, scheduled_us, retry_count, backoff)
    known = None if name is None else name.decode()
    return ObjectRecord(keyspace, created_us, known, alarm, history)


@frozen
class Questions:
    """Queries for objects. For the thread that the connection belongs to."""

    connection: Connection

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        rows = self.connection.read(_FIND, (class_number, base))
        return record_of(rows[0]) if rows else None

    def wake(self, class_number: int, base: bytes, reader: PostgresReader) -> Woken | None:
        """As `Wakes.wake`; *reader* decodes the records."""
        params = (class_number, base, WOKEN_SIZE_MAX, WOKEN_COUNT_MAX)
        [row] = self.connection.read(_WAKE, params)
        *fields, keys, values, are_all_keys, sides, side_values, are_all_sides = row
        keyspace = fields[0]
        if keyspace is None:
            return None
        pairs: list[tuple[str, bytes]] = []
        upper = None
        for key, record in zip(keys or (), values or (), strict=True):
            try:
                pairs.append((key.decode(), reader.value(keyspace, key, record)))
            except StoreDamaged:  # raised when it is asked for by itself
                upper, are_all_keys = key.decode(), False
                break
        if not are_all_keys and upper is None:
            upper = pairs[-1][0] + "\0" if pairs else ""
        known: dict[bytes, bytes] = {}
        for key, record in zip(sides or (), side_values or (), strict=True):
            try:
                known[key] = reader.side(keyspace, key, record)
            except StoreDamaged:
                are_all_sides = False
        return Woken(record_of(fields), pairs, upper, known, are_all_sides)

    def find_some(
        self, keys: Collection[tuple[int, bytes]]
    ) -> dict[tuple[int, bytes], ObjectRecord]:
        """The records of the objects *keys*, given by class number and base, that are known."""
        numbers, bases = [number for number, _ in keys], [base for _, base in keys]
        rows = self.connection.read(_FIND_SOME, (numbers, bases))
        return {(number, base): record_of(fields) for number, base, *fields in rows}

    def objects(
        self, class_number: int, after: bytes | None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        rows = self.connection.read(_OBJECTS, (class_number, after or b"", count_max))
        return [(base, record_of(fields)) for base, *fields in rows]

    def alarms(
        self, shards: Collection[int] | None, after: DueAlarm | None, count_max: int
    ) -> list[DueAlarm]:
        """Up to *count_max* alarms of *shards* behind *after*; None: of all shards."""
        last = after or _BEFORE_ALL
        place = (last.due_us, last.class_number, last.base)
        if shards is None:
            rows = self.connection.read(_ALARMS, (*place, count_max))
        else:
            params = (list(shards), *place, count_max, count_max)
            rows = self.connection.read(_ALARMS_OF_SHARDS, params)
        return [DueAlarm(*row) for row in rows]

    def weigh_class(self, class_number: int) -> Weight:
        params = (class_number, class_number, OVERHEAD, class_number)
        [(objects, alarms, size)] = self.connection.read_long(_WEIGH, params)
        return Weight(objects, alarms, size)

    def measure(self) -> Measures:
        [row] = self.connection.read_long(_MEASURE, {"most": _COUNT_MAX})
        classes, objects, records, alarms, garbage, *rest = row
        known_objects, known_records, known_alarms, size, last_commit, page_size = rest
        return Measures(
            file_size=size,
            map_size=0,
            page_size=page_size,
            pages=size // page_size,
            free_pages=0,
            last_commit=last_commit,
            readers=0,
            readers_max=0,
            classes=classes,
            objects=_more_of(objects, known_objects),
            records=_more_of(records, known_records),
            alarms=_more_of(alarms, known_alarms),
            garbage=garbage,
        )


def _more_of(counted: int, estimated: int) -> int:
    return counted if counted < _COUNT_MAX else max(counted, estimated)
