"""What a journal has that is not in the store's file: read when the store is opened.

The store's file says which journal it has, and up to which position that is in the file. From there
on record follows record. One that is not whole is the end: it was being written when the power
failed, and nobody was told of it.

Rule: a record is written when the one before it is on the disk. So one that is whole behind one
that is not means damage to what was confirmed, which is told and not passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import frozen

from durable._engine.merged import Merged
from durable._engine.view import Malformed
from durable._model.errors import StoreDamaged

from ..create import remove_files
from .marking import Mark
from .records import Record, read_record
from .segments import HEAD_SIZE, NAMES, Head


@frozen
class _Found:
    """A segment of the journal that is looked for."""

    file: str
    head: Head
    content: bytes


def unapplied(folder: str, mark: Mark) -> Merged:
    """All that the journal in *folder* has behind *mark*. Raises StoreDamaged or an OSError."""
    merged = Merged()
    try:
        for record in _records(folder, mark):
            merged.add(record.entries(), record.size)
    except (Malformed, ValueError, TypeError) as error:
        raise _damaged(folder, str(error)) from error
    return merged


def remove_journal(folder: str) -> None:
    """Take away the files of a journal that the store's file does not know any more."""
    remove_files(folder, [name for name in NAMES if os.path.lexists(os.path.join(folder, name))])


def _records(folder: str, mark: Mark) -> Iterator[Record]:
    segments = _segments(folder, mark)
    position = mark.position
    while segments:
        segment = segments.pop(0)
        if segment.head.first > position:
            raise _damaged(folder, f"what has the position {position:,} is not there")
        while True:
            at = HEAD_SIZE + position - segment.head.first
            record = read_record(segment.content, at, segment.head.life, position)
            if record is None:
                _check_last(folder, segment, position, segments)
                return
            position += record.size
            if record.is_end:
                break
            yield record
    raise _damaged(folder, f"what follows the position {position:,} is not there")


def _check_last(folder: str, segment: _Found, position: int, following: list[_Found]) -> None:
    """Raise StoreDamaged if the record at *position*, which is not whole, was not the last one."""
    content, head = segment.content, segment.head
    at = HEAD_SIZE + position - head.first
    while (at := content.find(head.life, at + 1)) >= 0:
        where = head.first + at - HEAD_SIZE
        if read_record(content, at, head.life, where) is not None:
            raise _lost(folder, segment, position, where)
    for other in following:
        first = other.head.first
        if read_record(other.content, HEAD_SIZE, other.head.life, first) is not None:
            raise _lost(folder, segment, position, first)


def _segments(folder: str, mark: Mark) -> list[_Found]:
    """Those that have, or should have, what is not in the store's file; the oldest first."""
    found = []
    for name in NAMES:
        file = os.path.join(folder, name)
        try:
            with open(file, "rb") as opened:
                content = opened.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _damaged(folder, f"{file!r} cannot be read: {error}") from error
        head = Head.read(content)
        if head is not None and head.journal == mark.journal:
            found.append(_Found(file, head, content))
    found.sort(key=lambda segment: segment.head.first)
    while len(found) > 1 and found[1].head.first <= mark.position:
        del found[0]
    if not found:
        raise _damaged(folder, f"its files, {' and '.join(NAMES)}, are not there")
    return found


def _lost(folder: str, segment: _Found, position: int, where: int) -> StoreDamaged:
    at = HEAD_SIZE + position - segment.head.first
    return _damaged(
        folder,
        f"the record at the position {position:,}, which is the byte {at:,} of {segment.file!r}, "
        f"is not whole, and the one at {where:,} is",
    )


def _damaged(folder: str, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"the journal of the store {folder!r} is damaged: {what}. What was confirmed last may be "
        f"in it alone, so nothing was opened; put its files back, or restore the folder from a "
        f"backup"
    )
