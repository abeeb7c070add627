"""What the tests of engines share: engines to open, batches, and a loop that runs when told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle, Unchanged
from durable._engine.catalog import ClassRecord
from durable._engine.engine import Engine
from durable._engine.side_records import AREAS, end_of
from durable._lmdb.environment import Environment
from durable._model.errors import DurableError
from durable._model.ids import BASE_SIZE, IdFactory

VALUE = b"\x91\xc0"  # None, as the codec writes it
IDS = IdFactory("Counter")


@define
class Clock:
    """It is as late as the test says."""

    now_s: float = 1_000.0

    def now(self) -> float:
        return self.now_s

    def steady(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def watch(self, is_busy: Callable[[], bool]) -> Callable[[], None]:
        return lambda: None


@define
class Loop:
    """Calls what it was handed when it is run; a closed one refuses, as asyncio's does."""

    calls: list[Callable[[], None]] = field(factory=list)
    is_closed: bool = False

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        if self.is_closed:
            raise RuntimeError("Event loop is closed")
        self.calls.append(fn)

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


@define
class Outcomes:
    """What became of the batches of a test, in the order in which the loop was told."""

    told: list[tuple[str, DurableError | None]] = field(factory=list)

    @property
    def durable(self) -> list[str]:
        return [label for label, error in self.told if error is None]

    @property
    def failed(self) -> list[str]:
        return [label for label, error in self.told if error is not None]


def open_store(folder: Path, **options: Any) -> Environment:
    """A store that LMDB keeps."""
    return Environment.open(folder, clock=options.pop("clock", Clock()), **options)


def class_of(engine: Engine, name: str, script: str | None = None) -> ClassRecord:
    """The class of this name, new or not."""
    catalog = engine.catalog()
    record = catalog.find((script, name))
    if record is None:
        record = catalog.new_class((script, name))
        engine.change_classes(catalog, catalog.replacing(record))
    return record


def base_of(name: str) -> bytes:
    return IDS.from_name(name).raw[:BASE_SIZE]


def place_of(engine: Engine, name: str = "front page") -> ObjectHandle:
    """The place of an object as an activation that has just been made knows it."""
    number = class_of(engine, "Counter").number
    record = engine.find(number, base_of(name))
    if record is None:
        return ObjectHandle(number, base_of(name), 0, name, None, None)
    return ObjectHandle(
        number, base_of(name), record.keyspace, record.name, record.created_us, record.alarm
    )


def batch_of(
    engine: Engine,
    handle: ObjectHandle,
    puts: dict[str, bytes | None] | None = None,
    *,
    clears: bool = False,
    alarm: Alarm | Unchanged | None = UNCHANGED,
    sides: dict[bytes, bytes | None] | None = None,
    label: str = "",
    outcomes: Outcomes | None = None,
) -> Batch:
    """A batch as a write buffer sends it: a number is given out before it leaves."""
    if clears or not handle.keyspace:
        handle.keyspace = engine.next_keyspace()
    told = (outcomes or Outcomes()).told
    return Batch(
        handle=handle,
        clears=clears,
        puts=puts or {},
        alarm=alarm,
        origin=Callbacks(
            lambda: told.append((label, None)), lambda error: told.append((label, error))
        ),
        size=sum(len(key) + len(value or b"") for key, value in (puts or {}).items()),
        sides=sides,
    )


def stored(engine: Engine, handle: ObjectHandle) -> dict[str, bytes]:
    """What the object has on the disk, as an activation that has just been made would see it."""
    engine.refresh()
    record = engine.find(handle.class_number, handle.base)
    return {} if record is None else dict(scan(engine, record.keyspace))


def sides_of(engine: Engine, handle: ObjectHandle) -> dict[bytes, bytes]:
    """The side records that the object has on the disk."""
    engine.refresh()
    record = engine.find(handle.class_number, handle.base)
    if record is None:
        return {}
    first, last = AREAS[0], end_of(AREAS[-1])
    return dict(engine.in_line.scan_sides(record.keyspace, first, last, count_max=1_000))


def scan(
    engine: Engine,
    keyspace: int,
    lower: str = "",
    upper: str | None = None,
    *,
    reverse: bool = False,
    limit: int | None = None,
) -> list[tuple[str, bytes]]:
    """The keys in order, and their values, as the loop reads them."""
    pairs, _ = engine.in_line.scan_some(keyspace, lower, upper, reverse=reverse, count_max=limit)
    return pairs
