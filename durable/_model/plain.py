"""Subclasses of plain types: what one is as that type.

Rule: nothing that the subclass has overridden decides what it holds. Its base is asked, past it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo


def as_plain(value: Any) -> Any:
    """*value* as what it is an instance of a subclass of, sharing its items; None if of nothing."""
    for base in type(value).__mro__:
        convert = _CONVERSIONS.get(base)
        if convert is not None:
            return convert(value)
    return None


def _dict(value: Any) -> dict[Any, Any]:
    # An OrderedDict keeps an order of its own beside that of the dict that it is.
    items = OrderedDict.items if isinstance(value, OrderedDict) else dict.items
    return dict(items(value))


def _zone(zone: tzinfo | None) -> tzinfo | None:
    """A zone that is of a subclass of ZoneInfo, as several libraries have, by its key."""
    if isinstance(zone, ZoneInfo) and type(zone) is not ZoneInfo and zone.key is not None:
        return ZoneInfo(zone.key)
    return zone


# The types themselves are kept here: libraries that freeze the clock put subclasses of them in the
# place of the names of a module.
def _datetime(value: Any, exact: type[datetime] = datetime) -> datetime:
    moment = exact(
        value.year, value.month, value.day,
        value.hour, value.minute, value.second, value.microsecond,
        _zone(value.tzinfo), fold=value.fold,
    )  # fmt: skip
    if moment.utcoffset() != value.utcoffset():
        return moment.replace(tzinfo=value.tzinfo)  # which is refused, if it is not plain
    return moment


def _date(value: Any, exact: type[date] = date) -> date:
    return exact(value.year, value.month, value.day)


def _time(value: Any, exact: type[time] = time) -> time:
    zone = _zone(value.tzinfo)
    return exact(value.hour, value.minute, value.second, value.microsecond, zone, fold=value.fold)


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray(bytearray.__getitem__(value, slice(None))),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    dict: _dict,
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: timedelta.__pos__,
    Decimal: Decimal,
    UUID: lambda value: UUID(int=value.int),
}
