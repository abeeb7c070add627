"""P7: writes made with no await of the outside between them commit together or not at all."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Store

DOORS: dict[str, anyio.Event] = {}


class Account(durable.DurableObject):
    """Writes in turns: what is written in one is all there, or nothing is."""

    async def write_in_one_turn(self) -> None:
        storage = self.ctx.storage
        storage.put("a", 1)
        await storage.put("b", 2)  # no wait on the outside
        await storage.get("never stored")
        storage.delete("c")
        storage.put({"d": 4, "e": 5})
        storage.set_alarm(1e10)

    async def write_in_two_turns(self) -> None:
        self.ctx.storage.put({"a": 1, "b": 2})
        await self.ctx.confirmed()  # so that the two cannot share one commit
        self.ctx.storage.put({"c": 3, "d": 4})

    async def write_and_raise(self) -> None:
        self.ctx.storage.put({"a": 1, "b": 2})
        raise ValueError("after the writes")

    async def write_and_abort(self) -> None:
        self.ctx.storage.put("a", 1)
        await self.ctx.storage.put("b", 2)
        self.ctx.abort("changed my mind")

    async def write_wait_write_abort(self) -> None:
        self.ctx.storage.put("a", 1)
        await anyio.sleep(0.001)
        self.ctx.storage.put("b", 2)
        self.ctx.abort("changed my mind")

    async def put_many_with_a_bad_one(self) -> str:
        try:
            self.ctx.storage.put({"a": 1, "b": object()})
        except durable.UnstorableValue as error:
            return error.where
        return "nothing raised"

    async def alarm(self) -> None:
        self.ctx.storage.put({"rung": True, "twice": True})
        self.ctx.storage.set_alarm(2e10)

    async def all(self) -> tuple[dict[str, Any], bool]:
        return await self.ctx.storage.list(), await self.ctx.storage.get_alarm() is not None


async def all_of(store: Store) -> tuple[dict[str, Any], bool]:
    """What a fresh process finds."""
    store.faults.repair()
    async with store.open() as runtime:
        return await runtime.namespace(Account).get_by_name("a").all()


async def test_the_writes_of_a_turn_are_one_commit(store: Store) -> None:
    """Awaits of the storage do not end a turn: one commit, the alarm in it."""
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        store.faults.lose_power(after=1)
        await stub.write_in_one_turn()

    assert await all_of(store) == ({"a": 1, "b": 2, "d": 4, "e": 5}, True)


async def test_the_writes_of_a_turn_that_does_not_reach_the_disk_are_all_gone(
    store: Store,
) -> None:
    """Values, deletions and the alarm alike."""
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        store.faults.lose_power()
        with pytest.raises(durable.CommitFailed):
            await stub.write_in_one_turn()

    assert await all_of(store) == ({}, False)


async def test_a_wait_on_the_outside_begins_another_commit(store: Store) -> None:
    """What was written before it is kept although what came after is lost."""
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        store.faults.lose_power(after=1)
        with pytest.raises(durable.CommitFailed):
            await stub.write_in_two_turns()

    assert await all_of(store) == ({"a": 1, "b": 2}, False)


async def test_an_exception_of_a_handler_undoes_no_writes(store: Store) -> None:
    """As in Cloudflare's runtime: the caller gets the exception when the writes are on disk."""
    async with store.open() as runtime:
        with pytest.raises(ValueError, match="after the writes"):
            await runtime.namespace(Account).get_by_name("a").write_and_raise()

    assert await all_of(store) == ({"a": 1, "b": 2}, False)


async def test_an_abort_drops_the_writes_of_its_turn(store: Store) -> None:
    """All of them: also the ones that were awaited."""
    async with store.open() as runtime:
        with pytest.raises(durable.ObjectAborted):
            await runtime.namespace(Account).get_by_name("a").write_and_abort()

    assert await all_of(store) == ({}, False)


async def test_an_abort_keeps_the_writes_of_earlier_turns(store: Store) -> None:
    """They were sealed when the handler went to wait on the outside."""
    async with store.open() as runtime:
        with pytest.raises(durable.ObjectAborted):
            await runtime.namespace(Account).get_by_name("a").write_wait_write_abort()

    assert await all_of(store) == ({"a": 1}, False)


async def test_a_put_of_many_is_all_or_nothing_at_the_call(store: Store) -> None:
    """One value that cannot be stored, and none of them is written."""
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        await stub.put_many_with_a_bad_one()
        assert await stub.all() == ({}, False)


async def test_an_alarm_s_writes_and_its_end_are_one_commit(store: Store) -> None:
    """A run whose commit was lost has left nothing, and the alarm rings again."""
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.set_alarm(1))
        store.faults.lose_power()
        await store.settle()

    store.faults.repair()
    async with store.open() as runtime:
        stub = runtime.namespace(Account).get_by_name("a")
        await store.settle()
        values, has_alarm = await stub.all()
        assert values == {"rung": True, "twice": True}
        assert has_alarm


class Switch(durable.DurableObject):
    """A pair that must always be equal."""

    async def flip(self, count: int) -> None:
        for number in range(count):
            self.ctx.storage.put("left", number)
            self.ctx.storage.put("right", number)
            await anyio.sleep(0.0001)

    async def pair(self) -> list[int | None]:
        return [await self.ctx.storage.get("left"), await self.ctx.storage.get("right")]


@pytest.mark.parametrize("after", range(0, 20, 3))
async def test_wherever_the_power_fails_no_turn_is_half_there(store: Store, after: int) -> None:
    """A pair that is written in one turn is never seen apart."""
    async with store.open() as runtime:
        store.faults.lose_power(after=after)
        try:
            await runtime.namespace(Switch).get_by_name("a").flip(10)
        except durable.CommitFailed:
            pass

    store.faults.repair()
    async with store.open() as runtime:
        left, right = await runtime.namespace(Switch).get_by_name("a").pair()
        assert left == right


async def test_writes_made_in_a_callback_of_the_loop_are_committed(
    store: Store, runtime: durable.Runtime
) -> None:
    """Code outside of any turn, such as a result that another task brings, may write too."""
    stub = runtime.namespace(Account).get_by_name("a")
    kept: list[durable.State] = []
    await durable.testing.run_in_object(stub, lambda _, ctx: kept.append(ctx))

    kept[0].storage.put("from outside", 1)
    await store.settle()
    await durable.testing.evict(stub)

    assert (await stub.all())[0] == {"from outside": 1}
