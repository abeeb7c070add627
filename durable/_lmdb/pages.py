"""The pages of an LMDB file, read without LMDB: which is the last one in use?

Only the structure is checked, for LMDB's format 1 in this machine's byte order. No tree of a store
has sorted duplicates, so there are branches, leaves, and the overflow pages of large values.
"""

from __future__ import annotations

import os
import struct

NO_PAGE = 2**64 - 1

READ_SIZE = 1 << 20
PART_SIZE = 4_096  # the smallest part that a disk reads or fails to read

PAGE_HEADER = struct.Struct("=QHHHH")  # page number, pad, flags, lower and upper bound
_NODE = struct.Struct("=HHHH")  # size or child (low, high), flags or child, key size
_U64 = struct.Struct("=Q")
_SUBTREE_ROOT = 40  # the offset of the root in the record of a named tree

_BRANCH, _LEAF = 0x01, 0x02
_BIG, _SUBTREE = 0x01, 0x02


class PageFault(Exception):
    """A page in use is missing from the file, or is malformed."""


def unreadable_parts(file: str) -> list[tuple[int, int, str]]:
    """The parts of *file* that the disk cannot read: the first and the last byte of each, and why.

    Reading raises an error where LMDB's map would end the process by a signal.
    """
    found: list[tuple[int, int, str]] = []
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        place, end = 0, os.fstat(fd).st_size
        step = READ_SIZE
        while place < end:
            try:
                os.pread(fd, step, place)
            except OSError as error:
                if step > PART_SIZE:
                    step = PART_SIZE  # look closer
                    continue
                _add_part(found, place, min(place + step, end) - 1, error.strerror or str(error))
            place += step
            if place % READ_SIZE == 0:
                step = READ_SIZE
    finally:
        os.close(fd)
    return found


def _add_part(found: list[tuple[int, int, str]], first: int, last: int, why: str) -> None:
    if found and found[-1][1] == first - 1 and found[-1][2] == why:
        first = found.pop()[0]
    found.append((first, last, why))


def last_used_page(fd: int, page_size: int, size: int, roots: list[int]) -> int:
    """The number of the last page that can be reached from *roots*. Raises PageFault."""
    waiting = [root for root in roots if root != NO_PAGE]
    seen: set[int] = set()
    last = 1
    while waiting:
        number = waiting.pop()
        if number in seen:
            raise PageFault(f"page {number} is used twice")
        seen.add(number)
        page = os.pread(fd, page_size, number * page_size) if number * page_size < size else b""
        if len(page) < page_size:
            raise PageFault(f"page {number} lies behind the end of the file")
        last = max(last, number)
        for child in _children(page, number):
            if isinstance(child, range):
                if child.stop * page_size > size:
                    raise PageFault(f"page {child.stop - 1} lies behind the end of the file")
                last = max(last, child.stop - 1)
            else:
                waiting.append(child)

    return last


def _children(page: bytes, number: int) -> list[int | range]:
    """The references of a page: other pages, and runs of overflow pages."""
    try:
        own, _, flags, lower, _ = PAGE_HEADER.unpack_from(page)
        if own != number or not flags & (_BRANCH | _LEAF):
            raise PageFault(f"page {number} is not what it must be")
        offsets = struct.unpack_from(f"={(lower - PAGE_HEADER.size) // 2}H", page, PAGE_HEADER.size)
        return [
            child
            for offset in offsets
            if (child := _child(page, offset, bool(flags & _BRANCH))) is not None
        ]
    except struct.error as error:
        raise PageFault(f"page {number} is not what it must be") from error


def _child(page: bytes, offset: int, is_branch: bool) -> int | range | None:
    low, high, flags, key_size = _NODE.unpack_from(page, offset)
    if is_branch:
        return int(low | high << 16 | flags << 32)
    at = offset + _NODE.size + key_size
    if flags & _BIG:
        first = int(_U64.unpack_from(page, at)[0])
        return range(first, first + _overflow_count(low | high << 16, len(page)))
    if flags & _SUBTREE:
        root = int(_U64.unpack_from(page, at + _SUBTREE_ROOT)[0])
        return None if root == NO_PAGE else root
    return None


def _overflow_count(value_size: int, page_size: int) -> int:
    return (PAGE_HEADER.size - 1 + value_size) // page_size + 1
