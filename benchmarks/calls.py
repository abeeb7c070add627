"""How long is a call into an object that touches no storage? Beside it: a task made and awaited.

One caller, one object that is live. `await asyncio.create_task(method())` is the least that gives a
call a task of its own, which is what a delivery has; on Trio, a task started in an open nursery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import durable

from .harness import Aim, Row, Setting, Work, compare, main, time_at_most

URL = "https://object/path?query=1"


class Quiet(durable.DurableObject):
    """Does nothing, and says so."""

    async def method(self) -> int:
        return 1

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(status=204)


async def method() -> int:
    return 1


async def tasks_on_asyncio(count: int) -> None:
    for _ in range(count):
        await asyncio.create_task(method())


async def tasks_on_trio(count: int) -> None:
    import trio

    async def run(done: trio.Event) -> None:
        await method()
        done.set()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            done = trio.Event()
            nursery.start_soon(run, done)
            await done.wait()


def repeat(call: Callable[[], Awaitable[object]]) -> Work:
    async def work(count: int) -> None:
        for _ in range(count):
            await call()

    return work


async def ask(setting: Setting) -> list[Row]:
    tasks = tasks_on_trio if setting.backend == "trio" else tasks_on_asyncio
    beside = "a task in a nursery" if setting.backend == "trio" else "create_task(method())"
    rounds = setting.pick(3, 51, 201)
    count = setting.pick(20, 1_000, 2_000)

    async with durable.open(setting.new_folder(), bindings={"QUIET": Quiet}) as runtime:
        stub = runtime.env.QUIET.get_by_name("one")

        async def row(what: str, ours: Work, aim: Aim) -> Row:
            figures = await compare(ours, tasks, rounds=rounds, count=count)
            return Row(what, "µs", figures[0], beside, figures[1], aim)

        return [
            await row("await stub.method()", repeat(stub.method), method_aim()),
            await row("await stub.fetch(url)", repeat(lambda: stub.fetch(URL)), time_at_most(1.33)),
        ]


def method_aim() -> Aim:
    """A call that does not wait has no task; from Python 3.12 on it needs less for that."""
    return time_at_most(0.77 if hasattr(asyncio, "eager_task_factory") else 0.83)


if __name__ == "__main__":
    main(__doc__, ask)
