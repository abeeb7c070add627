"""Checksums: each stored record shows by itself whether it is still what was written.

A protected record is a mark, the value, and a CRC-32 of both that begins with that of the key under
which it is stored. So neither a value that has rotted nor one that stands in the place of another
passes. The mark is a byte that no MessagePack begins with: what stores of format 1 have written
begins with another one.

The CRC of bytes followed by their own CRC is a constant, so one pass checks a record.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

MARK: Final = b"\xc1"
OVERHEAD: Final = 5  # bytes that a mark and a checksum take
WHOLE: Final = 0x2144_DF1C  # the CRC-32 of anything and its own CRC-32, the lowest byte first

MARK_BYTE: Final = MARK[0]


def protect(key: bytes, value: bytes) -> bytes:
    """*value* as it is stored under *key*."""
    marked = MARK + value
    return marked + crc32(marked, crc32(key)).to_bytes(4, "little")


def is_complete(key: bytes, record: bytes) -> bool:
    """Whether *record* is what `protect` made for *key*: then `record[1:-4]` is the value."""
    return crc32(record, crc32(key)) == WHOLE


def is_protected(record: bytes) -> bool:
    """Whether *record* has the mark of a protected one, intact or not."""
    return record[:1] == MARK


def value_size(record: bytes) -> int:
    """How many bytes the value in *record* takes."""
    return len(record) - OVERHEAD if record[:1] == MARK else len(record)
