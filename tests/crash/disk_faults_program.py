"""A program whose disk fails at any call; it is run under `fail_calls.c` by `test_disk_faults.py`.

It keeps account of what was confirmed, and compares: after each fault with what the objects have,
at the end with what a new open finds. It says what has failed, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import random
import sys
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import durable
from durable import operate
from durable._lmdb import lmdb_files

NAMES = [f"object {n}" for n in range(6)]
# What fails, how, and whether LMDB has to open the file anew then.
FAULTS = [
    ("page", errno.EIO, False), ("page", errno.ENOSPC, False), ("page part", 0, False),
    ("sync", errno.EIO, False), ("sync", errno.ENOSPC, False),
    ("meta", errno.EIO, False), ("meta", errno.ENOSPC, False), ("meta part", 0, False),
    ("map", errno.ENOMEM, False), ("map", errno.ENOMEM, True), ("open", errno.EMFILE, True),
]  # fmt: skip

# So the map has to grow often.
lmdb_files.MAP_SIZE_MIN = 1 << 20
lmdb_files.GROWTH_SPARE = 1 << 20


class Keeper(durable.DurableObject):
    async def put(self, values: dict[str, Any]) -> None:
        self.ctx.storage.put(values)

    async def delete(self, keys: list[str]) -> None:
        self.ctx.storage.delete(keys)

    async def clear(self) -> None:
        self.ctx.storage.delete_all()

    async def all(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.ctx.storage.list()
        return found


class Disk:
    """What the shim is told."""

    def __init__(self, file: str) -> None:
        self._file = file.encode()
        self._call = ctypes.CDLL(None).fail_calls

    def fail(self, kind: str, skip: int, count: int, code: int, is_anew: bool) -> None:
        self._call(self._file, kind.encode(), skip, count, code, is_anew)

    def repair(self) -> int:
        """How many calls have failed."""
        return int(self._call(self._file, b"", 0, 0, 0, 0))


class Account:
    """What was confirmed of each object."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.confirmed: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
        self.errors: Tally[str] = Tally()

    async def change(self, keepers: durable.Namespace[Keeper], name: str) -> None:
        """One call that writes, which counts only when it has returned."""
        stub, after = keepers.get_by_name(name), dict(self.confirmed[name])
        size = self.random.choice([10, 100, 3_000, 200_000])
        what = self.random.random()
        call: Callable[[], Awaitable[None]]
        if what < 0.7:
            keys = self.random.sample(range(50), self.random.randint(1, 5))
            values = {f"key {key}": self.random.randbytes(size) for key in keys}
            after |= values
            call = partial(stub.put, values)
        elif what < 0.95:
            keys_gone = self.random.sample(sorted(after), min(3, len(after)))
            for key in keys_gone:
                del after[key]
            call = partial(stub.delete, keys_gone)
        else:
            after = {}
            call = stub.clear
        try:
            await call()
        except (durable.CommitFailed, durable.StoreFull) as error:
            self._note(error)
        else:
            self.confirmed[name] = after

    async def compare(self, keepers: durable.Namespace[Keeper]) -> None:
        for name in NAMES:
            found = await keepers.get_by_name(name).all()
            assert found == self.confirmed[name], f"{name} has what was not confirmed, or lacks it"

    def _note(self, error: durable.DurableError) -> None:
        assert error.reset, error
        assert "backup" not in str(error), error
        self.errors[type(error).__name__] += 1


async def main(folder: str, seed: int, rounds: int) -> None:
    account, disk = Account(seed), Disk(f"{folder}/data.mdb")
    failed: Tally[str] = Tally()
    async with durable.open(folder, bindings={"K": Keeper}) as runtime:
        keepers = runtime.namespace(Keeper)
        for n in range(rounds):
            kind, code, is_anew = FAULTS[n % len(FAULTS)]
            chosen = account.random
            # The first time at once, so that each has failed.
            skip = 0 if kind in {"map", "open"} or n < len(FAULTS) else chosen.randint(0, 3)
            disk.fail(kind, skip, chosen.choice([1, 1, 1, 2, 1_000]), code, is_anew)
            for _ in range(3):
                names = chosen.sample(NAMES, 3)
                await asyncio.gather(*(account.change(keepers, name) for name in names))
            failed[kind] += disk.repair()
            if n % 2:  # a store that is only read comes back as well
                with suppress(durable.CommitFailed):
                    await account.compare(keepers)
                await account.compare(keepers)
            # The first commit that may succeed has to.
            await keepers.get_by_name(NAMES[0]).put({"repaired": n})
            account.confirmed[NAMES[0]]["repaired"] = n
            await account.compare(keepers)
    async with durable.open(folder, bindings={"K": Keeper}) as runtime:
        await account.compare(runtime.namespace(Keeper))
    assert operate.check(folder) == []
    print(json.dumps({"failed": failed, "errors": account.errors}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
