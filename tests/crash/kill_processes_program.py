"""A process of a shared store: it serves its share until it is killed or told to end."""

from __future__ import annotations

import signal
import sys

import anyio

import durable


class Counter(durable.DurableObject):
    """Counts, and says nothing before it is on the disk."""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


async def main(folder: str) -> None:
    """Have the store open until SIGTERM."""
    async with durable.open(folder, shared=True, bindings={"COUNTERS": Counter}):
        print("ready", flush=True)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
