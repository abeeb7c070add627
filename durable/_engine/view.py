"""A view of a store: the questions of an inspector, in steps of bounded size.

An engine may have a view of its own, which reads its file directly and can hold one snapshot of it.
`EngineView` works with any engine, and shows what the engine itself shows.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from attrs import define, field, frozen

from durable._model.errors import DurableError

from .batch import Alarm, DueAlarm, ObjectRecord
from .catalog import Catalog
from .engine import Engine, OwnReader
from .measures import Measures

# A step of an object's keys ends with so many, or with so many bytes of values.
KEYS_PER_STEP: Final = 500
STEP_SIZE_MAX: Final = 4 << 20

Fields = list[Any]
"""The record of an object, cheap to read a million times: its keyspace, when it was created, its
name, the four numbers of its alarm if it has one, and the keyspace of its history if it has one."""

Weight = tuple[int, int, int, int]
"""How many keys an object has, the bytes of its keys and values, those of its database's pages, and
those of its history's records."""

Row = tuple[bytes, Fields, Weight | None]
"""An object of a listing: its base, its record as it is stored, and its weight. None: the weight
was not requested, or there is too much to weigh in one step; then it takes steps of its own."""


@frozen
class Listed:
    """A step of a listing. It is the last one if it has no last base."""

    rows: list[Row]
    # The bases of objects whose record is damaged, and how.
    damaged: list[tuple[bytes, str]]
    last: bytes | None


class Malformed(Exception):
    """Bytes that no engine can have written; what is wrong with them."""


class Damaged(bytes):
    """In place of an encoded value: a record whose checksum does not match, as it is stored."""

    __slots__ = ()


class MomentLost(DurableError):
    """The snapshot of a look could not be held, since the store had to grow; look again."""


def fields_of(record: ObjectRecord) -> Fields:
    alarm = record.alarm
    fields: Fields = [record.keyspace, record.created_us, record.name]
    if alarm is not None:
        fields += [alarm.due_us, alarm.scheduled_us, alarm.retry_count, alarm.backoff]
    if record.history:
        fields.append(record.history)
    return fields


def object_of(fields: Fields) -> ObjectRecord:
    alarm = Alarm(*fields[3:7]) if len(fields) >= 7 else None
    return ObjectRecord(fields[0], fields[1], fields[2], alarm, history_of(fields))


def history_of(fields: Fields) -> int:
    """The keyspace of the object's history; 0: it has none."""
    return fields[-1] if len(fields) in {4, 8} else 0


class View(Protocol):
    """What is stored, for one thread at a time. Each call is a step."""

    def catalog(self) -> Catalog:
        """All classes, deleted ones included."""

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        """The record of an object; None if it has neither a key nor an alarm."""

    def count(self, class_number: int, after: bytes | None, count_max: int) -> list[bytes]:
        """The bases of up to *count_max* objects after the base *after*."""

    def listed(
        self, class_number: int, after: bytes | None, count_max: int, *, weigh: bool
    ) -> Listed:
        """Up to *count_max* objects after the base *after*."""

    def scan(
        self, keyspace: int, lower: str, upper: str | None
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Some keys from *lower* on with their encoded values, and whether there are no more.

        A damaged value may be given as a `Damaged`.
        """

    def sides(self, keyspace: int, lower: bytes, upper: bytes) -> list[tuple[bytes, bytes]]:
        """Some side records from *lower* on, *upper* excluded; none only if there are no more. A
        damaged value may be given as a `Damaged`."""

    def alarmed(
        self, after: DueAlarm | None, count_max: int
    ) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
        """Up to *count_max* alarms after *after*, the earliest first, each with its object; a
        damaged record of an object is replaced by what is wrong with it."""

    def measure(self) -> Measures:
        """The file: its size, and how much is in it."""

    def close(self) -> None:
        """Release what the view holds."""


@define(eq=False)
class EngineView:
    """A `View` of any engine. Each step is a snapshot of its own."""

    engine: Engine
    _reader: OwnReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = self.engine.new_reader()

    def close(self) -> None:
        self._reader.close()

    def catalog(self) -> Catalog:
        return self.engine.catalog()

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self.engine.find(class_number, base)

    def count(self, class_number: int, after: bytes | None, count_max: int) -> list[bytes]:
        found = self.engine.objects(class_number, after=after, count_max=count_max)
        return [base for base, _ in found]

    def listed(
        self, class_number: int, after: bytes | None, count_max: int, *, weigh: bool
    ) -> Listed:
        found = self.engine.objects(class_number, after=after, count_max=count_max)
        rows: list[Row] = [(base, fields_of(record), None) for base, record in found]
        return Listed(rows, [], rows[-1][0] if rows else None)

    def scan(
        self, keyspace: int, lower: str, upper: str | None
    ) -> tuple[list[tuple[str, bytes]], bool]:
        try:
            return self._reader.scan_some(
                keyspace, lower, upper, count_max=KEYS_PER_STEP, size_max=STEP_SIZE_MAX
            )
        finally:
            self._reader.release()

    def sides(self, keyspace: int, lower: bytes, upper: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return self._reader.scan_sides(keyspace, lower, upper, count_max=KEYS_PER_STEP)
        finally:
            self._reader.release()

    def alarmed(
        self, after: DueAlarm | None, count_max: int
    ) -> list[tuple[DueAlarm, ObjectRecord | Malformed | None]]:
        found = self.engine.alarms(after=after, count_max=count_max)
        return [(due, self.engine.find(due.class_number, due.base)) for due in found]

    def measure(self) -> Measures:
        return self.engine.measure()
