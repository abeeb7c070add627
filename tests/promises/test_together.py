"""The promises together: seeded disorder, after which every count must be exact.

Handlers wait, fan out, time out, open sections and transactions; callers give up; the object is
evicted under way, aborts itself, and loses commits.
"""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Store

CALLERS = 10
CALLS = 8
PAUSE_S = 0.002


class Pair(durable.DurableObject):
    """Two numbers that are always equal, whatever way they are counted up."""

    def _add(self, a: int, b: int) -> None:
        assert a == b
        self.ctx.storage.put("a", a + 1)
        self.ctx.storage.put("b", b + 1)

    async def _get(self, key: str, chance: random.Random) -> int:
        found: list[int] = []

        async def get() -> None:
            found.append(await self.ctx.storage.get(key, 0))

        if chance.random() < 0.3:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get)
        else:
            await get()
        return found[0]

    async def _section(self, chance: random.Random) -> None:
        a = await self._get("a", chance)
        await anyio.sleep(chance.random() * PAUSE_S)
        self._add(a, await self._get("b", chance))

    async def count(self, seed: float, may_abort: bool) -> None:
        chance = random.Random(seed)
        for _ in range(chance.randrange(3)):
            with anyio.move_on_after(chance.random() * PAUSE_S):
                await anyio.sleep(chance.random() * PAUSE_S)
        way = chance.random()
        if way < 0.2:
            await self.ctx.block_concurrency_while(lambda: self._section(chance))
        elif way < 0.4:
            await self.ctx.storage.transaction(lambda txn: self._section(chance))
        else:
            self._add(await self._get("a", chance), await self._get("b", chance))
            if may_abort and way > 0.95:
                self.ctx.abort("of its own will")
        if chance.random() < 0.3:
            await self.ctx.confirmed()
        if chance.random() < 0.3:
            await anyio.sleep(chance.random() * PAUSE_S)

    async def both(self) -> list[int]:
        return [await self.ctx.storage.get(key, 0) for key in "ab"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_faults", [False, True])
async def test_whatever_happens_the_counts_are_exact(
    store: Store, seed: int, has_faults: bool
) -> None:
    """Without faults every call counts; with them, every call that was answered does."""
    chance = random.Random(seed)
    made = answered = 0
    reads = chance.choice(["inline", "thread"])
    async with store.open(clock=durable.SystemClock(), reads=reads) as runtime:

        async def call() -> None:
            nonlocal made, answered
            stub: Any = runtime.namespace(Pair).get_by_name("a")
            made += 1
            with anyio.move_on_after(chance.choice([PAUSE_S, 10])):
                try:
                    await stub.count(chance.random(), has_faults)
                    answered += 1
                except (durable.ObjectReset, durable.CommitFailed):
                    pass
            if chance.random() < 0.05 and durable.testing.is_live(stub):
                await durable.testing.evict(stub)
            if has_faults and chance.random() < 0.05:
                store.faults.fail_commits(after=chance.randrange(2))
            elif has_faults:
                store.faults.repair()

        async def caller() -> None:
            for _ in range(CALLS):
                await call()

        async with anyio.create_task_group() as tasks:
            for _ in range(CALLERS):
                tasks.start_soon(caller)
        while runtime.statistics().open_deliveries:
            await anyio.sleep(0.001)

    store.faults.repair()
    async with store.open() as runtime:
        a, b = await runtime.namespace(Pair).get_by_name("a").both()
    assert a == b
    assert answered <= a <= made
    if not has_faults:
        assert a == made
