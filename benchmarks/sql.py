"""What does SQL in an object cost? Beside it: our puts, files of SQLite's, and SQLite in memory.

An insert is stored as a put is: in its turn's batch, with one fsync for all objects that write at
that moment. A plain file of SQLite's is synced for each of its transactions.
"""

from __future__ import annotations

import gc
import itertools
import sqlite3
import time
import tracemalloc
from pathlib import Path
from typing import Any

import apsw
from attrs import evolve

import durable
import durable.testing

from .harness import (
    Row,
    Setting,
    Work,
    at_most,
    compare,
    main,
    rate_at_least,
    time_at_most,
    together,
)

FILES = 200
LARGE_ROW = 1_000  # bytes
PAGE_SIZE = 4_096  # of LMDB, on most machines


class Desk(durable.DurableObject):
    """Writes and reads by keys and by SQL."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.numbers = itertools.count()

    async def make(self) -> None:
        self.ctx.storage.put({"a": 1, "b": "hello"})
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a, b)")
        sql.exec("INSERT OR REPLACE INTO t VALUES (1, 1, 'hello')")

    async def fill(self, rows: int) -> None:
        sql = self.ctx.storage.sql
        for number in range(rows):
            sql.exec("INSERT INTO t (a, b) VALUES (?, ?)", number, "x" * LARGE_ROW)

    async def put(self) -> None:
        number = next(self.numbers)
        self.ctx.storage.put({f"row {number % 100}": [number, "hello"], "last": number})

    async def insert(self) -> None:
        number = next(self.numbers)
        self.ctx.storage.sql.exec("INSERT INTO t (a, b) VALUES (?, ?)", number, "hello")

    async def get(self) -> Any:
        return await self.ctx.storage.get("b")

    async def select(self) -> Any:
        return self.ctx.storage.sql.exec("SELECT b FROM t WHERE id = ?", 1).one()["b"]

    def selects(self, count: int) -> None:
        sql = self.ctx.storage.sql
        for _ in range(count):
            sql.exec("SELECT b FROM t WHERE id = ?", 1).one()

    def scan(self) -> Any:
        return self.ctx.storage.sql.exec("SELECT count(*), sum(length(b)) AS n FROM t").one()


async def ask(setting: Setting) -> list[Row]:
    callers = setting.pick(20, 1_000, 1_000)
    limits = durable.Limits(sql_connections_max=2 * callers, idle_s_max=3_600)
    async with durable.open(setting.new_folder(), limits=limits) as runtime:
        desks = runtime.namespace(Desk)
        names = ["one", *map(str, range(callers))]
        stubs = [desks.get_by_name(name) for name in names]
        await together(len(stubs), lambda number: _call(stubs[number], "make", 1))
        one, many = stubs[0], stubs[1:]
        return [
            await beside_puts(setting, "one caller", [one], 0.9),
            await beside_puts(setting, f"{callers:,} objects", many, 0.8),
            await beside_puts(setting, f"{callers:,} callers of one", [one] * callers, 0.85),
            await beside_files(setting, many),
            await select(setting, one),
            await waking(setting, many),
            await scanning(setting, desks),
            await to_the_disk(setting),
            *await in_memory(setting),
        ]


async def _call(stub: Any, method: str, count: int) -> None:
    for _ in range(count):
        await getattr(stub, method)()


def _by_all(stubs: list[Any], method: str) -> Work:
    async def work(count: int) -> None:
        each = count // len(stubs)
        await together(len(stubs), lambda number: _call(stubs[number], method, each))

    return work


async def beside_puts(setting: Setting, who: str, stubs: list[Any], aim: float) -> Row:
    each = setting.pick(2, 200, 500) if len(stubs) == 1 else setting.pick(1, 4, 10)
    ours, plain = await compare(
        _by_all(stubs, "insert"),
        _by_all(stubs, "put"),
        rounds=setting.pick(1, 9, 21),
        count=len(stubs) * each,
    )
    return Row(f"insert, {who}", "µs", ours, "put of two keys", plain, rate_at_least(aim))


async def beside_files(setting: Setting, stubs: list[Any]) -> Row:
    folder = setting.new_folder()
    connections = [_plain_file(folder / f"{number}.db") for number in range(min(FILES, len(stubs)))]
    numbers = itertools.count()

    def insert(count: int) -> None:
        for number in range(count):
            values = (next(numbers), "hello")
            with connections[number % len(connections)] as connection:
                connection.execute("INSERT INTO t (a, b) VALUES (?, ?)", values)

    async def plain(count: int) -> None:
        insert(count)

    count = len(stubs) * setting.pick(1, 4, 10)
    ours, theirs = await compare(
        _by_all(stubs, "insert"), plain, rounds=setting.pick(1, 5, 11), count=count
    )
    for connection in connections:
        connection.close()
    beside = f"sqlite3, FULL, WAL, {len(connections)} files"
    return Row(f"insert, {len(stubs):,} objects", "µs", ours, beside, theirs, rate_at_least(5))


def _plain_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
    return connection


async def select(setting: Setting, stub: Any) -> Row:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
    connection.execute("INSERT INTO t VALUES (1, 1, 'hello')")

    async def ours(count: int) -> None:
        await durable.testing.run_in_object(stub, lambda desk, _: desk.selects(count))

    async def plain(count: int) -> None:
        for _ in range(count):
            connection.execute("SELECT b FROM t WHERE id = ?", (1,)).fetchall()

    figures = await compare(
        ours, plain, rounds=setting.pick(1, 11, 31), count=setting.pick(100, 20_000, 50_000)
    )
    what = "select of a row inside of an object"
    return Row(what, "µs", figures[0], "apsw in memory", figures[1], rate_at_least(0.45))


async def waking(setting: Setting, stubs: list[Any]) -> Row:
    """How much later the first select of an object comes than its first get would."""
    later: list[float] = []
    for number in range(setting.pick(3, 100, 500)):
        stub = stubs[number % len(stubs)]
        times: list[float] = []
        for method in ("get", "select"):
            await durable.testing.evict(stub)
            began_s = time.perf_counter()
            await getattr(stub, method)()
            times.append((time.perf_counter() - began_s) * 1e3)
        later.append(max(times[1] - times[0], 0.0001))
    what = "first select of a cold object, later than its first get"
    return Row(what, "ms", later, aim=at_most(0.15))


async def scanning(setting: Setting, desks: durable.Namespace[Desk]) -> Row:
    rows = setting.pick(100, 100_000, 100_000)
    stub = desks.get_by_name("large")
    await stub.make()
    for _ in range(max(1, rows // 10_000)):
        await stub.fill(min(rows, 10_000))
    connection = _plain_file(setting.new_folder() / "large.db")
    with connection:
        values = ((number, "x" * LARGE_ROW) for number in range(rows))
        connection.executemany("INSERT INTO t (a, b) VALUES (?, ?)", values)

    async def ours(count: int) -> None:
        for _ in range(count):
            await durable.testing.run_in_object(stub, lambda desk, _: desk.scan())

    def scan() -> None:
        connection.execute("SELECT count(*), sum(length(b)) FROM t").fetchall()

    async def plain(count: int) -> None:
        for _ in range(count):
            scan()

    figures = await compare(ours, plain, rounds=setting.pick(1, 5, 11), count=1)
    connection.close()
    what = f"a query that reads {rows * LARGE_ROW // 1_000_000:,} MB"
    return Row(what, "µs", figures[0], "a plain file", figures[1], time_at_most(1.7))


async def to_the_disk(setting: Setting) -> Row:
    """The pages of the store's file that a commit has changed, for a table of some rows and keys
    as many."""
    folder = setting.new_folder()
    file = folder / "store" / "data.mdb"
    figures: dict[str, list[float]] = {"insert": [], "put": []}
    async with durable.open(folder / "store") as runtime:
        stub = runtime.namespace(Desk).get_by_name("one")
        await stub.make()
        for _ in range(setting.pick(3, 200, 500)):
            for method, changed in figures.items():
                before = file.read_bytes()
                await getattr(stub, method)()
                changed.append(_pages_changed(before, file.read_bytes()) * PAGE_SIZE / 1_024)
    what = "to the disk for an insert"
    return Row(what, "KiB", figures["insert"], "put of two keys", figures["put"], time_at_most(1))


def _pages_changed(before: bytes, after: bytes) -> int:
    return sum(
        before[start : start + PAGE_SIZE] != after[start : start + PAGE_SIZE]
        for start in range(0, len(after), PAGE_SIZE)
    )


async def in_memory(setting: Setting) -> list[Row]:
    """What objects take that have asked their database, beside objects that have asked a key: while
    their connections are open, and when these have given way to others."""
    objects = setting.pick(20, 200, 1_000)
    roomy = durable.Limits(sql_connections_max=objects, idle_s_max=3_600)
    narrow = evolve(roomy, sql_connections_max=1)
    opened, _ = await _asked(setting, roomy, objects, "select")
    sqlite, closed = await _asked(setting, narrow, objects, "select")
    _, plain = await _asked(setting, narrow, objects, "get")
    more = max(closed + sqlite - plain, 0.0)
    return [
        Row("an open connection, in SQLite's memory", "KiB", [opened / 1_024]),
        Row("an object whose connection is closed, beside one without", "bytes", [more]),
    ]


async def _asked(
    setting: Setting, limits: durable.Limits, objects: int, method: str
) -> tuple[float, float]:
    """Bytes for an object of SQLite's memory, and of Python's."""
    async with durable.open(setting.new_folder(), limits=limits) as runtime:
        desks = runtime.namespace(Desk)
        stubs = [desks.get_by_name(str(number)) for number in range(objects)]
        for stub in stubs:
            await stub.make()
            await durable.testing.evict(stub)
        await getattr(stubs[0], method)()  # what is made once
        gc.collect()
        used = apsw.memory_used()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for stub in stubs[1:]:
            await getattr(stub, method)()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        count = objects - 1
        return (apsw.memory_used() - used) / count, (after - before) / count


if __name__ == "__main__":
    main(__doc__, ask)
