"""The ways of calling a stub: what is a method, what is none, and everything that takes a call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable


class Base(durable.DurableObject):
    def inherited(self) -> str:
        return "inherited"

    async def inherited_and_waiting(self, a: int, *, b: int = 2) -> tuple[int, int]:
        return a, b


class Mixin:
    def mixed_in(self) -> str:
        return "mixed in"


class Thing(Mixin, Base):
    """Has a method of every kind, and things that are none."""

    class_attribute = 5

    def __init__(self, ctx: durable.State, env: durable.Env) -> None:
        super().__init__(ctx, env)
        self.of_the_instance = lambda: 1
        self.calls = 0

    def plain(self, a: Any, b: Any = 2, *args: Any, c: Any = 3, **more: Any) -> Any:
        return a, b, args, c, more

    @staticmethod
    def static(x: int) -> int:
        return x * 2

    @staticmethod
    async def static_and_waiting(x: int) -> int:
        return x * 3

    @classmethod
    def of_the_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @classmethod
    async def of_the_class_and_waiting(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @property
    def a_property(self) -> int:
        return 1

    def _private(self) -> int:
        return 1

    async def alarm(self) -> None: ...

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("fetched")

    async def get(self, key: str) -> str:
        return key

    async def count(self) -> int:
        self.calls += 1
        return self.calls

    async def wait(self, door: Any) -> int:
        await door()
        self.calls += 1
        return self.calls

    async def fail(self) -> None:
        error = LookupError("the author's")
        error.code = 42  # type: ignore[attr-defined]
        raise error

    async def fail_in_a_group(self) -> None:
        raise ExceptionGroup("both", [LookupError("a"), KeyError("b")])

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number


@pytest.fixture
async def things(tmp_path: Path) -> AsyncIterator[durable.Namespace[Thing]]:
    async with durable.open(tmp_path / "store", bindings={"THINGS": Thing}) as runtime:
        yield runtime.env.THINGS


@pytest.fixture
def stub(things: durable.Namespace[Thing]) -> Any:
    return things.get_by_name("a")


async def test_every_public_method_can_be_called(stub: Any) -> None:
    """Plain or waiting, of the instance, the class or neither, its own or inherited."""
    assert await stub.plain(1) == (1, 2, (), 3, {})
    assert await stub.plain(1, 4, 5, 6, c=7, d=8) == (1, 4, (5, 6), 7, {"d": 8})
    assert [await stub.static(4), await stub.static_and_waiting(4)] == [8, 12]
    assert await stub.of_the_class(1) == ("Thing", 1)
    assert await stub.of_the_class_and_waiting(1) == ("Thing", 1)
    assert await stub.inherited() == "inherited"
    assert await stub.inherited_and_waiting(1, b=5) == (1, 5)
    assert await stub.mixed_in() == "mixed in"
    assert await stub.get("a name that stubs do not keep for themselves")
    assert [number async for number in stub.numbers(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "name",
    [
        "_private", "a_property", "class_attribute", "of_the_instance", "alarm", "missing",
        "websocket_message", "websocket_close", "websocket_error", "ctx", "env",
    ],
)  # fmt: skip
async def test_nothing_else_can(stub: Any, name: str) -> None:
    """The error names what was called."""
    with pytest.raises(durable.NoSuchMethod, match=name) as caught:
        await getattr(stub, name)()

    assert isinstance(caught.value, AttributeError)


async def test_a_call_that_nobody_awaits_happens(stub: Any) -> None:
    """So does one whose error nobody hears; neither warns."""
    stub.count()
    stub.fail()
    gc.collect()

    assert await stub.count() == 2


async def test_an_answer_can_be_awaited_again(stub: Any) -> None:
    """The call is not made again."""
    answer = stub.count()

    assert [await answer, await answer, await stub.count()] == [1, 1, 2]


async def test_task_groups_take_methods(stub: Any) -> None:
    """`start_soon` of anyio, with arguments, for `fetch` too."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.count)
        tasks.start_soon(stub.plain, 5)
        tasks.start_soon(stub.fetch, "http://a/")

    assert await stub.count() == 2


@pytest.mark.backends("trio")
async def test_nurseries_take_methods(stub: Any) -> None:
    """As they take async functions."""
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stub.count)
        nursery.start_soon(stub.plain, 5)

    assert await stub.count() == 2


@pytest.mark.backends("asyncio", "uvloop")
async def test_whatever_takes_a_coroutine_takes_a_call(stub: Any) -> None:
    """All of asyncio's ways, in the order of the calls."""
    assert await asyncio.gather(*(stub.count() for _ in range(3))) == [1, 2, 3]
    assert await asyncio.gather(asyncio.ensure_future(stub.count()), stub.count()) == [4, 5]
    assert await asyncio.wait_for(stub.count(), 5) == 6
    assert await asyncio.shield(stub.count()) == 7
    assert await asyncio.create_task(stub.count()) == 8
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stub.count()) for _ in range(2)]
    assert [task.result() for task in tasks] == [9, 10]
    done, _ = await asyncio.wait([asyncio.ensure_future(stub.count())])
    assert [task.result() for task in done] == [11]
    assert sorted([await call for call in asyncio.as_completed([stub.count(), stub.count()])]) == [
        12,
        13,
    ]
    error, value = await asyncio.gather(stub.fail(), stub.count(), return_exceptions=True)
    assert isinstance(error, LookupError)
    assert value == 14


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_cancelled_task_ends_at_once_and_the_call_goes_on(stub: Any) -> None:
    """Whether by a timeout or by `cancel`, before its first step too."""
    door = anyio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await stub.wait(door.wait)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stub.wait(door.wait), 0.001)
    for rounds in range(2):
        task = asyncio.create_task(stub.wait(door.wait))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    door.set()
    with anyio.fail_after(5):
        while await stub.plain(0) and await stub.count() < 5:
            await asyncio.sleep(0.001)


async def test_an_error_is_the_authors_own(stub: Any) -> None:
    """With its attributes; a group with its members."""
    with pytest.raises(LookupError, match="the author's") as caught:
        await stub.fail()
    assert type(caught.value) is LookupError
    assert caught.value.code == 42  # type: ignore[attr-defined]

    with pytest.raises(ExceptionGroup) as group:
        await stub.fail_in_a_group()
    assert [type(error) for error in group.value.exceptions] == [LookupError, KeyError]

    with pytest.raises(TypeError):
        await stub.static()
