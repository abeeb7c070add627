"""What does a durable increment cost where PostgreSQL keeps the store? Beside it: psycopg by hand.

The server is one of this run's own, on this machine, with fsync on and its data where temporary
files are. By hand, one caller is an UPDATE and its commit; a thousand callers on a thousand objects
stand beside groups of 256 rows, each group one commit: once by psycopg's `executemany`, which is
what most programs do, and once by one statement with arrays, the quickest way that there is. Both
sides use one connection. The same callers with a store in memory show what the database has no part
in.

A woken object is read by one query; beside it the same object's row and key are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg

import durable
from durable import testing
from durable._memory.engine import MemoryEngine
from durable._runtime.open_store import OpenStore
from tests import postgres

from .harness import Aim, Row, Setting, Work, compare, main, rate_at_least, together
from .writes import Counter

GROUP = 256

_TABLE = "create table plain (id bigint primary key, value bytea not null)"
_ONE = "update plain set value = %s where id = 0"
_ROW = (
    "insert into plain (id, value) values (%s, %s) "
    "on conflict (id) do update set value = excluded.value"
)
_GROUP = (
    "insert into plain (id, value) select * from unnest(%s::bigint[], %s::bytea[]) "
    "on conflict (id) do update set value = excluded.value"
)


class StoreInMemory(OpenStore):
    """An open store with nothing to wait for."""

    open_engine = staticmethod(lambda path, clock, *, scratch=False: MemoryEngine(clock, path))


class open_in_memory(durable.open):
    """`durable.open` of such a store."""

    _store_class: ClassVar[type[OpenStore]] = StoreInMemory


def why_not() -> str | None:
    """Why there are no figures here, if so."""
    return None if postgres.is_there() else postgres.MISSING


@contextmanager
def plain_connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        connection.execute(_TABLE)
        connection.execute("insert into plain values (0, '')")
        connection.commit()
        yield connection


def one_by_one(connection: psycopg.Connection[Any]) -> Work:
    async def work(count: int) -> None:
        for number in range(count):
            connection.execute(_ONE, [b"%d" % number])
            connection.commit()

    return work


def in_groups(connection: psycopg.Connection[Any], *, has_arrays: bool) -> Work:
    async def work(count: int) -> None:
        for first in range(0, count, GROUP):
            numbers = range(first, min(first + GROUP, count))
            ids, values = [n % 1_000 for n in numbers], [b"%d" % n for n in numbers]
            if has_arrays:
                connection.execute(_GROUP, [ids, values])
            else:
                with connection.cursor() as cursor:
                    cursor.executemany(_ROW, list(zip(ids, values, strict=True)))
            connection.commit()

    return work


async def ask(setting: Setting) -> list[Row]:
    missing = why_not()
    if missing is not None:
        raise SystemExit(missing)
    server = postgres.Server(fsync=True)
    try:
        url = server.new_store()
        with plain_connection(server.url(server.new_database())) as plain:
            async with durable.open(url, bindings={"COUNTERS": Counter}) as runtime:
                return [
                    await one_caller(setting, runtime.env.COUNTERS, plain),
                    *await many_callers(setting, runtime.env.COUNTERS, plain),
                    await many_callers_in_memory(setting, plain),
                    await waking(setting, runtime, plain),
                ]
    finally:
        server.close()


async def one_caller(setting: Setting, counters: Any, plain: psycopg.Connection[Any]) -> Row:
    stub = counters.get_by_name("one caller")

    async def ours(count: int) -> None:
        for _ in range(count):
            await stub.increment()

    rounds, count = setting.pick(2, 60, 200), setting.pick(2, 20, 20)
    figures = await compare(ours, one_by_one(plain), rounds=rounds, count=count)
    what = "durable increment, one caller, PostgreSQL"
    return Row(what, "µs", figures[0], "UPDATE and commit", figures[1], rate_at_least(0.7))


async def many_callers(
    setting: Setting, counters: Any, plain: psycopg.Connection[Any]
) -> list[Row]:
    callers = setting.pick(20, 1_000, 1_000)
    what = f"durable increments, {callers:,} callers on as many objects, PostgreSQL"
    aim = rate_at_least(0.4)
    return [
        await crowd(setting, counters, plain, callers, what, aim, has_arrays=False),
        await crowd(setting, counters, plain, callers, what, aim),
    ]


async def many_callers_in_memory(setting: Setting, plain: psycopg.Connection[Any]) -> Row:
    """The same calls with nothing to wait for: no database makes the ratio better than this."""
    callers = setting.pick(20, 1_000, 1_000)
    async with open_in_memory("memory", bindings={"COUNTERS": Counter}) as runtime:
        what = f"the same {callers:,} callers, a store in memory"
        return await crowd(setting, runtime.env.COUNTERS, plain, callers, what)


async def crowd(
    setting: Setting,
    counters: Any,
    plain: psycopg.Connection[Any],
    callers: int,
    what: str,
    aim: Aim | None = None,
    *,
    has_arrays: bool = True,
) -> Row:
    each = setting.pick(1, 20, 20)
    stubs = [counters.get_by_name(f"{number}") for number in range(callers)]

    async def call(number: int) -> None:
        increment = stubs[number].increment
        for _ in range(each):
            await increment()

    async def ours(count: int) -> None:
        await together(callers, call)

    by_hand = in_groups(plain, has_arrays=has_arrays)
    figures = await compare(ours, by_hand, rounds=setting.pick(2, 7, 20), count=callers * each)
    note = "" if aim else "a ratio of times"
    beside = f"groups of {GROUP} rows, {'arrays' if has_arrays else 'executemany'}"
    return Row(what, "µs", figures[0], beside, figures[1], aim, note)


async def waking(setting: Setting, runtime: Any, plain: psycopg.Connection[Any]) -> Row:
    count = setting.pick(5, 100, 100)
    stubs = [runtime.env.COUNTERS.get_by_name(f"cold {number}") for number in range(count)]
    for stub in stubs:
        await stub.increment()

    async def ours(count: int) -> None:
        await testing.evict_all(runtime)
        for stub in stubs:
            await stub.increment(0)

    async def by_hand(count: int) -> None:
        for _ in range(count):
            plain.execute("select value from plain where id = 0")
            plain.execute("select value from plain where id = 0")
        plain.commit()

    figures = await compare(ours, by_hand, rounds=setting.pick(2, 15, 30), count=count)
    return Row("wake a cold object, and read it", "µs", figures[0], "two SELECTs", figures[1])


if __name__ == "__main__":
    main(__doc__, ask)
