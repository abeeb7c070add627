"""Looking into a store: its classes, objects, values and alarms, whoever else has it open.

Rule: nothing here writes, wakes an object, or asks the owner of the store for anything. What is
listed is read in steps, so that a million objects take no more memory than a few.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from attrs import define, frozen

from durable._disk.batch import Alarm, ObjectRecord
from durable._disk.classes import ClassRecord
from durable._disk.codec import Codec, MsgpackCodec
from durable._disk.environment import DueAlarm, Environment
from durable._disk.layout import class_prefix, past
from durable._disk.tree import between
from durable._disk.whole import Measures, measure
from durable._model.clock import SystemClock
from durable._model.errors import DurableError, StoreDamaged, UnknownClass
from durable._model.ids import BASE_SIZE, IdFactory, ObjectId
from durable._runtime.runtime import Runtime

OBJECTS_PER_STEP = 1_000
RECORDS_PER_STEP = 64
# A step that brought more bytes is followed by steps of one record.
STEP_SIZE_MAX = 8 << 20

_HEX_ID = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class UnknownObject(DurableError):
    """The store has nothing of an object of this name or id."""


@frozen
class StoredClass:
    """A class of a store."""

    name: str
    script: str | None
    unique_key: str  # what the ids of its objects are derived from
    number: int

    @property
    def label(self) -> str:
        return self.name if self.script is None else f"{self.script}:{self.name}"


@frozen
class StoredAlarm:
    """An alarm that is to ring."""

    due: datetime  # when it rings next
    scheduled: datetime  # what `set_alarm` said
    retry_count: int


@frozen
class Found:
    """An object that has a stored key or an alarm."""

    cls: StoredClass
    id: ObjectId
    name: str | None
    created: datetime
    alarm: StoredAlarm | None
    number: int  # its records on the disk sort under it


@frozen
class Unreadable:
    """In the place of a value that cannot be decoded: its bytes, and why."""

    encoded: bytes
    why: str


@frozen
class Weight:
    """How much an object has stored."""

    keys: int
    size: int  # bytes of keys and encoded values


def look(store: str | os.PathLike[str] | Runtime, *, codec: Codec | None = None) -> Store:
    """Look into the store in a folder, or that of an open runtime; a context manager.

        with look("state") as store:
            for found in store.objects("Counter"):
                print(found.name, dict(store.items(found)))

    The process that owns the store gives its runtime, all others the folder. *codec*: the one that
    the store was opened with. Raises FileNotFoundError, StoreDamaged, FormatTooNew.
    """
    if isinstance(store, Runtime):
        own = store._services.codec if codec is None else codec
        return Store(store._environment, own, is_ours=False)
    environment = Environment.open_to_read(store, clock=SystemClock())
    return Store(environment, codec or MsgpackCodec(), is_ours=True)


@define(eq=False, repr=False)
class Store:
    """A store that is looked at. All of it is read as it was at the first read, until `refresh`."""

    _environment: Environment
    _codec: Codec
    _is_ours: bool

    @property
    def path(self) -> str:
        return self._environment.path

    def refresh(self) -> None:
        """See what was committed since. A long look without it makes the owner's file grow."""
        if self._is_ours:
            self._environment.refresh()

    def close(self) -> None:
        if self._is_ours:
            self._environment.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Classes

    def classes(self) -> list[StoredClass]:
        """In the order in which they were registered."""
        return [_class(record) for record in self._environment.classes()]

    def cls(self, name: str) -> StoredClass:
        """The class called *name*, or `SCRIPT:NAME`; UnknownClass if there is none, or several."""
        classes = self.classes()
        named = [cls for cls in classes if cls.label == name] or [
            cls for cls in classes if cls.name == name
        ]
        if len(named) == 1:
            return named[0]
        known = ", ".join(cls.label for cls in named or classes) or "none"
        what = "there are several classes" if named else "there is no class"
        raise UnknownClass(f"{what} {name!r} in the store {self.path!r}; known are: {known}")

    def count(self, cls: StoredClass) -> int:
        """How many objects the class has; a pass over all of them."""
        prefix = class_prefix(cls.number)
        return self._environment.read(
            lambda txn, databases: sum(
                1 for _ in between(txn.cursor(databases.objects), prefix, past(prefix), False)
            )
        )

    # Objects

    def objects(self, cls: str | None = None, prefix: str | None = None) -> Iterator[Found]:
        """All objects, or those of one class, in the order of their ids; with *prefix*, those whose
        name begins with it. A name prefix is looked for among all objects of the class."""
        for each in self.classes() if cls is None else [self.cls(cls)]:
            yield from self._objects_of(each, prefix)

    def _objects_of(self, cls: StoredClass, prefix: str | None) -> Iterator[Found]:
        ids = IdFactory(cls.unique_key)
        after: bytes | None = None
        while step := self._environment.objects(
            cls.number, after=after, count_max=OBJECTS_PER_STEP
        ):
            for base, record in step:
                after = base
                if prefix is None or (record.name is not None and record.name.startswith(prefix)):
                    yield _found(cls, ids, base, record)

    def find(self, cls: str, name_or_id: str) -> Found:
        """The object of this name or, if it is 64 hex digits, this id. Raises UnknownClass,
        UnknownObject, InvalidId."""
        known = self.cls(cls)
        ids = IdFactory(known.unique_key)
        base = self._base(ids, name_or_id)
        record = self._environment.find(known.number, base)
        if record is None and _HEX_ID.fullmatch(name_or_id):
            base = ids.from_name(name_or_id).raw[:BASE_SIZE]  # a name may look like an id
            record = self._environment.find(known.number, base)
        if record is None:
            raise UnknownObject(
                f"the store {self.path!r} has no object {name_or_id!r} of the class {known.label}; "
                f"an object is there once it has stored a key or set an alarm"
            )
        return _found(known, ids, base, record)

    def _base(self, ids: IdFactory, name_or_id: str) -> bytes:
        if _HEX_ID.fullmatch(name_or_id):
            return ids.from_string(name_or_id).raw[:BASE_SIZE]
        return ids.from_name(name_or_id).raw[:BASE_SIZE]

    # What an object has stored

    def items(
        self,
        found: Found,
        *,
        prefix: str = "",
        start: str | None = None,
        end: str | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Keys and decoded values in the order of the keys, from *start*, *end* excluded. A value
        that cannot be decoded is an `Unreadable`."""
        for key, encoded in self.encoded(found, prefix=prefix, start=start, end=end, limit=limit):
            yield key, self._decode(encoded)

    def encoded(
        self,
        found: Found,
        *,
        prefix: str = "",
        start: str | None = None,
        end: str | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """The same with the values as they stand on the disk."""
        lower = prefix if start is None else max(prefix, start, key=str.encode)
        left = -1 if limit is None else limit
        count = RECORDS_PER_STEP
        while left:
            size = 0
            step = list(self._environment.scan(found.number, lower, end, limit=count))
            for key, encoded in step:
                if not key.startswith(prefix) or not left:
                    return
                left -= 1
                size += len(encoded)
                yield key, encoded
            if len(step) < count:
                return
            lower = step[-1][0] + "\0"
            count = 1 if size > STEP_SIZE_MAX else RECORDS_PER_STEP

    def _decode(self, encoded: bytes) -> Any:
        try:
            return self._codec.decode(encoded)
        except StoreDamaged as error:
            return Unreadable(encoded, str(error))

    def weigh(self, found: Found) -> Weight:
        """How many keys and bytes; reads all of them."""
        keys = size = 0
        for key, encoded in self.encoded(found):
            keys += 1
            size += len(key.encode()) + len(encoded)
        return Weight(keys, size)

    # Alarms, and the file

    def alarms(self, cls: str | None = None) -> Iterator[Found]:
        """The objects that have an alarm, the one that rings first first."""
        only = None if cls is None else self.cls(cls).number
        classes = {each.number: (each, IdFactory(each.unique_key)) for each in self.classes()}
        after: DueAlarm | None = None
        while step := self._environment.alarms(after=after, count_max=OBJECTS_PER_STEP):
            for due in step:
                after = due
                if due.class_number in classes and only in {None, due.class_number}:
                    record = self._environment.find(due.class_number, due.base)
                    if record is not None:
                        yield _found(*classes[due.class_number], due.base, record)

    def measure(self) -> Measures:
        """The file: its size, free pages, map, readers, and how much is in it."""
        return measure(self._environment)

    def __repr__(self) -> str:
        return f"<Store {self.path!r}, looked at>"


def _class(record: ClassRecord) -> StoredClass:
    return StoredClass(record.name, record.script, record.unique_key, record.number)


def _found(cls: StoredClass, ids: IdFactory, base: bytes, record: ObjectRecord) -> Found:
    return Found(
        cls,
        ids.from_base(base, record.name),
        record.name,
        _time(record.created_us),
        None if record.alarm is None else _alarm(record.alarm),
        record.number,
    )


def _alarm(alarm: Alarm) -> StoredAlarm:
    return StoredAlarm(_time(alarm.due_us), _time(alarm.scheduled_us), alarm.retry_count)


def _time(time_us: int) -> datetime:
    seconds, us = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=us)
