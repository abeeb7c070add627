"""The layout: every key and record of the file as bytes, described in docs/file-format.md.

An object has a keyspace, a number under which everything of it is one contiguous range. LMDB's keys
end at 511 bytes and ours at 2,048, so the records of an object form levels. A key of up to `PIECE`
bytes stands on its level as it is. A longer one is cut: its first `PIECE` bytes and one byte more
are a *pointer*, which holds the number of a *node*, and the rest of the key stands on that node's
level, cut again if need be. A pointer is known by its length; it sorts right behind the key that
it continues, and before all that come later. So the order is exact.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

import ormsgpack
from attrs import frozen

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.catalog import ClassRecord, Naming
from durable._engine.checksums import is_complete, is_protected, protect
from durable._engine.side_records import AREAS
from durable._engine.view import Fields, Malformed, fields_of, object_of

# The newest known format. A store has it from its first side record on; until then it has
# `FORMAT_OF_KEYS`, so that versions of the library without side records can read it.
FORMAT: Final = 3
FORMAT_OF_KEYS: Final = 2

# The named databases
META: Final = b"meta"
CLASSES: Final = b"classes"
OBJECTS: Final = b"objects"
RECORDS: Final = b"records"
ALARMS: Final = b"alarms"
GARBAGE: Final = b"garbage"
DATABASES: Final = (META, CLASSES, OBJECTS, RECORDS, ALARMS, GARBAGE)

# The keys of meta
META_FORMAT: Final = b"format"
META_NEXT_KEYSPACE: Final = b"next number"
META_NEXT_CLASS: Final = b"next class"
META_TAGS: Final = b"tags"
META_TAGS_OF: Final = b"tags of "
# The first keyspace whose values all have checksums; 0 if it is missing. Format 1 had none.
META_PROTECTED_FROM: Final = b"protected from"

PIECE: Final = 450  # bytes of a key on one level
POINTER_END: Final = b"\x01"
PAST_POINTER: Final = b"\x02"

NUMBER_SIZE: Final = 8
BASE_SIZE: Final = 16
POINTER_REST_SIZE: Final = PIECE + 1

_MARK = b"durable"
_U32 = struct.Struct(">I")
_OBJECT_KEY = struct.Struct(">I16s")
_ALARM_KEY = struct.Struct(">QI16s")


# Numbers


def write_number(number: int) -> bytes:
    return number.to_bytes(NUMBER_SIZE, "big")


def read_number(raw: bytes) -> int:
    if len(raw) != NUMBER_SIZE:
        raise Malformed(f"a number takes {NUMBER_SIZE} bytes, not {len(raw)}")
    return int.from_bytes(raw, "big")


def write_format(version: int) -> bytes:
    return _MARK + _U32.pack(version)


def read_format(raw: bytes) -> int:
    if len(raw) != len(_MARK) + _U32.size or not raw.startswith(_MARK):
        raise Malformed(f"{raw[:16]!r} is not a format version of durable")
    return int(_U32.unpack_from(raw, len(_MARK))[0])


# Records: keys


# The prefix of an object's short keys, by its keyspace: a byte 0 follows that.
top_level: Callable[[int], bytes] = struct.Struct(">Qx").pack


def identity(keyspace: int, key: bytes) -> bytes:
    """What the checksum of a value covers first: the keyspace and the key, of any length. The key
    of a short record is exactly that."""
    return top_level(keyspace) + key


def node_level(keyspace: int, node: int) -> bytes:
    return (keyspace << 8 | 1).to_bytes(9, "big") + node.to_bytes(NUMBER_SIZE, "big")


def nodes_of(keyspace: int) -> bytes:
    """The prefix of the keys of all nodes of an object."""
    return (keyspace << 8 | 1).to_bytes(9, "big")


def side_key(keyspace: int, key: bytes) -> bytes:
    """The key of a side record. Its area differs from the levels of keys, which are 0 and 1."""
    return keyspace.to_bytes(NUMBER_SIZE, "big") + key


def is_side_key(raw: bytes) -> bool:
    return raw[NUMBER_SIZE : NUMBER_SIZE + 1] in AREAS


def past(prefix: bytes) -> bytes:
    """The first key behind all that begin with *prefix*, which is not all 0xff."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


@frozen
class RecordKey:
    """A key of the records database, parsed."""

    keyspace: int
    node: int | None  # None: on the top level
    rest: bytes  # of the object's key; of a pointer without its last byte
    is_pointer: bool

    @property
    def level(self) -> bytes:
        if self.node is None:
            return top_level(self.keyspace)
        return node_level(self.keyspace, self.node)


def read_record_key(raw: bytes) -> RecordKey:
    tag = raw[NUMBER_SIZE : NUMBER_SIZE + 1]
    keyspace = int.from_bytes(raw[:NUMBER_SIZE], "big")
    if tag == b"\x00":
        node, rest = None, raw[NUMBER_SIZE + 1 :]
    elif tag == b"\x01" and len(raw) > 2 * NUMBER_SIZE + 1:
        node = int.from_bytes(raw[NUMBER_SIZE + 1 : 2 * NUMBER_SIZE + 1], "big")
        rest = raw[2 * NUMBER_SIZE + 1 :]
    else:
        raise Malformed(f"{raw.hex()} is not the key of a record")
    is_pointer = len(rest) == POINTER_REST_SIZE and rest.endswith(POINTER_END)
    if len(rest) > PIECE and not is_pointer:
        raise Malformed(f"{raw.hex()} is longer than the key of a record may be")
    return RecordKey(keyspace, node, rest[:PIECE], is_pointer)


# Objects


def class_prefix(class_number: int) -> bytes:
    return _U32.pack(class_number)


def object_key(class_number: int, base: bytes) -> bytes:
    return _OBJECT_KEY.pack(class_number, base)


def read_object_key(raw: bytes) -> tuple[int, bytes]:
    if len(raw) != _OBJECT_KEY.size:
        raise Malformed(f"{raw.hex()} is not the key of an object")
    class_number, base = _OBJECT_KEY.unpack(raw)
    return class_number, base


def write_object(key: bytes, record: ObjectRecord) -> bytes:
    return protect(key, ormsgpack.packb(fields_of(record)))


def read_object(key: bytes, raw: bytes) -> ObjectRecord:
    return object_of(read_object_fields(key, raw))


# The types of the fields of an object's record: those of all records, an alarm's four, a history's.
_OF_OBJECTS: Final = {
    (int, int, name, *([int] * more)) for name in (str, NoneType) for more in (0, 1, 4, 5)
}


def read_object_fields(key: bytes, raw: bytes) -> Fields:
    # A listing reads a million of these, and a match statement would take most of its time.
    fields = _unpack(raw[1:-4] if is_complete(key, raw) else _unprotected(raw))
    if (
        type(fields) is not list
        # Not `tuple()`, which makes a longer tuple, cuts it, and fills Python's list of free ones.
        or (*map(type, fields),) not in _OF_OBJECTS
        or fields[0] < 0
        or fields[1] < 0
        or (len(fields) > 3 and min(fields[3:]) < 0)
    ):
        raise Malformed(f"{raw[:80].hex()} is not the record of an object")
    return fields


# Alarms


def alarm_key(due_us: int, class_number: int, base: bytes) -> bytes:
    return _ALARM_KEY.pack(due_us, class_number, base)


def read_alarm_key(raw: bytes) -> DueAlarm:
    if len(raw) != _ALARM_KEY.size:
        raise Malformed(f"{raw.hex()} is not the key of an alarm")
    return DueAlarm(*_ALARM_KEY.unpack(raw))


# Behind every key of the alarms: a time has eight bytes.
PAST_ALARMS = b"\xff" * 9


# Classes


def class_key(number: int) -> bytes:
    return _U32.pack(number)


def write_class_number(number: int) -> bytes:
    return _U32.pack(number)


def read_class_number(raw: bytes) -> int:
    if len(raw) != _U32.size:
        raise Malformed(f"{raw.hex()} is not the number of a class")
    return int(_U32.unpack(raw)[0])


def write_class(record: ClassRecord) -> bytes:
    fields: list[Any] = [record.unique_key, record.name, record.script]
    if record.is_deleted or record.former:
        fields += [record.is_deleted, record.former]
    return protect(class_key(record.number), ormsgpack.packb(fields))


def read_class(key: bytes, raw: bytes) -> ClassRecord:
    match _unpack(raw[1:-4] if is_complete(key, raw) else _unprotected(raw)):
        case [str(unique_key), str(name), str() | None as script]:
            return ClassRecord(read_class_number(key), unique_key, name, script)
        case [str(unique_key), str(name), str() | None as script, bool(is_deleted), list(pairs)]:
            former = tuple(_read_naming(pair) for pair in pairs)
            number = read_class_number(key)
            return ClassRecord(number, unique_key, name, script, is_deleted, former)
    raise Malformed(f"{raw[:80].hex()} is not the record of a class")


def _read_naming(pair: Any) -> Naming:
    match pair:
        case [str() | None as script, str(name)]:
            return script, name
    raise Malformed(f"{pair!r:.80} is not the name of a class")


# Tags: the applied migrations of a script. In meta, with a key for each script.


def tags_key(script: str | None) -> bytes:
    return META_TAGS if script is None else META_TAGS_OF + script.encode()


def read_tags_key(raw: bytes) -> str | None:
    try:
        return None if raw == META_TAGS else raw.removeprefix(META_TAGS_OF).decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{raw[:80].hex()} is not the key of a script's tags") from error


def write_tags(tags: tuple[str, ...]) -> bytes:
    return ormsgpack.packb(tags)


def read_tags(raw: bytes) -> tuple[str, ...]:
    match _unpack(raw):
        case [*tags] if all(isinstance(tag, str) for tag in tags):
            return tuple(tags)
    raise Malformed(f"{raw[:80].hex()} is not a list of tags")


# Garbage: a kind, and what it is about: the records of a keyspace, the objects of a class, or a
# history with the keyspaces that it keeps.

_GARBAGE_RECORDS = b"\x00"
_GARBAGE_CLASS = b"\x01"
_GARBAGE_HISTORY = b"\x02"


def garbage_key(keyspace: int) -> bytes:
    return _GARBAGE_RECORDS + write_number(keyspace)


def garbage_class_key(class_number: int) -> bytes:
    return _GARBAGE_CLASS + write_class_number(class_number)


def garbage_history_key(history: int) -> bytes:
    return _GARBAGE_HISTORY + write_number(history)


def is_garbage_class(raw: bytes) -> bool:
    return raw.startswith(_GARBAGE_CLASS)


def is_garbage_history(raw: bytes) -> bool:
    return raw.startswith(_GARBAGE_HISTORY)


def read_garbage_class_key(raw: bytes) -> int:
    return read_class_number(raw[1:])


def read_garbage_key(raw: bytes) -> int:
    if len(raw) != 1 + NUMBER_SIZE or raw[:1] not in {_GARBAGE_RECORDS, _GARBAGE_HISTORY}:
        raise Malformed(f"{raw.hex()} is not the key of garbage")
    return read_number(raw[1:])


def _unprotected(raw: bytes) -> bytes:
    """A record whose checksum does not match, if it is one of format 1, which had none.

    A record that has lost its mark does not pass: the checksum behind it is not MessagePack.
    """
    if is_protected(raw):
        raise Malformed(f"{raw[:80].hex()} is damaged: its checksum does not match")
    return raw


def _unpack(raw: bytes) -> Any:
    try:
        return ormsgpack.unpackb(raw)
    except ValueError as error:
        raise Malformed(f"{raw[:80].hex()} is not valid MessagePack: {error}") from error
