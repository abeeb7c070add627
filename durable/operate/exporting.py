"""Writing objects to a file that other languages can read; docs/export-format.md describes it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TextIO

from attrs import evolve, frozen

from durable._engine.view import Damaged

from .found import Found, StoredAlarm, StoredClass, Unreadable
from .json_lines import json_line
from .json_values import to_json
from .looking import Store

FORMAT = "durable export"
VERSION = 1


@frozen
class Carried:
    """How much was written to a file, or read from one."""

    objects: int
    values: int
    skipped: int = 0
    damaged: int = 0  # values that were left out of the file
    damaged_objects: int = 0  # objects that were left out, since their own records are damaged


def export(
    store: Store,
    file: TextIO,
    *,
    cls: str | None = None,
    name_or_id: str | None = None,
    on_object: Callable[[int], object] = lambda count: None,
    on_damaged: Callable[[Found, str, str], object] = lambda found, key, why: None,
) -> Carried:
    """Write all objects of *store*, those of one class, or one, to *file*: in one snapshot, while
    the store may go on being used. Its file grows by what is written meanwhile, as for
    `Store.one_moment`.

    *on_object* is called after each object with how many there are, and *on_damaged* with each
    value that is left out since it is damaged: its object, its key, and why. Objects whose record
    is damaged are left out too, and are then in `Store.damaged`. Raises UnknownClass,
    UnknownObject, MomentLost; StoreDamaged for one object whose record is damaged.
    """
    found: Iterable[Found]
    with store.one_moment():
        if name_or_id is not None:
            if cls is None:
                raise ValueError("the class of the object must be given")
            found = [store.find(cls, name_or_id)]
        else:
            found = store.objects(cls)
        if cls is not None:
            store.cls(cls)  # raises before anything is written
        carried = _write(store, file, found, on_object, on_damaged)
        if name_or_id is not None:
            return carried
        among = store.classes() if cls is None else [store.cls(cls)]
        return evolve(carried, damaged_objects=sum(each.cls in among for each in store.damaged))


def _write(
    store: Store,
    file: TextIO,
    found: Iterable[Found],
    on_object: Callable[[int], object],
    on_damaged: Callable[[Found, str, str], object],
) -> Carried:
    objects = values = damaged = 0
    current: StoredClass | None = None
    _line(file, {"format": FORMAT, "version": VERSION})
    for each in found:
        if each.cls != current:
            current = each.cls
            _line(file, {"class": _class(current)})
        _line(file, {"object": _object(each)})
        for key, value in store.items(each):
            if isinstance(value, Unreadable) and value.is_damaged:
                on_damaged(each, key, value.why)
                damaged += 1
                continue
            if isinstance(value, Unreadable):
                encoded = base64.b64encode(value.encoded).decode()
                _line(file, {"key": key, "encoded": encoded})
            else:
                _line(file, {"key": key, "value": to_json(value)})
            values += 1
        for side, stored in store.sides(each):
            if isinstance(stored, Damaged):
                on_damaged(each, f"side record {side.hex()}", "its checksum does not match")
                damaged += 1
            else:
                _line(file, {"side": side.hex(), "encoded": base64.b64encode(stored).decode()})
        objects += 1
        on_object(objects)
    _line(file, {"end": {"objects": objects, "values": values}})
    return Carried(objects, values, damaged=damaged)


def _class(cls: StoredClass) -> dict[str, Any]:
    return {"name": cls.name, "script": cls.script, "unique_key": cls.unique_key}


def _object(found: Found) -> dict[str, Any]:
    return {
        "id": str(found.id),
        "name": found.name,
        "created": _time(found.created),
        "alarm": None if found.alarm is None else _alarm(found.alarm),
    }


def _alarm(alarm: StoredAlarm) -> dict[str, Any]:
    return {
        "due": _time(alarm.due),
        "scheduled": _time(alarm.scheduled),
        "retry_count": alarm.retry_count,
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")


def _line(file: TextIO, what: dict[str, Any]) -> None:
    file.write(json_line(what, separators=(",", ":")))
