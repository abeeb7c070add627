"""Opening a store under odd circumstances."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio

import durable


class Note(durable.DurableObject):
    async def write(self, text: str) -> None:
        await self.ctx.storage.put("text", text)

    async def read(self) -> str | None:
        text: str | None = await self.ctx.storage.get("text")
        return text


async def test_a_store_opened_by_who_is_cancelled_already_is_closed_again(tmp_path: Path) -> None:
    """The next one to open it finds it free."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with durable.open(tmp_path):
            await anyio.sleep_forever()
    async with durable.open(tmp_path) as runtime:
        await runtime.namespace(Note).get_by_name("a").write("free")

    assert scope.cancelled_caught


async def test_a_cancelled_opening_within_a_task_group_is_closed_again(tmp_path: Path) -> None:
    """Wherever in the opening the cancellation meets it."""
    for rounds in range(6):
        async with anyio.create_task_group() as tasks:

            async def open_and_wait() -> None:
                async with durable.open(tmp_path):
                    await anyio.sleep_forever()

            tasks.start_soon(open_and_wait)
            for _ in range(rounds):
                await anyio.sleep(0)
            tasks.cancel_scope.cancel()
    async with durable.open(tmp_path) as runtime:
        assert await runtime.namespace(Note).get_by_name("a").read() is None


async def test_an_alarm_waits_for_a_program_that_knows_its_class(tmp_path: Path) -> None:
    """A store opened without the class loses nothing; with it, the alarm rings."""

    class Sleeper(durable.DurableObject):
        async def set(self) -> None:
            await self.ctx.storage.set_alarm(1.0)

        async def alarm(self) -> None:
            await self.ctx.storage.put("rang", True)

        async def rang(self) -> bool:
            rang: bool = await self.ctx.storage.get("rang", False)
            return rang

    async with durable.open(tmp_path, bindings={"NOTES": Note, "SLEEPERS": Sleeper}) as runtime:
        await runtime.namespace(Note).get_by_name("a").write("x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.env.SLEEPERS.get_by_name("a").set)
    async with durable.open(tmp_path, bindings={"NOTES": Note}):
        await anyio.sleep(0.01)
    async with durable.open(tmp_path, bindings={"SLEEPERS": Sleeper}) as runtime:
        with anyio.fail_after(5):
            while not await runtime.env.SLEEPERS.get_by_name("a").rang():
                await anyio.sleep(0.001)


def test_two_loops_in_two_threads_have_a_store_each(tmp_path: Path) -> None:
    """One of asyncio and one of Trio, which is imported by one thread while the other opens."""
    program = f"""
import threading
import anyio
import durable


class Counter(durable.DurableObject):
    async def count(self):
        value = await self.ctx.storage.get("value", 0) + 1
        await self.ctx.storage.put("value", value)
        return value


def run(backend, number):
    async def main():
        async with durable.open(f"{tmp_path}/{{number}}") as runtime:
            counter = runtime.namespace(Counter).get_by_name("a")
            for _ in range(20):
                counted.append(await counter.count())

    anyio.run(main, backend=backend)


counted = []
backends = ["asyncio", "trio", "asyncio", "trio"]
threads = [threading.Thread(target=run, args=(b, n)) for n, b in enumerate(backends)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(counted) == sorted([*range(1, 21)] * 4), counted
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)

    assert ran.returncode == 0, ran.stderr
