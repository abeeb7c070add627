"""The state of an object at a bookmark: computed from its history, from the bookmark on."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field, frozen

from durable._model.errors import StoreDamaged

from .batch import UNCHANGED, Alarm, Batch, ObjectRecord, Unchanged
from .engine import Reader
from .history_records import (
    IMAGES,
    STEP,
    Clearing,
    Image,
    Item,
    Lost,
    clearing_key,
    clearings_from,
    from_chapter,
    image_key,
    last_chapter,
    past_of,
    read_alarm,
    read_image,
    scan_all,
    write_alarm,
    write_clearing,
    write_image,
)
from .side_records import AREAS, end_of
from .view import Malformed


@define(eq=False)
class Past:
    """How to restore an object to a former state."""

    # The state is under this keyspace, with the changes below; 0: nothing was stored.
    keyspace: int
    # The clearing that ended the use of that keyspace; None: the object still has it.
    ended_by: Clearing | None
    puts: dict[str, bytes | None] = field(factory=dict)
    sides: dict[bytes, bytes | None] = field(factory=dict)
    alarm: Alarm | Unchanged | None = UNCHANGED
    # Records of the history that will say that this keyspace is in use again.
    shared: dict[bytes, bytes] = field(factory=dict)


def find_past(
    reader: Reader,
    history: int,
    keyspace: int,
    bookmark_us: int,
    resolve: Callable[[int], int] = lambda keyspace: keyspace,
) -> Past:
    """The state of an object at a bookmark in its history, which is under the keyspace *history*;
    the object has *keyspace* now. *resolve* translates a keyspace in the history to the reader's.

    The earliest image of a thing since then has its state at that time. Raises StoreDamaged.
    """
    try:
        stored = clearings_from(reader, history, bookmark_us)
        clearings = [evolve(each, keyspace=resolve(each.keyspace)) for each in stored]
        first = clearings[0] if clearings else None
        past = Past(keyspace if first is None else first.keyspace, first)
        for raw, each in zip(stored, clearings, strict=True):
            if each.keyspace == past.keyspace and not each.is_shared:
                past.shared[raw.key] = write_clearing(raw.keyspace, raw.created_us, is_shared=True)
        _read_images(past, clearings, reader, history, keyspace, bookmark_us)
    except Malformed as error:
        raise StoreDamaged(f"the object's history is damaged: {error}") from error
    return past


def _read_images(
    past: Past,
    later: list[Clearing],
    reader: Reader,
    history: int,
    keyspace: int,
    bookmark_us: int,
) -> None:
    current = later[0].keyspace if later else keyspace
    lower, upper = from_chapter(IMAGES, bookmark_us), past_of(IMAGES)
    for key, value in scan_all(reader, history, lower, upper):
        chapter_us, item, image = read_image(key, value)
        while later and later[0].chapter_us <= chapter_us:
            del later[0]
            current = later[0].keyspace if later else keyspace
        if item is None or (past.keyspace and current == past.keyspace):
            _take(past, item, image)


def _take(past: Past, item: Item, image: Image) -> None:
    is_known = (
        past.alarm is not UNCHANGED
        if item is None
        else item in past.puts
        if isinstance(item, str)
        else item in past.sides
    )
    if is_known:
        return
    if isinstance(image, Lost):
        what = "the alarm" if item is None else f"{item!r:.80}"
        raise StoreDamaged(
            f"{what} was damaged before it was changed, so what it was is not known; go back to a "
            f"later bookmark"
        )
    if item is None:
        past.alarm = read_alarm(image)
    elif isinstance(item, str):
        past.puts[item] = image
    else:
        past.sides[item] = image


@frozen
class Whole:
    """All of an object at a bookmark."""

    puts: dict[str, bytes | None]
    sides: dict[bytes, bytes | None]
    alarm: Alarm | None

    @property
    def size(self) -> int:
        """Bytes of its keys and values, about."""
        puts = sum(len(key) + len(value or b"") for key, value in self.puts.items())
        return puts + sum(len(key) + len(value or b"") for key, value in self.sides.items())


def whole_of(reader: Reader, past: Past, alarm: Alarm | None) -> Whole:
    """All of the former state, read at one moment if *reader* is not released meanwhile; *alarm* is
    the one that the object has now. Raises StoreDamaged."""
    puts: dict[str, bytes | None] = {}
    sides: dict[bytes, bytes | None] = {}
    if past.keyspace:
        lower, is_last = "", False
        while not is_last:
            some, is_last = reader.scan_some(past.keyspace, lower, count_max=STEP)
            puts.update(some)
            lower = some[-1][0] + "\0" if some else ""
        sides.update(scan_all(reader, past.keyspace, AREAS[0], end_of(AREAS[-1])))
    puts = {key: value for key, value in {**puts, **past.puts}.items() if value is not None}
    sides = {key: value for key, value in {**sides, **past.sides}.items() if value is not None}
    return Whole(puts, sides, alarm if isinstance(past.alarm, Unchanged) else past.alarm)


def note_images(batch: Batch, reader: Reader, before: ObjectRecord, now_us: int) -> None:
    """Add to *batch*, which no live object makes, the chapter that its history must have of it: the
    state *before*. Its handle has the keyspace that it changes, and the history's."""
    handle = batch.handle
    chapter_us = max(now_us, last_chapter(reader, handle.history) + 1)
    records = batch.history = dict(batch.history or {})
    if batch.clears:
        batch.clearing = clearing_key(chapter_us)
    has_before = not batch.clears or batch.goes_back
    for key in batch.puts:
        image = reader.get(handle.keyspace, key) if has_before else None
        records[image_key(chapter_us, key)] = write_image(key, image)
    for side in batch.sides or ():
        image = reader.get_side(handle.keyspace, side) if has_before else None
        records[image_key(chapter_us, side)] = write_image(side, image)
    if batch.alarm is not UNCHANGED:
        records[image_key(chapter_us, None)] = write_image(None, write_alarm(before.alarm))
    batch.size += sum(len(key) + len(value or b"") for key, value in records.items())
