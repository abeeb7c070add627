"""Namespaces: the objects of one class, by name and by id."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, NoReturn, TypeVar
from weakref import WeakSet

from attrs import frozen

from durable._border.durable_object import DurableObject
from durable._engine.catalog import ClassRecord
from durable._gates.futures import Answer
from durable._model.errors import WrongLoop
from durable._model.ids import ObjectId

from .class_table import ClassEntry
from .stub import Stub

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

    def __init__(self, entry: ClassEntry[T]) -> None:
        self._entry = entry
        self._ids = entry.ids
        self._id_from_name = lru_cache(NAMES_REMEMBERED)(self._ids.from_name)
        _namespaces.add(self)

    @property
    def cls(self) -> type[T]:
        """The class, as its code is now."""
        return self._entry.cls

    @property
    def record(self) -> ClassRecord:
        """The record of the class in the store; not for users."""
        return self._entry.record

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
        """The id of an object that was never addressed before."""
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
        return Stub(self._entry, id)

    def get_by_name(self, name: str) -> Stub[T]:
        """A stub of the object called *name*."""
        return Stub(self._entry, self.id_from_name(name))

    def delete(self, id: ObjectId) -> Answer[None]:
        """Delete all that the object *id* has stored, its alarm too, from outside of it.

        An event of the object as others are, after those before it: built first if it is not in
        memory, its constructor and all, and gone from memory afterwards if nothing else keeps it
        there. The answer comes when the deletion is on disk. Raises what a call can raise.
        """
        return self._entry.channel_of(self.get(id).id).delete_all()

    def objects(self, prefix: str | None = None) -> AsyncIterator[StoredObject]:
        """The objects that have a stored key or an alarm, in the order of their ids; with *prefix*,
        those whose name begins with it. Wakes no object."""
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"the prefix of names must be a str, not {type(prefix).__name__}")
        return self._objects(prefix)

    async def _objects(self, prefix: str | None) -> AsyncIterator[StoredObject]:
        self._entry.check_open()
        after: bytes | None = None
        while True:
            found = self._entry.disks.objects(
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
            self._entry.check_open()

    def __repr__(self) -> str:
        return f"<Namespace of {self.cls.__name__}>"


class _ForeignNamespace(Namespace[T]):
    """What each namespace becomes in a forked child, whose parent has the objects."""

    def get(self, id: ObjectId) -> NoReturn:
        raise WrongLoop(repr(self))

    def get_by_name(self, name: str) -> NoReturn:
        raise WrongLoop(repr(self))


_namespaces: WeakSet[Namespace[Any]] = WeakSet()


def _give_up_in_child() -> None:
    for namespace in list(_namespaces):
        namespace.__class__ = _ForeignNamespace


os.register_at_fork(after_in_child=_give_up_in_child)
