"""A program whose tasks start eagerly: its task groups work, and an object's tasks are gated."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks yet")


class Counter(durable.DurableObject):
    """Counts, the slow way, in tasks of its own."""

    async def count(self) -> int:
        value = await self.ctx.storage.get("value", 0, no_cache=True)
        await self.ctx.storage.put("value", value + 1)
        return value + 1

    async def count_in_tasks(self, times: int) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(times):
                tasks.start_soon(self.wait_and_count)

    async def count_in_tasks_of_asyncio(self, times: int) -> None:
        await asyncio.gather(*(self.wait_and_count() for _ in range(times)))

    async def wait_and_count(self) -> None:
        with anyio.move_on_after(5):
            await anyio.sleep(0.001)
            await self.count()


def run_eagerly(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        if sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await main()

    asyncio.run(run())


def test_task_groups_of_the_program_work_beside_a_runtime(tmp_path: Path) -> None:
    """Tasks that call objects, that sleep, that have cancel scopes."""

    async def main() -> None:
        async with durable.open(tmp_path) as runtime:
            counters = runtime.namespace(Counter)
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(counters.get_by_name("a").count)
                tasks.start_soon(anyio.sleep, 0.001)
            assert await counters.get_by_name("a").count() == 21
            with anyio.move_on_after(0.001) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught

    run_eagerly(main)


@pytest.mark.parametrize("how", ["count_in_tasks", "count_in_tasks_of_asyncio"])
def test_tasks_of_objects_are_gated(tmp_path: Path, how: str) -> None:
    """Reading, then writing, needs no lock between tasks of different deliveries."""

    async def main() -> None:
        async with durable.open(tmp_path, reads="thread") as runtime:
            stub: Any = runtime.namespace(Counter).get_by_name("a")
            await stub.count()
            await durable.testing.evict(stub)
            await asyncio.gather(*(getattr(stub, how)(1) for _ in range(10)))
            assert await stub.count() == 12

    run_eagerly(main)


def test_the_programs_task_factory_comes_back(tmp_path: Path) -> None:
    """After the last of the runtimes that were open, in whatever order they close."""

    async def main() -> None:
        before = asyncio.get_running_loop().get_task_factory()
        async with durable.open(tmp_path / "a"):
            async with durable.open(tmp_path / "b"):
                pass
            async with durable.open(tmp_path / "b") as runtime:
                assert await runtime.namespace(Counter).get_by_name("a").count() == 1
        assert asyncio.get_running_loop().get_task_factory() is before

    run_eagerly(main)
