"""The history of one object: what things were before they changed, noted as they change.

The first change of a thing in a chapter notes what it was, in the same turn; further ones note
nothing. A chapter lasts a minute, or until a bookmark is given out. What a transaction notes is
undone with it.

Rule: a note is made before the change that it is about, and whatever happens to that change happens
to the note. A note without its change is harmless, since it says what is still so.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from attrs import define, field

from durable._engine.batch import Alarm, ObjectHandle
from durable._engine.history_records import (
    BEGINNING,
    Image,
    Item,
    Lost,
    beginning_of,
    clearing_key,
    image_key,
    last_chapter,
    write_alarm,
    write_image,
    write_time,
)
from durable._engine.pruning import prune_some
from durable._model.clock import Clock
from durable._model.errors import StoreDamaged

from .cache import UNKNOWN, Cache
from .savepoint import Savepoint
from .side_writes import OnDisk, SideValue, SideWrites

if TYPE_CHECKING:
    from durable._engine.read_thread import Reads

CHAPTER_S: Final = 60.0
# A chapter ends with so many things that it has changed, which are remembered until then.
NOTED_MAX: Final = 10_000
# Records of a history that is too old that are deleted with the beginning of a chapter.
PRUNED_AT_ONCE: Final = 1_000
# Longer than a batch may take to the disk.
RECENT_S: Final = 120.0


@define(eq=False, slots=True, weakref_slot=False)
class Taken:
    """What a turn has noted."""

    records: dict[bytes, bytes | None]
    clearing: bytes | None
    forgets: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its records."""
        return sum(len(key) + len(value or b"") for key, value in self.records.items())


@define(eq=False, slots=True, weakref_slot=False)
class History:
    """The notes of one object. Nothing here suspends; what was before is read in-line."""

    _handle: ObjectHandle
    _cache: Cache
    _reads: Reads = field(repr=False)
    _clock: Clock = field(repr=False)
    _retention_us: int

    # The chapter under way; 0: the next change begins one.
    _chapter_us: int = field(default=0, init=False)
    _ends_s: float = field(default=0.0, init=False)
    # What it has changed, each with its record.
    _noted: dict[Item, bytes] = field(factory=dict, init=False)
    # The last chapter that was begun, and the first bookmark; -1: not asked yet, 0: there is none.
    _last_us: int = field(default=-1, init=False)
    _beginning_us: int = field(default=0, init=False)
    # Chapters that the disk may not have yet, and when they began.
    _recent: deque[tuple[int, float]] = field(factory=deque, init=False)

    # The turn under way
    _records: dict[bytes, bytes | None] = field(factory=dict, init=False)
    _clearing: bytes | None = field(default=None, init=False)
    _forgets: list[int] = field(factory=list, init=False)
    # It has looked whether the chapter is over.
    _has_looked: bool = field(default=False, init=False)

    # Noting

    def note_key(self, key: str, savepoint: Savepoint | None) -> None:
        """*key* is about to change."""
        if not self._has_looked:
            self._look()
        if key in self._noted:
            return
        before = self._cache.lookup(key)
        keyspace = self._handle.keyspace
        if before is not UNKNOWN:
            self._note(key, before, savepoint)
            return
        try:
            self._note(key, self._reads.get(keyspace, key), savepoint)
        except StoreDamaged:
            self._note(key, Lost(), savepoint)

    def note_side(self, key: bytes, sides: SideWrites, savepoint: Savepoint | None) -> None:
        """The side record *key* is about to change."""
        if not self._has_looked:
            self._look()
        if key in self._noted:
            return
        keyspace = self._handle.keyspace
        before: SideValue | OnDisk = sides.lookup(key, keyspace)
        try:
            if isinstance(before, OnDisk):
                before = self._reads.get_side(keyspace, key)
        except StoreDamaged:
            before = Lost()
        self._note(key, before, savepoint)

    def note_alarm(self, alarm: Alarm | None, savepoint: Savepoint | None) -> None:
        """The alarm is *alarm*, and about to change."""
        if not self._has_looked:
            self._look()
        if None not in self._noted:
            self._note(None, write_alarm(alarm), savepoint)

    def note_clearing(self) -> None:
        """Everything is about to be deleted, or what was deleted to come back."""
        if self._clearing is not None:
            return  # what the turn has written since the first one never happens
        self.close_chapter()
        self._look()
        self._clearing = clearing_key(self._begin_chapter())

    def _note(self, item: Item, image: Image, savepoint: Savepoint | None) -> None:
        key = image_key(self._chapter_us or self._begin_chapter(), item)
        self._noted[item] = key
        value = write_image(item, image)
        if savepoint is None:
            self._records[key] = value
        else:
            savepoint.history[key] = item, value

    def write(self, key: bytes, value: bytes | None) -> None:
        """Make a record of the history part of the turn."""
        self._records[key] = value

    # Chapters

    @property
    def beginning_us(self) -> int:
        """The first bookmark that there is; 0: there is none yet."""
        self._ask()
        return self._beginning_us

    @property
    def next_us(self) -> int:
        """The first bookmark that undoes nothing of what was noted so far."""
        self._ask()
        return self._last_us + 1

    def begin(self) -> None:
        """From now on there are bookmarks."""
        if not self.beginning_us:
            self._beginning_us = max(round(self._clock.now() * 1_000_000), 1)
            self._last_us = self._beginning_us - 1
            self.write(BEGINNING, write_time(self._beginning_us))

    def close_chapter(self) -> None:
        """What changes from now on is another chapter's."""
        self._chapter_us = 0
        self._noted.clear()

    def chapter_before(self, time_us: int) -> int:
        """The last chapter that began by then; 0: there is none."""
        last_us = max((each for each, _ in self._recent if each <= time_us), default=0)
        if not self._handle.history:
            return last_us
        return max(last_us, last_chapter(self._reads, self._handle.history, time_us + 1))

    def _look(self) -> None:
        """A turn begins to change things: see whether the chapter is over."""
        self._has_looked = True
        if self._chapter_us and (
            len(self._noted) >= NOTED_MAX or self._clock.steady() >= self._ends_s
        ):
            self.close_chapter()

    def _ask(self) -> None:
        if self._last_us < 0:
            history = self._handle.history
            self._beginning_us = beginning_of(self._reads, history) if history else 0
            self._last_us = last_chapter(self._reads, history) if history else 0
            self._last_us = max(self._last_us, self._beginning_us - 1)

    def _begin_chapter(self) -> int:
        self.begin()
        now_s = self._clock.steady()
        chapter_us = max(round(self._clock.now() * 1_000_000), self.next_us)
        self._last_us = self._chapter_us = chapter_us
        self._ends_s = now_s + CHAPTER_S
        while self._recent and self._recent[0][1] < now_s - RECENT_S:
            self._recent.popleft()
        self._recent.append((chapter_us, now_s))
        self._prune(chapter_us - self._retention_us)
        return chapter_us

    def prune(self) -> bool:
        """Delete some of what is too old, as part of the turn; returns whether there was any."""
        self._ask()
        return self._prune(round(self._clock.now() * 1_000_000) - self._retention_us)

    def _prune(self, until_us: int) -> bool:
        """Delete some of what is older, which no bookmark leads to then."""
        history = self._handle.history
        if not history or self._beginning_us >= until_us:
            return False
        pruned = prune_some(self._reads, history, until_us, PRUNED_AT_ONCE)
        if pruned is None:
            return False
        self._records.update(pruned.records)
        self._forgets += pruned.forgets
        self._beginning_us = pruned.beginning_us
        return True

    # The turn, and the transactions of the object

    def keep(self, savepoint: Savepoint) -> None:
        """The outermost transaction is done: what it has noted is the turn's."""
        for key, (_, value) in savepoint.history.items():
            self._records[key] = value

    def roll_back(self, savepoint: Savepoint) -> None:
        """What was noted since *savepoint* is undone with what was written."""
        for key, (item, _) in savepoint.history.items():
            if self._noted.get(item) == key:
                del self._noted[item]
        self._has_looked = False

    def take(self) -> Taken | None:
        """What the turn has noted, which goes with its batch; None: nothing."""
        self._has_looked = False
        if not self._records and self._clearing is None:
            return None
        taken = Taken(self._records, self._clearing, tuple(self._forgets))
        self._records, self._clearing, self._forgets = {}, None, []
        return taken
