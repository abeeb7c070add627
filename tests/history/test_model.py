"""Every bookmark of a store, whatever was done to it, comes back as it was.

Hypothesis puts, deletes, sets alarms and timers, writes by SQL, deletes everything, in transactions
that are kept or not, lets time pass, evicts the object and closes the store, takes bookmarks, and
goes back to them; a plain copy of all that there was says what has to be there.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

import durable
import durable.testing
from durable._lmdb.check import check
from durable._memory.engine import MemoryEngine
from durable._runtime.open_store import OpenStore
from durable.testing import VirtualClock

pytest.importorskip("apsw")

FAR = datetime(2100, 1, 1, tzinfo=UTC)
KEYS = st.sampled_from(["a", "b", "c", "x" * 700, "x" * 700 + "y"])
VALUES = st.integers(0, 3)


@frozen
class Change:
    """A call that changes something."""

    what: str  # put, delete, alarm, insert, clear_table
    key: str = ""
    value: int = 0


@frozen
class Together:
    """Some of them in a transaction, kept or not."""

    changes: tuple[Change, ...]
    is_kept: bool


@frozen
class Back:
    """Go back to one of the bookmarks so far; at once, or when it is evicted next."""

    which: int
    is_evicted: bool = False


changes = st.one_of(
    st.builds(Change, st.just("put"), KEYS, VALUES),
    st.builds(Change, st.just("put"), KEYS, VALUES),
    st.builds(Change, st.just("delete"), KEYS),
    st.builds(Change, st.just("alarm"), st.just(""), VALUES),
    st.builds(Change, st.just("insert"), st.just(""), VALUES),
    st.builds(Change, st.just("clear_table")),
)
steps = st.lists(
    st.one_of(
        changes,
        changes,
        st.builds(Together, st.lists(changes, max_size=4).map(tuple), st.booleans()),
        st.sampled_from(["delete_all", "delete_all", "evict", "restart", "minute", "turn"]),
        st.just("bookmark"),
        st.just("bookmark"),
        st.builds(Back, st.integers(0, 20), st.booleans()),
        st.builds(Back, st.integers(0, 20)),
    ),
    max_size=40,
)


@define
class Model:
    """All that the object has."""

    keys: dict[str, int] = field(factory=dict)
    alarm: int = 0
    rows: list[int] | None = None

    def change(self, change: Change) -> None:
        match change.what:
            case "put":
                self.keys[change.key] = change.value
            case "delete":
                self.keys.pop(change.key, None)
            case "alarm":
                self.alarm = change.value
            case "insert":
                self.rows = [*(self.rows or []), change.value]
            case "clear_table":
                self.rows = [] if self.rows else self.rows

    def shown(self) -> Any:
        return dict(sorted(self.keys.items())), self.alarm, self.rows


class Keeper(durable.DurableObject):
    history = timedelta(days=30)

    async def alarm(self) -> None:
        """Far away."""

    async def do(self, *changes: tuple[str, str, int]) -> None:
        storage = self.ctx.storage
        for what, key, value in changes:
            if what == "put":
                storage.put(key, value)
            elif what == "delete":
                storage.delete(key)
            elif what == "alarm":
                storage.set_alarm(FAR + timedelta(days=value)) if value else storage.delete_alarm()
            elif what == "insert":
                storage.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
                storage.sql.exec("INSERT INTO t VALUES (?)", value)
            elif self.has_table():
                storage.sql.exec("DELETE FROM t")

    def has_table(self) -> bool:
        return bool(self.ctx.storage.sql.exec("SELECT 1 FROM sqlite_schema").to_list())

    async def together(self, changes: list[Any], is_kept: bool) -> None:
        async def run(txn: durable.Transaction) -> None:
            await self.do(*changes)
            if not is_kept:
                txn.rollback()

        await self.ctx.storage.transaction(run)

    async def wipe(self) -> None:
        self.ctx.storage.delete_all()

    async def turn(self) -> str:
        """Writes, a bookmark between them, and everything deleted, in one turn."""
        await self.do(("put", "a", 7), ("insert", "", 7))
        bookmark = await self.ctx.storage.get_current_bookmark()
        await self.do(("put", "b", 8))
        self.ctx.storage.delete_all()
        await self.do(("put", "c", 9), ("alarm", "", 1))
        return bookmark

    async def bookmark(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def wish(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)

    async def stop(self) -> None:
        self.ctx.abort()

    async def shown(self) -> Any:
        due = await self.ctx.storage.get_alarm()
        rows = self.ctx.storage.sql.exec("SELECT value FROM t") if self.has_table() else None
        return (
            dict(await self.ctx.storage.list()),
            0 if due is None else (due - FAR).days,
            None if rows is None else [row["value"] for row in rows],
        )


class InMemory(OpenStore):
    kept: ClassVar[dict[str, MemoryEngine]] = {}

    @staticmethod
    def open_engine(path: str, clock: Any, *, scratch: bool = False) -> Any:
        before = InMemory.kept.get(path)
        engine = MemoryEngine(clock, path)
        if before is not None:
            engine = MemoryEngine(clock, path, contents=before.contents)
        InMemory.kept[path] = engine
        return engine


class open_in_memory(durable.testing.open):
    _store_class: ClassVar[type[OpenStore]] = InMemory


@define
class Follower:
    """The object and its model, side by side."""

    folder: Path | str
    is_in_memory: bool
    clock: VirtualClock = field(factory=VirtualClock)
    model: Model = field(factory=Model)
    # What there was at each bookmark.
    marks: list[tuple[str, Model]] = field(factory=list)
    # Where the object goes when it is built next.
    wish: Model | None = None

    async def follow(self, steps: list[Any]) -> None:
        async with AsyncExitStack() as stack:
            runtime = await self.opened(stack)
            for step in steps:
                if step == "restart":
                    await stack.aclose()
                    self.built_anew()
                    await self.clock.advance(1)
                    runtime = await self.opened(stack)
                else:
                    await self.step(runtime.namespace(Keeper).get_by_name("a"), runtime, step)
                stub = runtime.namespace(Keeper).get_by_name("a")
                if self.wish is None or durable.testing.is_live(stub):
                    assert await stub.shown() == self.model.shown()
        if isinstance(self.folder, Path) and not self.is_in_memory:
            assert list(check(self.folder)) == []

    async def opened(self, stack: AsyncExitStack) -> durable.Runtime:
        kind = open_in_memory if self.is_in_memory else durable.testing.open
        return await stack.enter_async_context(kind(self.folder, clock=self.clock))

    def built_anew(self) -> None:
        if self.wish is not None:
            self.model, self.wish = copy.deepcopy(self.wish), None

    async def step(self, stub: Any, runtime: durable.Runtime, step: Any) -> None:
        if not durable.testing.is_live(stub):
            self.built_anew()
        match step:
            case Change():
                await stub.do((step.what, step.key, step.value))
                self.model.change(step)
            case Together():
                listed = [(each.what, each.key, each.value) for each in step.changes]
                await stub.together(listed, step.is_kept)
                for each in step.changes if step.is_kept else ():
                    self.model.change(each)
            case "delete_all":
                await stub.wipe()
                self.model = Model()
            case "turn":
                bookmark = await stub.turn()
                self.model.change(Change("put", "a", 7))
                self.model.change(Change("insert", "", 7))
                self.marks.append((bookmark, copy.deepcopy(self.model)))
                self.model = Model({"c": 9}, 1)
            case "bookmark":
                self.marks.append((await stub.bookmark(), copy.deepcopy(self.model)))
            case "minute":
                await self.clock.advance(61)
            case "evict":
                await self.clock.settle()
                if durable.testing.is_live(stub):
                    await durable.testing.evict(stub)
            case Back() if self.marks:
                bookmark, self.wish = self.marks[step.which % len(self.marks)]
                self.marks.append((await stub.wish(bookmark), copy.deepcopy(self.model)))
                if not step.is_evicted:
                    with pytest.raises(durable.ObjectAborted):
                        await stub.stop()


@pytest.mark.parametrize("engine", ["lmdb", "memory"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_bookmark_comes_back_as_it_was(backend: str, engine: str) -> None:
    @settings(max_examples=60)
    @given(steps)
    def run(steps: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            follower = Follower(Path(folder) / "store", engine == "memory")
            anyio.run(follower.follow, steps, backend=backend)

    run()


def test_bookmarks_sort_by_time() -> None:
    """As texts, the undo of a return included."""

    @settings(max_examples=30)
    @given(steps)
    def run(steps: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            follower = Follower(Path(folder) / "store", is_in_memory=True)
            anyio.run(follower.follow, steps)

            marks = [mark for mark, _ in follower.marks]
            assert marks == sorted(marks)

    run()
