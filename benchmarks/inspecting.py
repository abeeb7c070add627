"""How much does an open page of the inspector slow a busy program down? Beside it: no page.

The program does nothing but calls, or writes by many callers. `durable inspect` runs beside it in a
process of its own, and so does the page: it reads the reports and the live events, as a browser
does that shows both. A round is a stretch of time, by turns with the page and without. Beside the
time stands the CPU that the program took for an operation, in all of its threads: that is less of a
guess where others compute on the machine, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio

import durable
from durable._watch.sampled import Sampler

from .harness import Row, Setting, main, time_at_most, together

PAGE = """
import sys, threading, time, urllib.error, urllib.request
address, token = sys.argv[1:]

def read(question, opened):
    headers = {"authorization": "Bearer " + token}
    request = urllib.request.Request(address + "api/" + question, headers=headers)
    while True:
        try:
            said = urllib.request.urlopen(request)
            break
        except urllib.error.URLError:  # the server has said where it will be, and is not there yet
            time.sleep(0.05)
    for line in said:
        opened.set()

events = [threading.Event() for _ in range(2)]
for question, opened in zip(("reports", "events"), events):
    threading.Thread(target=read, args=(question, opened), daemon=True).start()
for opened in events:
    opened.wait()
print("open", flush=True)
sys.stdin.read()
"""
OBJECTS = 100

Spent = tuple[float, float]
"""Microseconds, of time and of CPU."""


class Counted(durable.DurableObject):
    async def look(self) -> int:
        return 1

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0)
        self.ctx.storage.put("value", value + 1)
        return value + 1


async def ask(setting: Setting) -> list[Row]:
    rounds = setting.pick(1, 11, 31)
    seconds = setting.pick(0.1, 2.0, 4.0)
    folder = setting.new_folder()
    bindings = {"COUNTED": Counted}
    async with durable.open(folder, bindings=bindings, operate=True) as runtime:
        stubs = [runtime.env.COUNTED.get_by_name(str(number)) for number in range(OBJECTS)]

        async def call(number: int) -> None:
            await stubs[number % OBJECTS].look()

        async def write(number: int) -> None:
            await stubs[number % OBJECTS].increment()

        with inspecting(folder) as address:
            rows = []
            for what, callers, work in (("calls", 1, call), ("writes", OBJECTS, write)):
                spending = partial(spend, work, callers, seconds)
                ours, plain = await compare(runtime, address, spending, rounds)
                what = f"{what} by {callers}, a page open"
                for unit, part in (("µs", 0), ("µs of CPU", 1)):
                    with_page, without = ([spent[part] for spent in each] for each in (ours, plain))
                    aim = time_at_most(1.05)
                    rows.append(Row(what, unit, with_page, "no page", without, aim))
            return rows


async def compare(
    runtime: durable.Runtime, address: str, work: Callable[[], Awaitable[Spent]], rounds: int
) -> tuple[list[Spent], list[Spent]]:
    """By turns with a page and without one, which take turns at being first."""
    ours: list[Spent] = []
    plain: list[Spent] = []
    await work()
    for number in range(rounds):
        if number % 2:
            plain.append(await work())
        page = await anyio.to_thread.run_sync(open_page, address)
        ours.append(await work())
        await anyio.to_thread.run_sync(page.communicate)
        while runtime._services.find(Sampler).clients:
            await anyio.sleep(0.01)
        if not number % 2:
            plain.append(await work())
    return ours, plain


async def spend(work: Callable[[int], Awaitable[None]], callers: int, seconds: float) -> Spent:
    """What one operation takes, of as many as go into so many seconds."""
    start, start_cpu = time.perf_counter(), time.process_time()
    counts = [0] * callers

    async def caller(number: int) -> None:
        while time.perf_counter() - start < seconds:
            for _ in range(10):
                await work(number)
            counts[number] += 10

    await together(callers, caller)
    took, took_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return took / sum(counts) * 1e6, took_cpu / sum(counts) * 1e6


@contextmanager
def inspecting(folder: Path) -> Iterator[str]:
    """The address of `durable inspect`, in a process of its own."""
    command = [sys.executable, "-m", "durable", "inspect", str(folder), "--no-browser"]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split(": ", 1)[1].strip()
        finally:
            process.kill()


def open_page(address: str) -> subprocess.Popen[str]:
    """A page that reads both streams; it ends when its input does."""
    top, _, token = address.partition("?token=")
    process = subprocess.Popen(
        [sys.executable, "-c", PAGE, top, token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


if __name__ == "__main__":
    main(__doc__, ask)
