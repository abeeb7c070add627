"""P16 with a real process: killed with SIGKILL at random points, nothing that it was told is lost.

20 rounds by default; DURABLE_CRASH_ROUNDS=200 for more. Each round goes on in the store that the
rounds before have left, so a fault that builds up is seen too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import durable
from durable._lmdb.check import check

from .killed_program import run_and_kill

ROUNDS = int(os.environ.get("DURABLE_CRASH_ROUNDS", "20"))
RUN_S_MAX = 0.15  # a process is killed up to so long after its first answer
OBJECTS = 6

PROGRAM = """
import json, random, sys
import anyio
import durable
sys.path.insert(0, sys.argv[4])
from tests.crash.test_kill_program import Ledger

async def main():
    chance = random.Random(int(sys.argv[2]))
    async with durable.open(sys.argv[1], bindings={"LEDGER": Ledger}) as runtime:

        async def call(name):
            while True:
                stub = runtime.env.LEDGER.get_by_name(name)
                what = chance.choice(["add", "add", "add", "transfer", "clear", "slow"])
                answer = await getattr(stub, what)(chance.randrange(100))
                print(json.dumps([name, *answer]), flush=True)

        async with anyio.create_task_group() as tasks:
            for number in range(int(sys.argv[3])):
                tasks.start_soon(call, f"object {number}")

anyio.run(main, backend=sys.argv[5])
"""


class Ledger(durable.DurableObject):
    """Keeps entries and their sum; each answer says how far it is: an epoch and a count."""

    async def _read(self) -> tuple[int, int, int]:
        found = await self.ctx.storage.get(["epoch", "count", "sum"])
        return found.get("epoch", 0), found.get("count", 0), found.get("sum", 0)

    def _write(self, epoch: int, count: int, total: int, amount: int) -> list[int]:
        self.ctx.storage.put(f"entry {count:06}", amount)
        self.ctx.storage.put({"epoch": epoch, "count": count, "sum": total})
        self.ctx.storage.set_alarm(1e10 + count)
        return [epoch, count]

    async def add(self, amount: int) -> list[int]:
        epoch, count, total = await self._read()
        return self._write(epoch, count + 1, total + amount, amount)

    async def slow(self, amount: int) -> list[int]:
        answer = await self.add(amount)
        await self.ctx.confirmed()
        return answer

    async def transfer(self, amount: int) -> list[int]:
        async def closure(txn: durable.Transaction) -> list[int]:
            epoch, count, total = await self._read()
            self._write(epoch, count + 1, total + amount, amount)
            await durable_pause()
            return self._write(epoch, count + 2, total, -amount)

        return await self.ctx.storage.transaction(closure)

    async def clear(self, amount: int) -> list[int]:
        epoch, _, _ = await self._read()
        self.ctx.storage.delete_all()
        return self._write(epoch + 1, 1, amount, amount)

    async def alarm(self) -> None: ...

    async def look(self) -> list[object]:
        epoch, count, total = await self._read()
        entries = await self.ctx.storage.list(prefix="entry ")
        alarm = await self.ctx.storage.get_alarm()
        return [epoch, count, total, list(entries.values()), alarm and alarm.timestamp()]


async def durable_pause() -> None:
    import anyio

    await anyio.sleep(0.0005)


@pytest.mark.backends("asyncio")
async def test_a_killed_process_has_lost_nothing_that_it_was_told(tmp_path: Path) -> None:
    """Whatever it printed is there; each object's entries, sum and alarm agree."""
    folder = tmp_path / "store"
    told: dict[str, list[int]] = {}
    for seed in range(ROUNDS):
        told.update(run_and_kill(PROGRAM, folder, seed, objects=OBJECTS, run_s_max=RUN_S_MAX))
        assert list(check(folder)) == []

        async with durable.open(folder, bindings={"LEDGER": Ledger}) as runtime:
            for name, answer in told.items():
                epoch, count, total, entries, alarm = await runtime.env.LEDGER.get_by_name(
                    name
                ).look()
                assert [epoch, count] >= answer, f"round {seed}: {name} has forgotten"
                assert len(entries) == count, f"round {seed}: {name} is half there"
                assert sum(entries) == total
                assert alarm == 1e10 + count
