"""What a history has in it: one image of a thing in a chapter, and nothing of what is too old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable
import durable.testing
from durable._engine.history_records import IMAGES, read_image
from durable._engine.side_records import HISTORY, end_of
from durable._runtime.runtime import Runtime

from .conftest import Ledger, Store, go_back


def records_of(runtime: Runtime, cls: type = Ledger) -> list[tuple[bytes, bytes]]:
    """The history of the object "a", as it is on the disk."""
    engine = runtime._engine
    engine.refresh()
    stub = runtime.namespace(cls).get_by_name("a")
    for record in engine.catalog().records:
        for base, found in engine.objects(record.number, count_max=10):
            if stub.id.raw.startswith(base) and found.history:
                upper = end_of(HISTORY)
                return engine.in_line.scan_sides(found.history, HISTORY, upper, count_max=100_000)
    return []


def images(runtime: Runtime, cls: type = Ledger) -> Iterator[tuple[int, Any, Any]]:
    for key, value in records_of(runtime, cls):
        if key.startswith(IMAGES):
            yield read_image(key, value)


async def test_what_changes_often_is_kept_once_a_minute(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """And what it was when the minute began."""
    for number in range(180):
        await ledger().put("a", number)
        await store.clock.advance(1)

    kept = [item for _, item, _ in images(runtime)]
    assert kept == ["a"] * 3


async def test_a_transaction_that_is_undone_is_kept_nothing_of(runtime: durable.Runtime) -> None:
    class Undoing(Ledger):
        async def undo(self) -> None:
            async def closure(txn: durable.Transaction) -> None:
                txn.put("b", 1)
                txn.rollback()

            await self.ctx.storage.transaction(closure)
            await self.put("b", 2)

        async def raise_within(self) -> None:
            def closure() -> None:
                self.ctx.storage.put("c", 1)
                raise ValueError

            try:
                self.ctx.storage.transaction_sync(closure)
            except ValueError:
                self.ctx.storage.put("d", 1)

    stub = runtime.namespace(Undoing).get_by_name("a")
    await stub.put("a", 1)
    bookmark = await stub.now()
    await stub.undo()
    await stub.raise_within()
    with pytest.raises(durable.ObjectAborted):
        await stub.abort()
    stub = runtime.namespace(Undoing).get_by_name("a")
    await stub.wish(bookmark)
    await durable.testing.evict(stub)

    assert await stub.all() == {"a": 1}


async def test_long_keys_come_back(runtime: durable.Runtime, ledger: Any) -> None:
    """Of any length that a key may have, and those that differ at their ends only."""
    keys = ["k" * size for size in (400, 401, 2_047)] + ["k" * 2_047 + "l", "ü" * 1_024]
    await ledger().put_all(dict.fromkeys(keys, "before"))
    bookmark = await ledger().now()
    await ledger().put_all(dict.fromkeys(keys[:3], "after"))
    for key in keys[3:]:
        await ledger().delete(key)
    await go_back(runtime, bookmark)

    assert await ledger().all() == dict.fromkeys(keys, "before")


async def test_everything_that_was_deleted_comes_back_at_once(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """`delete_all` copies nothing of it, and neither does the way back."""
    await ledger().put_all({f"key {n}": n for n in range(100)})
    bookmark = await ledger().now()
    before = len(records_of(runtime))
    await ledger().delete_all()
    await ledger().put("new", 1)
    undo = await go_back(runtime, bookmark)
    assert len(await ledger().all()) == 100
    assert len(records_of(runtime)) - before < 10

    await go_back(runtime, undo)

    assert await ledger().all() == {"new": 1}


class Brief(Ledger):
    history = timedelta(minutes=10)


async def test_what_is_too_old_is_freed(store: Store, runtime: durable.Runtime) -> None:
    """With the chapters that are begun, what everything deleted has left included; the oldest
    bookmark says how far back one can go."""
    stub = runtime.namespace(Brief).get_by_name("a")
    first = await stub.now()
    for number in range(60):
        await stub.put(f"key {number}", number)
        if number % 7 == 0:
            await stub.delete_all()
        await store.clock.advance(61)
    chapters = {chapter for chapter, _, _ in images(runtime, Brief)}
    assert 8 <= len(chapters) <= 14
    with pytest.raises(durable.UnknownBookmark) as caught:
        await stub.wish(first)
    oldest_s = int(caught.value.oldest, 16) / 1_000_000
    assert 600 <= store.clock.now() - oldest_s <= 800
    there = await stub.all()
    undo = await stub.wish(caught.value.oldest)
    await durable.testing.evict(stub)
    stub = runtime.namespace(Brief).get_by_name("a")
    assert await stub.all() != there
    await stub.wish(undo)
    await durable.testing.evict(stub)
    assert await runtime.namespace(Brief).get_by_name("a").all() == there


async def test_timers_and_kept_answers_come_back(runtime: durable.Runtime) -> None:
    """What the library keeps for an object beside its keys is part of what it was."""

    class Timed(durable.DurableObject):
        history = timedelta(days=1)

        async def timer(self, name: str, payload: Any) -> None:
            """Far away."""

        async def set(self, name: str, days: int) -> None:
            self.ctx.timers.set(name, timedelta(days=days), days)

        async def names(self) -> list[tuple[str, int]]:
            return [(timer.name, timer.payload) for timer in await self.ctx.timers.list()]

        async def now(self) -> str:
            return await self.ctx.storage.get_current_bookmark()

        async def back(self, bookmark: str) -> None:
            self.ctx.storage.on_next_session_restore_bookmark(bookmark)
            self.ctx.abort()

    stub = runtime.namespace(Timed).get_by_name("a")
    await stub.set("a", 1)
    bookmark = await stub.now()
    await stub.set("a", 2)
    await stub.set("b", 3)
    with pytest.raises(durable.ObjectAborted):
        await stub.back(bookmark)

    assert await runtime.namespace(Timed).get_by_name("a").names() == [("a", 1)]
    assert runtime.statistics() is not None


async def test_an_alarm_that_came_back_late_rings(store: Store, runtime: durable.Runtime) -> None:
    """At once, as one that fell due while the program was down."""
    rung = []

    class Rings(Ledger):
        async def alarm(self) -> None:
            rung.append(store.clock.now())

    def stub() -> Any:
        return runtime.namespace(Rings).get_by_name("a")

    await stub().set_alarm(datetime.fromtimestamp(store.clock.now() + 10, UTC))
    bookmark = await stub().now()
    await store.clock.advance(11)
    assert len(rung) == 1
    await stub().wish(bookmark)
    with pytest.raises(durable.ObjectAborted):
        await stub().abort()
    await stub().all()
    await store.clock.advance(1)

    assert len(rung) == 2


async def test_a_class_without_a_history_has_none_on_disk(
    store: Store, runtime: durable.Runtime
) -> None:
    class Plain(durable.DurableObject):
        async def put(self, key: str, value: Any) -> None:
            self.ctx.storage.put(key, value)

    stub = runtime.namespace(Plain).get_by_name("a")
    await stub.put("a", 1)
    await stub.put("a", 2)
    engine = runtime._engine
    engine.refresh()

    assert engine.measure().records == 1
