"""What a live object is called: in the log, in errors, by observers."""

from __future__ import annotations

from durable._engine.batch import ObjectHandle
from durable._model.ids import ObjectId, name_to_keep

from .live import LiveObject


class Named(LiveObject):
    """The identity of a live object."""

    __slots__ = ("__weakref__", "cls", "handle", "id")

    id: ObjectId
    cls: type
    handle: ObjectHandle

    def learn_name(self, name: str) -> None:
        """The object was addressed by *name*, which it may not have known."""
        handle = self.handle
        if handle.name is None:
            handle.name = name_to_keep(name)

    @property
    def marks(self) -> dict[str, str | None]:
        """Which object a record of the log is about, as attributes of the record."""
        return {
            "object_class": self.cls.__name__,
            "object_id": str(self.id),
            "object_name": self.name,
        }

    @property
    def name(self) -> str | None:
        """The name it was ever addressed by, however long."""
        return self.id.name if self.handle.name is None else self.handle.name

    @property
    def label(self) -> str:
        who = str(self.id) if self.name is None else repr(self.name)
        return f"{self.cls.__name__}({who})"
