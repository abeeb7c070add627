"""How much does an open page of the inspector slow a busy program down? Beside it: no page.

The program does nothing but calls, or writes by many callers, or calls beside very many objects
that are in memory. `durable inspect` runs beside it in a process of its own, and so does the page:
it reads the reports and the live events, as a browser does that shows both, and draws nothing. A
round is a second, by turns with the page and without. Beside the time stands the CPU that the
program took for an operation, in all of its threads: that is less of a guess where others compute
on the machine, too.
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
from attrs import define

import durable
from durable._watch.sampled import Sampler

from .harness import Row, Setting, main, time_at_most, together

PAGE = """
import http.client, socket, sys, threading, time
host, token = sys.argv[1:]

def opened(question):
    while True:
        try:
            connection = http.client.HTTPConnection(host)
            connection.connect()
            break
        except OSError:  # the server has printed where it will be, and is not there yet
            time.sleep(0.05)
    read_by = connection.sock
    connection.request("GET", "/api/" + question, headers={"authorization": "Bearer " + token})
    response = connection.getresponse()
    response.readline()
    threading.Thread(target=read, args=(response,), daemon=True).start()
    return read_by

def read(response):
    try:
        while response.readline(): pass
    except (OSError, http.client.HTTPException, ValueError):
        pass

streams = []
for line in sys.stdin:
    if line == "open\\n":
        streams = [opened("reports"), opened("events")]
    else:
        for stream in streams:
            stream.shutdown(socket.SHUT_RDWR)
            stream.close()
    print(line, end="", flush=True)
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
    rounds = setting.pick(1, 21, 61)
    seconds = setting.pick(0.1, 1.0, 1.0)
    many = setting.pick(200, 100_000, 100_000)
    folder = setting.new_folder()
    limits = durable.Limits(live_objects_max=2 * many, idle_s_max=3_600.0)
    async with durable.open(
        folder, bindings={"COUNTED": Counted}, operate=True, limits=limits
    ) as runtime:
        objects = runtime.env.COUNTED
        stubs = [objects.get_by_name(str(number)) for number in range(OBJECTS)]

        async def call(number: int) -> None:
            await stubs[number % OBJECTS].look()

        async def write(number: int) -> None:
            await stubs[number % OBJECTS].increment()

        rows = []
        with inspecting(folder) as address, reading(address) as page:
            for what, callers, work, live in (
                ("calls by 1", 1, call, OBJECTS),
                (f"writes by {OBJECTS}", OBJECTS, write, OBJECTS),
                (f"calls by 1, {many:,} objects in memory", 1, call, many),
            ):
                for number in range(live):
                    await objects.get_by_name(str(number)).look()
                spending = partial(spend, work, callers, seconds)
                ours, plain = await compare(runtime, page, spending, rounds)
                for unit, part in (("µs", 0), ("µs of CPU", 1)):
                    with_page, without = ([spent[part] for spent in each] for each in (ours, plain))
                    aim = time_at_most(1.05)
                    row = Row(f"{what}, a page open", unit, with_page, "no page", without, aim)
                    rows.append(row)
        return rows


async def compare(
    runtime: durable.Runtime, page: Page, work: Callable[[], Awaitable[Spent]], rounds: int
) -> tuple[list[Spent], list[Spent]]:
    """By turns with a page and without one, which take turns at being first."""
    ours: list[Spent] = []
    plain: list[Spent] = []
    await work()
    for number in range(rounds):
        if number % 2:
            plain.append(await work())
        await anyio.to_thread.run_sync(page.turn, "open")
        ours.append(await work())
        await anyio.to_thread.run_sync(page.turn, "close")
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


@define(eq=False)
class Page:
    """A page that reads both streams, while they are open."""

    process: subprocess.Popen[str]

    def turn(self, what: str) -> None:
        """Have it "open" its streams, or "close" them; returns when that is done."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n")
        stdin.flush()
        assert stdout.readline() == f"{what}\n"


@contextmanager
def reading(address: str) -> Iterator[Page]:
    """A page in a process of its own."""
    host, _, token = address.removeprefix("http://").partition("/?token=")
    command = [sys.executable, "-c", PAGE, host, token]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Page(process)
        finally:
            process.kill()


if __name__ == "__main__":
    main(__doc__, ask)
