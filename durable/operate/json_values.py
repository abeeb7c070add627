"""Stored values as JSON that other languages can read, and back; described in
docs/export-format.md.

Rule: `from_json(to_json(value))` is equal to the value and of the same type. Types of JSON are
written as they are. Others are an object whose first key begins with `$` and names the type; a
dict that could be taken for one is written as pairs.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from durable._model.instances import StoredInstance

# Beyond these, programs that read numbers as doubles lose digits.
INT_EXACT_MAX = 2**53 - 1


class NotInFormat(ValueError):
    """JSON that `to_json` cannot have written."""


def to_json(value: Any) -> Any:
    """*value*, which can be stored, as arguments for `json.dumps`."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -INT_EXACT_MAX <= value <= INT_EXACT_MAX else {"$int": str(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is list:
        return [to_json(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    return _WRITERS[kind](value)


def from_json(written: Any) -> Any:
    """The value of *written*. Raises NotInFormat."""
    if isinstance(written, list):
        return [from_json(item) for item in written]
    if not isinstance(written, dict):
        return written
    tag = next(iter(written), "")
    if not tag.startswith("$"):
        return {key: from_json(item) for key, item in written.items()}
    read = _READERS.get(tag)
    if read is None:
        raise NotInFormat(f"there is no type {tag!r}")
    try:
        return read(written[tag], written)
    except NotInFormat:
        raise
    except (TypeError, ValueError, ArithmeticError, KeyError, OverflowError) as error:
        raise NotInFormat(f"{tag} cannot be read: {error}") from error


def _items(tag: str) -> Callable[[Any], Any]:
    return lambda value: {tag: [to_json(item) for item in value]}


def _write_moment(tag: str, value: Any) -> dict[str, Any]:
    """A datetime or time. The offset is in the text; the name of a zone is beside it."""
    written: dict[str, Any] = {tag: value.isoformat()}
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo):
        written[tag] = value.replace(tzinfo=None).isoformat()
        written["zone"] = zone.key
    elif zone is not None and zone is not UTC:
        offset = value.utcoffset()
        if str(zone) != str(timezone(offset)):
            written["zone_name"] = str(zone)
    if value.fold:
        written["fold"] = 1
    return written


def _zone(moment: Any, written: dict[str, Any]) -> tzinfo | None:
    if "zone" in written:
        return ZoneInfo(written["zone"])
    if "zone_name" in written:
        return timezone(moment.utcoffset(), written["zone_name"])
    zone: tzinfo | None = moment.tzinfo
    return zone


def _read_datetime(text: str, written: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=_zone(moment, written), fold=written.get("fold", 0))


def _read_time(text: str, written: dict[str, Any]) -> time:
    moment = time.fromisoformat(text)
    return moment.replace(tzinfo=_zone(moment, written), fold=written.get("fold", 0))


def _write_instance(value: StoredInstance) -> dict[str, Any]:
    match value.content:
        case str() as member:
            return {"$enum": member, "class": value.name}
        case list() as members:
            return {"$flags": members, "class": value.name}
        case dict() as fields:
            # Pairs, since a field may have any name.
            parts = [[name, to_json(part)] for name, part in fields.items()]
            written: dict[str, Any] = {"$instance": parts, "class": value.name}
            if value.unset:
                written["unset"] = list(value.unset)
            return written


def _read_instance(content: Any, written: dict[str, Any]) -> StoredInstance:
    name, unset = written["class"], written.get("unset", [])
    fields = {field: from_json(part) for field, part in content}
    texts = [name, *fields, *unset]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("the names of a class and its fields are strings")
    return StoredInstance(name, fields, tuple(unset))


def _read_member(content: Any, written: dict[str, Any]) -> StoredInstance:
    if not isinstance(content, str) or not isinstance(written["class"], str):
        raise ValueError("the names of an enum and its members are strings")
    return StoredInstance(written["class"], content)


def _read_flags(content: Any, written: dict[str, Any]) -> StoredInstance:
    if not isinstance(written["class"], str) or not all(type(x) in {str, int} for x in content):
        raise ValueError("flags are the names of members, and a number for those that have none")
    return StoredInstance(written["class"], list(content))


_WRITERS: dict[type, Callable[[Any], Any]] = {
    StoredInstance: _write_instance,
    bytearray: lambda value: {"$bytearray": base64.b64encode(value).decode()},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    tuple: _items("$tuple"),
    set: _items("$set"),
    frozenset: _items("$frozenset"),
    datetime: lambda value: _write_moment("$datetime", value),
    time: lambda value: _write_moment("$time", value),
    date: lambda value: {"$date": value.isoformat()},
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    Decimal: lambda value: {"$decimal": str(value)},
    UUID: lambda value: {"$uuid": str(value)},
}

_READERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "$int": lambda text, _: int(text),
    "$float": lambda text, _: float(text),
    "$dict": lambda pairs, _: {from_json(key): from_json(item) for key, item in pairs},
    "$bytes": lambda text, _: base64.b64decode(text, validate=True),
    "$bytearray": lambda text, _: bytearray(base64.b64decode(text, validate=True)),
    "$instance": _read_instance,
    "$enum": _read_member,
    "$flags": _read_flags,
    "$tuple": lambda items, _: tuple(from_json(item) for item in items),
    "$set": lambda items, _: {from_json(item) for item in items},
    "$frozenset": lambda items, _: frozenset(from_json(item) for item in items),
    "$datetime": _read_datetime,
    "$time": _read_time,
    "$date": lambda text, _: date.fromisoformat(text),
    "$timedelta": lambda parts, _: timedelta(parts[0], parts[1], parts[2]),
    "$decimal": lambda text, _: Decimal(text),
    "$uuid": lambda text, _: UUID(text),
}
