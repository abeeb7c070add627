"""The program whose power is cut: it notes what it was told, in the order of its writes.

Started under the recorder, with a folder, a seed, and what is to be wrong with it. Several objects
at once have pairs that are always equal, values on overflow pages, long keys, `delete_all`, and
alarms; the map grows, the store is closed, opened again, and copied.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import lmdb

import durable
from durable._lmdb import create, lmdb_files
from durable.operate import copy

LEDGERS = 4
STEPS = 8
RUNS = 2
MAP_SIZE = 64 << 10  # at first
ALARM_S = 1e10  # far away


class Ledger(durable.DurableObject):
    """Entries from *first* to *count*; each write says the number in several places."""

    async def _count(self) -> int:
        return await self.ctx.storage.get("a", 0)

    def _write(self, number: int, size: int) -> int:
        storage = self.ctx.storage
        storage.put({"a": number, f"entry {number:06}": size, "k" * 1_200: number, "b": number})
        storage.put("blob", number.to_bytes(4, "big") * (size // 4))
        storage.set_alarm(ALARM_S + number)
        return number

    async def add(self, size: int) -> int:
        return self._write(await self._count() + 1, size)

    async def transfer(self, size: int) -> int:
        async def closure(txn: durable.Transaction) -> int:
            self._write(await self._count() + 1, size)
            await anyio.sleep(0)
            return self._write(await self._count() + 1, size)

        return await self.ctx.storage.transaction(closure)

    async def clear(self, size: int) -> int:
        number = await self._count() + 1
        self.ctx.storage.delete_all()
        self.ctx.storage.put("first", number)
        return self._write(number, size)

    async def pass_by(self, size: int) -> int:
        """Pages at the end of the file that a commit takes and gives back, and never writes."""
        self.ctx.storage.put("passing", bytes(10 * size))
        await anyio.sleep(0)
        self.ctx.storage.delete("passing")
        return await self._count()

    async def alarm(self) -> None: ...

    async def look(self) -> list[Any]:
        """How far it is, and what is wrong with it."""
        found = await self.ctx.storage.list()
        alarm = await self.ctx.storage.get_alarm()
        found.pop("passing", None)  # has a batch of its own
        if not found:
            return [0, [] if alarm is None else ["an alarm without values"]]
        number = found.get("a", 0)
        sizes = [value for key, value in found.items() if key.startswith("entry ")]
        wrong = [
            what
            for what, is_so in {
                "half a pair": found.get("b") == number and found.get("k" * 1_200) == number,
                "half a blob": found.get("blob")
                == number.to_bytes(4, "big") * ((sizes or [0])[-1] // 4),
                "entries": len(sizes) == number - found.get("first", 1) + 1,
                "the alarm": alarm is not None and alarm.timestamp() == ALARM_S + number,
            }.items()
            if not is_so
        ]
        return [number, wrong]


class Bell(durable.DurableObject):
    """Is to ring once for each number."""

    async def wind(self) -> int:
        number: int = await self.ctx.storage.get("wound", 0) + 1
        self.ctx.storage.put("wound", number)
        self.ctx.storage.set_alarm(timedelta(0))
        return number

    async def alarm(self) -> None:
        number = await self.ctx.storage.get("wound", 0)
        self.ctx.storage.put("rung", number)
        await self.ctx.confirmed()
        note(f"rung {number}")

    async def look(self) -> list[Any]:
        storage = self.ctx.storage
        wound, rung = await storage.get("wound", 0), await storage.get("rung", 0)
        is_set = await storage.get_alarm() is not None
        return [wound, rung, [] if rung == wound or is_set else ["an alarm is lost"]]


BINDINGS: dict[str, type[durable.DurableObject]] = {"LEDGER": Ledger, "BELL": Bell}


def note(text: str) -> None:
    """Have the recorder write down that somebody was told so."""
    ctypes.CDLL(None).power_cut_note(text.encode())


async def main(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    for run in range(RUNS):  # the second one finds a store
        async with durable.open(folder, bindings=BINDINGS) as runtime:
            note("open")
            async with anyio.create_task_group() as tasks:
                for n in range(2 * LEDGERS):  # so that a commit has several batches of one object
                    tasks.start_soon(_keep, runtime, f"ledger {n % LEDGERS}", chance)
                tasks.start_soon(_wind, runtime)
            note(f"copying {run}")
            await anyio.to_thread.run_sync(copy, runtime, folder.with_name(f"copy {run}"))
            note(f"copied {run}")


async def _keep(runtime: durable.Runtime, name: str, chance: random.Random) -> None:
    ledger = runtime.env.LEDGER.get_by_name(name)
    for _ in range(STEPS):
        what = chance.choice(["add", "add", "transfer", "clear", "pass_by"])
        size = chance.choice([0, 40, 40, 3_000, 30_000])
        note(f"{name.replace(' ', '-')} {await getattr(ledger, what)(size)}")


async def _wind(runtime: durable.Runtime) -> None:
    bell = runtime.env.BELL.get_by_name("bell")
    for _ in range(STEPS // 2):
        note(f"wound {await bell.wind()}")
        await anyio.sleep(0.005)


def spoil(how: str) -> None:
    """What would break the promise, if it were so."""
    if how in {"sync", "metasync"}:
        real = lmdb.open
        lmdb.open = lambda *args, **options: real(*args, **{**options, how: False})
    elif how == "dies before the folder is synced":
        lmdb_files.sync_folder = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    elif how == "dies before the folders above are synced":
        create.sync_folder = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    else:
        assert how == "nothing"


if __name__ == "__main__":
    lmdb_files.MAP_SIZE_MIN = MAP_SIZE
    lmdb_files.GROWTH_SPARE = MAP_SIZE // 2
    spoil(sys.argv[3])
    seed_ = int(sys.argv[2])
    anyio.run(main, Path(sys.argv[1]), seed_, backend="trio" if seed_ % 2 else "asyncio")
