"""The history of an object as side records: what there was before each change, by chapters.

A history has a keyspace of its own, which stays when everything of the object is deleted. Times are
in microseconds since 1970; a chapter is named by the time at which it began, and a bookmark is such
a time: to go back to it is to undo the chapters from it on. A bookmark given to users lies between
two chapters, or at the beginning of one.

It contains: *images*, one for each thing that a chapter has changed, with what it was when the
chapter began; *clearings*, which say that everything was deleted, and where the former contents are
kept; the *beginning*, before which nothing is known; and the *wish* to go back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, TypeAlias

import ormsgpack
from attrs import frozen

from .batch import Alarm, ObjectRecord
from .engine import Reader
from .side_records import HISTORY
from .view import Malformed

Item: TypeAlias = str | bytes | None
"""What a chapter can change: a key, a side record (its key), or the alarm."""

_TIME_SIZE: Final = 8

IMAGES: Final = HISTORY + b"i"
CLEARINGS: Final = HISTORY + b"c"
BEGINNING: Final = HISTORY + b"b"
WISH: Final = HISTORY + b"w"

_ALARM: Final = b"a"
_KEY: Final = b"k"
_LONG_KEY: Final = b"l"  # its hash; the key itself is in the value
_SIDE: Final = b"s"
_LONG_SIDE: Final = b"t"
# A longer key, of the object or of a side record, is stored in the value.
ITEM_SIZE_MAX: Final = 400
_HASH_SIZE: Final = 32

_ABSENT: Final = b"\x00"
_PRESENT: Final = b"\x01"
_LOST: Final = b"\x02"

STEP: Final = 1_000

_is_bookmark = re.compile(r"[0-9a-f]{16}", re.ASCII).fullmatch


class Lost(bytes):
    """In place of what an item was: it was damaged when it was changed."""

    __slots__ = ()


Image: TypeAlias = bytes | None
"""What an item was, as it is stored: the value of a key, a side record, an alarm; None: it did not
exist."""


@frozen
class Clearing:
    """Everything was deleted, or the object went back to before that."""

    chapter_us: int
    keyspace: int  # what the object had until then is kept under it; 0: it had nothing
    created_us: int
    # The object uses it again, or a later clearing keeps it: it is not freed with this one.
    is_shared: bool = False

    @property
    def key(self) -> bytes:
        return clearing_key(self.chapter_us)


def write_bookmark(time_us: int) -> str:
    return f"{time_us:016x}"


def read_bookmark(text: str) -> int | None:
    """The time of a bookmark; None if *text* is not one."""
    return int(text, 16) if _is_bookmark(text) else None


def _time(time_us: int) -> bytes:
    return time_us.to_bytes(_TIME_SIZE, "big")


# Images


def image_key(chapter_us: int, item: Item) -> bytes:
    """The key under which a chapter keeps what *item* was."""
    start = IMAGES + _time(chapter_us)
    if item is None:
        return start + _ALARM
    short, long, raw = (
        (_KEY, _LONG_KEY, item.encode()) if isinstance(item, str) else (_SIDE, _LONG_SIDE, item)
    )
    if len(raw) <= ITEM_SIZE_MAX:
        return start + short + raw
    return start + long + blake2b(raw, digest_size=_HASH_SIZE).digest()


def write_image(item: Item, image: Image) -> bytes:
    kind = _ABSENT if image is None else _LOST if isinstance(image, Lost) else _PRESENT
    raw = b"" if item is None else item.encode() if isinstance(item, str) else item
    long = b""
    if len(raw) > ITEM_SIZE_MAX:
        long = len(raw).to_bytes(2, "big") + raw
    return kind + long + (image or b"")


def read_image(key: bytes, value: bytes) -> tuple[int, Item, Image]:
    """The chapter, the item, and what it was. Raises Malformed."""
    start = len(IMAGES) + _TIME_SIZE
    chapter_us = read_time(key[len(IMAGES) : start])
    kind, raw = key[start : start + 1], key[start + 1 :]
    presence, rest = value[:1], value[1:]
    if kind in {_LONG_KEY, _LONG_SIDE}:
        size = int.from_bytes(rest[:2], "big")
        raw, rest = rest[2 : 2 + size], rest[2 + size :]
    item: Item
    if kind == _ALARM and not raw:
        item = None
    elif kind in {_KEY, _LONG_KEY}:
        try:
            item = raw.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{key.hex()} is not for a key of an object: {error}") from error
    elif kind in {_SIDE, _LONG_SIDE}:
        item = raw
    else:
        raise Malformed(f"{key.hex()} is not the key of an image")
    if presence == _PRESENT:
        return chapter_us, item, rest
    if presence == _ABSENT and not rest:
        return chapter_us, item, None
    if presence == _LOST:
        return chapter_us, item, Lost(rest)
    raise Malformed(f"{value[:80].hex()} is not an image")


def read_time(raw: bytes) -> int:
    if len(raw) != _TIME_SIZE:
        raise Malformed(f"{raw.hex()} is not a time")
    return int.from_bytes(raw, "big")


def chapter_of(key: bytes) -> int:
    """The chapter in the key of an image or a clearing."""
    return read_time(key[len(IMAGES) : len(IMAGES) + _TIME_SIZE])


def write_alarm(alarm: Alarm | None) -> Image:
    """An alarm as its image."""
    if alarm is None:
        return None
    fields = [alarm.due_us, alarm.scheduled_us, alarm.retry_count, alarm.backoff]
    return ormsgpack.packb(fields)


def read_alarm(image: Image) -> Alarm | None:
    """The alarm of an image. Raises Malformed."""
    if image is None:
        return None
    try:
        fields = ormsgpack.unpackb(image)
    except ValueError as error:
        raise Malformed(f"{image[:80].hex()} is not an alarm: {error}") from error
    match fields:
        case [int(), int(), int(), int()] if min(fields) >= 0:
            return Alarm(*fields)
    raise Malformed(f"{image[:80].hex()} is not an alarm")


# Clearings, the beginning, the wish


def clearing_key(chapter_us: int) -> bytes:
    return CLEARINGS + _time(chapter_us)


def write_clearing(keyspace: int, created_us: int, *, is_shared: bool = False) -> bytes:
    return _time(keyspace) + _time(created_us) + (b"\x01" if is_shared else b"")


def clearing_of(before: ObjectRecord | None) -> bytes:
    """The clearing that keeps the object's contents."""
    if before is None:
        return write_clearing(0, 0)
    return write_clearing(before.keyspace, before.created_us)


def read_clearing(key: bytes, value: bytes) -> Clearing:
    """The clearing of a record. Raises Malformed."""
    size = 2 * _TIME_SIZE
    if len(key) != len(CLEARINGS) + _TIME_SIZE or value[size:] not in {b"", b"\x01"}:
        raise Malformed(f"{key.hex()} is not a clearing")
    keyspace, created_us = read_time(value[:_TIME_SIZE]), read_time(value[_TIME_SIZE:size])
    return Clearing(chapter_of(key), keyspace, created_us, value[size:] == b"\x01")


def write_time(time_us: int) -> bytes:
    """The value of the beginning and of the wish."""
    return _time(time_us)


def check_record(key: bytes, value: bytes) -> None:
    """Raise Malformed if this is not a record of a history."""
    if key.startswith(IMAGES):
        _, item, image = read_image(key, value)
        if item is None and not isinstance(image, Lost):
            read_alarm(image)
    elif key.startswith(CLEARINGS):
        read_clearing(key, value)
    elif key in {BEGINNING, WISH}:
        read_time(value)
    else:
        raise Malformed(f"{key.hex()} is not a record of a history")


# Reading


def past_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with *prefix*."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def from_chapter(prefix: bytes, chapter_us: int) -> bytes:
    """The first key of *prefix* that belongs to this chapter or a later one."""
    return prefix + _time(chapter_us)


def scan_all(
    reader: Reader, history: int, lower: bytes, upper: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """All records from *lower* on, *upper* excluded, read in steps."""
    while some := reader.scan_sides(history, lower, upper, count_max=STEP):
        yield from some
        lower = some[-1][0] + b"\0"


def clearings_from(reader: Reader, history: int, time_us: int) -> list[Clearing]:
    """The clearings from *time_us* on, the earliest first. Raises Malformed."""
    found = scan_all(reader, history, from_chapter(CLEARINGS, time_us), past_of(CLEARINGS))
    return [read_clearing(key, value) for key, value in found]


def last_chapter(reader: Reader, history: int, before_us: int | None = None) -> int:
    """The last chapter before *before_us* that has changed anything; 0: none."""
    last = 0
    for prefix in (IMAGES, CLEARINGS):
        upper = past_of(prefix) if before_us is None else from_chapter(prefix, before_us)
        found = reader.scan_sides(history, prefix, upper, reverse=True, count_max=1)
        if found:
            last = max(last, chapter_of(found[0][0]))
    return last


def beginning_of(reader: Reader, history: int) -> int:
    """The earliest bookmark; 0: there is none."""
    raw = reader.get_side(history, BEGINNING)
    return 0 if raw is None else read_time(raw)
