"""What stands in the place of what is damaged: one of many is told, and the others are read."""

from __future__ import annotations


class Malformed(Exception):
    """Bytes that no engine can have written; what is wrong with them."""


class Damaged(bytes):
    """In the place of an encoded value: a record whose checksum does not fit, as it is stored."""

    __slots__ = ()
