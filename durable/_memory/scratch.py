"""A scratch store: it reads from another engine, and what is written stays in memory.

Rule: nothing here writes to the engine below. What is written lies above what that engine has, key
by key, and is gone when the store is closed. The store below may have an owner in another process
meanwhile; what the owner writes is seen where nothing lies above it.

Alarms of the engine below do not run: they are the owner's. Those that are set here do.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import Final

from attrs import define, field

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import Catalog, Weight
from durable._engine.engine import Engine, OwnReader
from durable._engine.measures import Measures
from durable._engine.overlay import Hidden, OverlayReader, Records, Sides, objects_of_both
from durable._engine.side_records import AREAS, end_of
from durable._model.clock import Clock

from .contents import Below, Contents
from .contents_engine import ContentsEngine

# Far above those that the owner assigns meanwhile.
FIRST_KEYSPACE: Final = 1 << 62

OBJECTS_PER_STEP: Final = 1_000


@define(eq=False)
class _Below:
    """The engine below, as the committer's thread uses it."""

    engine: Engine
    reader: OwnReader

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        return self.engine.find(class_number, base)

    def has_other(self, keyspace: int, known: Records, sides: Sides) -> bool:
        # One more than may all be known; no value is read, damaged or not.
        others, _ = self.reader.count_some(
            keyspace, "", None, Hidden((), known), count_max=len(known) + 1
        )
        if others:
            return True
        first, last = AREAS[0], end_of(AREAS[-1])
        found = self.reader.scan_sides(keyspace, first, last, count_max=len(sides) + 1)
        return any(key not in sides for key, _ in found)


@define(eq=False, repr=False)
class ScratchEngine(ContentsEngine):
    """An `Engine` above the engine *below*, which it closes with itself."""

    below: Engine
    clock: Clock
    has_garbage: bool = field(default=False, init=False)
    in_line: OverlayReader[Contents] = field(init=False)
    contents: Contents = field(factory=Contents, init=False)
    _committed_below: _Below = field(init=False)
    _keyspaces: count[int] = field(factory=lambda: count(FIRST_KEYSPACE), init=False)
    _write_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _is_open: bool = field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self.in_line = OverlayReader(self._latest, self.below.in_line)
        self._committed_below = _Below(self.below, self.below.new_reader())

    @property
    def path(self) -> str:
        return self.below.path

    # Reading

    def refresh(self) -> None:
        super().refresh()
        self.below.refresh()

    def new_reader(self) -> OverlayReader[Contents]:
        below = self.below.new_reader()
        return OverlayReader(self._latest, below, below)

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        seen = self.in_line.seen
        key = (class_number, base)
        if key in seen.objects or class_number in seen.deleted_classes:
            return seen.objects.get(key)
        return self.below.find(class_number, base)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        seen = self.in_line.seen
        if class_number in seen.deleted_classes:
            return []
        above = {base: r for (number, base), r in seen.objects.items() if number == class_number}
        return objects_of_both(
            above,
            lambda after, count: self.below.objects(class_number, after=after, count_max=count),
            after,
            count_max,
        )

    def catalog(self) -> Catalog:
        return self.in_line.seen.catalog or self.below.catalog()

    def weigh_class(self, class_number: int) -> Weight:
        objects = alarms = size = 0
        after: bytes | None = None
        while step := self.objects(class_number, after=after, count_max=OBJECTS_PER_STEP):
            after = step[-1][0]
            for _, record in step:
                objects += 1
                alarms += record.alarm is not None
                pairs, _ = self.in_line.scan_some(record.keyspace, count_max=None)
                size += sum(len(key.encode()) + len(value) for key, value in pairs)
        return Weight(objects, alarms, size)

    def measure(self) -> Measures:
        """The measures of the store below."""
        return self.below.measure()

    def _begin_commit(self) -> Below:
        return self._committed_below

    def _end_commit(self) -> None:
        self._committed_below.reader.release()

    # The end

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._committed_below.reader.close()
            self.in_line.close()
            self.below.close()

    def __repr__(self) -> str:
        return f"<ScratchEngine {'open' if self._is_open else 'closed'} above {self.below!r}>"
