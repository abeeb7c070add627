"""The classes of an open store: what the store knows of each, and the code that runs for it now.

Stubs, namespaces and alarms all find their objects through an entry of this table; none of them
needs to know the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import define, field

from durable._border.channel import Channel, check_open
from durable._border.durable_object import DurableObject
from durable._engine.catalog import Catalog, ClassRecord
from durable._model.errors import MigrationConflict
from durable._model.ids import IdFactory, ObjectId
from durable._object.activation import Activation

from .directory import Directory
from .disks import Disks

T = TypeVar("T", bound=DurableObject)


@define(eq=False)
class ClassEntry(Generic[T]):
    """One class."""

    cls: type[T]  # the later version once it was replaced
    record: ClassRecord
    directory: Directory = field(repr=False)
    disks: Disks = field(repr=False)
    ids: IdFactory = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.ids = IdFactory(self.record.unique_key)

    def channel_of(self, object_id: ObjectId) -> Channel:
        """A channel to one of its objects."""
        services = self.directory.services
        if not services.is_open or not services.loop.is_here():  # in line: every wake passes here
            self.check_open()
        return self.directory.channel_of(object_id, self.cls, self.record.number)

    def activation_of(self, object_id: ObjectId) -> Activation:
        """The activation of one of its objects."""
        return self.directory.activation_of(object_id, self.cls, self.record.number)

    def activation_of_base(self, base: bytes) -> Activation:
        """The activation of an object that the store knows by its base."""
        return self.activation_of(self.ids.from_base(base))

    def check_open(self) -> None:
        """Raise if calls cannot be made now, or not from this thread, loop or process."""
        check_open(self.directory.services, self.cls)


@define(eq=False)
class ClassTable:
    """The classes that have code in this program, by their numbers in the store."""

    _entries: dict[int, ClassEntry[DurableObject]] = field(factory=dict)

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def __getitem__(self, number: int) -> ClassEntry[DurableObject]:
        return self._entries[number]

    def __iter__(self) -> Iterator[ClassEntry[DurableObject]]:
        return iter(list(self._entries.values()))

    def check_kept(self, catalog: Catalog) -> None:
        """Raise MigrationConflict if another process has deleted one of the classes since."""
        kept = catalog.kept
        for number, entry in self._entries.items():
            if number not in kept:
                raise MigrationConflict(
                    f"the class {entry.record.label} was deleted by a migration of another "
                    f"process; start this program anew, with the migrations of that one"
                )

    def add(self, entry: ClassEntry[DurableObject]) -> None:
        self._entries[entry.record.number] = entry
