"""A process of a shared store that does what it is told by lines: it forks, and ends."""

from __future__ import annotations

import os
import sys
import time

import anyio
import anyio.to_thread

import durable


class Counter(durable.DurableObject):
    """Counts, and says where."""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def where(self) -> int:
        return os.getpid()

    async def wait(self) -> None:
        await anyio.sleep_forever()


def fork(runtime: durable.Runtime) -> None:
    """A child that tries to use the store, says how that went, and stays."""
    if os.fork() == 0:
        try:
            runtime.env.COUNTERS.get_by_name("a").increment()
        except Exception as error:
            print(type(error).__name__, os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)


async def main(folder: str) -> None:
    async with durable.open(folder, shared=True, bindings={"COUNTERS": Counter}) as runtime:
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            assert line == "fork\n"
            fork(runtime)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
