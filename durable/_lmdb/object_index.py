"""The records of objects and alarms, read within one transaction without waking any object."""

from __future__ import annotations

from itertools import islice

from durable._engine.batch import DueAlarm, ObjectRecord

from . import layout, long_keys
from .long_keys import Transaction
from .write_transaction import Databases


def find(
    txn: Transaction, databases: Databases, class_number: int, base: bytes
) -> ObjectRecord | None:
    key = layout.object_key(class_number, base)
    raw = txn.get(key, db=databases.objects)
    return None if raw is None else layout.read_object(key, raw)


def objects(
    txn: Transaction, databases: Databases, class_number: int, after: bytes | None, count_max: int
) -> list[tuple[bytes, ObjectRecord]]:
    """Up to *count_max* objects of a class behind the base *after*, in the order of bases."""
    prefix = layout.class_prefix(class_number)
    start = prefix if after is None else layout.object_key(class_number, after) + b"\0"
    pairs = long_keys.between(txn.cursor(databases.objects), start, layout.past(prefix), False)
    return [
        (layout.read_object_key(key)[1], layout.read_object(key, raw))
        for key, raw in islice(pairs, count_max)
    ]


def alarms(
    txn: Transaction,
    databases: Databases,
    after: DueAlarm | None,
    count_max: int,
) -> list[DueAlarm]:
    """Up to *count_max* alarms behind *after*, the earliest first."""
    start = b""
    if after is not None:
        start = layout.alarm_key(after.due_us, after.class_number, after.base) + b"\0"
    stop = layout.PAST_ALARMS
    pairs = long_keys.between(txn.cursor(databases.alarms), start, stop, False)
    return [layout.read_alarm_key(key) for key, _ in islice(pairs, count_max)]
