"""Pages of the objects of a class: in the order of their ids, those whose name or id begins so, or
the first ones in an order of the caller's.

Rule: a page takes bounded time and memory, however many objects there are. If time is up before all
were searched, the page has what was found so far, and where to go on.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from attrs import frozen

from durable._engine.view import Row, object_of
from durable._model.ids import BASE_SIZE, IdFactory

from .found import Found, StoredClass, Weight, found_of, has_prefix
from .looking import OBJECTS_PER_STEP, Store
from .weighing import weigh_if_little

_HEX: Final = re.compile(rf"[0-9a-fA-F]{{4,{2 * BASE_SIZE}}}", re.ASCII)
FOUND_BY_ID_MAX: Final = 20
# The row of an object with an alarm has so many fields, or one more.
WITH_ALARM: Final = 7
# An object that takes more steps is not weighed to the end, and sorts before all that are.
STEPS_PER_WEIGHT: Final = 10
UNWEIGHED: Final = 1 << 52

Place = tuple[int, Any, str]
"""An object's place in an order: those without the value last, then the value, then the id."""


class Order(StrEnum):
    """The orders of objects."""

    NAME = "name"
    KEYS = "keys"
    BYTES = "bytes"
    ALARM = "alarm"
    CREATED = "created"


@frozen
class Shown:
    """An object of a page."""

    found: Found
    weight: Weight | None  # None: it has more than is counted for a page
    place: Place | None = None  # in the requested order


@frozen
class Page:
    """Some objects, how many were searched for them, and after which base to go on."""

    shown: list[Shown]
    looked_at: int
    after: bytes | None  # None: all were searched


def in_id_order(
    store: Store, cls: str, *, prefix: str, after: bytes | None, count: int, seconds: float
) -> Page:
    """Up to *count* objects after the base *after* whose name begins with *prefix*."""
    scan = _Scan(store, cls, prefix, after, seconds, weigh=False)
    if not prefix:
        scan.count = count
    rows: list[Row] = []
    while len(rows) < count and (step := scan.step()) is not None:
        rows += step
    if len(rows) > count:
        rows = rows[:count]
        scan.after = rows[-1][0]
    return Page([scan.shown(row) for row in rows], scan.looked_at, scan.after)


def with_id(store: Store, cls: str, text: str) -> list[Shown]:
    """The first objects whose id begins with *text*, if that is four hex digits or more."""
    digits = text[: 2 * BASE_SIZE].lower()
    if not _HEX.fullmatch(digits) or len(text) > 64:
        return []
    first = int(digits.ljust(2 * BASE_SIZE, "0"), 16)
    before = (first - 1).to_bytes(BASE_SIZE, "big") if first else None
    scan = _Scan(store, cls, "", before, 0.0, weigh=False)
    scan.count = FOUND_BY_ID_MAX
    rows = [row for row in scan.step() or [] if row[0].hex().startswith(digits)]
    shown = [scan.shown(row) for row in rows]
    return [each for each in shown if str(each.found.id).startswith(text.lower())]


def in_order(
    store: Store,
    cls: str,
    order: Order,
    *,
    descending: bool,
    prefix: str,
    beyond: Place | None,
    after: bytes | None,
    count: int,
    seconds: float,
) -> Page:
    """The first *count* objects in *order* behind the place *beyond*, among those searched in so
    many seconds from the base *after* on. The first objects of several such pages, one after the
    other, are the first ones of the class."""
    weigh = order in {Order.KEYS, Order.BYTES}
    scan = _Scan(store, cls, prefix, after, seconds, weigh=weigh)
    place_of = _placing(order, descending=descending)
    best: list[tuple[Place, Row]] = []
    choose = heapq.nlargest if descending else heapq.nsmallest
    while (step := scan.step()) is not None:
        placed = ((place_of(row, scan.weight(row) if weigh else None), row) for row in step)
        chosen = [
            (place, row)
            for place, row in placed
            if beyond is None or (place < beyond if descending else place > beyond)
        ]
        best = choose(count, [*best, *chosen], key=lambda each: each[0])
    shown = [scan.shown(row, place) for place, row in best]
    return Page(shown, scan.looked_at, scan.after)


def _placing(order: Order, *, descending: bool) -> Callable[[Row, Weight | None], Place]:
    last = -1 if descending else 1

    def value_of(row: Row, weight: Weight | None) -> Any:
        fields = row[1]
        match order:
            case Order.NAME:
                return fields[2]
            case Order.CREATED:
                return fields[1]
            case Order.ALARM:
                return fields[3] if len(fields) >= WITH_ALARM else None
            case Order.KEYS:
                return UNWEIGHED if weight is None else weight.keys
        return UNWEIGHED if weight is None else weight.size

    def place_of(row: Row, weight: Weight | None) -> Place:
        value = value_of(row, weight)
        return (last, 0, row[0].hex()) if value is None else (0, value, row[0].hex())

    return place_of


class _Scan:
    """A walk over the objects of a class, until time is up."""

    def __init__(
        self,
        store: Store,
        cls: str,
        prefix: str,
        after: bytes | None,
        seconds: float,
        *,
        weigh: bool,
    ) -> None:
        self.store = store
        self.cls: StoredClass = store.cls(cls)
        self.ids = IdFactory(self.cls.unique_key)
        self.prefix = prefix
        self.after = after
        self.count = OBJECTS_PER_STEP
        self.looked_at = 0
        self._end_s = time.monotonic() + seconds
        self._weigh = weigh
        self._is_over = False

    def step(self) -> list[Row] | None:
        """Some rows, perhaps none; None when all were seen, or time is up."""
        if self._is_over or (self.looked_at and time.monotonic() > self._end_s):
            return None
        listed = self.store._view.listed(self.cls.number, self.after, self.count, weigh=self._weigh)
        seen = len(listed.rows) + len(listed.damaged)
        self.looked_at += seen
        self._is_over = seen < self.count
        self.after = None if self._is_over else listed.last
        return [row for row in listed.rows if not self.prefix or has_prefix(row[1], self.prefix)]

    def weight(self, row: Row) -> Weight | None:
        """The weight of the object, if a few steps suffice to count it."""
        if row[2] is not None:
            return Weight(*row[2])
        record = object_of(row[1])
        view = self.store._view
        return weigh_if_little(view, record.keyspace, record.history, STEPS_PER_WEIGHT)

    def shown(self, row: Row, place: Place | None = None) -> Shown:
        found = found_of(self.cls, self.ids, row[0], object_of(row[1]))
        return Shown(found, self.weight(row), place)
