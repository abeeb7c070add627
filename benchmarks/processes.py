"""What do several processes that share a store cost, and what do they bring?

A call of an object in the same process, shared or not; calls that compute, by one process and by
four; and how long calls are without an answer when the process dies that has their object.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

import durable

from .harness import (
    Aim,
    Row,
    Setting,
    at_most,
    compare,
    main,
    rate_at_least,
    time_at_most,
    together,
)

# One or two milliseconds of the processor.
STEPS = 40_000


def compute() -> int:
    total = 0
    for number in range(STEPS):
        total ^= number
    return total


class Work(durable.DurableObject):
    """Computes, or does nothing."""

    async def method(self) -> int:
        return 1

    async def compute(self) -> int:
        return compute()

    async def where(self) -> int:
        return os.getpid()


BINDINGS = {"WORK": Work}

SERVER = """
import sys
import anyio
import durable
from benchmarks.processes import BINDINGS

async def main() -> None:
    async with durable.open(sys.argv[1], shared=True, bindings=BINDINGS):
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)

anyio.run(main)
"""


# The same work without objects: as many times as each line says.
PLAIN = """
import sys
from benchmarks.processes import compute

print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        compute()
    print("done", flush=True)
"""


class Plain:
    """Processes that compute and do nothing else: what the machine has to give."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-c", PLAIN]
        self._running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in self._running:
            _file(process.stdout).readline()

    def each_us(self, times: int) -> float:
        """How long one of *times* takes when all of them share the work."""
        began_s = time.perf_counter()
        for process in self._running:
            _file(process.stdin).write(f"{times // len(self._running)}\n")
            _file(process.stdin).flush()
        for process in self._running:
            _file(process.stdout).readline()
        return (time.perf_counter() - began_s) / times * 1e6

    def close(self) -> None:
        for process in self._running:
            _file(process.stdin).close()
            process.wait()
            _file(process.stdout).close()


def plain_gain(times: int, rounds: int) -> float:
    """How much faster four plain processes are than one, at their best."""
    one, four = Plain(1), Plain(4)
    try:
        pairs = [(one.each_us(times), four.each_us(times)) for _ in range(rounds)]
    finally:
        one.close()
        four.close()
    return min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)


class Others:
    """Further processes of a store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: list[subprocess.Popen[str]] = []

    async def start(self, runtime: durable.Runtime, count: int) -> None:
        """Return when *count* more have their share."""
        self.running = [self._started() for _ in range(count)]
        for process in self.running:
            await anyio.to_thread.run_sync(_file(process.stdout).readline)
        while min(peer.shards for peer in await runtime.peers()) < 16 // (count + 1):
            await anyio.sleep(0.01)

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVER, str(self._folder)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def stop(self) -> None:
        for process in self.running:
            _file(process.stdin).close()
            await anyio.to_thread.run_sync(process.wait)
            _file(process.stdout).close()


def _file(file: IO[str] | None) -> IO[str]:
    assert file is not None
    return file


async def local_calls(setting: Setting) -> Row:
    """One caller, one object that is live here."""
    async with (
        durable.open(setting.new_folder(), bindings=BINDINGS) as plain,
        durable.open(setting.new_folder(), shared=True, bindings=BINDINGS) as shared,
    ):
        ours, beside = shared.env.WORK.get_by_name("a"), plain.env.WORK.get_by_name("a")

        async def in_shared(count: int) -> None:
            for _ in range(count):
                await ours.method()

        async def in_plain(count: int) -> None:
            for _ in range(count):
                await beside.method()

        rounds, count = setting.pick(3, 101, 201), setting.pick(20, 1_000, 2_000)
        figures = await compare(in_shared, in_plain, rounds=rounds, count=count)
    aim = time_at_most(1.05)
    what = "a call of a local object, shared=True"
    return Row(what, "µs", figures[0], "the same, not shared", figures[1], aim)


async def computing(setting: Setting) -> Row:
    """64 callers of 64 objects, each of which computes."""
    folder = setting.new_folder()
    callers, rounds = 64, setting.pick(1, 5, 11)
    calls = setting.pick(1, 10, 20)
    others = Others(folder)

    async def each_us(runtime: durable.Runtime) -> float:
        stubs = [runtime.env.WORK.get_by_name(str(number)) for number in range(callers)]

        async def caller(number: int) -> None:
            for _ in range(calls):
                await stubs[number].compute()

        began_s = time.perf_counter()
        await together(callers, caller)
        return (time.perf_counter() - began_s) / (callers * calls) * 1e6

    async with AsyncExitStack() as stack:
        opening = durable.open(folder, shared=True, bindings=BINDINGS)
        runtime = await stack.enter_async_context(opening)
        one = [await each_us(runtime) for _ in range(rounds)]
        await others.start(runtime, 3)
        stack.push_async_callback(others.stop)
        four = [await each_us(runtime) for _ in range(rounds)]
    gain = await anyio.to_thread.run_sync(plain_gain, callers * calls, rounds)
    aim: Aim = rate_at_least(1.7)
    return Row(
        "calls that compute, 4 processes",
        "µs",
        four,
        "1 process",
        one,
        aim if (os.cpu_count() or 1) > 1 else None,
        f"{os.cpu_count()} cores; 4 plain processes {gain:.2f}x of 1",
    )


async def outage(setting: Setting) -> Row:
    """One caller of an object, whose process is killed with SIGKILL."""
    figures = []
    for _ in range(setting.pick(1, 5, 11)):
        folder = setting.new_folder()
        others = Others(folder)
        async with durable.open(folder, shared=True, bindings=BINDINGS) as runtime:
            await others.start(runtime, 1)
            (other,) = others.running
            for number in itertools.count():
                stub = runtime.env.WORK.get_by_name(str(number))
                if await stub.where() == other.pid:
                    break
            other.kill()
            began_s = time.perf_counter()
            while True:
                try:
                    await runtime.env.WORK.get_by_name(str(number)).method()
                    break
                except durable.ObjectUnreachable:
                    pass
            figures.append((time.perf_counter() - began_s) * 1e6)
            await others.stop()
    return Row("an answer again after kill -9 of the owner", "µs", figures, aim=at_most(500_000))


async def ask(setting: Setting) -> list[Row]:
    return [await local_calls(setting), await computing(setting), await outage(setting)]


if __name__ == "__main__":
    main(__doc__, ask)
