"""A disk that loses power: what could be on it, of all that was written before.

What a sync has covered is there. Of what was written since, each sector of 512 bytes is there or
not, each name of a folder too, and the length of a file may have come before what is in it. A sync
covers what was written before it began, in one file or one folder, and counts from its end on. A
write through a descriptor that is O_DSYNC is there when it has ended, alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import define, field

from .power_cut_record import Event, Kind

SECTOR = 512

Chooses = Callable[[], bool]
"""Whether one more thing that was not synced is on the disk."""


@define(eq=False)
class File:
    """What is on the disk, and the writes and truncations that may be."""

    synced: bytearray = field(factory=bytearray)
    pending: list[tuple[int, Event]] = field(factory=list)
    # Those of the pending that are on the disk all the same, each by itself.
    certain: set[int] = field(factory=set)
    is_mapped: bool = False

    def sync(self, until: int) -> None:
        """What was written before *until* is on the disk."""
        for number, event in self.pending:
            if number < until:
                _apply(self.synced, event, lambda: True)
        self.pending = [(number, event) for number, event in self.pending if number >= until]

    def sync_last(self) -> None:
        """The last write is on the disk; what was written before it to other places need not be."""
        self.certain.add(self.pending[-1][0])

    def image(self, how: str, chance: random.Random) -> bytes:
        """One of the contents that the power failure may have left."""
        found = bytearray(self.synced)
        if self.is_mapped:
            return _scribble(max(len(found), self._length()), chance)
        if self.pending and chance.random() < 0.5:  # the length alone came through
            found.extend(bytes(max(0, self._length() - len(found))))
        open_ones = [number for number, _ in self.pending if number not in self.certain]
        chosen = chance.choice(open_ones) if open_ones else 0
        share = chance.choice([0.1, 0.5, 0.9])
        for number, event in self.pending:
            whole = chance.random() < share
            choose: Chooses = {
                "nothing": lambda: False,
                "everything": lambda: True,
                "whole writes": lambda whole=whole: whole,
                "all but one": lambda number=number: number != chosen,
                "only one": lambda number=number: number == chosen,
                "all but one, torn": lambda number=number: (
                    number != chosen or chance.random() < 0.5
                ),
                "sectors": lambda: chance.random() < share,
            }[how]
            _apply(found, event, choose if number not in self.certain else lambda: True)
        return bytes(found)

    def _length(self) -> int:
        ends = [
            event.offset + len(event.more)
            for _, event in self.pending
            if event.kind in {Kind.WRITE, Kind.TRUNCATE}
        ]
        return max([len(self.synced), *ends])


HOWS = (
    "nothing", "everything", "whole writes", "all but one", "only one", "all but one, torn",
    "sectors",
)  # fmt: skip


@define(eq=False)
class Folder:
    """The names that are on the disk, and the changes to them that may be."""

    synced: dict[str, int] = field(factory=dict)
    pending: list[tuple[int, Event]] = field(factory=list)

    def sync(self, until: int) -> None:
        for number, event in self.pending:
            if number < until:
                _rename(self.synced, event)
        self.pending = [(number, event) for number, event in self.pending if number >= until]

    def image(self, choose: Chooses) -> dict[str, int]:
        found = dict(self.synced)
        for _, event in self.pending:
            if choose():
                _rename(found, event)
        return found


@define(eq=False)
class Disk:
    """All of it, as far as the record has been played."""

    top: int  # the folder that was there before
    things: dict[int, File | Folder] = field(init=False)
    notes: list[str] = field(factory=list, init=False)
    _played: int = field(default=0, init=False)
    _syncs: dict[tuple[int, int], int] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.things = {self.top: Folder()}

    def play(self, events: Iterable[Event]) -> None:
        for event in events:
            self._played += 1
            self._play_one(event)

    def _play_one(self, event: Event) -> None:
        thing = self.things.get(event.file)
        match event.kind:
            case Kind.NOTE:
                self.notes.append(event.name)
            case Kind.MAP:
                assert isinstance(thing, File)
                thing.is_mapped = True
            case Kind.SYNC_BEGAN:
                self._syncs[event.file, event.offset] = self._played
            case Kind.SYNC_ENDED:
                assert thing is not None
                thing.sync(self._syncs.pop((event.file, event.offset)))
            case Kind.WRITE_SYNCED:
                assert isinstance(thing, File)
                thing.sync_last()
            case _:
                assert thing is not None
                thing.pending.append((self._played, event))
                if event.kind is Kind.CREATE:
                    self.things[event.offset] = Folder() if event.flag else File()

    def write_image(self, target: Path, how: str, chance: random.Random) -> None:
        """Put what the power failure may have left into the folder *target*, which is made."""
        self._write_folder(self.top, target, how, chance)

    def _write_folder(self, number: int, target: Path, how: str, chance: random.Random) -> None:
        folder = self.things[number]
        assert isinstance(folder, Folder)
        target.mkdir()
        likely = {"nothing": 0.0, "everything": 1.0}.get(how, 0.5)
        for name, inside in folder.image(lambda: chance.random() < likely).items():
            thing = self.things[inside]
            if isinstance(thing, Folder):
                self._write_folder(inside, target / name, how, chance)
            else:
                (target / name).write_bytes(thing.image(how, chance))


def _apply(content: bytearray, event: Event, choose: Chooses) -> None:
    """Do those sectors of a write that are chosen."""
    if event.kind is Kind.TRUNCATE:
        if choose():
            content[event.offset :] = bytes(max(0, event.offset - len(content)))
        return
    assert event.kind is Kind.WRITE
    start, end = event.offset, event.offset + len(event.more)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if choose():
            content.extend(bytes(max(0, stop - len(content))))
            content[start:stop] = event.more[start - event.offset : stop - event.offset]
        start = stop


def _rename(names: dict[str, int], event: Event) -> None:
    if event.kind is Kind.CREATE:
        names[event.name] = event.offset
    elif event.kind is Kind.REMOVE:
        names.pop(event.name, None)
    else:
        assert event.kind is Kind.RENAME
        old, new = event.name.split("/")
        if old in names:
            names[new] = names.pop(old)


def _scribble(size: int, chance: random.Random) -> bytes:
    return chance.choice([b"", bytes(size), chance.randbytes(size)])
