"""What would a program use instead of the library? Beside each: ours, by turns, in one run.

Each peer does the same: it adds one to a counter, and returns the new value when that is durable.
One asyncio program asks, first a caller alone, then a thousand callers of a thousand counters, then
a thousand callers of one. Redis and PostgreSQL are processes of their own, asked by a unix socket;
SQLite is asked in a thread, as asyncio programs do.

A counter is the least that an object does. What a peer does not do is not in the figures: that one
caller at a time is in a counter's code, and that its memory is kept between calls.

A peer that is not there is left out: `why_not` says what to install.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import durable

from .harness import Row, Setting, Work, arguments, compare, report, run, show, together
from .servers import find_program, postgresql_server, redis_server
from .workerd import run as workerd

Increment = Callable[[int], Awaitable[object]]
"""Add one to the counter of that number."""

REDIS_CONNECTIONS = 64
POSTGRESQL_CONNECTIONS = 32


class Counter(durable.DurableObject):
    """Counts, and answers when the count is on disk."""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


@asynccontextmanager
async def redis_peer(setting: Setting, appendfsync: str) -> AsyncIterator[Increment]:
    redis: Any = import_module("redis.asyncio")
    with redis_server(setting.new_folder(), appendfsync) as socket:
        pool = redis.BlockingConnectionPool(
            connection_class=redis.UnixDomainSocketConnection,
            path=str(socket),
            max_connections=REDIS_CONNECTIONS,
        )
        client = redis.Redis(connection_pool=pool)
        try:
            yield lambda number: client.incr(f"counter:{number}")
        finally:
            await client.aclose()
            await pool.disconnect()


@asynccontextmanager
async def sqlite_peer(setting: Setting) -> AsyncIterator[Increment]:
    aiosqlite: Any = import_module("aiosqlite")
    file = str(setting.new_folder() / "counters.db")
    async with aiosqlite.connect(file, isolation_level=None) as database:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute("CREATE TABLE counter (number INTEGER PRIMARY KEY, value INTEGER)")
        query = (
            "INSERT INTO counter VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 "
            "RETURNING value"
        )
        yield lambda number: database.execute_fetchall(query, (number,))


@asynccontextmanager
async def postgresql_peer(setting: Setting) -> AsyncIterator[Increment]:
    asyncpg: Any = import_module("asyncpg")
    with postgresql_server(setting.new_folder()) as (socket, user):
        pool = await asyncpg.create_pool(
            host=str(socket),
            user=user,
            database="postgres",
            min_size=POSTGRESQL_CONNECTIONS,
            max_size=POSTGRESQL_CONNECTIONS,
        )
        try:
            await pool.execute("CREATE TABLE counter (number int PRIMARY KEY, value bigint)")
            query = (
                "INSERT INTO counter VALUES ($1, 1) ON CONFLICT (number) "
                "DO UPDATE SET value = counter.value + 1 RETURNING value"
            )
            yield lambda number: pool.fetchval(query, number)
        finally:
            await pool.close()


PEERS: dict[str, Callable[[Setting], Any]] = {
    "Redis, each write synced (appendfsync always)": lambda s: redis_peer(s, "always"),
    "Redis, synced each second (not durable)": lambda s: redis_peer(s, "everysec"),
    "SQLite, a commit each (WAL, synchronous=FULL)": sqlite_peer,
    "PostgreSQL, a commit each, 32 connections": postgresql_peer,
}
NEEDS = {"Redis": ("redis", "redis-server"), "SQLite": ("aiosqlite", None)}
NEEDS["PostgreSQL"] = ("asyncpg", "initdb")


def why_not(peer: str) -> str | None:
    """What is missing for *peer*, and what to do about it; None if it can be run."""
    package, program = NEEDS[peer.partition(",")[0]]
    if importlib.util.find_spec(package) is None:
        return f"the package {package} is not there; `pip install {package}`"
    if program is not None and find_program(program) is None:
        return f"the program {program} is not there; install the server's package"
    return None


async def ask(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    async with durable.open(setting.new_folder(), bindings={"COUNTERS": Counter}) as runtime:
        for name, peer in PEERS.items():
            if why_not(name) is not None:
                continue
            async with peer(setting) as increment:
                for callers, counters in ((1, 1), (1_000, 1_000), (1_000, 1)):
                    rows.append(
                        await beside(
                            setting, name, increment, runtime.env.COUNTERS, callers, counters
                        )
                    )
    return rows


async def beside(
    setting: Setting,
    name: str,
    increment: Increment,
    objects: durable.Namespace[Counter],
    callers: int,
    counters: int,
) -> Row:
    stubs = [objects.get_by_name(f"{callers} of {number}") for number in range(counters)]
    callers = min(callers, setting.pick(10, callers, callers))
    each = setting.pick(1, 100, 300) if callers == 1 else setting.pick(1, 5, 10)

    def work(call: Increment) -> Work:
        async def one(number: int) -> None:
            for _ in range(each):
                await call(number % counters)

        async def all_of_them(count: int) -> None:
            assert count == callers * each
            await together(callers, one)

        return all_of_them

    ours, plain = await compare(
        work(lambda number: stubs[number].increment()),
        work(increment),
        rounds=setting.pick(1, 5, 15),
        count=callers * each,
    )
    where = "one caller" if callers == 1 else f"{callers:,} callers on {counters:,}"
    return Row(f"durable increments, {where}", "µs", ours, name, plain)


def main() -> None:
    asked = arguments()
    rows, setting = run(ask, asked.size, asked.backend, asked.folder)
    missing = {name: why_not(name) for name in PEERS} | {"workerd": workerd.why_not()}
    if missing["workerd"] is None:
        rows.extend(run(workerd.ask, asked.size, asked.backend, asked.folder)[0])
    assert __doc__ is not None
    show(report(rows, setting, __doc__.splitlines()[0]), asked.json)
    for name, why in missing.items():
        if why is not None:
            sys.stderr.write(f"{name} was left out: {why}\n")


if __name__ == "__main__":
    main()
