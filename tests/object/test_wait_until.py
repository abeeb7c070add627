"""Work beside the event: `ctx.wait_until`, and tasks that outlive the handler that began them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

import durable

seen: list[str] = []


class Worker(durable.DurableObject):
    """Goes on working after it has answered."""

    async def begin(self, stub: Any, door: Any) -> None:
        self.ctx.wait_until(self.work(stub, door))

    async def work(self, stub: Any, door: Any) -> None:
        await door()
        stub.note("called by the work")
        self.note("the work has ended")

    def note(self, text: str) -> None:
        seen.append(text)


async def test_a_call_made_by_the_last_step_of_such_work_is_delivered(
    runtime: durable.Runtime,
) -> None:
    """The end of a task lets in whoever waits, although the task's event is long answered."""
    seen.clear()
    opened = anyio.Event()
    stub = runtime.namespace(Worker).get_by_name("a")
    await stub.begin(stub, opened.wait)
    opened.set()
    with anyio.fail_after(5):
        while len(seen) < 2:
            await anyio.lowlevel.checkpoint()

    assert seen == ["the work has ended", "called by the work"]


class Sender(durable.DurableObject):
    """Answers at once, and writes when its work is done."""

    async def send(self) -> None:
        self.ctx.wait_until(self.deliver())

    async def deliver(self) -> None:
        await anyio.sleep(0.02)
        self.ctx.storage.put("sent", True)

    async def was_sent(self) -> bool:
        return bool(await self.ctx.storage.get("sent", False))


async def test_closing_the_runtime_lets_such_work_end(tmp_path: Path) -> None:
    """Within the grace time, as it does deliveries; what it wrote is committed."""
    async with durable.open(tmp_path / "store") as runtime:
        await runtime.namespace(Sender).get_by_name("a").send()

    async with durable.open(tmp_path / "store") as runtime:
        assert await runtime.namespace(Sender).get_by_name("a").was_sent()
