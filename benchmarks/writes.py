"""What does a durable increment cost? Beside it: lmdb by hand, a put and a commit with its fsync.

One caller waits for each of its increments, so it waits for the disk. A thousand callers share a
commit, as a thousand puts share a transaction of lmdb's; what the library costs then is its own
work.

One caller stands beside two of them: a commit in the caller's own thread, where nothing else goes
on meanwhile, and one in a thread that then wakes the caller, as an event loop has to.

Where the disk is quick the loop itself waits for the commit of a lone caller. What that costs the
others is how late a ticker wakes that sleeps for a millisecond at a time, beside such a caller and
beside one that commits in a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.lowlevel
import lmdb
import ormsgpack
import sniffio
import trio

import durable

from .harness import Row, Setting, Work, compare, main, rate_at_least, together

MAP_SIZE = 1 << 30
TICK_S = 0.001


class Counter(durable.DurableObject):
    """Counts, and answers when the count is on disk."""

    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value


def plain_puts(folder: Path, keys: int) -> Work:
    """Increments by hand: *keys* puts a transaction, each commit an fsync."""
    environment = lmdb.open(str(folder), map_size=MAP_SIZE)
    value = 0

    async def work(count: int) -> None:
        nonlocal value
        for _ in range(count // keys):
            value += 1
            with environment.begin(write=True) as transaction:
                for number in range(keys):
                    transaction.put(b"%016d" % number, ormsgpack.packb(value))

    return work


@contextmanager
def plain_thread(folder: Path) -> Iterator[Work]:
    """The same, one by one, by a thread that takes each from a queue and wakes who waits."""
    environment = lmdb.open(str(folder), map_size=MAP_SIZE)
    asked: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
    if sniffio.current_async_library() == "trio":
        call_soon: Any = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        call_soon = asyncio.get_running_loop().call_soon_threadsafe

    def commit() -> None:
        value = 0
        while (wake := asked.get()) is not None:
            value += 1
            with environment.begin(write=True) as transaction:
                transaction.put(b"value", ormsgpack.packb(value))
            call_soon(wake)

    async def work(count: int) -> None:
        for _ in range(count):
            committed = anyio.Event()
            asked.put(committed.set)
            await committed.wait()

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        yield work
    finally:
        asked.put(None)
        thread.join()


async def ask(setting: Setting) -> list[Row]:
    callers = setting.pick(20, 1_000, 1_000)
    async with durable.open(setting.new_folder(), bindings={"COUNTERS": Counter}) as runtime:
        counters = runtime.env.COUNTERS
        return [
            *await one_caller(setting, counters),
            await ticker(setting, counters),
            await many_callers(setting, counters, callers, objects=callers),
            await many_callers(setting, counters, callers, objects=1),
        ]


async def one_caller(setting: Setting, counters: Any) -> list[Row]:
    stub = counters.get_by_name("one caller")

    async def ours(count: int) -> None:
        for _ in range(count):
            await stub.increment()

    what = "durable increment, one caller"
    rounds, count = setting.pick(3, 300, 1_000), setting.pick(2, 5, 10)
    plain = plain_puts(setting.new_folder(), 1)
    alone = await compare(ours, plain, rounds=rounds, count=count)
    with plain_thread(setting.new_folder()) as plain:
        beside_thread = await compare(ours, plain, rounds=rounds, count=count)
    return [
        Row(what, "µs", alone[0], "put + commit", alone[1], rate_at_least(0.6)),
        Row(what, "µs", beside_thread[0], "the same in a thread", beside_thread[1]),
    ]


async def ticker(setting: Setting, counters: Any) -> Row:
    stub = counters.get_by_name("beside a ticker")

    async def lateness(call: Callable[[], Awaitable[object]]) -> list[float]:
        late: list[float] = []

        async def tick() -> None:
            for _ in range(setting.pick(3, 50, 100)):
                began_s = time.perf_counter()
                await anyio.sleep(TICK_S)
                late.append((time.perf_counter() - began_s - TICK_S) * 1e6)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            while True:
                await call()
                await anyio.lowlevel.checkpoint()
        return late

    figures: tuple[list[float], list[float]] = ([], [])
    with plain_thread(setting.new_folder()) as plain:
        for _ in range(setting.pick(2, 20, 50)):
            figures[0].extend(await lateness(stub.increment))
            figures[1].extend(await lateness(lambda: plain(1)))
    what = "a tick of 1 ms beside one caller, late by"
    return Row(what, "µs", figures[0], "beside commits in a thread", figures[1])


async def many_callers(setting: Setting, counters: Any, callers: int, *, objects: int) -> Row:
    stubs = [counters.get_by_name(f"{objects}: {number % objects}") for number in range(callers)]
    each = setting.pick(1, 20, 20)

    async def call(number: int) -> None:
        increment = stubs[number].increment
        for _ in range(each):
            await increment()

    async def ours(count: int) -> None:
        assert count == callers * each
        await together(callers, call)

    plain = plain_puts(setting.new_folder(), callers)
    figures = await compare(ours, plain, rounds=setting.pick(2, 21, 51), count=callers * each)
    where = "one object" if objects == 1 else f"{objects:,} objects"
    what = f"durable increments, {callers:,} callers on {where}"
    beside = f"{callers:,} puts a commit"
    aim = rate_at_least(0.055 if objects == 1 else 0.045)
    return Row(what, "µs", figures[0], beside, figures[1], aim)


if __name__ == "__main__":
    main(__doc__, ask)
