"""A view of a store for reading only: with a reader of its own, in steps or on one snapshot.

Rule: each step is one transaction, which has ended when its result is returned. So between two
steps no reader is held, and the store's owner can reuse old pages. A view of one snapshot holds one
until it is closed, and that is its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from attrs import define, evolve, field

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog
from durable._engine.checksums import is_complete, value_size
from durable._engine.engine import Engine
from durable._engine.measures import Measures
from durable._engine.page_packing import PAGE_SIZE, pages_of
from durable._engine.side_records import FIRST_PAGE, HISTORY
from durable._engine.view import (
    KEYS_PER_STEP,
    STEP_SIZE_MAX,
    Damaged,
    EngineView,
    Listed,
    Malformed,
    MomentLost,
    Row,
    View,
    Weight,
    history_of,
)
from durable._engine.whole import WholeStore
from durable._engine.whole_view import WholeView
from durable._model.errors import StoreDamaged

from . import class_records, layout, long_keys, object_index
from .environment import Environment
from .long_keys import Cursor, Transaction
from .looked_at import LookedAt
from .reader import Reader
from .write_transaction import Databases

T = TypeVar("T")

# The most records that are weighed in a step of a listing, and for one object in it.
RECORDS_PER_STEP = 50_000
RECORDS_OF_ONE = 1_000


@define(eq=False)
class LmdbView:
    """The contents of a store. For one thread at a time."""

    environment: Environment
    is_of_one_moment: bool = False
    _reader: Reader = field(init=False)
    _begun: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = self.environment.handle.new_reader(self._begin)
        if self.is_of_one_moment:
            self.read(lambda txn, databases: None)

    def close(self) -> None:
        self._reader.close()

    def read(self, look: Callable[..., T], *args: Any) -> T:
        """The result of *look*, in one step."""
        try:
            return self._reader.read(
                lambda txn: look(txn, self.environment.handle.databases, *args)
            )
        finally:
            if not self.is_of_one_moment:
                self._reader.release()

    def _begin(self) -> Transaction:
        if self.is_of_one_moment and self._begun:
            raise MomentLost(
                f"the store {self.environment.path!r} had to grow, which it cannot while one "
                f"moment of it is held, so it was let go; do it again"
            )
        self._begun = True
        return self.environment.handle.begin_read()

    # Questions, each a step

    def catalog(self) -> Catalog:
        return self.read(class_records.read_catalog)

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self.read(object_index.find, class_number, base)

    def count(self, class_number: int, after: bytes | None, count_max: int) -> list[bytes]:
        """The bases of up to *count_max* objects behind *after*."""
        return self.read(_bases, class_number, after, count_max)

    def listed(
        self, class_number: int, after: bytes | None, count_max: int, *, weigh: bool
    ) -> Listed:
        """Up to *count_max* objects behind the base *after*."""
        return self.read(_weighed if weigh else _rows, class_number, after, count_max)

    def scan(
        self, keyspace: int, lower: str, upper: str | None
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Some keys of an object from *lower* on, their encoded values, and whether that is all.

        A value that is damaged is a `Damaged`.
        """
        return self.read(_scan, keyspace, lower, upper, self._value)

    def _value(self, keyspace: int, key: bytes, record: bytes) -> bytes:
        if is_complete(layout.identity(keyspace, key), record):
            return record[1:-4]
        try:
            return self.environment.handle.protection.value(keyspace, key, record)
        except StoreDamaged:
            return Damaged(record)

    def sides(self, keyspace: int, lower: bytes, upper: bytes) -> list[tuple[bytes, bytes]]:
        return self.read(_sides, keyspace, lower, upper)

    def alarmed(
        self, after: DueAlarm | None, count_max: int
    ) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
        """Up to *count_max* alarms behind *after*, the earliest first, each with its object; a
        damaged record of an object is replaced by what is wrong with it."""
        return self.read(_alarmed, after, count_max)

    def measure(self) -> Measures:
        return self.read(self.environment.measure_in)


def view_of(engine: Engine, *, is_of_one_moment: bool = False) -> View:
    """A view of an open store. Only LMDB can hold one snapshot."""
    if isinstance(engine, WholeStore):
        views = [view_of(shard, is_of_one_moment=is_of_one_moment) for shard in engine.shards]
        return WholeView(views, engine.catalog())
    if isinstance(engine, LookedAt):
        engine = engine.environment
    if isinstance(engine, Environment):
        return LmdbView(engine, is_of_one_moment)
    return EngineView(engine)


# Within one transaction


def _objects(
    txn: Transaction, databases: Databases, class_number: int, after: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    prefix = layout.class_prefix(class_number)
    start = prefix if after is None else layout.object_key(class_number, after) + b"\0"
    return long_keys.between(txn.cursor(databases.objects), start, layout.past(prefix), False)


def _bases(
    txn: Transaction, databases: Databases, class_number: int, after: bytes | None, count_max: int
) -> list[bytes]:
    pairs = islice(_objects(txn, databases, class_number, after), count_max)
    return [layout.read_object_key(key)[1] for key, _ in pairs]


def _rows(
    txn: Transaction, databases: Databases, class_number: int, after: bytes | None, count_max: int
) -> Listed:
    rows: list[Row] = []
    damaged: list[tuple[bytes, str]] = []
    base: bytes | None = None
    for key, raw in islice(_objects(txn, databases, class_number, after), count_max):
        base = layout.read_object_key(key)[1]
        try:
            rows.append((base, layout.read_object_fields(key, raw), None))
        except Malformed as error:
            damaged.append((base, str(error)))
    return Listed(rows, damaged, base)


def _weighed(
    txn: Transaction, databases: Databases, class_number: int, after: bytes | None, count_max: int
) -> Listed:
    found = _rows(txn, databases, class_number, after, count_max)
    weights: dict[int, Weight] = {}
    cursor = txn.cursor()
    left = RECORDS_PER_STEP
    # In the order in which they lie in the file, which takes less time than that of the bases.
    for keyspace, history in sorted(
        [(fields[0], history_of(fields)) for _, fields, _ in found.rows]
    ):
        weight, looked_at = _weigh(cursor, keyspace, history, min(left, RECORDS_OF_ONE))
        left = max(0, left - looked_at)
        if weight is not None:
            weights[keyspace] = weight
    rows = [(base, fields, weights.get(fields[0])) for base, fields, _ in found.rows]
    return evolve(found, rows=rows)


_POINTER_SIZE = len(layout.top_level(1)) + layout.POINTER_REST_SIZE


def _weigh(
    cursor: Cursor, keyspace: int, history: int, count_max: int
) -> tuple[Weight | None, int]:
    """None for an object that has more records than that, or long keys; and how many records were
    looked at."""
    level = layout.top_level(keyspace)
    keys = size = 0
    is_there = cursor.set_range(level)
    while is_there:
        key = cursor.key()
        if not key.startswith(level):
            break
        if keys == count_max or len(key) == _POINTER_SIZE:
            return None, keys
        keys += 1
        size += len(key) + value_size(cursor.value())
        is_there = cursor.next()
    # Its database comes next, if it has one.
    database_size = _database_size(cursor, keyspace) if is_there else 0
    records, history_size = _history(cursor, history, count_max - keys) if history else (0, 0)
    looked_at = keys + records
    if history_size is None:
        return None, looked_at
    return (keys, size - keys * len(level), database_size, history_size), looked_at


def _database_size(cursor: Cursor, keyspace: int) -> int:
    """Where the cursor stands at the first page of the database; else 0."""
    key = layout.side_key(keyspace, FIRST_PAGE)
    if cursor.key() != key or not is_complete(key, raw := cursor.value()):
        return 0
    return pages_of(raw[1:-4]) * PAGE_SIZE


def _history(cursor: Cursor, history: int, count_max: int) -> tuple[int, int | None]:
    """How many records it has, and their size; None: they are more than that."""
    area = layout.side_key(history, HISTORY)
    records = size = 0
    is_there = cursor.set_range(area)
    while is_there and (key := cursor.key()).startswith(area):
        if records == count_max:
            return records, None
        records += 1
        size += len(key) - layout.NUMBER_SIZE + value_size(cursor.value())
        is_there = cursor.next()
    return records, size


def _scan(
    txn: Transaction,
    databases: Databases,
    keyspace: int,
    lower: str,
    upper: str | None,
    value_of: Callable[[int, bytes, bytes], bytes],
) -> tuple[list[tuple[str, bytes]], bool]:
    until = None if upper is None else upper.encode()
    pairs = long_keys.scan(txn, keyspace, lower.encode(), until, False)
    return _step_of((key.decode(), value_of(keyspace, key, record)) for key, record in pairs)


def _sides(
    txn: Transaction, databases: Databases, keyspace: int, lower: bytes, upper: bytes
) -> list[tuple[bytes, bytes]]:
    first, until = layout.side_key(keyspace, lower), layout.side_key(keyspace, upper)
    pairs = islice(long_keys.between(txn.cursor(), first, until, False), KEYS_PER_STEP)
    return [
        (key[layout.NUMBER_SIZE :], raw[1:-4] if is_complete(key, raw) else Damaged(raw))
        for key, raw in pairs
    ]


def _step_of(pairs: Iterable[tuple[str, bytes]]) -> tuple[list[tuple[str, bytes]], bool]:
    step: list[tuple[str, bytes]] = []
    size = 0
    for key, value in pairs:
        step.append((key, value))
        size += len(value)
        if size >= STEP_SIZE_MAX or len(step) == KEYS_PER_STEP:
            return step, False
    return step, True


def _alarmed(
    txn: Transaction, databases: Databases, after: DueAlarm | None, count_max: int
) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
    return [
        (due, _find(txn, databases, due))
        for due in object_index.alarms(txn, databases, after, count_max)
    ]


def _find(txn: Transaction, databases: Databases, due: DueAlarm) -> ObjectRecord | Malformed | None:
    try:
        return object_index.find(txn, databases, due.class_number, due.base)
    except Malformed as error:
        return error
