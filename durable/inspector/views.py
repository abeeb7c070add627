"""What the page shows, as values for JSON, each read in bounded time.

Rule: names, keys and values are data here and in the page, which shows them as text only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Any

import attrs

from durable import operate
from durable._model.ids import BASE_SIZE
from durable.operate import Found, Store, StoredClass, Unreadable, pages
from durable.operate.databases import database_size, open_database
from durable.operate.json_values import INT_EXACT_MAX
from durable.operate.looking import OBJECTS_PER_COUNT
from durable.operate.pages import Order, Place, Shown

OBJECTS_PER_PAGE = 100
# The time limit of a search, which then returns where to go on.
SEARCH_S_MAX = 0.5
COUNT_S_MAX = 1.0
KEYS_PER_PAGE = 100
VALUE_SHOWN_MAX = 20_000  # bytes, encoded
VALUE_CHANGED_MAX = 200_000  # bytes, encoded
ROWS_SHOWN_MAX = 200
QUERY_S_MAX = 10.0
ALARMS_SHOWN = 200


def overview(store: Store) -> dict[str, Any]:
    """The store as a whole."""
    measures = store.measure()
    end_s = time.monotonic() + COUNT_S_MAX
    return {
        "path": store.path,
        "measures": {**attrs.asdict(measures), "advice": measures.advice},
        "classes": [_class(store, cls, end_s) for cls in store.classes()],
    }


def _class(store: Store, cls: StoredClass, end_s: float) -> dict[str, Any]:
    """A class, with as many of its objects as could be counted."""
    count = 0
    after: bytes | None = None
    while step := store._view.count(cls.number, after, OBJECTS_PER_COUNT):
        count += len(step)
        after = step[-1]
        if time.monotonic() > end_s:
            return {"label": cls.label, "objects": count, "is_all": False}
    return {"label": cls.label, "objects": count, "is_all": True}


def objects(
    store: Store,
    cls: str,
    prefix: str,
    after: str | None,
    order: str | None = None,
    beyond: str | None = None,
) -> dict[str, Any]:
    """A page of the objects of a class, how many were searched for it, and where to go on if some
    are left. *order* is a column, with `-` before it for the largest first; a page then begins
    behind the place *beyond*."""
    start = None if after is None else bytes.fromhex(after)
    if start is not None and len(start) != BASE_SIZE:
        raise ValueError(f"{after!r} is not a place to go on from")
    if order:
        by = Order(order.removeprefix("-"))
        page = pages.in_order(
            store,
            cls,
            by,
            descending=order.startswith("-"),
            prefix=prefix,
            beyond=None if beyond is None else _place(beyond, is_name=by is Order.NAME),
            after=start,
            count=OBJECTS_PER_PAGE,
            seconds=SEARCH_S_MAX,
        )
    else:
        page = pages.in_id_order(
            store, cls, prefix=prefix, after=start, count=OBJECTS_PER_PAGE, seconds=SEARCH_S_MAX
        )
    is_first = start is None and beyond is None
    by_id = pages.with_id(store, cls, prefix) if is_first else []
    return {
        "by_id": [_object(each) for each in by_id],
        "objects": [_object(each) for each in page.shown],
        "looked_at": page.looked_at,
        "next": None if page.after is None else page.after.hex(),
    }


def _place(text: str, *, is_name: bool) -> Place:
    match json.loads(text):
        case [int() as rank, value, str() as base] if type(value) is (str if is_name else int):
            return rank, value, base
        case [int() as rank, 0, str() as base] if rank:
            return rank, 0, base
    raise ValueError(f"{text!r} is not a place in an order")


def _object(shown: Shown) -> dict[str, Any]:
    weight = shown.weight
    return {
        **described(shown.found),
        "keys": None if weight is None else weight.keys,
        "bytes": None if weight is None else weight.size,
        "place": shown.place,
    }


def described(found: Found) -> dict[str, Any]:
    """An object without what it has stored."""
    alarm = found.alarm
    return {
        "class": found.cls.label,
        "id": str(found.id),
        "name": found.name,
        "created": _time(found.created),
        "alarm": None
        if alarm is None
        else {
            "due": _time(alarm.due),
            "scheduled": _time(alarm.scheduled),
            "retry_count": alarm.retry_count,
        },
    }


def one_object(
    store: Store, cls: str, name_or_id: str, prefix: str, start: str | None
) -> dict[str, Any]:
    """An object, and a page of its keys."""
    found = store.find(cls, name_or_id)
    wanted = store.encoded(found, prefix=prefix, start=start, limit=KEYS_PER_PAGE + 1)
    pairs = list(wanted)
    more = pairs[KEYS_PER_PAGE:]
    return {
        **described(found),
        "database_bytes": database_size(store, found),
        "timers": [_timer(timer) for timer in islice(store.timers(found), KEYS_PER_PAGE)],
        "items": [_item(store, key, encoded) for key, encoded in pairs[:KEYS_PER_PAGE]],
        "next": more[0][0] if more else None,
    }


def _timer(timer: Any) -> dict[str, Any]:
    return {key: _plain(value) for key, value in attrs.asdict(timer, recurse=False).items()}


def _item(store: Store, key: str, encoded: bytes) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": key, "bytes": len(encoded)}
    if len(encoded) > VALUE_SHOWN_MAX:
        return {**shown, "type": None, "too_large": True}
    value = store.decoded(encoded)
    if isinstance(value, Unreadable):
        return {**shown, "type": None, "why": value.why}
    return {**shown, "type": type(value).__name__, "value": operate.to_json(value)}


def one_value(store: Store, cls: str, name_or_id: str, key: str) -> dict[str, Any]:
    """A value as the JSON to edit: numbers keep their type and digits in it."""
    found = store.find(cls, name_or_id)
    encoded = dict(store.encoded(found, start=key, limit=1)).get(key)
    if encoded is None:
        return {"is_there": False, "text": None}
    if len(encoded) > VALUE_CHANGED_MAX:
        raise ValueError(f"the value takes {len(encoded):,} bytes, too many to be changed here")
    value = store.decoded(encoded)
    if isinstance(value, Unreadable):
        raise ValueError(f"the value cannot be read: {value.why}")
    return {
        "is_there": True,
        "text": json.dumps(operate.to_json(value), ensure_ascii=False, indent=1),
    }


def tables(store: Store, cls: str, name_or_id: str) -> dict[str, Any]:
    """The tables of an object's database."""
    with open_database(store, store.find(cls, name_or_id)) as opened:
        return {"tables": [{"name": name, "sql": sql} for name, sql in opened.tables()]}


def rows(store: Store, cls: str, name_or_id: str, query: str) -> dict[str, Any]:
    """The first rows of a query that only reads."""
    with open_database(store, store.find(cls, name_or_id)) as opened:
        opened.stop_after(QUERY_S_MAX)
        answer = opened.query(query)
        found = list(islice(answer.rows, ROWS_SHOWN_MAX + 1))
        return {
            "columns": list(answer.columns),
            "rows": [[operate.to_json(value) for value in row] for row in found[:ROWS_SHOWN_MAX]],
            "is_all": len(found) <= ROWS_SHOWN_MAX,
        }


def alarms(store: Store) -> dict[str, Any]:
    """The alarms that are due next."""
    found = _first(store.alarms(), ALARMS_SHOWN)
    return {"now": time.time(), "alarms": [described(each) for each in found]}


def _first(found: Iterable[Found], count: int) -> list[Found]:
    return list(islice(found, count))


def _time(moment: datetime) -> str:
    return moment.isoformat()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value)
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and abs(value) <= INT_EXACT_MAX:
        return value
    try:
        # JSON has no infinite numbers, and the page no integers above 2**53.
        return str(value)
    except (ValueError, RecursionError) as error:  # an int of thousands of digits
        return f"{type(value).__name__} that cannot be shown: {error}"
