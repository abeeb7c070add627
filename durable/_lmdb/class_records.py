"""The catalog of classes on the disk, and the deletion of a class's objects.

Rule: a catalog changes in one transaction, whatever it changes. A deletion only marks the class and
records it as garbage; its objects go afterwards, in bounded steps, each of which leaves a complete
store.
"""

from __future__ import annotations

from typing import Final

from durable._engine.catalog import Catalog, Weight
from durable._engine.checksums import is_complete, value_size
from durable._engine.history_records import CLEARINGS, read_clearing

from . import layout, long_keys
from .long_keys import Transaction
from .write_transaction import Databases

NOTHING: Final = b""


def read_catalog(txn: Transaction, databases: Databases) -> Catalog:
    """All classes, and the tags of all scripts."""
    records = [layout.read_class(key, raw) for key, raw in txn.cursor(databases.classes).iternext()]
    tags = {}
    cursor = txn.cursor(databases.meta)
    if cursor.set_range(layout.META_TAGS):
        for key, raw in cursor.iternext():
            if not key.startswith(layout.META_TAGS):
                break
            tags[layout.read_tags_key(key)] = layout.read_tags(raw)
    return Catalog(tuple(records), tags)


def write_catalog(txn: Transaction, databases: Databases, before: Catalog, after: Catalog) -> None:
    """Replace the catalog *before* by *after*."""
    known = {record.number: record for record in before.records}
    for record in after.records:
        number = record.number
        if known.get(number) == record:
            continue
        txn.put(layout.class_key(number), layout.write_class(record), db=databases.classes)
        if record.is_deleted:
            txn.put(layout.garbage_class_key(number), NOTHING, db=databases.garbage)
    next_number = max((record.number for record in after.records), default=0) + 1
    raw = layout.write_class_number(next_number)
    txn.put(layout.META_NEXT_CLASS, raw, db=databases.meta)
    for script, tags in after.tags.items():
        if tags != before.tags.get(script):
            txn.put(layout.tags_key(script), layout.write_tags(tags), db=databases.meta)


def collect_some(txn: Transaction, databases: Databases, count_max: int) -> int:
    """Free up to *count_max* records and objects of garbage; fewer only if no more is left."""
    cursor = txn.cursor(databases.garbage)
    count = 0
    while count < count_max and cursor.first():
        key = cursor.key()
        room = count_max - count
        # Records first, since their keys sort first: little garbage piles up at a time.
        if layout.is_garbage_class(key):
            freed = _discard_objects(txn, databases, layout.read_garbage_class_key(key), room)
        elif layout.is_garbage_history(key):
            freed = _discard_history(txn, databases, layout.read_garbage_key(key), room)
        else:
            keyspace = layout.read_garbage_key(key)
            freed = long_keys.remove_some(txn, layout.write_number(keyspace), room)
        count += freed
        if freed < room:
            txn.delete(key, db=databases.garbage)
    return count


def _discard_objects(
    txn: Transaction, databases: Databases, class_number: int, count_max: int
) -> int:
    """Delete up to *count_max* objects and their alarms; their records become garbage."""
    prefix = layout.class_prefix(class_number)
    cursor = txn.cursor(databases.objects)
    count = 0
    is_there = cursor.set_range(prefix)
    while is_there and count < count_max and cursor.key().startswith(prefix):
        _, base = layout.read_object_key(cursor.key())
        record = layout.read_object(cursor.key(), cursor.value())
        if record.alarm is not None:
            alarm = layout.alarm_key(record.alarm.due_us, class_number, base)
            txn.delete(alarm, db=databases.alarms)
        if long_keys.has_any(txn, layout.write_number(record.keyspace)):
            txn.put(layout.garbage_key(record.keyspace), NOTHING, db=databases.garbage)
        if record.history:
            history = layout.garbage_history_key(record.history)
            txn.put(history, NOTHING, db=databases.garbage)
        cursor.delete()
        count += 1
        is_there = bool(cursor.key())  # a delete goes on to the next one
    return count


def _discard_history(txn: Transaction, databases: Databases, history: int, count_max: int) -> int:
    """Delete up to *count_max* records of a history; what it has kept becomes garbage."""
    prefix = layout.write_number(history)
    cursor = txn.cursor()
    count = 0
    is_there = cursor.set_range(prefix)
    while is_there and count < count_max and cursor.key().startswith(prefix):
        side, value = cursor.key()[layout.NUMBER_SIZE :], cursor.value()
        if side.startswith(CLEARINGS) and is_complete(cursor.key(), value):
            kept = read_clearing(side, value[1:-4])
            if kept.keyspace and not kept.is_shared:
                txn.put(layout.garbage_key(kept.keyspace), NOTHING, db=databases.garbage)
        cursor.delete()
        count += 1
        is_there = bool(cursor.key())  # a delete goes on to the next one
    return count


def weigh(txn: Transaction, databases: Databases, class_number: int) -> Weight:
    """What the class contains; a walk over all of it."""
    prefix = layout.class_prefix(class_number)
    objects = alarms = size = 0
    pairs = long_keys.between(txn.cursor(databases.objects), prefix, layout.past(prefix), False)
    for object_key, raw in pairs:
        record = layout.read_object(object_key, raw)
        objects += 1
        alarms += record.alarm is not None
        for key, stored in long_keys.scan(txn, record.keyspace, b"", None, False):
            size += len(key) + value_size(stored)
    return Weight(objects, alarms, size)
