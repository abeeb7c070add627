"""The check finds what is wrong, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable._engine.batch import Alarm, ObjectRecord
from durable._engine.catalog import ClassRecord
from durable._engine.checksums import protect
from durable._lmdb import layout
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.layout import (
    alarm_key,
    class_key,
    garbage_key,
    node_level,
    object_key,
    top_level,
    write_class,
    write_class_number,
    write_number,
    write_object,
)
from durable._lmdb.write_transaction import Databases

from ..kit import VALUE, base_of, batch_of, open_store, place_of

BASE = base_of("front page")
STRANGER = bytes(16)
PIECE = b"k" * 450
Damage = Callable[[Any, Databases], Any]


def put_object(txn: Any, databases: Databases, key: bytes, record: ObjectRecord) -> None:
    txn.put(key, write_object(key, record), db=databases.objects)


def put_record(txn: Any, key: bytes, value: bytes = VALUE) -> None:
    txn.put(key, protect(key, value))


@pytest.fixture
def store(tmp_path: Path):
    """A store of one object, with a short key, one on a node, and an alarm; its number is 1."""
    environment = open_store(tmp_path / "store")
    handle = place_of(environment)
    puts = {"a": VALUE, "k" * 1_000: VALUE}
    environment.commit([batch_of(environment, handle, puts, alarm=Alarm(50, 40))])
    assert handle.keyspace == 1
    assert check(environment) == []
    yield environment
    environment.close()


def test_a_sound_store_has_no_problems(store: Environment) -> None:
    """Nor has one that is checked from outside."""
    store.close()
    assert check(store.path) == []


RECORD = ObjectRecord(1, 1, "front page", None)

DAMAGES: list[tuple[str, Damage]] = [
    ("belong to no object", lambda t, d: t.put(top_level(9) + b"a", VALUE)),
    ("'a' is damaged", lambda t, d: t.put(top_level(1) + b"a", VALUE)),
    ("'a' is damaged", lambda t, d: t.put(top_level(1) + b"a", b"")),
    ("format byte 7", lambda t, d: put_record(t, top_level(1) + b"a", b"\x07")),
    ("is empty, which no value is", lambda t, d: put_record(t, top_level(1) + b"a", b"")),
    ("not valid UTF-8", lambda t, d: put_record(t, top_level(1) + b"\xff")),
    ("is not the key of a record", lambda t, d: t.put(write_number(1) + b"\x05", VALUE)),
    ("longer than", lambda t, d: t.put(top_level(1) + b"a" * 460, VALUE)),
    ("node 1, which is empty", lambda t, d: t.delete(node_level(1, 2) + b"k" * 100)
        and t.delete(node_level(1, 1) + PIECE + b"\x01")),
    ("node 2, which is empty", lambda t, d: t.delete(node_level(1, 2) + b"k" * 100)),
    ("no pointer leads", lambda t, d: t.delete(top_level(1) + PIECE + b"\x01")),
    ("no pointer leads", lambda t, d: t.put(node_level(1, 7) + b"x", VALUE)),
    ("two pointers lead", lambda t, d: t.put(top_level(1) + b"j" * 450 + b"\x01", write_number(2))),
    ("a number takes", lambda t, d: t.put(top_level(1) + b"j" * 450 + b"\x01", b"\x01")),
    ("is not the key of a record", lambda t, d: t.put(node_level(1, 1), VALUE)),
    ("next number is", lambda t, d: t.put(layout.META_NEXT_KEYSPACE, write_number(1), db=d.meta)),
    ("next class is", lambda t, d: t.put(layout.META_NEXT_CLASS, write_class_number(1), db=d.meta)),
    ("the format is missing", lambda t, d: t.delete(layout.META_FORMAT, db=d.meta)),
    ("is not a format", lambda t, d: t.put(layout.META_FORMAT, b"x", db=d.meta)),
    ("is not in the index", lambda t, d: t.delete(alarm_key(50, 1, BASE), db=d.alarms)),
    ("the object says None", lambda t, d: put_object(t, d, object_key(1, BASE), RECORD)),
    ("the object says Alarm", lambda t, d: t.put(alarm_key(51, 1, BASE), b"", db=d.alarms)),
    ("there is no such object", lambda t, d: t.put(alarm_key(51, 1, STRANGER), b"", db=d.alarms)),
    ("is not the key of an alarm", lambda t, d: t.put(b"x", b"", db=d.alarms)),
    ("has a value", lambda t, d: t.put(alarm_key(50, 1, BASE), b"x", db=d.alarms)),
    ("name of another object", lambda t, d: put_object(t, d, object_key(1, STRANGER),
        ObjectRecord(5, 1, "front page", None))),
    ("neither a key nor an alarm", lambda t, d: put_object(t, d, object_key(1, STRANGER),
        ObjectRecord(5, 1, None, None))),
    ("another object's too", lambda t, d: put_object(t, d, object_key(1, STRANGER),
        ObjectRecord(1, 1, None, None))),
    ("no number of an object", lambda t, d: put_object(t, d, object_key(1, STRANGER),
        ObjectRecord(0, 1, None, None))),
    ("there is no such class", lambda t, d: put_object(t, d, object_key(8, STRANGER),
        ObjectRecord(5, 1, None, None))),
    ("is not the record of an object", lambda t, d: t.put(object_key(1, BASE), b"\x93\x01\x02\x03",
        db=d.objects)),
    ("its checksum does not match", lambda t, d: t.put(object_key(1, BASE), b"\xc1", db=d.objects)),
    ("is not the key of an object", lambda t, d: t.put(b"x", b"", db=d.objects)),
    ("is garbage", lambda t, d: t.put(garbage_key(1), b"", db=d.garbage)),
    ("is not the key of garbage", lambda t, d: t.put(b"\x00", b"", db=d.garbage)),
    ("is used twice", lambda t, d: t.put(class_key(2),
        write_class(ClassRecord(2, "Counter", "Other")), db=d.classes)),
    ("is not the record of a class", lambda t, d: t.put(class_key(1), b"\xc0", db=d.classes)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "damage"), DAMAGES)
def test_each_kind_of_damage_is_found(store: Environment, what: str, damage: Damage) -> None:
    """One thing is wrong, and it is said."""
    store.handle.write(lambda txn: damage(txn, store.handle.databases))
    problems = check(store)

    assert any(what in str(problem) for problem in problems), problems


def test_a_codec_of_the_programs_own_is_no_damage(store: Environment) -> None:
    """How values are written can be left unchecked; whether they are whole is checked."""
    store.handle.write(lambda txn: put_record(txn, top_level(1) + b"a", b"json"))

    assert check(store)
    assert check(store, values=False) == []
