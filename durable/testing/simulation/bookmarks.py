"""Bookmarks of a simulation: what each object was at each, as long as it can go back to it.

An object takes one now and then, with all that it has at that moment. Once that is reported to be
on disk, its history must know it from then on, whatever becomes of the store.
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
# For each object, so that a long history costs no more to check than a short one.
MARKS_MAX: Final = 30


@frozen
class Mark:
    """A bookmark, and what its object had."""

    bookmark_us: int
    state: dict[str, Any]


@define(eq=False)
class Bookmarks:
    """All bookmarks of one seed that must be kept."""

    # Whether the objects keep a history at all.
    is_on: bool
    _marks: dict[str, list[Mark]] = field(factory=dict, init=False)

    async def take(self, ctx: ObjectState) -> Mark | None:
        """A bookmark of this moment, which need not be kept yet; waits for nothing."""
        if not self.is_on:
            return None
        bookmark = read_bookmark(await ctx.storage.get_current_bookmark())
        assert bookmark is not None
        return Mark(bookmark, dict(ctx.storage.kv.list()))

    def rely_on(self, name: str, mark: Mark | None) -> None:
        """All that was written before *mark* was taken is on disk: it must be kept."""
        if mark is not None:
            marks = self._marks.setdefault(name, [])
            marks.append(mark)
            del marks[:-MARKS_MAX]

    def check(
        self, engine: Engine, class_number: int, base_of: Callable[[str], bytes]
    ) -> list[str]:
        """The bookmarks that do not lead back to what was there."""
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
