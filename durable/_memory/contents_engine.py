"""What the engines of this room share: their contents are a value, which each commit replaces.

So there is no garbage: what is not needed any more goes with the value that it was part of.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

from durable._engine.batch import Batch, DueAlarm
from durable._engine.catalog import Catalog
from durable._engine.engine import ANY_NUMBER, GARBAGE_STEP
from durable._model.clock import Clock
from durable._model.errors import RuntimeClosed

from .contents import Below, Contents, Draft
from .reader import MemoryReader


class ContentsEngine:
    """The part of an `Engine` that is the same with and without an engine below."""

    keeps_histories: ClassVar[bool] = True
    group_max: ClassVar[int] = ANY_NUMBER
    clock: Clock
    contents: Contents
    in_line: MemoryReader
    _keyspaces: count[int]
    _write_lock: threading.Lock
    _is_open: bool

    @property
    def path(self) -> str:
        raise NotImplementedError

    def _begin_commit(self) -> Below | None:
        """What lies below the contents, for use by the committer's thread."""
        return None

    def _end_commit(self) -> None:
        """The commit needs what lies below no more."""

    def refresh(self) -> None:
        self.in_line.release()

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        alarms = self.in_line.seen.alarms
        place = 0 if after is None else bisect_right(alarms, after)
        return list(alarms[place : place + count_max])

    def next_alarm_us(self) -> int | None:
        alarms = self.in_line.seen.alarms
        return alarms[0].due_us if alarms else None

    def next_keyspace(self) -> int:
        return next(self._keyspaces)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        now_us = int(self.clock.now() * 1_000_000)
        with self._write_lock:
            draft = Draft(self._latest(), self._begin_commit(), now_us)
            try:
                draft.apply(group)
            finally:
                self._end_commit()
            self.contents = draft.contents()
        # Set on the handles once the group is committed, for the loop to see.
        for batch in group:
            record = self.contents.objects.get((batch.handle.class_number, batch.handle.base))
            if record is not None:
                batch.handle.created_us = record.created_us
        return True

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        with self._write_lock:
            self.contents = self._latest().with_catalog(after)
        self.refresh()

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        return 0

    def _latest(self) -> Contents:
        if not self._is_open:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")
        return self.contents
