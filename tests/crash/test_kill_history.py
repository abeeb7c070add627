"""P16 for histories: a program that goes back and forth is killed by SIGKILL at random points, and
each bookmark that it was given still leads to what was there.

10 rounds by default; DURABLE_CRASH_ROUNDS=200 for more.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import durable
import durable.testing
from durable._lmdb.check import check

from .killed_program import run_and_kill

ROUNDS = int(os.environ.get("DURABLE_CRASH_ROUNDS", "10"))
RUN_S_MAX = 0.2  # a process is killed up to so long after its first answer
OBJECTS = 8

PROGRAM = """
import json, random, sys
import anyio
import durable
sys.path.insert(0, sys.argv[4])
from tests.crash.test_kill_history import Ledger

async def main():
    chance = random.Random(int(sys.argv[2]))
    async with durable.open(sys.argv[1], bindings={"LEDGERS": Ledger}) as runtime:

        async def call(name):
            marks = []
            while True:
                stub = runtime.env.LEDGERS.get_by_name(name)
                what = chance.choice(["write"] * 8 + ["clear", "mark", "mark", "back"])
                if what == "back" and marks:
                    undo = await stub.wish(chance.choice(marks))
                    marks.append(undo)
                    try:
                        await stub.stop()
                    except durable.ObjectAborted:
                        pass
                elif what == "mark" or not marks:
                    mark, state = await stub.mark()
                    marks.append(mark)
                    print(json.dumps([name, mark, state]), flush=True)
                else:
                    await getattr(stub, "clear" if what == "clear" else "write")(
                        chance.randrange(1_000)
                    )

        async with anyio.create_task_group() as tasks:
            for number in range(int(sys.argv[3])):
                tasks.start_soon(call, f"ledger {number}")

anyio.run(main, backend=sys.argv[5])
"""


class Ledger(durable.DurableObject):
    """Writes some keys at a time, and deletes all of them now and then."""

    history = timedelta(days=1)

    async def write(self, seed: int) -> None:
        for key in range(seed % 5):
            self.ctx.storage.put(f"key {(seed + key) % 20}", [seed, "x" * (seed % 700)])
        self.ctx.storage.delete(f"key {seed % 7}")

    async def clear(self, seed: int) -> None:
        self.ctx.storage.delete_all()
        self.ctx.storage.put("cleared", [seed])

    async def mark(self) -> tuple[str, dict[str, Any]]:
        """A bookmark, and what there is at it."""
        return await self.ctx.storage.get_current_bookmark(), dict(self.ctx.storage.kv.list())

    async def wish(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)

    async def stop(self) -> None:
        self.ctx.abort("going back")

    async def all(self) -> dict[str, Any]:
        return dict(await self.ctx.storage.list())


@pytest.mark.backends("asyncio")
async def test_a_killed_process_has_lost_no_bookmark_that_it_was_given(tmp_path: Path) -> None:
    """Its object goes back to what there was, and that is undone again."""
    folder = tmp_path / "store"
    told: dict[str, list[Any]] = {}
    for seed in range(ROUNDS):
        told.update(run_and_kill(PROGRAM, folder, seed, objects=OBJECTS, run_s_max=RUN_S_MAX))
        assert list(check(folder)) == []

        async with durable.open(folder, bindings={"LEDGERS": Ledger}) as runtime:
            for name, (mark, state) in told.items():
                stub = runtime.env.LEDGERS.get_by_name(name)
                before = await stub.all()
                undo = await stub.wish(mark)
                await durable.testing.evict(stub)
                assert await stub.all() == state, f"round {seed}: {name} is not what it was"
                await stub.wish(undo)
                await durable.testing.evict(stub)
                assert await stub.all() == before, f"round {seed}: the undo of {name} is not exact"
        assert list(check(folder)) == []
