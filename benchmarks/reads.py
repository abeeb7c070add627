"""What does reading one key cost? Beside it: a dict, or an lmdb transaction, and the decoder.

Both are measured within one delivery, as an object's own code sees them. A hit is in the object's
cache. A miss goes to the disk's pages in memory: `no_cache` sees to it that none of them is kept.
"""

from __future__ import annotations

import lmdb
import ormsgpack

import durable

from .harness import Row, Setting, Work, compare, main, time_at_most

KEYS = [f"key {number:04}" for number in range(500)]
VALUE = 12_345


class Shelf(durable.DurableObject):
    """Some keys, and ways to read them many times in one call."""

    async def fill(self) -> None:
        for key in KEYS:
            self.ctx.storage.put(key, VALUE)

    async def hit(self, count: int) -> None:
        get = self.ctx.storage.get
        for _ in range(count // len(KEYS)):
            for key in KEYS:
                await get(key)

    async def miss(self, count: int) -> None:
        get = self.ctx.storage.get
        for _ in range(count // len(KEYS)):
            for key in KEYS:
                await get(key, no_cache=True)


async def ask(setting: Setting) -> list[Row]:
    folder = setting.new_folder()
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        await runtime.env.SHELVES.get_by_name("hit").fill()
        await runtime.env.SHELVES.get_by_name("miss").fill()
    # Opened anew, so that what is read was not left in memory by the writing.
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        shelves = runtime.env.SHELVES
        rounds, count = setting.pick(3, 51, 201), setting.pick(1, 20, 40) * len(KEYS)

        hits = await compare(shelves.get_by_name("hit").hit, plain_hits, rounds=rounds, count=count)
        misses = await compare(
            shelves.get_by_name("miss").miss, plain_misses(setting), rounds=rounds, count=count
        )
    aim = time_at_most(3.0)
    return [
        Row("storage.get, hit", "µs", hits[0], "dict get + decode", hits[1], aim),
        Row("storage.get, miss", "µs", misses[0], "txn.get + decode", misses[1], aim),
    ]


STORED = {key: ormsgpack.packb(VALUE) for key in KEYS}


async def plain_hits(count: int) -> None:
    stored = STORED
    decode = ormsgpack.unpackb
    for _ in range(count // len(KEYS)):
        for key in KEYS:
            decode(stored[key])


def plain_misses(setting: Setting) -> Work:
    environment = lmdb.open(str(setting.new_folder()))
    with environment.begin(write=True) as transaction:
        for key in KEYS:
            transaction.put(key.encode(), ormsgpack.packb(VALUE))

    async def work(count: int) -> None:
        decode = ormsgpack.unpackb
        with environment.begin() as transaction:
            get = transaction.get
            for _ in range(count // len(KEYS)):
                for key in KEYS:
                    decode(get(key.encode()))

    return work


if __name__ == "__main__":
    main(__doc__, ask)
