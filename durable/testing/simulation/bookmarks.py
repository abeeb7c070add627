"""Bookmarks of a simulation: each is of what its object was, as long as there is a way back to it.

An object takes one now and then, with all that it has at that moment. When that is said to be on
disk, its history must know it from then on, whatever becomes of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen

from durable._border.ctx import State as ObjectState
from durable._engine.codec import MsgpackCodec
from durable._engine.engine import Engine
from durable._engine.going_back import find_past, whole_of
from durable._engine.history_records import read_bookmark
from durable._model.errors import StoreDamaged

# Longer than any life of a store.
KEPT_US: Final = 86_400_000_000
# Of an object, so that a long history costs no more than a short one to check.
MARKS_MAX: Final = 30


@frozen
class Mark:
    """A bookmark, and what its object had."""

    bookmark_us: int
    state: dict[str, Any]


@define(eq=False)
class Bookmarks:
    """All bookmarks of one seed that somebody may rely on."""

    # Whether the objects keep a history at all.
    is_on: bool
    _marks: dict[str, list[Mark]] = field(factory=dict, init=False)

    async def take(self, ctx: ObjectState) -> Mark | None:
        """One of this moment, which nobody may rely on yet; waits for nothing."""
        if not self.is_on:
            return None
        bookmark = read_bookmark(await ctx.storage.get_current_bookmark())
        assert bookmark is not None
        return Mark(bookmark, dict(ctx.storage.kv.list()))

    def rely_on(self, name: str, mark: Mark | None) -> None:
        """All that was written before *mark* was taken is on disk."""
        if mark is not None:
            marks = self._marks.setdefault(name, [])
            marks.append(mark)
            del marks[:-MARKS_MAX]

    def check(
        self, engine: Engine, class_number: int, base_of: Callable[[str], bytes]
    ) -> list[str]:
        """Which of them do not lead back to what was there."""
        engine.refresh()
        return [
            f"P16: {name} had {mark.state} at a bookmark, and its history says {found}"
            for name, marks in self._marks.items()
            for mark in marks
            if (found := _found(engine, class_number, base_of(name), mark)) != mark.state
        ]


def _found(engine: Engine, class_number: int, base: bytes, mark: Mark) -> Any:
    record = engine.find(class_number, base)
    if record is None or not record.history:
        return "nothing"
    reader, decode = engine.in_line, MsgpackCodec().decode
    try:
        past = find_past(reader, record.history, record.keyspace, mark.bookmark_us)
        whole = whole_of(reader, past, record.alarm)
    except StoreDamaged as error:
        return str(error)
    return {key: decode(value) for key, value in whole.puts.items() if value is not None}
