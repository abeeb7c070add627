"""The history of an object, read from outside: its chapters, and what has changed in them.

No object is woken, nothing is written, and the program that has the store goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast

from attrs import define, frozen

from durable._engine.batch import Alarm
from durable._engine.engine import Reader
from durable._engine.going_back import Past, Whole, find_past, whole_of
from durable._engine.history_records import (
    BEGINNING,
    CLEARINGS,
    IMAGES,
    Item,
    chapter_of,
    past_of,
    read_bookmark,
    read_image,
    read_time,
    write_bookmark,
)
from durable._engine.side_records import HISTORY, PAGES, end_of
from durable._engine.stored_timer import TIMERS, read_timer
from durable._engine.view import Damaged, Malformed
from durable._engine.whole import WholeStore
from durable._model.errors import DurableError, StoreDamaged
from durable._runtime.runtime import Runtime
from durable._storage.arguments import time_us, to_datetime
from durable._storage.bookmarks import too_old, unknown
from durable._storage.history import CHAPTER_S
from durable._storage.timers import timer_of

from .found import Found
from .looking import Store, look

Where: TypeAlias = str | os.PathLike[str] | Runtime | Store


class NoHistory(DurableError):
    """The object keeps no history."""


@frozen
class Chapter:
    """A stretch of an object's life, of about a minute, in which it changed."""

    bookmark: str
    """The bookmark of its beginning: going back to it undoes the chapter and all later ones."""
    began: datetime
    keys: int = 0
    """How many keys it has changed."""
    pages: int = 0
    """How many pages of the SQL database it has changed."""
    others: int = 0
    """How many timers it has changed, and other side records of the library."""
    alarm: bool = False
    """Whether it has changed the alarm."""
    cleared: bool = False
    """Whether it began with everything deleted, or restored."""


@frozen
class History:
    """The bookmarks that an object can go back to."""

    oldest: str
    """The oldest bookmark."""
    begins: datetime
    records: int
    size: int
    """Bytes that its records take, without what `delete_all` has left."""
    chapters: list[Chapter]
    """The chapters that have changed anything, the latest first."""


class Missing:
    """In place of a value: there was none."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@frozen
class Changed:
    """A difference between two moments."""

    kind: Literal["key", "alarm", "timer", "database", "other"]
    name: str
    """The key, or the name of the timer; for other things the library's name."""
    before: Any
    """The value, decoded, or when the alarm or timer is due; `MISSING` if there was none. For the
    database, how many of its pages have changed."""
    after: Any


def history(store: Where, cls: str, name_or_id: str) -> History:
    """The history of an object. Raises NoHistory, UnknownClass, UnknownObject, StoreDamaged."""
    with _looked(store) as looked:
        found = with_history(looked, cls, name_or_id)
        return Reading(looked, found).all()


def changes_between(
    store: Where, cls: str, name_or_id: str, start: str, end: str | None = None
) -> list[Changed]:
    """The differences between two bookmarks of an object, or between one and now; keys first.

    Reads all of the object if everything was deleted in between, else what has changed. Raises
    NoHistory, UnknownBookmark, UnknownClass, UnknownObject, StoreDamaged.
    """
    with _looked(store) as looked, looked.one_moment():
        found = with_history(looked, cls, name_or_id)
        reading = Reading(looked, found)
        before = reading.at(start)
        after = reading.now() if end is None else reading.at(end)
        return list(_differences(looked, before, after))


@define(eq=False)
class _Here:
    """A store that was opened elsewhere, and is closed there."""

    store: Store

    def __enter__(self) -> Store:
        return self.store

    def __exit__(self, *_: object) -> None:
        pass


def _looked(store: Where) -> Store | _Here:
    return _Here(store) if isinstance(store, Store) else look(store)


def with_history(store: Store, cls: str, name_or_id: str) -> Found:
    found = store.find(cls, name_or_id)
    if not found.history:
        raise NoHistory(
            f"{found.cls.label}({name_or_id!r}) keeps no history, or has none yet; switch "
            f"it on by `history = timedelta(days=30)` in the class"
        )
    return found


@define(eq=False)
class Reading:
    """The history of one object, read through a view: the reader that `going_back` needs."""

    store: Store
    found: Found

    def all(self) -> History:
        beginning_us = records = size = 0
        chapters: dict[int, dict[str, Any]] = {}
        for key, value in self._sides(self.found.history, HISTORY, end_of(HISTORY)):
            records += 1
            size += len(key) + len(value)
            if key == BEGINNING:
                beginning_us = read_time(value)
            elif key.startswith(CLEARINGS):
                chapters.setdefault(chapter_of(key), {})["cleared"] = True
            elif key.startswith(IMAGES):
                chapter_us, item, _ = read_image(key, value)
                counts = chapters.setdefault(chapter_us, {})
                what = _kind(item)
                counts[what] = True if item is None else counts.get(what, 0) + 1
        listed = [
            Chapter(write_bookmark(us), to_datetime(us), **chapters[us])
            for us in sorted(chapters, reverse=True)
        ]
        begins = to_datetime(beginning_us)
        return History(write_bookmark(beginning_us), begins, records, size, listed)

    def now(self) -> Whole:
        end_us = (1 << 63) - 1
        return self._whole(end_us)

    def at(self, to: str | datetime) -> Whole:
        return self._whole(self.checked(to))

    def checked(self, to: str | datetime) -> int:
        """The time of a bookmark, or of the bookmark for a time. Raises UnknownBookmark."""
        begins = self.get_side(self.found.history, BEGINNING)
        oldest_us = 0 if begins is None else read_time(begins)
        if isinstance(to, datetime):
            wanted_us = time_us(to, "a bookmark for a time")
            if wanted_us < oldest_us:
                raise too_old(f"a bookmark for {to}", oldest_us)
            last_us = max((us for us in self._chapters() if us <= wanted_us), default=0)
            is_within = wanted_us < last_us + CHAPTER_S * 1_000_000
            return last_us if is_within else wanted_us
        bookmark_us = read_bookmark(to)
        if bookmark_us is None:
            raise unknown(to, oldest_us)
        if bookmark_us < oldest_us:
            raise too_old(f"the bookmark {to}", oldest_us)
        return bookmark_us

    def _chapters(self) -> Iterator[int]:
        for prefix in (IMAGES, CLEARINGS):
            for key, _ in self._sides(self.found.history, prefix, past_of(prefix)):
                yield chapter_of(key)

    def _whole(self, to_us: int) -> Whole:
        record = self.store.record(self.found)
        reader = cast("Reader", self)
        return whole_of(reader, self.past(to_us), None if record is None else record.alarm)

    def past(self, to_us: int) -> Past:
        """The state of the object at the bookmark of this time."""
        found = self.found
        reader = cast("Reader", self)
        return find_past(reader, found.history, found.number, to_us, self.resolve)

    def last(self) -> int:
        """The last chapter that has changed anything; 0: none has."""
        return max(self._chapters(), default=0)

    def resolve(self, keyspace: int) -> int:
        engine = self.store._engine
        if isinstance(engine, WholeStore):
            return engine.kept_keyspace(self.found.history, keyspace)
        return keyspace

    # A reader's calls

    def get_side(self, keyspace: int, key: bytes) -> bytes | None:
        return next((v for k, v in self._sides(keyspace, key, key + b"\0")), None)

    def scan_sides(
        self, keyspace: int, lower: bytes, upper: bytes, *, count_max: int
    ) -> list[tuple[bytes, bytes]]:
        return [self._whole_one(*pair) for pair in self.store._view.sides(keyspace, lower, upper)]

    def scan_some(
        self, keyspace: int, lower: str, *, count_max: int
    ) -> tuple[list[tuple[str, bytes]], bool]:
        return self.store._view.scan(keyspace, lower, None)

    def _sides(self, keyspace: int, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
        while step := self.store._view.sides(keyspace, lower, upper):
            for key, value in step:
                yield self._whole_one(key, value)
            lower = step[-1][0] + b"\0"

    def _whole_one(self, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        if isinstance(value, Damaged):
            raise StoreDamaged(f"the side record {key.hex()} of {self.found.id} is damaged")
        return key, value


def _kind(item: Item) -> str:
    if item is None:
        return "alarm"
    if isinstance(item, str):
        return "keys"
    return "pages" if item.startswith(PAGES) else "others"


def _differences(store: Store, before: Whole, after: Whole) -> Iterator[Changed]:
    for key in sorted(before.puts.keys() | after.puts.keys()):
        old, new = before.puts.get(key), after.puts.get(key)
        if old != new:
            yield Changed("key", key, _value(store, old), _value(store, new))
    if before.alarm != after.alarm:
        yield Changed("alarm", "", _due(before.alarm), _due(after.alarm))
    pages = 0
    for side in sorted(before.sides.keys() | after.sides.keys()):
        was, now = before.sides.get(side), after.sides.get(side)
        if was == now:
            continue
        if side.startswith(PAGES):
            pages += 1
        elif side.startswith(TIMERS):
            name = side.removeprefix(TIMERS).decode(errors="backslashreplace")
            yield Changed("timer", name, _timer(store, side, was), _timer(store, side, now))
        else:
            yield Changed("other", side[1:].decode(errors="backslashreplace"), _raw(was), _raw(now))
    if pages:
        yield Changed("database", "", pages, pages)


def _value(store: Store, encoded: bytes | None) -> Any:
    return MISSING if encoded is None else store.decoded(encoded)


def _raw(stored: bytes | None) -> Any:
    return MISSING if stored is None else stored


def _due(alarm: Alarm | None) -> Any:
    return MISSING if alarm is None else to_datetime(alarm.due_us)


def _timer(store: Store, key: bytes, stored: bytes | None) -> Any:
    if stored is None:
        return MISSING
    try:
        return timer_of(read_timer(key, stored), store.decoded)
    except Malformed as error:
        raise StoreDamaged(f"a timer is damaged: {error}") from error


__all__ = [
    "MISSING",
    "Changed",
    "Chapter",
    "History",
    "Missing",
    "NoHistory",
    "changes_between",
    "history",
]
