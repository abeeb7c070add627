"""What does a journal change? Beside each figure: the same store without one, or lmdb by hand.

A commit of LMDB's syncs twice, a record of the journal once. So a lone caller waits about half as
long. Many callers share a commit in either case; what must not happen is that some of them wait
longer while the file follows: hence the slowest hundredth of their calls, round by round.

A store whose program was killed brings its journal into its file when it is opened; the largest
that may be left is both segments full, of small values or of larger ones.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import durable
from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from durable._lmdb.environment import Environment
from durable._lmdb.journal import segments
from durable._lmdb.journal.journaled import Journaled
from durable._model.clock import SystemClock

from .harness import (
    Row,
    Setting,
    at_most,
    compare,
    main,
    percentiles,
    rate_at_least,
    time_at_most,
    together,
)
from .writes import Counter, plain_puts


async def ask(setting: Setting) -> list[Row]:
    bindings: dict[str, type[durable.DurableObject]] = {"COUNTERS": Counter}
    callers = setting.pick(20, 1_000, 1_000)
    async with (
        durable.open(setting.new_folder(), bindings=bindings, journal=True) as with_one,
        durable.open(setting.new_folder(), bindings=bindings) as without,
    ):
        counters = with_one.env.COUNTERS, without.env.COUNTERS
        rows = [
            *await one_caller(setting, *counters),
            await many_callers(setting, *counters, callers=setting.pick(4, 10, 10)),
            await many_callers(setting, *counters, callers=callers),
        ]
    return [
        *rows,
        opening(setting, "values of 20 bytes", 20),
        opening(setting, "values of 4 KiB", 4 << 10),
    ]


async def one_caller(setting: Setting, counters: Any, others: Any) -> list[Row]:
    stub, other = counters.get_by_name("one"), others.get_by_name("one")

    async def ours(count: int) -> None:
        for _ in range(count):
            await stub.increment()

    async def without(count: int) -> None:
        for _ in range(count):
            await other.increment()

    rounds, count = setting.pick(3, 300, 1_000), setting.pick(2, 10, 20)
    what = "durable increment with a journal, one caller"
    beside_lmdb = await compare(
        ours, plain_puts(setting.new_folder(), 1), rounds=rounds, count=count
    )
    beside_other = await compare(ours, without, rounds=rounds, count=count)
    return [
        Row(what, "µs", beside_lmdb[0], "put + commit", beside_lmdb[1], rate_at_least(1.1)),
        Row(what, "µs", beside_other[0], "without", beside_other[1], time_at_most(0.67)),
    ]


async def many_callers(setting: Setting, counters: Any, others: Any, *, callers: int) -> Row:
    each = setting.pick(2, 10, 20)

    async def slowest(namespace: Any) -> float:
        """Milliseconds that 99 of 100 calls took at most."""
        stubs = [namespace.get_by_name(f"{number}") for number in range(callers)]
        took: list[float] = []

        async def call(number: int) -> None:
            for _ in range(each):
                began_s = time.perf_counter()
                await stubs[number].increment()
                took.append((time.perf_counter() - began_s) * 1e3)

        await together(callers, call)
        return percentiles(took)["p99"]

    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(setting.pick(2, 30, 100)):
        for which in (0, 1) if number % 2 else (1, 0):
            figures[which].append(await slowest((counters, others)[which]))
    what = f"the slowest hundredth of the calls of {callers:,} callers, with a journal"
    return Row(what, "ms", figures[0], "without", figures[1], time_at_most(1.1))


def opening(setting: Setting, what: str, size: int) -> Row:
    """A store is opened whose journal is full."""
    folder = Path(setting.new_folder()) / "store"
    engine = Journaled(Environment.open(folder, clock=SystemClock()), SystemClock(), follows=False)
    handle = ObjectHandle(1, bytes(16), engine.next_keyspace(), "full", None, None)
    nobody = Callbacks(lambda: None, lambda error: None)
    count = 0
    # Nothing is brought in before both segments are full.
    while engine._layers.active.size < setting.pick(0, 1.8, 1.8) * segments.SEGMENT_SIZE + 1:
        values: dict[str, bytes | None] = {f"{count + n:08}": bytes(size) for n in range(100)}
        count += len(values)
        engine.commit([Batch(handle, False, values, UNCHANGED, nobody, 100 * size)])
    took = []
    for number in range(setting.pick(1, 3, 5)):
        copy = folder.with_name(f"copy {number}")
        shutil.copytree(folder, copy)
        (copy / "owner").unlink()
        began_s = time.perf_counter()
        Environment.open(copy, clock=SystemClock()).close()
        took.append((time.perf_counter() - began_s) * 1e3)
    engine.close()
    row = f"opening a store with a full journal, {what}"
    return Row(row, "ms", took, aim=at_most(1_000))


if __name__ == "__main__":
    main(__doc__, ask)
