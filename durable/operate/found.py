"""What is found in a store, as values: classes, objects, alarms, and what cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import frozen

from durable._engine.batch import Alarm, ObjectRecord
from durable._engine.catalog import ClassRecord
from durable._engine.view import Fields
from durable._model.errors import DurableError
from durable._model.ids import IdFactory, ObjectId


class UnknownObject(DurableError):
    """The store has no object of this name or id."""


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
    """A pending alarm."""

    due: datetime  # when it rings next
    scheduled: datetime  # the time given to `set_alarm`
    retry_count: int


@frozen
class Found:
    """An object that has a stored key or an alarm."""

    cls: StoredClass
    id: ObjectId
    name: str | None
    created: datetime
    alarm: StoredAlarm | None
    number: int  # the keyspace of its records on the disk
    history: int = 0  # and that of its history; 0: it has none


@frozen
class DamagedObject:
    """An object whose own record is damaged, so that its keys cannot be found."""

    cls: StoredClass
    id: ObjectId
    why: str


@frozen
class Unreadable:
    """In place of a value that cannot be decoded: its bytes as they are stored, and why."""

    encoded: bytes
    why: str
    is_damaged: bool = False  # by its checksum; else another codec may be able to decode it


@frozen
class Weight:
    """How much an object has stored, or several together."""

    keys: int
    size: int
    """Bytes of keys and encoded values."""
    database_size: int = 0
    """Bytes of the pages of the SQL database, as SQLite counts them; stored they are fewer."""
    history_size: int = 0
    """Bytes of the records of the history, without what `delete_all` has left."""

    def __add__(self, other: Weight) -> Weight:
        return Weight(
            self.keys + other.keys,
            self.size + other.size,
            self.database_size + other.database_size,
            self.history_size + other.history_size,
        )


def class_of(record: ClassRecord) -> StoredClass:
    """A class, from its record in the catalog."""
    return StoredClass(record.name, record.script, record.unique_key, record.number)


def found_of(cls: StoredClass, ids: IdFactory, base: bytes, record: ObjectRecord) -> Found:
    """An object of *cls*, from its record on the disk."""
    return Found(
        cls,
        ids.from_base(base, record.name),
        record.name,
        _time(record.created_us),
        None if record.alarm is None else _alarm(record.alarm),
        record.keyspace,
        record.history,
    )


def has_prefix(fields: Fields, prefix: str) -> bool:
    name: str | None = fields[2]
    return name is not None and name.startswith(prefix)


def _alarm(alarm: Alarm) -> StoredAlarm:
    return StoredAlarm(_time(alarm.due_us), _time(alarm.scheduled_us), alarm.retry_count)


def _time(time_us: int) -> datetime:
    seconds, us = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=us)
