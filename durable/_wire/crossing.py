"""Values as bytes, on their way from one process to another: the codec of the store, and more.

What is stored is sent in the same bytes. Beside that cross, nested anywhere, ids, stubs, and what
is handed over by reference: an extension type of its own stands for each, which no store has.

Rule: an instance of an author's class is made only if the class of the object that is called, or
that returns it, declares the class. That is asked on both sides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import ormsgpack
from attrs import define, field
from ormsgpack import Ext

from durable._border.by_reference import ByReference
from durable._engine.codec import MsgpackCodec, decoder, encoder
from durable._model.declared import Declared
from durable._model.errors import UnstorableValue
from durable._model.ids import ID_SIZE, ObjectId
from durable._object.services import Services

EXT_ID: Final = 64  # an array: the id, name or None
EXT_STUB: Final = 65  # an array: number of the class, id, name or None
EXT_OWN: Final = 66  # what the codec of the program has made of a leaf


@define(eq=False)
class Crossing:
    """What one runtime gives its connections: what they speak for, and how its values cross."""

    services: Services
    # The class of a number in the store; UnknownClass if this program has none.
    class_of: Callable[[int], type]
    # Makes a stub; takes one apart, None for what is none.
    make_stub: Callable[[int, ObjectId], Any]
    parts_of_stub: Callable[[Any], tuple[int, ObjectId] | None]
    # What other processes may ask for by name; returns a value, or awaits one.
    requests: dict[str, Callable[[Any, Any], Awaitable[Any] | Any]] = field(factory=dict)
    _writers: dict[int, Writer] = field(factory=dict, init=False)
    _readers: dict[int, Reader] = field(factory=dict, init=False)

    def writer_of(self, class_number: int) -> Writer:
        """Encodes what goes to and comes from objects of a class."""
        writer = self._writers.get(class_number)
        if writer is None:
            writer = self._writers[class_number] = Writer(self, self.class_of(class_number))
        return writer

    def reader_of(self, class_number: int) -> Reader:
        """Decodes what comes from and goes to objects of a class."""
        reader = self._readers.get(class_number)
        if reader is None:
            reader = self._readers[class_number] = Reader(self, self.class_of(class_number))
        return reader

    def forget(self, class_number: int) -> None:
        """The class of the number has other code now."""
        self._writers.pop(class_number, None)
        self._readers.pop(class_number, None)


class Writer:
    """Encodes values for objects of one class."""

    __slots__ = ("_crossing", "_declared", "encode")

    def __init__(self, crossing: Crossing, cls: type) -> None:
        self._crossing = crossing
        self._declared = Declared(cls)
        # Raises UnstorableValue for what cannot be sent.
        self.encode = encoder(self._take)

    def _take(self, leaf: Any) -> object | None:
        """What stands for *leaf* in what is sent."""
        if isinstance(leaf, ObjectId):
            return Ext(EXT_ID, ormsgpack.packb([leaf.raw, leaf.name]))
        if isinstance(leaf, ByReference):
            stub = self._crossing.parts_of_stub(leaf)
            if stub is not None:
                number, object_id = stub
                return Ext(EXT_STUB, ormsgpack.packb([number, object_id.raw, object_id.name]))
            raise UnstorableValue(f"{leaf!r} cannot be sent to another process")
        codec = self._crossing.services.codec
        if type(codec) is not MsgpackCodec:
            return Ext(EXT_OWN, codec.encode(leaf))
        return self._declared.take(leaf)


class Reader:
    """Decodes values for objects of one class, as one connection brings them."""

    __slots__ = ("_crossing", "decode")

    def __init__(self, crossing: Crossing, cls: type) -> None:
        self._crossing = crossing
        # Raises UnreadableValue and StoreDamaged for what no Writer has written.
        self.decode = decoder(
            Declared(cls).make,
            {EXT_ID: _read_id, EXT_STUB: self._read_stub, EXT_OWN: crossing.services.codec.decode},
        )

    def _read_stub(self, payload: bytes) -> Any:
        number, raw, name = ormsgpack.unpackb(payload)
        return self._crossing.make_stub(number, checked_id(raw, name))


def _read_id(payload: bytes) -> ObjectId:
    raw, name = ormsgpack.unpackb(payload)
    return checked_id(raw, name)


def checked_id(raw: Any, name: Any) -> ObjectId:
    """An id that has come in a frame. Raises ValueError for what is none."""
    if type(raw) is not bytes or len(raw) != ID_SIZE or not (name is None or type(name) is str):
        raise ValueError("what should be an id is none")
    return ObjectId(raw, name)
