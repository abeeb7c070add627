"""A call with `once=` that is made again after its process was killed counts exactly once.

10 rounds by default; DURABLE_CRASH_ROUNDS for more. Each call is made until it is answered, by one
process after the other, all of them killed at random moments.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import durable
from durable._lmdb.check import check

ROUNDS = int(os.environ.get("DURABLE_CRASH_ROUNDS", "10"))
RUN_S_MAX = 0.1

PROGRAM = """
import sys
import anyio
import durable
sys.path.insert(0, sys.argv[3])
from tests.crash.test_kill_once import Counter

async def main():
    async with durable.open(sys.argv[1], bindings={"COUNTERS": Counter}) as runtime:
        stub = runtime.env.COUNTERS.get_by_name("a")
        number = int(sys.argv[2])
        while True:
            # The one before may have been made and not answered: so it is made again, first.
            count = await stub.call(Counter.increment, once=f"call {number}")
            print(number, count, flush=True)
            number += 1

anyio.run(main, backend=sys.argv[4])
"""


class Counter(durable.DurableObject):
    """Counts the calls that it has seen."""

    async def increment(self) -> int:
        count: int = await self.ctx.storage.get("n", 0) + 1
        self.ctx.storage.put("n", count)
        return count

    async def count(self) -> int:
        return await self.ctx.storage.get("n", 0)


def run_and_kill(folder: Path, number: int, seed: int) -> list[tuple[int, int]]:
    """Make calls from *number* on until the process is killed; returns those that were answered."""
    backend = "trio" if seed % 2 else "asyncio"
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(number), root, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 30)
        assert readable, "the program did not begin"
        time.sleep(random.Random(seed).uniform(0, RUN_S_MAX))
    finally:
        process.kill()
    out, err = process.communicate()
    assert out, err.decode()
    lines = [line for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


@pytest.mark.backends("asyncio")
async def test_a_retried_call_counts_once_whenever_its_process_was_killed(tmp_path: Path) -> None:
    """However often it is made, the n-th call makes the count n, and is told so."""
    folder = tmp_path / "store"
    number = 1
    for seed in range(ROUNDS):
        answered = run_and_kill(folder, number, seed)
        assert answered == [(each, each) for each in range(number, number + len(answered))]
        number += len(answered)
        assert list(check(folder)) == []

        async with durable.open(folder, bindings={"COUNTERS": Counter}) as runtime:
            count = await runtime.env.COUNTERS.get_by_name("a").count()
        assert count in {number - 1, number}
