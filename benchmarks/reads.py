"""What does reading one key cost? Beside it: a dict, or an lmdb transaction, and the same decoder.

Both are measured within one delivery, as an object's own code sees them. A hit is in the object's
cache. A miss goes to the disk's pages in memory: `no_cache` sees to it that none of them is kept.
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


async def ask(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    for what, value in VALUES.items():
        rows.extend(await reading(setting, what, value))
    return rows


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
    aim = time_at_most(3.0)
    return [
        Row(f"storage.get of {what}, hit", "µs", hits[0], "dict get + decode", hits[1], aim),
        Row(f"storage.get of {what}, miss", "µs", misses[0], "txn.get + decode", misses[1], aim),
    ]


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
