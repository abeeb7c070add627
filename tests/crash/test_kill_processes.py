"""Processes that share a store are killed under load: what was confirmed stays, the rest goes on.

2 rounds by default; more with DURABLE_CRASH_ROUNDS. Each kills one of three processes, with SIGKILL
as a rule and with SIGTERM now and then, and starts another. `pytest -s` shows how long calls took.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from attrs import define, field

import durable

from .kill_processes_program import Counter

ROUNDS = max(2, int(os.environ.get("DURABLE_CRASH_ROUNDS", "20")) // 10)
COUNTERS = 40
# The longest that calls may be without an answer when a process dies; on a machine at rest it is a
# tenth of that.
OUTAGE_S_MAX = float(os.environ.get("DURABLE_OUTAGE_S_MAX", "2"))
START_S_MAX = 30.0
PROGRAM = Path(__file__).with_name("kill_processes_program.py")


@define(eq=False)
class Killed:
    """The processes to be killed."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(factory=list)

    def start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)

    def wait_ready(self) -> None:
        out = self.running[-1].stdout
        assert out is not None
        assert out.readline() == "ready\n"

    def end(self, process: subprocess.Popen[str], how: signal.Signals) -> None:
        self.running.remove(process)
        process.send_signal(how)
        process.wait(timeout=START_S_MAX)
        assert process.stdout is not None
        process.stdout.close()
        assert process.returncode == (0 if how is signal.SIGTERM else -signal.SIGKILL)


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    killed = Killed(tmp_path / "store")
    yield killed
    for process in list(killed.running):
        with suppress(ProcessLookupError):
            killed.end(process, signal.SIGKILL)


@define(eq=False)
class Load:
    """One counter after the other, as fast as it is answered."""

    runtime: durable.Runtime
    # By counter: what was said, and how often it was asked for.
    confirmed: list[int] = field(factory=lambda: [0] * COUNTERS)
    asked: list[int] = field(factory=lambda: [0] * COUNTERS)
    lost: int = 0
    longest_s: float = 0.0
    is_over: bool = False

    async def run(self, number: int) -> None:
        while not self.is_over:
            began_s = time.monotonic()
            await self.increment(number)
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)

    async def increment(self, number: int) -> None:
        self.asked[number] += 1
        try:
            value = await self.runtime.env.COUNTERS.get_by_name(str(number)).increment()
        except durable.ObjectUnreachable:
            self.lost += 1  # it may have been done
            return
        # None that was confirmed is gone, and none was done twice.
        assert self.confirmed[number] < value <= self.asked[number]
        self.confirmed[number] = value


@pytest.mark.backends("asyncio")
async def test_killed_processes_lose_nothing_and_hold_up_nobody_for_long(killed: Killed) -> None:
    chance = random.Random(ROUNDS)
    killed.start()
    killed.start()
    async with durable.open(killed.folder, shared=True, bindings={"COUNTERS": Counter}) as runtime:
        await anyio.to_thread.run_sync(killed.wait_ready)
        load = Load(runtime)
        outages = []
        async with anyio.create_task_group() as group:
            for number in range(COUNTERS):
                group.start_soon(load.run, number)
            for _ in range(ROUNDS):
                await anyio.sleep(chance.uniform(0.1, 0.5))
                how = signal.SIGTERM if chance.random() < 0.25 else signal.SIGKILL
                victim = chance.choice(killed.running)
                load.longest_s = 0.0
                await anyio.to_thread.run_sync(killed.end, victim, how)
                await anyio.sleep(0.5)
                outages.append(load.longest_s)
                killed.start()
                await anyio.to_thread.run_sync(killed.wait_ready)
            load.is_over = True
        print(
            f"\n{sum(load.confirmed):,} confirmed, {load.lost} lost answers, "
            f"longest without one after each kill: "
            f"{', '.join(f'{outage:.3f}' for outage in outages)} s"
        )
        for number in range(COUNTERS):
            await load.increment(number)
        assert max(outages) < OUTAGE_S_MAX
        assert sum(load.confirmed) > 100 * ROUNDS
