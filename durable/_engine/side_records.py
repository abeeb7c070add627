"""Side records: what an object stores beside its keys, and what no call on keys returns.

A side record has a key of bytes, whose first byte is its *area*: which part of the library it
belongs to. They live and die with the object's keyspace, as its keys do, and a batch changes both
at once.
"""

from __future__ import annotations

from typing import Final

# The areas. Numbers of the file format: see docs/file-format.md.
PAGES: Final = b"\x02"
"""Pages of the object's SQL database: four bytes follow, the page's number, big-endian."""
FIRST_PAGE: Final = PAGES + (1).to_bytes(4, "big")
"""The first of them, which says how many there are."""
HISTORY: Final = b"\x03"
"""The history of the object: see history_records.py."""
OWN: Final = b"\x04"
"""What the library keeps for the object, such as its timers: a name of UTF-8 follows."""

AREAS: Final = (PAGES, HISTORY, OWN)

SIDE_KEY_SIZE_MAX: Final = 480
"""Bytes of a key, its area included."""


def end_of(area: bytes) -> bytes:
    """The first key behind all of an area."""
    return bytes([area[0] + 1])
