"""What is too old of the histories of objects that nobody calls is freed, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import observing, operate
from durable._lmdb.environment import Environment
from durable._runtime import sweeper
from durable._runtime.sweeper import FIRST_PASS_S, PASS_EVERY_S, PAUSE_S
from tests import postgres

from .conftest import Ledger, Store

pytestmark = pytest.mark.backends("asyncio", "trio")

RETENTION_S = Ledger.history.total_seconds()
CHAPTERS = 5


async def write_chapters(runtime: durable.Runtime, name: str = "a") -> None:
    """The object changes two keys and its table in each of some chapters, and leaves memory."""
    stub = runtime.namespace(Ledger).get_by_name(name)
    for chapter in range(CHAPTERS):
        await stub.put_all({"x": chapter, "y": chapter})
        await stub.now()
    await durable.testing.evict(stub)


def records_of(runtime: durable.Runtime, name: str = "a") -> int:
    """How many records the history of the object has."""
    return operate.history(runtime, "Ledger", name).records


def is_live(runtime: durable.Runtime, name: str = "a") -> bool:
    return durable.testing.is_live(runtime.namespace(Ledger).get_by_name(name))


@asynccontextmanager
async def in_a_folder(clock: durable.testing.VirtualClock, folder: Path) -> AsyncIterator[Any]:
    async with durable.testing.open(folder / "store", clock=clock) as runtime:
        yield runtime


@asynccontextmanager
async def in_memory(clock: durable.testing.VirtualClock, folder: Path) -> AsyncIterator[Any]:
    async with durable.testing.open(folder / "store", clock=clock):
        pass
    async with durable.testing.open(folder / "store", clock=clock, scratch=True) as runtime:
        yield runtime


@asynccontextmanager
async def in_shards(clock: durable.testing.VirtualClock, folder: Path) -> AsyncIterator[Any]:
    async with durable.open(folder / "store", clock=clock, shared=True, shards=2) as runtime:
        yield runtime


@asynccontextmanager
async def in_postgres(clock: durable.testing.VirtualClock, folder: Path) -> AsyncIterator[Any]:
    with postgres.store_url() as url:
        async with durable.open(url, clock=clock) as runtime:
            yield runtime


Opened = Callable[[durable.testing.VirtualClock, Path], AbstractAsyncContextManager[Any]]


@pytest.mark.parametrize("opened", [in_a_folder, in_memory, in_shards, in_postgres])
async def test_what_is_too_old_is_freed_while_nobody_calls(opened: Opened, tmp_path: Path) -> None:
    """Of all objects that keep a history, and none is woken for it; what they have stays."""
    clock = durable.testing.VirtualClock()
    async with opened(clock, tmp_path) as runtime:
        names = ["a", "b", "c"]
        for name in names:
            await write_chapters(runtime, name)
        assert {records_of(runtime, name) for name in names} == {1 + 2 * CHAPTERS}

        await clock.advance(RETENTION_S / 2)
        assert {records_of(runtime, name) for name in names} == {1 + 2 * CHAPTERS}

        await clock.advance(RETENTION_S / 2 + 2 * PASS_EVERY_S)
        assert {records_of(runtime, name) for name in names} == {1}
        assert not any(is_live(runtime, name) for name in names)

        stub = runtime.namespace(Ledger).get_by_name("a")
        assert await stub.all() == {"x": CHAPTERS - 1, "y": CHAPTERS - 1}


async def test_a_store_that_is_opened_again_is_swept(store: Store) -> None:
    """The first pass comes soon after the opening."""
    async with store.open() as runtime:
        await write_chapters(runtime)
    await store.clock.advance(RETENTION_S + 60)

    async with store.open() as runtime:
        runtime.namespace(Ledger)
        assert records_of(runtime) == 1 + 2 * CHAPTERS
        await store.clock.advance(FIRST_PASS_S + 1)
        assert records_of(runtime) == 1


async def test_a_step_frees_a_bounded_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, each part a commit of its own; between two steps others have their turn."""
    monkeypatch.setattr(sweeper, "DELETED_AT_ONCE", 4)
    async with store.open() as runtime:
        await write_chapters(runtime)
    await store.clock.advance(RETENTION_S + 60)

    commits: list[observing.CommitEnded] = []

    def observe(event: observing.Event) -> None:
        if isinstance(event, observing.CommitEnded):
            commits.append(event)

    async with store.open(observer=observe) as runtime:
        runtime.namespace(Ledger)
        await store.clock.advance(FIRST_PASS_S)
        seen = [records_of(runtime)]
        while seen[-1] > 1:
            await store.clock.advance(PAUSE_S)
            seen.append(records_of(runtime))
        assert seen == [7, 3, 1]
        assert [each.batches for each in commits] == [1, 1, 1]


async def test_bookmarks_that_are_young_enough_stay(store: Store) -> None:
    """And those that are gone say which is the oldest."""
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put("x", 1)
        old = await stub.now()
        await stub.put("x", 2)
        await store.clock.advance(RETENTION_S / 2)
        await stub.put("x", 3)
        young = await stub.now()
        await stub.put("x", 4)
        await durable.testing.evict(stub)
        await store.clock.advance(RETENTION_S / 2 + 2 * PASS_EVERY_S)

        stub = runtime.namespace(Ledger).get_by_name("a")
        with pytest.raises(durable.UnknownBookmark) as raised:
            await stub.wish(old)
        assert old < raised.value.oldest <= young
        await stub.wish(young)
        await durable.testing.evict(stub)
        assert await stub.all() == {"x": 3}


async def test_what_was_deleted_as_a_whole_is_freed_with_its_chapter(store: Store) -> None:
    """Its records become garbage when no bookmark leads to them any more."""
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put_all({f"key {n}": n for n in range(50)})
        await stub.delete_all()
        await stub.put("x", 1)
        await durable.testing.evict(stub)
        kept = runtime.statistics().store
        assert (kept.records > 50, kept.garbage) == (True, 0)

        await store.clock.advance(RETENTION_S + 2 * PASS_EVERY_S)
        freed = runtime.statistics().store
        # The thread that commits frees it when nothing else is to do: it may have done so by now.
        # Then there are the key, the beginning of the history, and nothing else.
        assert freed.garbage == 1 or freed.records == 2


async def test_an_object_that_is_to_go_back_keeps_what_it_needs(store: Store) -> None:
    """However old that is by the time that it is built."""
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put("x", 1)
        mark = await stub.now()
        await stub.put("x", 2)
        await stub.wish(mark)
    await store.clock.advance(RETENTION_S + 60)
    async with store.open() as runtime:
        runtime.namespace(Ledger)
        await store.clock.advance(FIRST_PASS_S + PASS_EVERY_S)
        assert await runtime.namespace(Ledger).get_by_name("a").all() == {"x": 1}


async def test_a_call_waits_for_what_is_being_freed(store: Store) -> None:
    """An object does not begin with bookmarks that are about to be gone."""
    async with store.open() as runtime:
        await write_chapters(runtime)
    await store.clock.advance(RETENTION_S + 60)
    async with store.open() as runtime:
        namespace = runtime.namespace(Ledger)
        with store.faults.hold_commits():
            await store.clock.advance(FIRST_PASS_S)
            found: list[Any] = []
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    found.append(await namespace.get_by_name("a").all())

                tasks.start_soon(call)
                await store.clock.settle()
                assert not found
                store.faults.let_one_commit()
        assert found == [{"x": CHAPTERS - 1, "y": CHAPTERS - 1}]
        assert records_of(runtime) == 1


async def test_a_live_object_that_is_not_written_to_is_swept_too(store: Store) -> None:
    """Between its turns, by its own batch; it stays in memory."""
    limits = durable.Limits(idle_s_max=10 * RETENTION_S, shutdown_s_max=1.0)
    async with store.open(limits=limits) as runtime:
        await write_chapters(runtime, "gone")
        await write_chapters(runtime, "a")
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.all()
        await store.clock.advance(RETENTION_S + 2 * PASS_EVERY_S)
        assert is_live(runtime)
        assert records_of(runtime) == 1
        assert await stub.all() == {"x": CHAPTERS - 1, "y": CHAPTERS - 1}


async def test_a_commit_that_fails_is_tried_again_with_the_next_pass(store: Store) -> None:
    """Nothing of it is lost, and nobody hears of it but the log."""
    async with store.open() as runtime:
        await write_chapters(runtime)
    await store.clock.advance(RETENTION_S + 60)
    async with store.open() as runtime:
        runtime.namespace(Ledger)
        store.faults.fail_commits()
        await store.clock.advance(FIRST_PASS_S + 1)
        assert records_of(runtime) == 1 + 2 * CHAPTERS
        store.faults.repair()
        await store.clock.advance(PASS_EVERY_S)
        assert records_of(runtime) == 1


async def test_no_reader_is_held_between_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the file does not grow by what is written meanwhile."""
    monkeypatch.setattr(sweeper, "LOOKED_AT", 1)
    async with store.open() as runtime:
        for name in "abcdef":
            await runtime.namespace(Ledger).get_by_name(name).put("x", 1)
    async with store.open() as runtime:
        runtime.namespace(Ledger)
        engine = runtime._engine
        assert isinstance(engine, Environment)
        await store.clock.advance(FIRST_PASS_S)
        for _ in range(4):
            assert engine.handle.env.readers() == "(no active readers)\n"
            await store.clock.advance(PAUSE_S)


async def test_what_an_object_leaves_behind_during_a_pass_is_swept_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass has gone by it already; another one comes when that is too old."""
    monkeypatch.setattr(sweeper, "LOOKED_AT", 1)
    async with store.open() as runtime:
        objects = runtime.namespace(Ledger)
        first, *others = sorted("abcd", key=lambda name: objects.id_from_name(name).raw)
        for name in others:
            await write_chapters(runtime, name)
        await store.clock.advance(RETENTION_S + 2 * PASS_EVERY_S)
        assert {records_of(runtime, name) for name in others} == {1}

    async with store.open() as runtime:
        runtime.namespace(Ledger)
        await store.clock.advance(FIRST_PASS_S)
        await write_chapters(runtime, first)
        await store.clock.advance(RETENTION_S + 2 * PASS_EVERY_S)
        assert records_of(runtime, first) == 1


async def test_where_no_class_keeps_a_history_nothing_is_looked_at(store: Store) -> None:
    """There is not even a timer."""

    class Plain(durable.DurableObject):
        async def put(self) -> None:
            self.ctx.storage.put("x", 1)

    async with store.open() as runtime:
        stub = runtime.namespace(Plain).get_by_name("a")
        await stub.put()
        await durable.testing.evict(stub)
        # What looks for idle objects and slow commits may look once more.
        await store.clock.advance(runtime._services.limits.idle_s_max)
        await store.clock.advance(runtime._services.limits.commit_s_max)
        timers = runtime._services.timers
        assert timers.next_due_s() == float("inf")


async def test_when_all_is_freed_no_pass_follows(store: Store) -> None:
    """A clock that jumps to what is due next is not led on for ever."""
    async with store.open() as runtime:
        await write_chapters(runtime)
        await store.clock.advance(RETENTION_S + 3 * PASS_EVERY_S)
        assert records_of(runtime) == 1
        await store.clock.advance(PASS_EVERY_S)
        assert runtime._services.timers.next_due_s() == float("inf")
