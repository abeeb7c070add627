"""What is too old in the history of an object, a bounded part at a time."""

from __future__ import annotations

from attrs import frozen

from .engine import Reader
from .history_records import (
    BEGINNING,
    CLEARINGS,
    IMAGES,
    chapter_of,
    from_chapter,
    past_of,
    read_clearing,
    write_time,
)


@frozen
class Pruned:
    """What a batch has to change so that a part of a history is gone."""

    beginning_us: int
    """The first bookmark that there is then."""
    records: dict[bytes, bytes | None]
    """For `Batch.history`."""
    forgets: tuple[int, ...]
    """For `Batch.forgets`."""

    @property
    def size(self) -> int:
        return sum(len(key) + len(value or b"") for key, value in self.records.items())


def prune_some(reader: Reader, history: int, until_us: int, count_max: int) -> Pruned | None:
    """Up to *count_max* images of before *until_us*, and as many clearings; None: there are none.
    The oldest go first, so that what is left is whole."""
    images = reader.scan_sides(history, IMAGES, from_chapter(IMAGES, until_us), count_max=count_max)
    if len(images) == count_max:
        until_us = chapter_of(images[-1][0]) + 1
    clearings = reader.scan_sides(
        history, CLEARINGS, from_chapter(CLEARINGS, until_us), count_max=count_max
    )
    if not images and not clearings:
        return None
    records: dict[bytes, bytes | None] = {key: None for key, _ in (*images, *clearings)}
    records[BEGINNING] = write_time(until_us)
    kept = [read_clearing(key, value) for key, value in clearings]
    forgets = tuple(each.keyspace for each in kept if each.keyspace and not each.is_shared)
    return Pruned(until_us, records, forgets)


def first_chapter(reader: Reader, history: int) -> int:
    """The first chapter that has changed anything; 0: there is none."""
    firsts = [
        chapter_of(found[0][0])
        for prefix in (IMAGES, CLEARINGS)
        if (found := reader.scan_sides(history, prefix, past_of(prefix), count_max=1))
    ]
    return min(firsts, default=0)
