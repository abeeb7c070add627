"""P3: calls on one stub reach the object in call order, start-up included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Store


class Log(durable.DurableObject):
    """Writes down who came."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.came: list[Any] = []
        ctx.block_concurrency_while(lambda: anyio.sleep(0))

    def note(self, what: Any) -> int:
        self.came.append(what)
        return len(self.came)

    async def note_slowly(self, what: Any) -> int:
        self.came.append(what)
        await anyio.sleep(0)
        return len(self.came)

    async def fetch(self, request: durable.Request) -> durable.Response:
        self.came.append(request.url.path)
        return durable.Response()

    async def items(self, what: Any) -> AsyncIterator[int]:
        self.came.append(what)
        yield 1

    def all(self) -> list[Any]:
        return self.came


class Sender(durable.DurableObject):
    """Calls another object without waiting in between."""

    async def send(self, log: durable.Stub[Log], count: int) -> list[int]:
        answers = []
        for number in range(count):
            if number % 3 == 0:
                # From here on calls wait for the output gate first, and keep their order.
                self.ctx.storage.put("sent", number)
            answers.append(log.note(number))
        return [await answer for answer in answers]


async def test_calls_that_race_the_start_up_arrive_in_call_order(
    runtime: durable.Runtime,
) -> None:
    """Calls that nobody awaited yet reach a new object in the order in which they were made."""
    stub = runtime.namespace(Log).get_by_name("a")

    calls = [stub.note(number) for number in range(50)]

    assert [await call for call in calls] == list(range(1, 51))
    assert await stub.all() == list(range(50))


async def test_the_order_of_awaiting_does_not_matter(runtime: durable.Runtime) -> None:
    """A call takes its place at the call, whenever it is awaited."""
    stub = runtime.namespace(Log).get_by_name("a")
    first, second, third = stub.note(1), stub.note(2), stub.note(3)

    assert await third == 3
    assert await first == 1
    assert await second == 2


async def test_a_call_that_is_never_awaited_still_happens(
    store: Store, runtime: durable.Runtime
) -> None:
    """In its place, and without any warning."""
    stub = runtime.namespace(Log).get_by_name("a")
    stub.note("dropped")
    stub.fetch("https://a/dropped")
    await stub.note("awaited")

    assert await stub.all() == ["dropped", "/dropped", "awaited"]


async def test_kinds_of_calls_keep_one_order(runtime: durable.Runtime) -> None:
    """Fetches and methods, plain, async and those that stream, stand in one line."""
    stub = runtime.namespace(Log).get_by_name("a")
    calls: list[Any] = []
    for number in range(5):
        calls.append(stub.note(number * 10))
        calls.append(stub.fetch(f"https://a/{number}"))
        calls.append(stub.note_slowly(number * 10 + 1))
        calls.append(stub.items(number * 10 + 2).__anext__())
    for call in calls:
        await call

    expected: list[Any] = []
    for number in range(5):
        expected += [number * 10, f"/{number}", number * 10 + 1, number * 10 + 2]
    assert await stub.all() == expected


async def test_order_survives_an_eviction(runtime: durable.Runtime) -> None:
    """The same stub, before and after."""
    stub = runtime.namespace(Log).get_by_name("a")
    await stub.note(0)
    await durable.testing.evict(stub)

    calls = [stub.note(number) for number in range(10)]
    for call in calls:
        await call

    assert await stub.all() == list(range(10))


async def test_an_object_s_calls_keep_their_order_through_its_output_gate(
    runtime: durable.Runtime,
) -> None:
    """Calls that wait for the caller's writes do not overtake, nor are overtaken."""
    sender = runtime.namespace(Sender).get_by_name("s")
    log = runtime.namespace(Log).get_by_name("a")

    await sender.send(log, 20)

    assert await log.all() == list(range(20))


async def test_calls_of_many_tasks_on_one_stub_keep_their_order(
    runtime: durable.Runtime,
) -> None:
    """Order is that of the calls, not that of the tasks that make or await them."""
    stub = runtime.namespace(Log).get_by_name("a")
    made: list[int] = []

    async def call(number: int) -> None:
        made.append(number)
        await stub.note(number)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(call, number)

    assert await stub.all() == made


@pytest.mark.parametrize("name", ["a", "b"])
async def test_an_awaited_answer_can_be_awaited_again(runtime: durable.Runtime, name: str) -> None:
    """The answer of a call is kept; the call happens once."""
    stub = runtime.namespace(Log).get_by_name(name)
    call = stub.note("once")

    assert await call == 1
    assert await call == 1
    assert await stub.all() == ["once"]
