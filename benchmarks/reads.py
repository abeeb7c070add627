"""What does reading one key cost, and a list of many? Beside it: the same of a dict or of lmdb.

Both are measured within one delivery, as an object's own code sees them. A hit is in the object's
cache. A miss goes to the disk's pages in memory: `no_cache` sees to it that none of them is kept.
Lists are of records of 1,000 bytes, with their values and without.
"""

from __future__ import annotations

from typing import Any

import lmdb

import durable
from durable._engine.codec import decode, encode

from .harness import Row, Setting, Work, compare, main, time_at_most

KEYS = [f"key {number:04}" for number in range(500)]
# One that costs the decoder next to nothing, and one as programs store them.
VALUES: dict[str, Any] = {
    "an int": 12_345,
    "a record": {"name": "front page", "count": 12_345, "tags": ["a", "b"]},
}


class Shelf(durable.DurableObject):
    """Some keys, and ways to read them many times in one call."""

    async def fill(self, value: Any) -> None:
        for key in KEYS:
            self.ctx.storage.put(key, value)

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

    async def fill_list(self, count: int) -> None:
        for number in range(count):
            self.ctx.storage.put(f"key {number:06}", bytes(1_000))

    async def keys(self, count: int) -> None:
        assert len(await self.ctx.storage.list(keys_only=True)) == count

    async def pairs(self, count: int) -> None:
        assert len(await self.ctx.storage.list(no_cache=True)) == count


async def ask(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    for what, value in VALUES.items():
        rows.extend(await reading(setting, what, value))
    return [*rows, *await listing(setting)]


async def reading(setting: Setting, what: str, value: Any) -> list[Row]:
    folder = setting.new_folder()
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        await runtime.env.SHELVES.get_by_name("hit").fill(value)
        await runtime.env.SHELVES.get_by_name("miss").fill(value)
    # Opened anew, so that what is read was not left in memory by the writing.
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        shelves = runtime.env.SHELVES
        rounds, count = setting.pick(3, 51, 201), setting.pick(1, 20, 40) * len(KEYS)
        hits = await compare(
            shelves.get_by_name("hit").hit, plain_hits(value), rounds=rounds, count=count
        )
        misses = await compare(
            shelves.get_by_name("miss").miss,
            plain_misses(setting, value),
            rounds=rounds,
            count=count,
        )
    # Of an int the call costs more than its decoder, which takes next to nothing: that has no aim.
    hit, miss = (time_at_most(2.4), time_at_most(4)) if what == "a record" else (None, None)
    return [
        Row(f"storage.get of {what}, hit", "µs", hits[0], "dict get + decode", hits[1], hit),
        Row(f"storage.get of {what}, miss", "µs", misses[0], "txn.get + decode", misses[1], miss),
    ]


async def listing(setting: Setting) -> list[Row]:
    folder, count = setting.new_folder(), setting.pick(500, 5_000, 50_000)
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        await runtime.env.SHELVES.get_by_name("list").fill_list(count)
    async with durable.open(folder, bindings={"SHELVES": Shelf}) as runtime:
        shelf = runtime.env.SHELVES.get_by_name("list")
        rounds = setting.pick(3, 21, 21)
        keys = await compare(
            shelf.keys, plain_list(setting, count, values=False), rounds=rounds, count=count
        )
        pairs = await compare(
            shelf.pairs, plain_list(setting, count, values=True), rounds=rounds, count=count
        )
    return [
        Row("storage.list(keys_only=True), a key", "µs", keys[0], "cursor, keys alone", keys[1]),
        Row("storage.list(), a key", "µs", pairs[0], "cursor + decode", pairs[1]),
    ]


def plain_list(setting: Setting, count: int, *, values: bool) -> Work:
    environment = lmdb.open(str(setting.new_folder()), map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        for number in range(count):
            transaction.put(f"key {number:06}".encode(), encode(bytes(1_000)))

    async def work(_: int) -> None:
        with environment.begin() as transaction:
            cursor: Any = transaction.cursor()
            if values:
                assert len({key.decode(): decode(value) for key, value in cursor}) == count
            else:
                assert len([key.decode() for key in cursor.iternext(values=False)]) == count

    return work


def plain_hits(value: Any) -> Work:
    stored = {key: encode(value) for key in KEYS}

    async def work(count: int) -> None:
        for _ in range(count // len(KEYS)):
            for key in KEYS:
                decode(stored[key])

    return work


def plain_misses(setting: Setting, value: Any) -> Work:
    environment = lmdb.open(str(setting.new_folder()))
    with environment.begin(write=True) as transaction:
        for key in KEYS:
            transaction.put(key.encode(), encode(value))

    async def work(count: int) -> None:
        with environment.begin() as transaction:
            get: Any = transaction.get
            for _ in range(count // len(KEYS)):
                for key in KEYS:
                    decode(get(key.encode()))

    return work


if __name__ == "__main__":
    main(__doc__, ask)
