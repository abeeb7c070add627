"""Records of a journal: a group of batches as bytes that tell whether they are whole.

Rule: a record is worth what its checksum says, which is of its bytes, of where it stands, and of
the life of the segment that it was written in. So what an older life has left in the same place is
never taken for a record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

import ormsgpack
from attrs import frozen

from durable._engine.merged import Entry
from durable._engine.view import Malformed

# The life of the segment, the position, how many bytes follow, and the checksum.
HEADER: Final = struct.Struct("<8sQII")


def write_record(entries: Sequence[Entry], life: bytes, position: int) -> bytes:
    """The record of a group, to stand at *position*."""
    body = ormsgpack.packb(entries)
    start = HEADER.pack(life, position, len(body), 0)
    return HEADER.pack(life, position, len(body), crc32(body, crc32(start))) + body


@frozen
class Record:
    """A record that is whole."""

    body: bytes

    @property
    def size(self) -> int:
        return HEADER.size + len(self.body)

    @property
    def is_end(self) -> bool:
        """Whether it only says that its segment has ended."""
        return self.body == b"\x90"

    def entries(self) -> list[Any]:
        """What was given to `write_record`. Raises Malformed."""
        try:
            found = ormsgpack.unpackb(self.body)
        except ValueError as error:
            raise Malformed(f"a record of the journal is no MessagePack: {error}") from error
        if not isinstance(found, list) or not all(type(e) is list and len(e) == 7 for e in found):
            raise Malformed("a record of the journal has not the parts that it must have")
        return found


def read_record(segment: bytes, at: int, life: bytes, position: int) -> Record | None:
    """The record that stands at *position*, which is *at* in *segment*; None if there is none that
    is whole."""
    if at + HEADER.size > len(segment):
        return None
    its_life, its_position, size, checksum = HEADER.unpack_from(segment, at)
    end = at + HEADER.size + size
    if (its_life, its_position) != (life, position) or end > len(segment):
        return None
    body = segment[at + HEADER.size : end]
    start = HEADER.pack(life, position, size, 0)
    return Record(body) if crc32(body, crc32(start)) == checksum else None
