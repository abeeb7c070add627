"""A copy of a store with another number of shards: object by object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durable._engine.batch import Batch, Callbacks, ObjectHandle, ObjectRecord
from durable._engine.engine import Engine
from durable._engine.side_records import AREAS, end_of
from durable._model.clock import Clock
from durable._runtime.engines import open_to_write

OBJECTS_PER_STEP: Final = 1_000
KEYS_PER_STEP: Final = 1_000
GROUP_SIZE_MAX: Final = 16 << 20
GROUP_COUNT_MAX: Final = 10_000


def copy_objects(store: Engine, part: str, clock: Clock, *, shards: int | None) -> None:
    """Copy all objects into a new store in the empty folder *part*, of so many shards; None: into
    one that is not divided. Raises StoreDamaged for a value that is damaged."""
    target = open_to_write(part, clock, shards=shards)
    try:
        catalog = store.catalog()
        target.change_classes(target.catalog(), catalog)
        group: list[Batch] = []
        size = 0
        for record in catalog.records:
            if record.is_deleted:
                continue
            for base, found in _objects(store, record.number):
                batch = _batch(store, target, record.number, base, found)
                group.append(batch)
                size += batch.size
                if size >= GROUP_SIZE_MAX or len(group) >= GROUP_COUNT_MAX:
                    target.commit(group)
                    group, size = [], 0
        if group:
            target.commit(group)
    finally:
        target.close()


def _objects(store: Engine, class_number: int) -> Iterator[tuple[bytes, ObjectRecord]]:
    after: bytes | None = None
    while found := store.objects(class_number, after=after, count_max=OBJECTS_PER_STEP):
        yield from found
        after = found[-1][0]


def _batch(
    store: Engine, target: Engine, class_number: int, base: bytes, found: ObjectRecord
) -> Batch:
    """All of one object."""
    puts: dict[str, bytes | None] = {}
    lower, is_all = "", False
    while not is_all:
        pairs, is_all = store.in_line.scan_some(found.keyspace, lower, count_max=KEYS_PER_STEP)
        puts.update(pairs)
        lower = pairs[-1][0] + "\0" if pairs else ""
    sides: dict[bytes, bytes | None] = {}
    for area in AREAS:
        start, stop = area, end_of(area)
        while some := store.in_line.scan_sides(
            found.keyspace, start, stop, count_max=KEYS_PER_STEP
        ):
            sides.update(some)
            start = some[-1][0] + b"\0"
    size = sum(len(key) + len(value or b"") for key, value in puts.items())
    size += sum(len(key) + len(value or b"") for key, value in sides.items())
    return Batch(
        handle=ObjectHandle(class_number, base, target.next_keyspace(), found.name, None, None),
        clears=False,
        puts=puts,
        alarm=found.alarm,
        origin=Callbacks(_nothing, _nothing),
        size=size,
        created_us=found.created_us,
        sides=sides or None,
    )


def _nothing(*_: object) -> None:
    """The copy waits for each commit, and so is told of none."""
