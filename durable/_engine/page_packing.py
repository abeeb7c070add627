"""Pages of a SQLite database as they are stored: without the free space in their middle.

A page of a B-tree has its cell pointers at the front and its cells at the back. The free space in
between is not stored, so a nearly empty database takes hundreds of bytes, and not a whole page for
each table and index. Where there is little of it the page is stored as it is: it takes a page of
LMDB either way, and need not be put together again. The last bytes of a page are reserved: SQLite
does not use them, and they are not stored either, so that a full page with its checksum still fits
into one overflow page of LMDB.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from .view import Malformed

PAGE_SIZE: Final = 4_096
RESERVED: Final = 24
USABLE: Final = PAGE_SIZE - RESERVED
# Free space up to this is stored.
_STORED_SPACE_MAX: Final = PAGE_SIZE // 8

# The header of the file is at the front of the first page.
FILE_HEADER_SIZE: Final = 100
_COUNT: Final = slice(28, 32)
# The kinds of B-tree pages, and the sizes of their headers. Other pages begin with the number of a
# page, whose first byte is 0 in any database of an allowed size.
_HEADER_SIZES: Final = {2: 12, 5: 12, 10: 8, 13: 8}
# The kind of a page, how many cells it has, and where they begin.
_read_header: Final = Struct(">BxxHH").unpack_from


def pack(number: int, page: bytes) -> bytes:
    """The page *number*, as it is stored."""
    start = FILE_HEADER_SIZE if number == 1 else 0
    kind, cells, content = _read_header(page, start)
    header_size = _HEADER_SIZES.get(kind)
    if header_size is not None:
        used = start + header_size + 2 * cells
        if content <= USABLE and content - used > _STORED_SPACE_MAX:
            return page[:used] + page[content:USABLE]
    return page[:USABLE]


def unpack(number: int, stored: bytes) -> bytes:
    """The page *number*, without its reserved bytes, from what `pack` made of it. Raises Malformed
    for anything else."""
    gap = USABLE - len(stored)
    if not gap:
        return stored
    start = FILE_HEADER_SIZE if number == 1 else 0
    if gap > 0 and len(stored) >= start + 8:
        kind, cells, content = _read_header(stored, start)
        header_size = _HEADER_SIZES.get(kind)
        if header_size is not None:
            used = start + header_size + 2 * cells
            if content - used == gap:
                return stored[:used].ljust(content, b"\0") + stored[used:]
    raise Malformed(f"{len(stored)} bytes that begin with {stored[:8].hex()} are not page {number}")


def pages_of(first_page: bytes) -> int:
    """How many pages the database has, by its first page, packed or not."""
    return int.from_bytes(first_page[_COUNT], "big")
