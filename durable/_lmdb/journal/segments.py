"""The files of a journal: two segments of a fixed size that are written in turn.

A segment is written over its whole length when it is made. So a record that is written later
changes neither its length nor where the file system has it: one write and one sync, of the bytes
alone, by a file that was opened to sync each write (O_DSYNC), past the system's cache where that
can be done (O_DIRECT). That wants whole blocks, so there is a copy of each segment in memory.

Rule: a position counts the bytes of records since the journal began, whichever segment they went
to. A segment that is begun gets a new *life*, eight random bytes, and says at which position it
begins; a record that does not have both is none. So what a segment had before need not be wiped.

Rule: nothing of a segment is trusted once a write to it has failed: the caller ends the journal.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from zlib import crc32

from attrs import define, field, frozen

from durable._engine.merged import Entry

from ..create import make_synced, remove_files, sync_folder
from .marking import JOURNAL_ID_SIZE
from .records import HEADER, write_record

NAMES: Final = ("journal-0", "journal-1")
SEGMENT_SIZE: Final = 4 << 20
BLOCK_SIZE: Final = 4_096  # whole ones are written
HEAD_SIZE: Final = BLOCK_SIZE  # of a segment, before its first record
FILE_MODE: Final = 0o600

# A record without entries at the end of a segment: the other one goes on behind it.
END_SIZE: Final = HEADER.size + 1
_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
# On macOS, where else the disk may keep what is written in its cache.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
_MARK: Final = b"durable journal\n"
_VERSION: Final = 1
# Mark, version, journal, life, the position of the first record, checksum.
_HEAD: Final = struct.Struct(f"<16sI{JOURNAL_ID_SIZE}s8sQI")


@frozen
class Head:
    """What a segment says of itself."""

    journal: bytes
    life: bytes
    first: int

    def write(self) -> bytes:
        fields = _HEAD.pack(_MARK, _VERSION, self.journal, self.life, self.first, 0)[:-4]
        return fields + crc32(fields).to_bytes(4, "little")

    @classmethod
    def read(cls, raw: bytes) -> Head | None:
        """None if it is none: it was never written, was torn, or is not of this version."""
        if len(raw) < _HEAD.size:
            return None
        mark, version, journal, life, first, checksum = _HEAD.unpack_from(raw)
        if (mark, version) != (_MARK, _VERSION) or checksum != crc32(raw[: _HEAD.size - 4]):
            return None
        return cls(journal, life, first)


@define(eq=False)
class _Segment:
    fd: int
    content: memoryview  # at the start of a page
    life: bytes = b""
    first: int = 0
    end: int = HEAD_SIZE  # where in the file the next record goes

    @property
    def last(self) -> int:
        """The position behind its records."""
        return self.first + self.end - HEAD_SIZE


@define(eq=False, repr=False)
class Journal:
    """A journal to be written, by one thread at a time."""

    folder: str
    journal: bytes  # its name, random
    size: int  # of a segment
    _segments: list[_Segment] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        """Make its files, synced. Raises an OSError, and then none is left."""
        try:
            for name in NAMES:
                make_synced(os.path.join(self.folder, name), self._make)
            sync_folder(self.folder)
            for name in NAMES:
                self._segments.append(self._open(os.path.join(self.folder, name)))
            self._begin(self._segments[0])
        except BaseException:
            self.remove()
            raise

    @property
    def position(self) -> int:
        """Where the next record will stand."""
        return self._segments[0].last

    def has_room(self, size: int) -> bool:
        """Whether the segment that is written takes a record of *size* bytes."""
        return self._segments[0].end + size + END_SIZE <= self.size

    @property
    def is_fresh(self) -> bool:
        """Whether the segment that is written has no records yet."""
        return self._segments[0].end == HEAD_SIZE

    def is_over(self, applied: int) -> bool:
        """Whether the other segment may be written: all of it is below the position *applied*."""
        return self._segments[1].last <= applied

    def roll(self) -> None:
        """From now on records go to the other segment, which `is_over`. Raises an OSError.

        Not while the segment `is_fresh`: then the store's file may still need what is in the other
        one, or say that it has all up to its end, which would be gone."""
        assert not self.is_fresh
        full, other = self._segments
        end = write_record([], full.life, full.last)
        # The head first: a segment that says that it has ended is followed by one.
        self._begin(other, full.last + len(end))
        self._write(full, end)
        self._segments.reverse()

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Write a record, synced; returns how many bytes it takes. None: there is no room for it,
        and nothing was written. Raises an OSError; what is on the disk then is not known."""
        segment = self._segments[0]
        record = write_record(entries, segment.life, segment.last)
        if not self.has_room(len(record)):
            return None
        self._write(segment, record)
        return len(record)

    def close(self) -> None:
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()

    def remove(self) -> None:
        """Close it, and take its files away."""
        self.close()
        remove_files(self.folder, NAMES)
        with suppress(OSError):  # a journal that nothing refers to is none, there or not
            sync_folder(self.folder)

    def _make(self, file: str) -> None:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            left = self.size
            while left:
                left -= os.write(fd, bytes(min(left, 1 << 20)))
        finally:
            os.close(fd)

    def _open(self, file: str) -> _Segment:
        flags = os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(file, flags | _DIRECT)
        except OSError:  # not every file system can
            fd = os.open(file, flags)
        content = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return _Segment(fd, memoryview(content))

    def _begin(self, segment: _Segment, first: int = 0) -> None:
        segment.life, segment.first = os.urandom(8), first
        head = Head(self.journal, segment.life, first).write()
        segment.end = 0
        self._write(segment, head)
        segment.end = HEAD_SIZE

    def _write(self, segment: _Segment, data: bytes) -> None:
        start, end = segment.end, segment.end + len(data)
        segment.content[start:end] = data
        first, behind = start - start % BLOCK_SIZE, end + -end % BLOCK_SIZE
        done = os.pwrite(segment.fd, segment.content[first:behind], first)
        if done != behind - first:
            raise OSError(f"only {done:,} of {behind - first:,} bytes of the journal were written")
        if _FULL_SYNC is not None:
            fcntl.fcntl(segment.fd, _FULL_SYNC)
        segment.end = end

    def __repr__(self) -> str:
        return f"<Journal of {self.folder!r}>"
