"""P16: after a crash at any point, what was delivered is there, and no half batch is.

Here the power fails at each point in turn; `tests/crash/` kills a real process with SIGKILL.
"""

from __future__ import annotations

from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Store


class Ledger(durable.DurableObject):
    """Keeps entries and their sum, which must agree."""

    async def add(self, amount: int) -> int:
        count = await self.ctx.storage.get("count", 0) + 1
        self.ctx.storage.put(f"entry {count:05}", amount)
        self.ctx.storage.put("sum", await self.ctx.storage.get("sum", 0) + amount)
        self.ctx.storage.put("count", count)
        self.ctx.storage.set_alarm(1e10 + count)
        return count

    async def clear(self) -> int:
        self.ctx.storage.delete_all()
        return 0

    async def alarm(self) -> None: ...

    async def look(self) -> tuple[int, list[int], int, Any]:
        storage = self.ctx.storage
        return (
            await storage.get("count", 0),
            list((await storage.list(prefix="entry ")).values()),
            await storage.get("sum", 0),
            await storage.get_alarm(),
        )


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 14])
async def test_what_was_delivered_is_there_wherever_the_power_fails(
    store: Store, after: int
) -> None:
    """The entries that callers were told of, and at most one more; sum and alarm agree."""
    told = [0, 0]
    async with store.open() as runtime:
        store.faults.lose_power(after=after)
        for number in range(20):
            which = number % 2
            try:
                stub = runtime.namespace(Ledger).get_by_name(str(which))
                told[which] = await (stub.clear() if number == 10 else stub.add(number))
            except durable.CommitFailed:
                pass

    store.faults.repair()
    async with store.open() as runtime:
        for which in (0, 1):
            count, entries, total, alarm = (
                await runtime.namespace(Ledger).get_by_name(str(which)).look()
            )
            assert count == told[which]
            assert len(entries) == count
            assert total == sum(entries)
            assert (alarm is not None) == (count > 0)
            if alarm is not None:
                assert alarm.timestamp() == 1e10 + count


async def test_a_store_that_lost_power_again_and_again_is_sound(store: Store) -> None:
    """Every time it goes on from where it was."""
    told = 0
    for _ in range(5):
        async with store.open() as runtime:
            store.faults.lose_power(after=3)
            for number in range(6):
                try:
                    told = await runtime.namespace(Ledger).get_by_name("a").add(number)
                except durable.CommitFailed:
                    pass
        store.faults.repair()

    assert told == 15
