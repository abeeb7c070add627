"""The extension types of the codec: what MessagePack lacks, as numbers and payloads.

Rule: these numbers and payloads are the file format. Add to them, and never change them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack
from ormsgpack import Ext, packb, unpackb

from durable._model.instances import StoredInstance
from durable._model.values import CONTAINERS, has_plain_zone

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
EXT_INSTANCE = 13  # an array: the name of its class, its content, the names of unset fields if any

_CONTAINER_EXTS: dict[type, int] = {tuple: _EXT_TUPLE, set: _EXT_SET, frozenset: _EXT_FROZENSET}

_DATE = struct.Struct(">HBB")  # year, month, day
_TIME = struct.Struct(">BBBIB")  # hour, minute, second, microsecond, fold
_DATETIME = struct.Struct(">HBBBBBIB")  # the two of them
_TIMEDELTA = struct.Struct(">iII")  # days, seconds, microseconds, as Python normalises them

# A zone: nothing = naive; a str = the zone's key; an int = offset in microseconds; a pair = offset
# and name.
_ZONE_UTC = packb(0)

ANY_KEYS = ormsgpack.OPT_NON_STR_KEYS
OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
OPTIONS_ANY_KEYS = OPTIONS | ANY_KEYS


# Writing


def extend(value: Any) -> Ext:
    """Called by packb for a value that MessagePack does not have."""
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError  # packb does not pass it on; encode() finds the reason
    return write(value)


def _write_int(value: int) -> Ext:
    return Ext(_EXT_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _write_array(code: int) -> Callable[[Any], Ext]:
    return lambda value: Ext(code, packb(list(value), extend, OPTIONS))


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
    assert offset is not None  # has_plain_zone() has checked that
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
    # The field names are str, so its map needs no pairs; the fields may.
    fields = (
        {name: spelled_out(part) for name, part in content.items()}
        if isinstance(content, dict)
        else content
    )
    unset = [list(value.unset)] if value.unset else []
    return Ext(EXT_INSTANCE, _pack_spelled([value.name, fields, *unset]))


# Types that never take the fast path.
_EXT_WRITERS: dict[type, Callable[[Any], Ext]] = {
    bytearray: lambda value: Ext(_EXT_BYTEARRAY, bytes(value)),
    StoredInstance: _write_instance,
}


# Dicts whose keys MessagePack would change are written as lists of pairs.

# Keys that are written into a MessagePack map; with any other the dict becomes a list of pairs.
_MAP_KEYS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def spelled_out(value: Any) -> Any:
    """*value*, known to be storable, with each dict in it made such that packb keeps its keys."""
    kind = type(value)
    if kind not in CONTAINERS:
        return _EXT_WRITERS[kind](value) if kind in _EXT_WRITERS else value
    if kind is not dict:
        items = [spelled_out(item) for item in value]
        return items if kind is list else Ext(_CONTAINER_EXTS[kind], _pack_spelled(items))
    if all(_is_map_key(key) for key in value):
        return {key: spelled_out(item) for key, item in value.items()}
    pairs = [spelled_out(part) for pair in value.items() for part in pair]
    return Ext(_EXT_PAIRS, _pack_spelled(pairs))


def _is_map_key(key: object) -> bool:
    return type(key) in _MAP_KEYS and (type(key) is not int or _INT_MIN <= key <= _INT_MAX)


def _pack_spelled(value: Any) -> bytes:
    return packb(value, extend, OPTIONS_ANY_KEYS)


# Reading


# The types are kept with the functions: libraries that freeze the clock replace the names of a
# module by subclasses.
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

LEAF_READERS: LeafReaders = {
    _EXT_INT: lambda payload: int.from_bytes(payload, "big", signed=True),
    _EXT_DATETIME: _read_datetime,
    _EXT_DATE: _read_date,
    _EXT_TIME: _read_time,
    _EXT_TIMEDELTA: _read_timedelta,
    _EXT_DECIMAL: lambda payload: Decimal(payload.decode()),
    _EXT_UUID: lambda payload: UUID(bytes=payload),
    _EXT_BYTEARRAY: bytearray,
}

CONTAINER_READERS: dict[int, Callable[[Any], Any]] = {
    _EXT_TUPLE: tuple,
    _EXT_PAIRS: _read_pairs,
    _EXT_SET: set,
    _EXT_FROZENSET: frozenset,
}
