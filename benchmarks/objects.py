"""What does an object cost: to wake, to keep in memory, to have a million of in the store?

Waking is a call of an object that is not in memory and that reads its one key. A live object's
memory is what Python allocates for it once it has answered such a call. Beside the large store
stands one of ten objects.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import durable
import durable.testing

from .harness import (
    RATE,
    Row,
    Setting,
    Work,
    at_least,
    at_most,
    compare,
    main,
    measure,
    time_at_most,
)
from .stores import build, built, name_of

FEW = 10
# Nothing is evicted unless it is asked for.
ROOMY = durable.Limits(idle_s_max=3_600.0, live_objects_max=1_000_000)


class Box(durable.DurableObject):
    """Holds one value."""

    async def value(self) -> int:
        value: int = await self.ctx.storage.get("value")
        return value

    async def method(self) -> int:
        return 1


async def ask(setting: Setting) -> list[Row]:
    return [await waking(setting), await memory(setting), *await many(setting)]


async def waking(setting: Setting) -> Row:
    objects = setting.pick(20, 5_000, 20_000)
    figures = []
    folder = build(setting.new_folder(), Box, objects)
    async with durable.testing.open(folder, bindings={"BOXES": Box}, limits=ROOMY) as runtime:
        stubs = [runtime.env.BOXES.get_by_name(name_of(number)) for number in range(objects)]

        async def call_all(count: int) -> None:
            for stub in stubs[:count]:
                await stub.value()

        for _ in range(setting.pick(2, 11, 31)):
            gc.collect()
            figures.append(1e6 / await measure(call_all, objects))
            await durable.testing.evict_all(runtime)
    return Row("wake a cold object (1 key)", RATE, figures, aim=at_least(13_000))


async def memory(setting: Setting) -> Row:
    objects = setting.pick(200, 10_000, 50_000)
    folder = build(setting.new_folder(), Box, objects)
    async with durable.testing.open(folder, bindings={"BOXES": Box}, limits=ROOMY) as runtime:

        async def call_all() -> None:
            for number in range(objects):
                await runtime.env.BOXES.get_by_name(name_of(number)).value()

        # What is remembered for all objects together is there before we look.
        await call_all()
        await durable.testing.evict_all(runtime)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await call_all()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert runtime.statistics().live_objects == objects
    figure = (after - before) / objects / 1_024
    return Row("memory of an idle live object", "KiB", [figure], aim=at_most(3))


async def many(setting: Setting) -> list[Row]:
    """A store of many objects beside one of ten: opening it, and calling an object of it."""
    objects = setting.pick(200, 100_000, 1_000_000)
    rounds = setting.pick(2, 31, 51)
    large = built(setting.new_folder(), Box, objects)
    small = build(setting.new_folder(), Box, FEW)
    beside = f"a store of {FEW}"

    async def opened(folder: Path) -> float:
        store = durable.open(folder, bindings={"BOXES": Box})
        start = time.perf_counter()
        async with store:
            return time.perf_counter() - start

    pairs = [(await opened(large), await opened(small)) for _ in range(rounds)]
    first = Row(
        f"open a store of {objects:,} objects",
        "s",
        [ours for ours, _ in pairs],
        aim=at_most(0.1),
        note=f"a store of {FEW} takes {min(small for _, small in pairs):.4f} s",
    )
    async with (
        durable.testing.open(large, bindings={"BOXES": Box}, limits=ROOMY) as ours,
        durable.testing.open(small, bindings={"BOXES": Box}, limits=ROOMY) as plain,
    ):
        live = await calls_of_live(ours, plain, setting)
        cold = await calls_of_cold(ours, plain, objects, setting)
    where = f"in a store of {objects:,}"
    return [
        first,
        Row(f"a call {where}", "µs", live[0], beside, live[1], time_at_most(1.1)),
        Row(f"a call of a cold object {where}", "µs", cold[0], beside, cold[1]),
    ]


Figures = tuple[list[float], list[float]]


async def calls_of_live(ours: Any, plain: Any, setting: Setting) -> Figures:
    def calling(runtime: Any) -> Work:
        stubs = [runtime.env.BOXES.get_by_name(name_of(number)) for number in range(FEW)]

        async def work(count: int) -> None:
            for _ in range(count // FEW):
                for stub in stubs:
                    await stub.method()

        return work

    return await compare(
        calling(ours),
        calling(plain),
        rounds=setting.pick(2, 51, 101),
        count=setting.pick(1, 50, 100) * FEW,
    )


async def calls_of_cold(ours: Any, plain: Any, objects: int, setting: Setting) -> Figures:
    """Ten objects of each store a round, chance ones of the large store, evicted before."""
    chance = random.Random(7)

    async def round_in(runtime: Any, numbers: list[int]) -> float:
        stubs = [runtime.env.BOXES.get_by_name(name_of(number)) for number in numbers]

        async def work(count: int) -> None:
            for stub in stubs:
                await stub.value()

        await durable.testing.evict_all(runtime)
        return await measure(work, FEW)

    figures: Figures = ([], [])
    for _ in range(setting.pick(3, 200, 1_000)):
        figures[0].append(await round_in(ours, chance.sample(range(objects), FEW)))
        figures[1].append(await round_in(plain, chance.sample(range(FEW), FEW)))
    return figures


if __name__ == "__main__":
    main(__doc__, ask)
