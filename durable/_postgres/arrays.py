"""Arrays in the server's binary format, packed as a whole.

A group of batches is sent as arrays of all its rows. psycopg makes an array of a list value by
value, and of bytes as text, which took a third of a commit of 256 objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from struct import Struct, pack
from typing import Any, ClassVar, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

# The number of dimensions, whether there are nulls, the type of the elements; then for each
# dimension its size and the number of the first element.
_HEAD: Final = Struct(">iiIii")
_EMPTY: Final = Struct(">iiI")
_SIZE: Final = Struct(">i")
_NULL: Final = _SIZE.pack(-1)


class Array:
    """Elements of one type, as a parameter of a statement."""

    __slots__ = ("packed",)
    element: ClassVar[int]  # the server's number for the type

    def __init__(self, values: Sequence[Any]) -> None:
        if not values:
            self.packed: bytes = _EMPTY.pack(0, 0, self.element)
            return
        head = _HEAD.pack(1, int(None in values), self.element, len(values), 1)
        self.packed = head + self._pack(values)

    def _pack(self, values: Sequence[Any]) -> bytes:
        raise NotImplementedError


class Numbers(Array):
    """Numbers of a fixed size, or nulls."""

    __slots__ = ()
    size: ClassVar[int]
    code: ClassVar[str]

    def _pack(self, values: Sequence[int | None]) -> bytes:
        one = Struct(f">i{self.code}")
        if None not in values:
            sized = chain.from_iterable(zip(repeat(self.size), values, strict=False))
            return pack(">" + f"i{self.code}" * len(values), *sized)
        return b"".join([_NULL if v is None else one.pack(self.size, v) for v in values])


class Bigints(Numbers):
    __slots__ = ()
    element, size, code = 20, 8, "q"


class Integers(Numbers):
    __slots__ = ()
    element, size, code = 23, 4, "i"


class Byteas(Array):
    __slots__ = ()
    element = 17

    def _pack(self, values: Sequence[bytes | None]) -> bytes:
        if None not in values:
            sizes = map(_SIZE.pack, map(len, values))  # type: ignore[arg-type]
            return b"".join(chain.from_iterable(zip(sizes, values, strict=True)))  # type: ignore[arg-type]
        size = _SIZE.pack
        return b"".join([_NULL if v is None else size(len(v)) + v for v in values])


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.packed


class _BigintsDumper(_ArrayDumper):
    oid = 1016


class _IntegersDumper(_ArrayDumper):
    oid = 1007


class _ByteasDumper(_ArrayDumper):
    oid = 1001


def let_send_arrays(connection: psycopg.Connection[Any]) -> None:
    """Register these arrays with *connection*, so that it can send them."""
    connection.adapters.register_dumper(Bigints, _BigintsDumper)
    connection.adapters.register_dumper(Integers, _IntegersDumper)
    connection.adapters.register_dumper(Byteas, _ByteasDumper)
