"""What an object was at a bookmark: found by its history, from the bookmark on."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field

from durable._model.errors import StoreDamaged

from .batch import UNCHANGED, Alarm, Unchanged
from .engine import Reader
from .history_records import (
    IMAGES,
    Clearing,
    Image,
    Item,
    Lost,
    clearings_from,
    from_chapter,
    past_of,
    read_alarm,
    read_image,
    scan_all,
)
from .view import Malformed


@define(eq=False)
class Past:
    """How to make an object what it was."""

    # What was there is under this keyspace, with the changes below; 0: nothing was there.
    keyspace: int
    # The clearing that ended that keyspace's time; None: the object has it still.
    ended_by: Clearing | None
    puts: dict[str, bytes | None] = field(factory=dict)
    sides: dict[bytes, bytes | None] = field(factory=dict)
    alarm: Alarm | Unchanged | None = UNCHANGED
    # The clearings since.
    clearings: list[Clearing] = field(factory=list)


def find_past(
    reader: Reader,
    history: int,
    keyspace: int,
    bookmark_us: int,
    resolve: Callable[[int], int] = lambda keyspace: keyspace,
) -> Past:
    """What the object was at a bookmark that is in its history, which is under the keyspace
    *history*; it has *keyspace* now. *resolve* says what *reader* calls a keyspace that stands in
    the history.

    The earliest image since then of a thing says what it was. Raises StoreDamaged.
    """
    try:
        clearings = [
            evolve(each, keyspace=resolve(each.keyspace))
            for each in clearings_from(reader, history, bookmark_us)
        ]
        first = clearings[0] if clearings else None
        past = Past(keyspace if first is None else first.keyspace, first, clearings=clearings)
        _read_images(past, reader, history, keyspace, bookmark_us)
    except Malformed as error:
        raise StoreDamaged(f"the object's history is damaged: {error}") from error
    return past


def _read_images(past: Past, reader: Reader, history: int, keyspace: int, bookmark_us: int) -> None:
    later = list(past.clearings)
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
