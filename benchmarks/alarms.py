"""What do alarms cost: to set, to ring, to have waiting when the store is opened?

An alarm counts as set when it is on disk, and as run when its handler's write and its own deletion
are. Those that ring were due before the store was opened, so each wakes its object as well. The
clock is the machine's.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

import durable

from .harness import RATE, Row, Setting, at_least, main, together
from .stores import build, built

# Far enough that none of them rings, and always the same, so that a store with them can be kept.
FAR = datetime(2100, 1, 1, tzinfo=UTC)
FEW = 10


class Bell(durable.DurableObject):
    """Notes that it rang."""

    rung = 0

    async def set(self, after: timedelta) -> None:
        self.ctx.storage.set_alarm(FAR + after)

    async def alarm(self) -> None:
        self.ctx.storage.put("value", "rung")
        Bell.rung += 1

    async def method(self) -> None:
        return


async def ask(setting: Setting) -> list[Row]:
    return [await setting_them(setting), await ringing(setting), await starting(setting)]


async def setting_them(setting: Setting) -> Row:
    callers = setting.pick(20, 1_000, 1_000)
    each = setting.pick(1, 5, 20)
    figures = []
    async with durable.open(setting.new_folder(), bindings={"BELLS": Bell}) as runtime:
        stubs = [runtime.env.BELLS.get_by_name(str(number)) for number in range(callers)]

        async def call(number: int) -> None:
            for turn in range(each):
                await stubs[number].set(timedelta(seconds=turn))

        for _ in range(setting.pick(2, 11, 31)):
            start = time.perf_counter()
            await together(callers, call)
            figures.append(callers * each / (time.perf_counter() - start))
    return Row(f"alarms set, by {callers:,} objects at once", RATE, figures)


async def ringing(setting: Setting) -> Row:
    alarms = setting.pick(50, 10_000, 100_000)
    figures = []
    for _ in range(setting.pick(1, 5, 5)):
        folder = build(setting.new_folder(), Bell, alarms, due_us=int(time.time() * 1e6))
        figures.append(alarms / await ring_all(folder, alarms))
    return Row("due alarms run, none lost", RATE, figures, aim=at_least(5_000))


async def ring_all(folder: Path, alarms: int) -> float:
    """Seconds from the opening of the store until all of its alarms are done with."""
    Bell.rung = 0
    start = time.perf_counter()
    async with durable.open(folder, bindings={"BELLS": Bell}) as runtime:
        while Bell.rung < alarms or runtime.statistics().open_deliveries:
            await anyio.sleep(0.001)
        took_s = time.perf_counter() - start
        left = [stored async for stored in runtime.env.BELLS.objects() if stored.has_alarm]
    assert not left, f"{len(left)} of {alarms} alarms are still there"
    assert Bell.rung == alarms, f"{alarms} alarms rang {Bell.rung} times"
    return took_s


async def starting(setting: Setting) -> Row:
    """From the opening of the store to the answer of its first call."""
    waiting = setting.pick(200, 100_000, 1_000_000)
    due_us = int(FAR.timestamp() * 1e6)
    many = built(setting.new_folder(), Bell, waiting, due_us=due_us)
    few = build(setting.new_folder(), Bell, FEW, due_us=due_us)
    figures: tuple[list[float], list[float]] = ([], [])
    for _ in range(setting.pick(2, 21, 51)):
        for folder, taken in zip((many, few), figures, strict=True):
            start = time.perf_counter()
            async with durable.open(folder, bindings={"BELLS": Bell}) as runtime:
                await runtime.env.BELLS.get_by_name("somebody").method()
                taken.append(time.perf_counter() - start)
    what = f"start with {waiting:,} alarms waiting"
    return Row(what, "s", figures[0], f"with {FEW}", figures[1])


if __name__ == "__main__":
    main(__doc__, ask)
