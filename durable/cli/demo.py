"""`durable demo`: a counter in a folder, which counts on from run to run."""

from __future__ import annotations

import argparse
import os
import signal
from datetime import UTC, datetime

import anyio

import durable

from .plain_text import say

FOLDER = "durable-demo"
CALLERS = 50


class Counter(durable.DurableObject):
    """Counts, and knows how often it was opened."""

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(await self.increment()))

    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    async def begin_run(self, now: datetime) -> tuple[int, int, datetime | None]:
        """Returns how many runs there were, where they left the counter, when the last began."""
        storage = self.ctx.storage
        runs: int = await storage.get("runs", 0)
        last: datetime | None = await storage.get("last run")
        storage.put({"runs": runs + 1, "last run": now})
        return runs, await storage.get("value", 0), last


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="run a counter; run it again to see what survives",
        description="Counts in FOLDER and prints what it does. A second run counts on.",
    )
    parser.add_argument("folder", nargs="?", default=FOLDER, metavar="FOLDER")
    parser.add_argument(
        "--crash",
        action="store_true",
        help="kill this process at the end, with no chance to clean up",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    anyio.run(_demo, arguments.folder, arguments.crash)
    return 0


async def _demo(folder: str, crash: bool) -> None:
    async with durable.open(folder, bindings={"COUNTERS": Counter}) as runtime:
        counter = runtime.namespace(Counter).get_by_name("front page")
        await _show_what_survived(folder, counter)
        response = await counter.fetch("https://counter/increment")
        say(f"fetch() answered {await response.text()}")
        say(f"increment(5) answered {await counter.increment(5)}")
        counted = await _count_at_once(counter)
        say(f"{CALLERS} callers at once, no lock: the last was answered {counted}")
        if crash:
            say("Each answer came after its write was on disk. This process kills itself now.")
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    say("Each answer came after its write was on disk. Run it again: it counts on.")


async def _show_what_survived(folder: str, counter: durable.Stub[Counter]) -> None:
    runs, value, last = await counter.begin_run(datetime.now(UTC))
    if last is None:
        say(f"The folder {folder} is a new store; the counter 'front page' begins at 0.")
        return
    times = "once" if runs == 1 else f"{runs} times"
    say(f"The folder {folder} was used {times}, last at {last:%Y-%m-%d %H:%M:%S} UTC.")
    say(f"The counter 'front page' was left at {value}.")


async def _count_at_once(counter: durable.Stub[Counter]) -> int:
    """Many calls, none of which waits for another's answer."""
    answers: list[int] = []

    async def call() -> None:
        answers.append(await counter.increment())

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(call)
    return max(answers)
