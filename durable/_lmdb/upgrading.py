"""Formats: which one a store has, and how a store of an older format is upgraded.

The first transaction that writes anything does that; opening does not. Values stay as they are
until they are written again; what is written has a checksum.
"""

from __future__ import annotations

from attrs import define

from . import layout
from .lmdb_errors import damaged_value
from .long_keys import Transaction
from .write_transaction import Databases


@define(eq=False)
class Protection:
    """Which values of an open store must have a matching checksum."""

    path: str
    first: int | None = None  # those under the keyspaces from this one on; None: none need have one

    def value(self, keyspace: int, key: bytes, record: bytes) -> bytes:
        """The value of a record whose checksum does not match: the record itself, if it may be of
        format 1. Raises StoreDamaged."""
        if self.first is None or keyspace < self.first:
            # It may begin with the mark, which its codec may allow. The library's own refuses it.
            return record
        raise damaged_value(self.path, keyspace, key)


def protected_from(txn: Transaction, databases: Databases) -> int | None:
    """The first keyspace whose values all have checksums; None: no value need have one, since
    nothing has been written in this format."""
    raw = txn.get(layout.META_FORMAT, db=databases.meta)
    if raw is None or layout.read_format(raw) < layout.FORMAT_OF_KEYS:
        return None
    first = txn.get(layout.META_PROTECTED_FROM, db=databases.meta)
    return 0 if first is None else layout.read_number(first)


def upgrade(txn: Transaction, databases: Databases) -> int:
    """The store has checksums from now on; returns the first keyspace whose values all have one."""
    raw = txn.get(layout.META_NEXT_KEYSPACE, db=databases.meta)
    first = 1 if raw is None else layout.read_number(raw)  # no record is under it or above it
    txn.put(layout.META_PROTECTED_FROM, layout.write_number(first), db=databases.meta)
    txn.put(layout.META_FORMAT, layout.write_format(layout.FORMAT_OF_KEYS), db=databases.meta)
    return first
