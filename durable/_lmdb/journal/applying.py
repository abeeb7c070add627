"""Merged changes, brought into the store's file within one transaction.

Rule: they say what is there in the end. So to bring them in again, or as a part of more, changes
nothing.
"""

from __future__ import annotations

from typing import Final

from durable._engine.batch import ObjectRecord
from durable._engine.checksums import protect
from durable._engine.merged import Merged

from .. import layout, long_keys
from ..layout import PIECE, side_key, top_level, write_number
from ..long_keys import Transaction
from ..write_transaction import NOTHING, Databases
from .marking import raise_format

# The event loop may wait for so many.
PUTS_A_CALL: Final = 250


def apply_merged(txn: Transaction, databases: Databases, merged: Merged) -> bool:
    """The file has *merged* now; returns whether that made garbage."""
    _apply_records(txn, merged)
    has_sides = False
    for keyspace, sides in merged.sides.items():
        for key, value in sides.items():
            whose = side_key(keyspace, key)
            if value is None:
                txn.delete(whose)
            else:
                txn.put(whose, protect(whose, value))
                has_sides = True
    if has_sides:
        raise_format(txn, databases.meta, layout.FORMAT_OF_SIDES)
    for (class_number, base), record in merged.objects.items():
        _apply_object(txn, databases, class_number, base, record)
    makes_garbage = False
    for keyspace in merged.thrown_away:
        if long_keys.has_any(txn, write_number(keyspace)):
            txn.put(layout.garbage_key(keyspace), NOTHING, db=databases.garbage)
            makes_garbage = True
    return makes_garbage


def _apply_records(txn: Transaction, merged: Merged) -> None:
    short: list[tuple[bytes, bytes]] = []
    for keyspace, puts in merged.records.items():
        level = top_level(keyspace)
        for key, value in puts.items():
            encoded = key.encode()
            if value is None:
                long_keys.remove(txn, keyspace, encoded)
                continue
            whose = level + encoded
            if len(encoded) <= PIECE:
                short.append((whose, protect(whose, value)))
            else:
                long_keys.put(txn, keyspace, encoded, protect(whose, value))
    # Many in one call: for each call the interpreter's lock is given up and waited for. In order,
    # so that neighbours are written to the same page one after the other.
    short.sort()
    cursor = txn.cursor()
    for start in range(0, len(short), PUTS_A_CALL):
        cursor.putmulti(short[start : start + PUTS_A_CALL])


def _apply_object(
    txn: Transaction,
    databases: Databases,
    class_number: int,
    base: bytes,
    record: ObjectRecord | None,
) -> None:
    """The object's record is *record* now, in both of the databases that show it."""
    key = layout.object_key(class_number, base)
    raw = txn.get(key, db=databases.objects)
    before = None if raw is None else layout.read_object(key, raw)
    if record is None:
        txn.delete(key, db=databases.objects)
    elif record != before:
        txn.put(key, layout.write_object(key, record), db=databases.objects)
    alarm_before = None if before is None else before.alarm
    alarm = None if record is None else record.alarm
    if alarm == alarm_before:
        return
    if alarm_before is not None:
        due = layout.alarm_key(alarm_before.due_us, class_number, base)
        txn.delete(due, db=databases.alarms)
    if alarm is not None:
        due = layout.alarm_key(alarm.due_us, class_number, base)
        txn.put(due, NOTHING, db=databases.alarms)
