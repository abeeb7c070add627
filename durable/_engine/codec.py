"""The codec: a value as the bytes that stand on the disk, and back.

Rule: what comes back is equal to what was put and of the same type, or else the put raised. The
first byte says how the rest is written, so that the codec can change. Here it is the one by which
MessagePack begins an array of one: the value is that one, and nothing is cut off to read it.

MessagePack has fewer types than Python. What it lacks is an extension type: its number and its
payload are part of the file format. Two things are watched beside that: ormsgpack would write
bytearrays and its own raw types without asking anybody, and it takes keys that are no str only if
told to, and then bends some of them. So values are looked through for the former, and go the fast
way only with keys that are str; the others are spelled out first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import ormsgpack
from ormsgpack import Ext, packb, unpackb

from durable._model.declared import Declared, Make
from durable._model.errors import DurableError, StoreDamaged, UnreadableValue, UnstorableValue
from durable._model.instances import Apart, Content, StoredInstance, shape_of
from durable._model.values import (
    ATOMS,
    CONTAINERS,
    DEPTH_MAX,
    LEAVES,
    Keep,
    Refusal,
    copy_value,
    has_plain_zone,
)

from .checksums import MARK

FORMAT_MSGPACK: Final = 0x91


@runtime_checkable
class Codec(Protocol):
    """Give one as `codec=` to `durable.open` to decide how values are written."""

    def encode(self, value: Any, /) -> bytes:
        """Raises UnstorableValue for what this codec cannot bring back."""

    def decode(self, encoded: bytes, /) -> Any:
        """A fresh value each time. Raises StoreDamaged for what `encode` cannot have written."""


class MsgpackCodec:
    """The codec of the library: MessagePack with extension types.

    With *declared* the instances of the classes that it has are stored and made again; without, an
    instance is read as a `StoredInstance`, and only such a one is written.
    """

    __slots__ = ("decode", "encode")

    # Plain functions: a method costs a third of a small value's encoding.
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def __init__(self, declared: Declared | None = None) -> None:
        self.encode = encoder(_take_stored if declared is None else declared.take)
        make: Make = StoredInstance if declared is None else declared.make
        self.decode = decoder(make)


def codec_of(codec: Codec, cls: type) -> Codec:
    """What the objects of *cls* use where *codec* was given to the runtime."""
    return MsgpackCodec(Declared(cls)) if type(codec) is MsgpackCodec else codec


def encoder(take: Keep) -> Callable[[Any], bytes]:
    """What encodes values, and asks *take* what stands for a leaf that is of no plain type: parts
    of it, or an extension type of one's own."""

    def encode(value: Any, /) -> bytes:
        """The bytes of *value*. Raises UnstorableValue, saying where in the value."""
        kind = type(value)
        if (
            kind in _SCALARS
            # The next line is _is_plain for the dict that most values are, without the call.
            or (kind is dict and _LOOKED_INTO.isdisjoint(map(type, value.values())))
            or (kind in CONTAINERS and _is_plain(value, kind, DEPTH_MAX))
        ):
            try:
                return packb([value], _extend, _OPTIONS)
            except TypeError:
                pass  # found out below: what is not plain, or a dict whose keys need spelling out
        tree = copy_value(value, take)  # raises if anything in it is not storable
        try:
            return packb([_spelled_out(tree)], _extend, _OPTIONS_ANY_KEYS)
        except TypeError as error:
            raise UnstorableValue(f"the value cannot be encoded: {error}") from error

    return encode


def decoder(make: Make, others: LeafReaders | None = None) -> Callable[[bytes], Any]:
    """What decodes values: *make* gives instances by the names of their classes, *others* read
    extension types that no store has."""
    readers = _LEAF_READERS if others is None else {**_LEAF_READERS, **others}
    read_ext = _ext_reader(DEPTH_MAX, make, None, readers)

    def decode(encoded: bytes, /) -> Any:
        """The value of *encoded*. Raises StoreDamaged for bytes that `encode` cannot have written,
        UnreadableValue for an instance whose class has changed or is not declared."""
        try:
            if encoded[0] == FORMAT_MSGPACK:
                return unpackb(encoded, ext_hook=read_ext, option=_ANY_KEYS)[0]
        except (ValueError, IndexError, RecursionError, OverflowError):
            pass
        raise _why_unreadable(encoded, make, readers)

    return decode


def _take_stored(leaf: Any) -> object | None:
    """Without declared classes: what an export has of an instance is written as it was."""
    if type(leaf) is StoredInstance:
        if not isinstance(leaf.content, dict):
            return leaf
        return Apart(leaf.content, lambda parts: StoredInstance(leaf.name, parts, leaf.unset))
    cls: type = type(leaf)
    return None if shape_of(cls) is None else Refusal()


_SCALARS = ATOMS | LEAVES
_ANY_KEYS = ormsgpack.OPT_NON_STR_KEYS
_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_OPTIONS_ANY_KEYS = _OPTIONS | _ANY_KEYS

# Written by ormsgpack as they are, though none of them would come back as itself.
_SMUGGLED: frozenset[type] = frozenset({bytearray, memoryview, Ext, ormsgpack.Fragment})
_LOOKED_INTO = CONTAINERS | _SMUGGLED

# Keys that are written into a MessagePack map; with any other the dict becomes a list of pairs.
_MAP_KEYS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def _is_plain(value: Any, kind: type, depth: int) -> bool:
    """Whether packb can be trusted with *value*: nothing smuggled in it, and not too deep."""
    if not depth:
        return False
    items = value.values() if kind is dict else value
    # One pass in C, and the only one for most values.
    if _LOOKED_INTO.isdisjoint(map(type, items)):
        return True
    for item in items:
        kind = type(item)
        if kind in _LOOKED_INTO and (kind in _SMUGGLED or not _is_plain(item, kind, depth - 1)):
            return False
    return True


def _spelled_out(value: Any) -> Any:
    """*value*, known to be storable, with every dict in it made such that packb keeps its keys."""
    kind = type(value)
    if kind not in CONTAINERS:
        return _EXT_WRITERS[kind](value) if kind in _EXT_WRITERS else value
    if kind is not dict:
        items = [_spelled_out(item) for item in value]
        return items if kind is list else Ext(_CONTAINER_EXTS[kind], _pack_spelled(items))
    if all(_is_map_key(key) for key in value):
        return {key: _spelled_out(item) for key, item in value.items()}
    pairs = [_spelled_out(part) for pair in value.items() for part in pair]
    return Ext(_EXT_PAIRS, _pack_spelled(pairs))


def _is_map_key(key: object) -> bool:
    return type(key) in _MAP_KEYS and (type(key) is not int or _INT_MIN <= key <= _INT_MAX)


def _pack_spelled(value: Any) -> bytes:
    return packb(value, _extend, _OPTIONS_ANY_KEYS)


# The extension types. These numbers and payloads are the file format: add, never change.

_EXT_INT = 1  # signed, big-endian, as many bytes as it takes
_EXT_TUPLE = 2  # an array
_EXT_PAIRS = 3  # a dict: an array of key, value, key, value …
_EXT_SET = 4  # an array
_EXT_FROZENSET = 5  # an array
_EXT_DATETIME = 6  # _DATETIME, then the zone
_EXT_DATE = 7  # _DATE
_EXT_TIME = 8  # _TIME, then the zone
_EXT_TIMEDELTA = 9  # _TIMEDELTA
_EXT_DECIMAL = 10  # its text
_EXT_UUID = 11  # its 16 bytes
_EXT_BYTEARRAY = 12  # its bytes
_EXT_INSTANCE = 13  # an array: the name of its class, its content, the names of unset fields if any

_CONTAINER_EXTS: dict[type, int] = {tuple: _EXT_TUPLE, set: _EXT_SET, frozenset: _EXT_FROZENSET}

_DATE = struct.Struct(">HBB")  # year, month, day
_TIME = struct.Struct(">BBBIB")  # hour, minute, second, microsecond, fold
_DATETIME = struct.Struct(">HBBBBBIB")  # the two of them
_TIMEDELTA = struct.Struct(">iII")  # days, seconds, microseconds, as Python normalises them

# A zone: nothing = naive; a str = the zone's key; an int = offset in microseconds; a pair = offset
# and name.
_ZONE_UTC = packb(0)


def _extend(value: Any) -> Ext:
    """What packb asks about a value that MessagePack does not have."""
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError  # packb does not pass it on; encode() finds out why
    return write(value)


def _write_int(value: int) -> Ext:
    return Ext(_EXT_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _write_array(code: int) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, packb(list(value), _extend, _OPTIONS))


def _write_datetime(value: datetime) -> Ext:
    payload = _DATETIME.pack(
        value.year, value.month, value.day,
        value.hour, value.minute, value.second, value.microsecond, value.fold,
    )  # fmt: skip
    return Ext(_EXT_DATETIME, payload + _write_zone(value))


def _write_time(value: time) -> Ext:
    payload = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return Ext(_EXT_TIME, payload + _write_zone(value))


def _write_zone(value: datetime | time) -> bytes:
    zone = value.tzinfo
    if zone is None:
        return b""
    if zone is UTC:
        return _ZONE_UTC
    if not has_plain_zone(value):
        raise TypeError
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return packb(zone.key)
    offset = value.utcoffset()
    assert offset is not None  # has_plain_zone() saw to it
    offset_us = offset // timedelta(microseconds=1)
    if isinstance(zone, timezone) and str(zone) != str(timezone(offset)):
        return packb([offset_us, str(zone)])
    return packb(offset_us)


_WRITERS: dict[type, Callable[[Any], Ext]] = {
    int: _write_int,
    tuple: _write_array(_EXT_TUPLE),
    set: _write_array(_EXT_SET),
    frozenset: _write_array(_EXT_FROZENSET),
    datetime: _write_datetime,
    date: lambda value: Ext(_EXT_DATE, _DATE.pack(value.year, value.month, value.day)),
    time: _write_time,
    timedelta: lambda value: Ext(
        _EXT_TIMEDELTA, _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)
    ),
    Decimal: lambda value: Ext(_EXT_DECIMAL, str(value).encode()),
    UUID: lambda value: Ext(_EXT_UUID, value.bytes),
}


def _write_instance(value: StoredInstance) -> Ext:
    content = value.content
    # The field names are str, so its map needs no spelling out; the fields may.
    fields = (
        {name: _spelled_out(part) for name, part in content.items()}
        if isinstance(content, dict)
        else content
    )
    unset = [list(value.unset)] if value.unset else []
    return Ext(_EXT_INSTANCE, _pack_spelled([value.name, fields, *unset]))


# What is never on the fast way.
_EXT_WRITERS: dict[type, Callable[[Any], Ext]] = {
    bytearray: lambda value: Ext(_EXT_BYTEARRAY, bytes(value)),
    StoredInstance: _write_instance,
}


def _ext_reader(
    depth: int, make: Make, causes: list[Exception] | None, readers: LeafReaders
) -> Callable[[int, bytes], Any]:
    """What unpackb asks about extension types, *depth* levels of which may still follow; *make*
    gives an instance by the name of its class.

    unpackb swallows the exceptions of what it asks, so they are noted in *causes*.
    """

    def read(code: int, payload: bytes) -> Any:
        try:
            read_leaf = readers.get(code)
            if read_leaf is not None:
                return read_leaf(payload)
            read_items = _CONTAINER_READERS.get(code)
            if read_items is None and code != _EXT_INSTANCE:
                raise ValueError(f"extension type {code} is unknown")
            if not depth:
                raise ValueError(f"it is nested more than {DEPTH_MAX} deep")
            reader = _ext_reader(depth - 1, make, causes, readers)
            items = unpackb(payload, ext_hook=reader, option=_ANY_KEYS)
            return make(*_instance_parts(items)) if read_items is None else read_items(items)
        except Exception as error:
            if causes is not None:
                causes.append(error)
            raise

    return read


def _instance_parts(items: Any) -> tuple[str, Content, tuple[str, ...]]:
    name, content, *unset = items
    if not isinstance(name, str) or not isinstance(content, dict | str | list):
        raise ValueError("what should be an instance is none")
    return name, content, tuple(unset[0]) if unset else ()


# The types are kept with the functions: libraries that freeze the clock put subclasses of them in
# the place of the names of a module.
def _read_datetime(payload: bytes, exact: type[datetime] = datetime) -> datetime:
    year, month, day, hour, minute, second, us, fold = _DATETIME.unpack_from(payload)
    zone = _read_zone(payload[_DATETIME.size :])
    return exact(year, month, day, hour, minute, second, us, zone, fold=fold)


def _read_date(payload: bytes, exact: type[date] = date) -> date:
    return exact(*_DATE.unpack(payload))


def _read_time(payload: bytes) -> time:
    hour, minute, second, us, fold = _TIME.unpack_from(payload)
    return time(hour, minute, second, us, _read_zone(payload[_TIME.size :]), fold=fold)


def _read_zone(payload: bytes) -> tzinfo | None:
    if not payload:
        return None
    if payload == _ZONE_UTC:
        return UTC
    zone = unpackb(payload)
    if isinstance(zone, str):
        return ZoneInfo(zone)
    offset_us, *name = zone if isinstance(zone, list) else [zone]
    return timezone(timedelta(microseconds=offset_us), *name)


def _read_timedelta(payload: bytes) -> timedelta:
    days, seconds, microseconds = _TIMEDELTA.unpack(payload)
    return timedelta(days, seconds, microseconds)


def _read_pairs(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


LeafReaders: TypeAlias = Mapping[int, Callable[[bytes], Any]]

_LEAF_READERS: LeafReaders = {
    _EXT_INT: lambda payload: int.from_bytes(payload, "big", signed=True),
    _EXT_DATETIME: _read_datetime,
    _EXT_DATE: _read_date,
    _EXT_TIME: _read_time,
    _EXT_TIMEDELTA: _read_timedelta,
    _EXT_DECIMAL: lambda payload: Decimal(payload.decode()),
    _EXT_UUID: lambda payload: UUID(bytes=payload),
    _EXT_BYTEARRAY: bytearray,
}

_CONTAINER_READERS: dict[int, Callable[[Any], Any]] = {
    _EXT_TUPLE: tuple,
    _EXT_PAIRS: _read_pairs,
    _EXT_SET: set,
    _EXT_FROZENSET: frozenset,
}


def _why_unreadable(encoded: bytes, make: Make, readers: LeafReaders) -> DurableError:
    causes: list[Exception] = []
    reader = _ext_reader(DEPTH_MAX, make, causes, readers)
    try:
        unpackb(encoded, ext_hook=reader, option=_ANY_KEYS)
    except Exception as error:
        causes.append(error)
    if causes and isinstance(causes[0], UnreadableValue):
        return causes[0]
    return StoreDamaged(_why_damaged(encoded, causes))


def _why_damaged(encoded: bytes, causes: list[Exception]) -> str:
    if not encoded:
        return "a stored value is empty, which no value is; run `durable check` on the folder"
    if encoded[:1] == MARK:
        return "a stored value is damaged: its checksum does not fit; run `durable check`"
    if encoded[0] != FORMAT_MSGPACK:
        return (
            f"a stored value has the format byte {encoded[0]}, and this version of durable knows "
            f"only {FORMAT_MSGPACK}; it was written by another codec or by a later version"
        )
    if isinstance(causes[0], ZoneInfoNotFoundError):
        return (
            f"a stored value is in a time zone that this machine does not know: {causes[0]}; "
            f"install the tzdata package"
        )
    return (
        f"a stored value of {len(encoded):,} bytes cannot be decoded: {causes[0]}; run `durable "
        f"check` on the folder"
    )


_PLAIN = MsgpackCodec()
encode, decode = _PLAIN.encode, _PLAIN.decode
