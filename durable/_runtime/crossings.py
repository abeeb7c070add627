"""What the connections to other processes need of a runtime: its classes, objects and stubs."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from durable._border.channel import LocalChannel
from durable._model.errors import UnknownClass
from durable._model.ids import ObjectId
from durable._object.services import Services
from durable._wire.crossing import Crossing
from durable._wire.served import Reach

from .class_table import ClassEntry, ClassTable
from .stub import Stub


def crossing_of(services: Services, classes: ClassTable) -> Crossing:
    """How values are passed between this runtime and those of other processes."""
    return Crossing(
        services,
        class_of=lambda number: entry_of(classes, number).cls,
        make_stub=lambda number, object_id: Stub(entry_of(classes, number), object_id),
        parts_of_stub=_parts_of_stub,
    )


def entry_of(classes: ClassTable, number: Any) -> ClassEntry[Any]:
    """The class with a number that another process has sent. Raises UnknownClass."""
    if number not in classes:
        raise UnknownClass(
            f"another process of the store uses its class number {number!r}, and this one has no "
            f"code for that; let all processes of a store bind the same classes"
        )
    return classes[number]


def _parts_of_stub(thing: Any) -> tuple[int, ObjectId] | None:
    return (thing._entry.record.number, thing.id) if isinstance(thing, Stub) else None


@frozen
class OwnObjects(Reach):
    """All objects are in this process."""

    classes: ClassTable

    def channel_of(self, class_number: int, object_id: ObjectId) -> LocalChannel:
        return LocalChannel(entry_of(self.classes, class_number).activation_of(object_id))
