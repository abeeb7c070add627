"""What crosses by reference: functions, async generators; and that it is freed."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

import durable

from .conftest import Pair

pytestmark = pytest.mark.anyio


class Source(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: object) -> None:
        super().__init__(ctx, env)
        self.made = 0
        self.ended = 0

    async def count(self, to: int, fail_at: int = -1) -> AsyncIterator[int]:
        try:
            for number in range(to):
                if number == fail_at:
                    raise ValueError("no more")
                self.made += 1
                yield number
        finally:
            self.ended += 1

    async def state(self) -> tuple[int, int]:
        return self.made, self.ended

    async def wait_for_ever(self) -> AsyncIterator[int]:
        try:
            await anyio.sleep_forever()
            yield 1
        finally:
            self.ended += 1

    async def call(self, fn: Callable[[int], Awaitable[int]], value: int) -> int:
        return await fn(value) + 1

    async def give(self) -> Callable[[int], Awaitable[int]]:
        async def double(value: int) -> int:
            self.made += 1
            return value * 2

        return double

    async def same(self, fn: object) -> object:
        return fn


async def test_items_are_made_one_by_one_as_they_are_asked_for(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    items = source.count(1_000)
    assert await source.state() == (0, 0)

    assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    assert await source.state() == (3, 0)


async def test_a_generator_is_consumed_to_its_end(pair: Pair) -> None:
    source = pair.stub(Source, "a")

    assert [item async for item in source.count(20)] == list(range(20))
    assert await source.state() == (20, 1)


async def test_a_generator_ends_when_its_consumer_leaves(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    async for item in source.count(20):
        if item == 3:
            break
    del item
    gc.collect()
    await source.state()

    assert await source.state() == (4, 1)


async def test_closing_a_stream_waits_for_the_end_of_the_generator(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    items = source.count(20)
    await anext(items)
    await items.aclose()

    assert await pair.local(Source, "a").state() == (1, 1)


async def test_a_consumer_that_gives_up_an_item_ends_the_generator(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    items = source.wait_for_ever()
    with anyio.move_on_after(0.1):
        await anext(items)

    while (await source.state())[1] == 0:
        await anyio.sleep(0.01)


async def test_what_a_generator_raises_arrives(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    items = source.count(20, fail_at=2)

    assert [await anext(items), await anext(items)] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        await anext(items)


async def test_a_generator_ends_with_the_process_of_its_consumer(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    items = source.count(20)
    await anext(items)
    pair.peer.close()

    local = pair.local(Source, "a")
    while (await local.state())[1] == 0:
        await anyio.sleep(0.01)
    with pytest.raises(durable.ObjectUnreachable, match=r"^count\(\) of Source\('a'\)") as caught:
        await anext(items)
    assert caught.value.object_id == str(source.id)


async def test_a_function_is_called_where_it_came_from(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    called = []

    async def add(value: int) -> int:
        called.append(value)
        return value + 10

    assert await source.call(add, 1) == 12
    assert called == [1]


async def test_what_a_function_raises_arrives(pair: Pair) -> None:
    source = pair.stub(Source, "a")

    async def refuse(value: int) -> int:
        raise KeyError(value)

    with pytest.raises(KeyError) as caught:
        await source.call(refuse, 7)
    assert caught.value.args == (7,)


async def test_a_function_of_an_object_runs_through_its_gate_and_keeps_it(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    double = await source.give()

    assert await double(4) == 8
    assert (await source.state())[0] == 1
    activation = pair.objects.runtime._directory.live(source.id)
    assert activation is not None
    assert activation.pins == 1
    del double
    gc.collect()
    await source.state()
    assert activation.pins == 0
    assert len(pair.objects.crossing.things) == 0


async def test_a_function_that_comes_home_is_itself(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    double = await source.give()

    again = await source.same(double)
    assert await again(3) == 6  # type: ignore[operator]
    del double, again
    gc.collect()
    await source.state()
    await source.state()
    assert len(pair.callers.crossing.things) == 0
    assert len(pair.objects.crossing.things) == 0


async def test_what_was_handed_over_is_freed_when_the_connection_ends(pair: Pair) -> None:
    source = pair.stub(Source, "a")
    double = await source.give()
    assert len(pair.objects.crossing.things) == 1
    pair.peer.close()
    while len(pair.objects.crossing.things):
        await anyio.sleep(0.01)

    with pytest.raises(durable.ObjectUnreachable):
        await double(1)


async def test_processes_ask_each_other_by_name(pair: Pair) -> None:
    async def later(peer: object, value: int) -> int:
        await anyio.sleep(0)
        return value + 1

    pair.objects.crossing.requests["now"] = lambda peer, value: [value]
    pair.objects.crossing.requests["later"] = later

    assert await pair.peer.request("now", {"a": 1}) == [{"a": 1}]
    assert await pair.peer.request("later", 1) == 2
    with pytest.raises(durable.DurableError, match="does not know"):
        await pair.peer.request("never")
