"""A copy of a store object by object: with another number of shards, or by another engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from operator import attrgetter
from typing import Final

from durable._engine.batch import Batch, Callbacks, ObjectHandle, ObjectRecord
from durable._engine.engine import Engine
from durable._engine.side_records import AREAS, end_of
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._runtime.engines import open_copy, open_to_write

from .copying_histories import records_of, with_history

OBJECTS_PER_STEP: Final = 1_000
KEYS_PER_STEP: Final = 1_000
GROUP_SIZE_MAX: Final = 16 << 20
GROUP_COUNT_MAX: Final = 10_000


def copy_objects(store: Engine, part: str, clock: Clock, *, shards: int | None) -> None:
    """Copy all objects into a new store in the empty folder *part*, of so many shards; None: into
    one that is not divided. Raises StoreDamaged for a damaged value."""
    target = open_to_write(part, clock, shards=shards)
    try:
        for _ in _copy(store, target, None):
            pass
    finally:
        target.close()


def copy_to_database(
    store: Engine, url: str, clock: Clock, on_objects: Callable[[int], None]
) -> None:
    """Copy all objects into the empty store in the database of *url*, or continue such a copy.
    *on_objects* is called with how many were copied.

    At the end both are read and compared. Raises StoreDamaged for a damaged value, and DurableError
    if the database has other contents, or differs in the end.
    """
    target, growing = open_copy(url, clock, store.path)
    try:
        after = growing.begin()
        count = 0
        for number, base, count in _copy(store, target, after):
            growing.reached((number, base))
            on_objects(count)
        while target.has_garbage:
            target.collect_garbage()
        if digest_of(store) != digest_of(target):
            raise DurableError(
                f"the copy is not what {store.path!r} has now: that was changed meanwhile. Make "
                f"the copy anew in an empty database while no program has the store"
            )
        growing.end()
    finally:
        growing.close()
        target.close()


def digest_of(store: Engine) -> tuple[int, str]:
    """How many objects a store has, and a checksum of all their contents."""
    count, digest = 0, sha256()
    for record in store.catalog().records:
        if record.is_deleted:
            continue
        for base, found in _objects(store, record.number):
            puts, sides = _contents(store, found)
            known = (record.number, base, found.name, found.created_us, found.alarm)
            history = records_of(store, found.history) if found.history else {}
            parts = [sorted(each.items()) for each in (puts, sides, history)]
            digest.update(repr((known, parts)).encode())
            count += 1
    return count, digest.hexdigest()


def _copy(
    store: Engine, target: Engine, after: tuple[int, bytes] | None
) -> Iterator[tuple[int, bytes, int]]:
    """Copy the objects behind *after*; yields the last one of each group that is stored, and how
    many it has."""
    catalog = store.catalog()
    known = target.catalog()
    if known != catalog:
        target.change_classes(known, catalog)
    group: list[Batch] = []
    size = count = 0
    first, place = after or (0, None)
    for record in sorted(catalog.records, key=attrgetter("number")):
        if record.is_deleted or record.number < first:
            continue
        begin = place if record.number == first else None
        for base, found in _objects(store, record.number, begin):
            batches = _batches(store, target, record.number, base, found)
            group += batches
            size += sum(batch.size for batch in batches)
            count += 1
            if size >= GROUP_SIZE_MAX or len(group) >= GROUP_COUNT_MAX:
                target.commit(group)
                yield record.number, base, count
                group, size = [], 0
    if group:
        target.commit(group)
        last = group[-1].handle
        yield last.class_number, last.base, count


def _objects(
    store: Engine, class_number: int, after: bytes | None = None
) -> Iterator[tuple[bytes, ObjectRecord]]:
    while found := store.objects(class_number, after=after, count_max=OBJECTS_PER_STEP):
        yield from found
        after = found[-1][0]


def _batches(
    store: Engine, target: Engine, class_number: int, base: bytes, found: ObjectRecord
) -> list[Batch]:
    """The batches that make one object, and its history."""
    puts, sides = _contents(store, found)
    size = sum(len(key) + len(value or b"") for key, value in puts.items())
    size += sum(len(key) + len(value or b"") for key, value in sides.items())
    batch = Batch(
        handle=ObjectHandle(class_number, base, target.next_keyspace(), found.name, None, None),
        clears=False,
        puts=puts,
        alarm=found.alarm,
        origin=Callbacks(_nothing, _nothing),
        size=size,
        created_us=found.created_us,
        sides=sides or None,
    )
    return with_history(store, target, found, batch) if found.history else [batch]


def _contents(
    store: Engine, found: ObjectRecord
) -> tuple[dict[str, bytes | None], dict[bytes, bytes | None]]:
    """The keys and the side records of an object."""
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
    return puts, sides


def _nothing(*_: object) -> None:
    """The callback of a batch: the copy waits for each commit, and needs no notice."""
