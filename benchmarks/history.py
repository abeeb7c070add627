"""What does it cost to be able to go back? Beside it: the same objects without a history.

What changes often is kept once a minute, so a durable increment costs a look at what the minute has
kept already. Going back over everything deleted copies nothing, whatever the size.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import durable
import durable.testing

from .harness import Row, Setting, Work, compare, main, time_at_most, together
from .writes import Counter


class Ledger(Counter):
    """Counts, and can go back for a month."""

    history = timedelta(days=30)


class Shelf(durable.DurableObject):
    """Keeps many values."""

    history = timedelta(days=30)

    async def fill(self, first: int, count: int) -> None:
        keys = range(first, first + count)
        self.ctx.storage.put({f"{key:06}": [key, "value"] for key in keys})

    async def get(self) -> Any:
        return await self.ctx.storage.get("000000")

    async def bookmark(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def clear(self) -> None:
        self.ctx.storage.delete_all()

    async def wish(self, bookmark: str) -> None:
        await self.ctx.storage.on_next_session_restore_bookmark(bookmark)


async def ask(setting: Setting) -> list[Row]:
    callers = setting.pick(20, 1_000, 1_000)
    async with durable.open(setting.new_folder()) as runtime:
        kept, plain = runtime.namespace(Ledger), runtime.namespace(Counter)
        return [
            await beside(setting, "one caller", kept, plain, 1, 1),
            await beside(setting, f"{callers:,} objects", kept, plain, callers, callers),
            await beside(setting, f"{callers:,} callers of one", kept, plain, callers, 1),
            await going_back(setting, runtime),
        ]


def _increments(objects: Any, callers: int, count: int) -> Work:
    async def work(total: int) -> None:
        async def call(number: int) -> None:
            stub = objects.get_by_name(f"{count} {number % count}")
            for _ in range(total // callers):
                await stub.increment()

        await together(callers, call)

    return work


async def beside(
    setting: Setting, who: str, kept: Any, plain: Any, callers: int, objects: int
) -> Row:
    each = setting.pick(2, 300, 1_000) if callers == 1 else setting.pick(1, 5, 10)
    ours, theirs = await compare(
        _increments(kept, callers, objects),
        _increments(plain, callers, objects),
        rounds=setting.pick(2, 15, 25),
        count=callers * each,
    )
    what = f"durable increment with a history, {who}"
    return Row(what, "µs", ours, "without one", theirs, time_at_most(1.1))


async def going_back(setting: Setting, runtime: durable.Runtime) -> Row:
    """An object of many keys, all of which were deleted, beside one of few."""
    shelves = runtime.namespace(Shelf)
    keys = setting.pick(100, 20_000, 200_000)
    marks: dict[str, str] = {}
    for name, size in (("many", keys), ("few", 100)):
        for first in range(0, size, 100):
            await shelves.get_by_name(name).fill(first, 100)
        marks[name] = await shelves.get_by_name(name).bookmark()

    def work(name: str) -> Work:
        async def run(count: int) -> None:
            for _ in range(count):
                stub = shelves.get_by_name(name)
                await stub.clear()
                await stub.wish(marks[name])
                await durable.testing.evict(stub)
                assert await stub.get() == [0, "value"]

        return run

    ours, few = await compare(
        work("many"), work("few"), rounds=setting.pick(2, 9, 21), count=setting.pick(1, 3, 5)
    )
    return Row(f"everything deleted, and back, {keys:,} keys", "µs", ours, "100 keys", few)


if __name__ == "__main__":
    main(__doc__, ask)
