"""Power failures of a store with a journal: a commit is several writes to its files, one by one.

What is assumed of the journal: each write to it is one to a place in a file that has its length
already, and is on the disk when the call has ended. So the power fails within one write, to the
journal or to LMDB's file; those before it are on the disk, and those after it were not begun.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

from attrs import define, field, frozen

from durable._lmdb.journal.journaled import Journaled
from durable._lmdb.journal.segments import BLOCK_SIZE, HEAD_SIZE, Journal

from .power import DATA_FILE, SECTOR, Files, Moment, files_in, image_at, put

# So that a life fills segments, and there are groups that none has room for.
SEGMENT_SIZE = HEAD_SIZE + BLOCK_SIZE


@frozen
class Within:
    """A power failure within a commit."""

    when: str
    is_in: bool  # whether what was committed is on the disk


@define(eq=False, repr=False)
class NotedJournal(Journal):
    """Says when it is about to write, and when it has written."""

    _note: Callable[[], None] = field(kw_only=True)

    def _write(self, *args: object) -> None:
        self._note()
        super()._write(*args)  # type: ignore[arg-type]
        self._note()


@define(eq=False, repr=False)
class SteppedJournaled(Journaled):
    """A store with a journal that follows when the simulation says so."""

    note: Callable[[], None] | None = field(default=None, init=False)

    def _new_journal(self, name: bytes) -> Journal:
        return NotedJournal(self.path, name, SEGMENT_SIZE, note=self._say)

    def _say(self) -> None:
        if self.note is not None:
            self.note()

    def cut_within(
        self, commit: Callable[[], None], target: Path, page_size: int, chance: Random
    ) -> Within | None:
        """The power fails within *commit*: *target* has what is then on the disk. None if there was
        nothing to write."""
        # Else a commit could be two of LMDB's with nothing between them.
        self.bring_in()
        folder = Path(self.path)
        states = [files_in(folder)]
        self.note = lambda: states.append(files_in(folder))
        try:
            commit()
        finally:
            self.note = None
        states.append(files_in(folder))
        writes = [(before, after) for before, after in pairwise(states) if before != after]
        if not writes:
            put(states[-1], target)
            return None
        which = chance.randrange(len(writes))
        before, after = writes[which]
        image, is_done = _within(before, after, page_size, chance)
        put(image, target)
        number = f"in write {which + 1} of {len(writes)}"
        return Within(number, is_done and which == len(writes) - 1)


def _within(before: Files, after: Files, page_size: int, chance: Random) -> tuple[Files, bool]:
    """What is on the disk within the write that made *after* of *before*, and whether that is the
    whole of it."""
    changed = {name for name in after if before.get(name) != after[name]}
    [name] = changed
    if name == DATA_FILE:
        moment = chance.choice([Moment.PAGES, Moment.PAGES, *Moment])
        image = image_at(moment, before[name], after[name], page_size, chance)
        return {**before, name: image}, moment in {Moment.META, Moment.LENGTHENED}
    share = chance.choice([0.1, 0.5, 0.9])
    torn = bytearray(before[name])
    for at in range(0, len(torn), SECTOR):
        if chance.random() < share:
            torn[at : at + SECTOR] = after[name][at : at + SECTOR]
    return {**before, name: bytes(torn)}, torn == after[name]
