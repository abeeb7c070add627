"""P6: each storage call sees all calls before it and none after it, whenever it is awaited."""

from __future__ import annotations

from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Start, Store


@pytest.fixture(params=["inline", "thread"])
def reads(request: pytest.FixtureRequest) -> str:
    """Where what is not in memory is read."""
    return str(request.param)


class Box(durable.DurableObject):
    async def fill(self) -> None:
        self.ctx.storage.put({"a": 1, "b": 2, "c": 3})

    async def read_before_write(self) -> list[Any]:
        """Reads that are asked first and awaited last."""
        storage = self.ctx.storage
        one = storage.get("a")
        many = storage.get(["a", "b"])
        listed = storage.list()
        missing = storage.get("d", "none")
        storage.put("a", "new")
        storage.delete("b")
        storage.put("d", "new")
        return [await one, await many, await listed, await missing]

    async def write_before_read(self) -> list[Any]:
        """Writes that nobody awaits, and reads after them."""
        storage = self.ctx.storage
        storage.put("a", "new")
        storage.delete("b")
        storage.put("d", "new")
        return [
            await storage.get("a"),
            await storage.get("b", "none"),
            await storage.get(["a", "b", "d"]),
            await storage.list(),
            storage.kv.get("a"),
        ]

    async def count_deletions(self) -> list[Any]:
        storage = self.ctx.storage
        there = storage.delete("a")
        gone = storage.delete("a")
        storage.put("a", 1)
        again = storage.delete(["a", "a", "b", "x"])
        storage.put("b", 5)
        return [await again, await gone, await there, await storage.list()]

    async def delete_all_between(self) -> list[Any]:
        storage = self.ctx.storage
        before = storage.list()
        storage.put("x", 1)
        storage.delete_all()
        empty = storage.list()
        storage.put("y", 1)
        after = storage.list()
        return [await after, await empty, await before]

    def put_and_return(self) -> None:
        self.ctx.storage.put("a", "plain")

    async def read(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


@pytest.fixture
async def stub(store: Store, reads: str) -> Any:
    """An object whose records are on the disk, and not in memory."""
    async with store.open(reads=reads) as runtime:
        stub = runtime.namespace(Box).get_by_name("a")
        await stub.fill()
        await durable.testing.evict(stub)
        yield stub


async def test_a_read_sees_nothing_that_was_written_after_it(stub: durable.Stub[Box]) -> None:
    """Though it is awaited after the writes."""
    before = {"a": 1, "b": 2, "c": 3}

    assert await stub.read_before_write() == [1, {"a": 1, "b": 2}, before, "none"]
    assert await stub.read() == {"a": "new", "c": 3, "d": "new"}


# An in-line read is never on its way.
@pytest.mark.cold
@pytest.mark.parametrize("reads", ["thread"], indirect=True)
async def test_a_read_on_its_way_sees_nothing_that_was_committed_meanwhile(
    store: Store, stub: durable.Stub[Box], reads: str, start: Start[Any]
) -> None:
    """Also when the disk is slow to read, and the writes could overtake the read."""
    with store.faults.hold_reads():
        call = start(stub.read_before_write())
        await store.settle()
        assert not call.done

    assert await call.result() == [1, {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, "none"]
    await durable.testing.evict(stub)
    assert await stub.read() == {"a": "new", "c": 3, "d": "new"}


async def test_a_read_sees_all_that_was_written_before_it(stub: durable.Stub[Box]) -> None:
    """Though nobody awaited the writes, and they are not on disk yet."""
    assert await stub.write_before_read() == [
        "new",
        "none",
        {"a": "new", "d": "new"},
        {"a": "new", "c": 3, "d": "new"},
        "new",
    ]


async def test_deletions_count_what_was_there_at_the_call(stub: durable.Stub[Box]) -> None:
    """In the order of the calls, duplicates once."""
    assert await stub.count_deletions() == [2, False, True, {"b": 5, "c": 3}]


async def test_delete_all_stands_in_the_order_like_others(stub: durable.Stub[Box]) -> None:
    """It takes what came before it and leaves what comes after."""
    assert await stub.delete_all_between() == [{"y": 1}, {}, {"a": 1, "b": 2, "c": 3}]

    await durable.testing.evict(stub)
    assert await stub.read() == {"y": 1}


async def test_a_write_that_nobody_awaits_in_a_plain_method_is_there(
    store: Store, stub: durable.Stub[Box], start: Start[Any]
) -> None:
    """And the answer of the method has waited for it."""
    with store.faults.hold_commits():
        call = start(stub.put_and_return())
        await store.settle()
        assert not call.done
    await call.result()

    await durable.testing.evict(stub)
    assert (await stub.read())["a"] == "plain"


async def test_all_acts_at_the_call_whatever_becomes_of_the_answer(
    stub: durable.Stub[Box],
) -> None:
    """An answer may be awaited twice, or out of order, and says the same."""

    async def twice(box: Box, ctx: durable.State) -> list[Any]:
        answer = ctx.storage.get("a")
        ctx.storage.put("a", 2)
        first = await answer
        ctx.storage.put("a", 3)
        return [first, await answer, await ctx.storage.get("a")]

    assert await durable.testing.run_in_object(stub, twice) == [1, 1, 3]
