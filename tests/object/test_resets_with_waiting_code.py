"""Objects that are reset while their handlers wait: what is left of those."""

from __future__ import annotations

import gc
import logging
from typing import Any

import anyio
import pytest

import durable
from durable.testing import VirtualClock, abort_all

ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh(caplog: pytest.LogCaptureFixture) -> None:
    ran.clear()
    # Its records have the reasons of the resets, which have come by the objects' code.
    caplog.set_level(logging.CRITICAL, "durable")


class Waiting(durable.DurableObject):
    """Waits for what never comes, in several ways."""

    async def outside(self, payload: bytes) -> None:
        try:
            with anyio.CancelScope():
                await anyio.Event().wait()
        except BaseException:
            ran.append("except")
            raise
        finally:
            ran.append("finally")

    async def in_tasks(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.outside, b"")
                await self.outside(b"")
        finally:
            ran.append("finally")

    async def beside(self) -> None:
        self.ctx.wait_until(self.outside(b""))

    async def asleep(self) -> None:
        try:
            with anyio.fail_after(1_000):
                await anyio.sleep(1_000)
        finally:
            ran.append("finally")

    async def items(self) -> Any:
        try:
            yield 1
            await self.outside(b"")
        finally:
            ran.append("finally")

    def quit(self) -> None:
        self.ctx.abort("enough")

    def count(self) -> int:
        return 1


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Waiting) for thing in gc.get_objects())


async def refused(answer: Any) -> None:
    with pytest.raises(durable.ObjectReset):
        await answer


@pytest.mark.backends("asyncio", "trio")
async def test_resets_leave_nothing_in_memory(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Thousands of them, each with a handler that waits."""

    async def reset_often(times: int) -> int:
        for _ in range(times):
            stub = runtime.namespace(Waiting).get_by_name("a")
            waiting = stub.outside(b"x" * 1_000)
            await refused(stub.quit())
            await refused(waiting)
        await clock.advance(60)
        gc.collect()
        return len(gc.get_objects())

    before = await reset_often(100)
    after = await reset_often(4_000)

    assert after - before < 1_000
    assert len(ran) == 2 * 4_100
    assert runtime.statistics().abandoned == 0


@pytest.mark.parametrize("method", ["outside", "in_tasks", "beside", "asleep", "items"])
async def test_waiting_code_of_every_kind_ends(
    runtime: durable.Runtime, clock: VirtualClock, method: str
) -> None:
    """Handlers, their tasks, `wait_until` and streams: freed, and nothing else takes harm."""
    waiting = runtime.namespace(Waiting)

    async def start_and_reset() -> None:
        stub = waiting.get_by_name("a")
        async with anyio.create_task_group() as tasks:
            match method:
                case "outside":
                    tasks.start_soon(refused, stub.outside(b""))
                case "asleep":
                    tasks.start_soon(refused, stub.asleep())
                case "in_tasks":
                    tasks.start_soon(refused, stub.in_tasks())
                case "beside":
                    await stub.beside()
                case "items":
                    stream = stub.items()
                    assert await anext(stream) == 1
                    tasks.start_soon(refused, anext(stream))
            await clock.settle()
            await abort_all(runtime)
        assert await waiting.get_by_name("a").count() == 1

    await start_and_reset()
    with anyio.fail_after(5):
        while alive() > 1:  # on Trio a task looks now and then whether those in it have ended
            await anyio.sleep(0.001)
    assert ran[-1] == "finally"
    assert runtime.statistics().abandoned == 0


async def test_work_that_has_ended_is_not_kept(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Not its task either: `wait_until`, a body that the program makes, a function of its own."""

    class Worker(durable.DurableObject):
        async def fetch(self, request: durable.Request) -> durable.Response:
            return durable.Response(await request.text())

        async def work(self, tell: Any) -> None:
            self.ctx.wait_until(tell())

    async def tell() -> None:
        await anyio.lowlevel.checkpoint()

    async def chunks() -> Any:
        yield b"chunk"

    async def use(times: int) -> int:
        stub = runtime.namespace(Worker).get_by_name("a")
        for _ in range(times):
            await stub.work(tell)
            await stub.fetch("https://a/", method="POST", body=chunks())
        await clock.settle()
        gc.collect()
        return len(gc.get_objects())

    before = await use(10)
    assert await use(300) - before < 100
