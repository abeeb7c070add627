"""Cancel scopes and time limits in an object's code, while its gate is closed to that code.

The time runs out while another delivery has the object for itself: the cancellation is heard where
the code waits, once it may go on, and the scope knows about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

BRIEFLY_S = 0.05
LONGER_S = 0.25


class Hasty(durable.DurableObject):
    """Gives up early, in many ways; each answers whether it knows that it has given up."""

    def __init__(self, ctx: durable.State, env: durable.Env) -> None:
        super().__init__(ctx, env)
        self.log: list[str] = []

    async def seed(self) -> None:
        await self.ctx.storage.put({"a": 1, "b": 2})

    async def occupy(self, seconds: float) -> None:
        async def section() -> None:
            self.log.append("begun")
            await anyio.sleep(seconds)
            self.log.append("ended")

        await self.ctx.block_concurrency_while(section)

    def logged(self) -> list[str]:
        return self.log

    async def moves_on(self) -> bool:
        with anyio.move_on_after(BRIEFLY_S) as scope:
            await anyio.sleep(10)
        self.log.append("gave up")
        await self.ctx.storage.put("c", 3)
        return scope.cancelled_caught

    async def fails(self) -> bool:
        try:
            with anyio.fail_after(BRIEFLY_S):
                await anyio.sleep(10)
        except TimeoutError:
            self.log.append("gave up")
            return True
        return False

    async def shields(self) -> bool:
        with anyio.move_on_after(BRIEFLY_S) as outer:
            with anyio.CancelScope(shield=True), anyio.move_on_after(BRIEFLY_S) as inner:
                await anyio.sleep(10)
            await self.ctx.storage.get("a")
            await anyio.sleep(10)
        self.log.append("gave up")
        await anyio.sleep(0)
        return outer.cancelled_caught and inner.cancelled_caught

    async def cancels_its_tasks(self) -> bool:
        first: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def run(number: int) -> None:
                await anyio.sleep(BRIEFLY_S)
                await self.ctx.storage.get("b", no_cache=True)
                first.append(number)
                tasks.cancel_scope.cancel()

            for number in range(5):
                tasks.start_soon(run, number)
        self.log.append("gave up")
        return bool(first)

    async def gives_a_call_up(self, other: durable.Stub[Hasty]) -> bool:
        with anyio.move_on_after(BRIEFLY_S) as scope:
            await other.occupy(LONGER_S)
        self.log.append("gave up")
        return scope.cancelled_caught

    async def fails_as_asyncio_does(self) -> bool:
        try:
            async with asyncio.timeout(BRIEFLY_S):
                await asyncio.sleep(10)
        except TimeoutError:
            self.log.append("gave up")
            await asyncio.sleep(0.001)
        task = asyncio.current_task()
        return task is not None and not task.cancelling()

    async def waits_as_asyncio_does(self) -> bool:
        try:
            await asyncio.wait_for(asyncio.sleep(10), BRIEFLY_S)
        except TimeoutError:
            self.log.append("gave up")
            return True
        return False


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[durable.Namespace[Hasty]]:
    async with durable.open(tmp_path / "store") as runtime:
        yield runtime.namespace(Hasty)


async def check(hasty: durable.Namespace[Hasty], how: str, is_occupied: bool) -> None:
    stub: Any = hasty.get_by_name("a")
    await stub.seed()
    await durable.testing.evict(stub)
    with anyio.fail_after(5):
        arguments = [hasty.get_by_name("b")] if how == "gives_a_call_up" else []
        call = getattr(stub, how)(*arguments)
        if is_occupied:
            await stub.occupy(LONGER_S)
        assert await call
        await stub.occupy(0)

        first = ["begun", "ended"] if is_occupied else []
        assert await stub.logged() == [*first, "gave up", "begun", "ended"]


@pytest.mark.parametrize("is_occupied", [False, True])
@pytest.mark.parametrize(
    "how", ["moves_on", "fails", "shields", "cancels_its_tasks", "gives_a_call_up"]
)
async def test_a_time_limit_of_anyio_holds(
    hasty: durable.Namespace[Hasty], how: str, is_occupied: bool
) -> None:
    """On every loop, whoever has the object meanwhile."""
    await check(hasty, how, is_occupied)


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("is_occupied", [False, True])
@pytest.mark.parametrize("how", ["fails_as_asyncio_does", "waits_as_asyncio_does"])
async def test_a_time_limit_of_asyncio_holds(
    hasty: durable.Namespace[Hasty], how: str, is_occupied: bool
) -> None:
    """And the task is left with no cancellation over."""
    await check(hasty, how, is_occupied)
