"""Namespaces: the objects of one class, by name and by id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

from durable._disk.environment import ClassRecord
from durable._gates.delivery import CURRENT
from durable._model.errors import RuntimeClosed, WrongLoop
from durable._model.ids import IdFactory, ObjectId
from durable._object.base import DurableObject
from durable._object.host import Host

from .directory import Directory
from .stub import Stub

if TYPE_CHECKING:
    from .alarms import Alarms

T = TypeVar("T", bound=DurableObject)

# Objects are read from the disk in steps of this many, between which the loop runs.
OBJECTS_PER_STEP = 256
NAMES_REMEMBERED = 4_096


@frozen
class StoredObject:
    """An object that has a stored key or an alarm, as its namespace lists it."""

    id: ObjectId
    name: str | None
    created: datetime
    has_alarm: bool


class Namespace(Generic[T]):
    """Hands out the ids and stubs of one class. Making them creates nothing."""

    def __init__(
        self, cls: type[T], record: ClassRecord, directory: Directory, alarms: Alarms
    ) -> None:
        self.cls = cls
        self.alarms = alarms
        self.record = record
        self._directory = directory
        self._services = directory.services
        self._ids = IdFactory(record.unique_key)
        self._id_from_name = lru_cache(NAMES_REMEMBERED)(self._ids.from_name)

    @property
    def unique_key(self) -> str:
        """What the ids of this class are derived from: its name when it was first registered."""
        return self.record.unique_key

    def id_from_name(self, name: str) -> ObjectId:
        """The id of the object called *name*; always the same one. TypeError if it is no str."""
        if type(name) is not str:
            return self._ids.from_name(name)
        object_id: ObjectId = self._id_from_name(name)
        return object_id

    def new_unique_id(self) -> ObjectId:
        """The id of an object that nobody has addressed before."""
        return self._ids.new_unique()

    def id_from_string(self, hex: str) -> ObjectId:
        """The id whose `str()` is *hex*; InvalidId if it is none, or one of another class."""
        return self._ids.from_string(hex)

    def get(self, id: ObjectId) -> Stub[T]:
        """A stub of the object *id*; InvalidId if that is an id of another class."""
        if not isinstance(id, ObjectId):
            raise TypeError(
                f"get() takes an ObjectId, not {type(id).__name__}; "
                f"make one with id_from_name() or id_from_string()"
            )
        if not self._ids.owns(id):
            self._ids.from_raw(id.raw)
        return Stub(self, id)

    def get_by_name(self, name: str) -> Stub[T]:
        """A stub of the object called *name*."""
        return Stub(self, self.id_from_name(name))

    async def objects(self, prefix: str | None = None) -> AsyncIterator[StoredObject]:
        """The objects that have a stored key or an alarm, in the order of their ids; with *prefix*,
        those whose name begins with it. Wakes nobody."""
        self.check_open()
        after: bytes | None = None
        while True:
            found = self._directory.environment.objects(
                self.record.number, after=after, count_max=OBJECTS_PER_STEP
            )
            for base, record in found:
                after = base
                if prefix is None or (record.name is not None and record.name.startswith(prefix)):
                    yield StoredObject(
                        self._ids.from_base(base, record.name),
                        record.name,
                        datetime.fromtimestamp(record.created_us / 1e6, UTC),
                        record.alarm is not None,
                    )
            if len(found) < OBJECTS_PER_STEP:
                return
            self.check_open()

    def host_of(self, object_id: ObjectId) -> Host:
        """The host of one of these objects; not for users."""
        return self._directory.host_of(object_id, self.cls, self.record.number)

    def host_of_base(self, base: bytes) -> Host:
        """The host of an object that the store knows by its base; not for users."""
        return self.host_of(self._ids.from_base(base))

    def check_open(self) -> None:
        """Raise if calls cannot be made now, or from here."""
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        if not self._services.is_open and CURRENT.get() is None:
            raise RuntimeClosed

    def __repr__(self) -> str:
        return f"<Namespace of {self.cls.__name__}>"
