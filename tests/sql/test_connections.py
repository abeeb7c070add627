"""The connections of a runtime: a bounded number, of which the one used longest ago gives way; and
what is left of it then."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import durable
import durable.testing
from durable._storage.sql.database import Database
from durable._storage.sql.sql import Sql

from .conftest import Desk, Do, Store


def limits(**given: Any) -> durable.Limits:
    return durable.Limits(shutdown_s_max=1.0, **given)


async def test_connections_are_bounded_and_what_was_written_is_not_lost(store: Store) -> None:
    """The one used longest ago is closed for another; one whose turn has written is not."""

    class Crowd(Desk):
        async def write_and_call(self, other: Any) -> Any:
            await self.insert("mine")
            await other.insert("other's")
            return await self.values()

    async with store.open(limits=limits(sql_connections_max=2)) as runtime:
        crowd = runtime.namespace(Crowd)
        for round in range(3):
            for number in range(10):
                await crowd.get_by_name(str(number)).insert(round)
        for number in range(10):
            assert await crowd.get_by_name(str(number)).values() == [0, 1, 2]
        assert runtime._services.sql.connections <= 2
        stub = crowd.get_by_name("x")
        assert await stub.write_and_call(crowd.get_by_name("y")) == ["mine"]


async def test_an_object_whose_connection_gave_way_has_nothing_left_of_it(store: Store) -> None:
    """It costs what one without a database costs, until it asks again."""
    async with store.open(limits=limits(sql_connections_max=2)) as runtime:
        crowd = runtime.namespace(Desk)
        before = databases()
        for number in range(10):
            await crowd.get_by_name(str(number)).insert(number)
        assert databases() - before <= 2
        assert await crowd.get_by_name("0").values() == [0]


def databases() -> int:
    gc.collect()
    return sum(isinstance(each, Database | Sql) for each in gc.get_objects()) // 2


async def test_sql_that_was_kept_is_that_of_the_storage_again(store: Store) -> None:
    """Whichever of them is asked first after the connection gave way, both see one database."""

    class Keeps(Desk):
        async def keep(self) -> None:
            self.before = self.ctx.storage.sql
            self.before.exec("CREATE TABLE IF NOT EXISTS t (value)")

        async def use(self, kept_first: bool) -> int:
            both = [lambda: self.before, lambda: self.ctx.storage.sql]
            for sql in both if kept_first else reversed(both):
                sql().exec("INSERT INTO t VALUES (1)")
            self.ctx.storage.transaction_sync(lambda: self.before.exec("DELETE FROM t WHERE 0"))
            return self.count()

    async with store.open(limits=limits(sql_connections_max=1)) as runtime:
        keeps, other = runtime.namespace(Keeps).get_by_name("a"), runtime.namespace(Desk)
        await keeps.keep()
        for round, kept_first in enumerate([True, False, True]):
            await other.get_by_name("b").insert(1)  # which takes the connection
            assert await keeps.use(kept_first) == 2 * (round + 1)
        await durable.testing.evict(keeps)
        await keeps.keep()
        assert await keeps.use(True) == 8


async def test_a_cursor_whose_connection_gave_way_says_so(store: Store) -> None:
    """One that nobody reads gives way first."""

    class Reader(Desk):
        async def begin(self) -> Any:
            self.sql.exec("CREATE TABLE IF NOT EXISTS t (value); INSERT INTO t VALUES (1), (2)")
            await self.ctx.confirmed()
            self.kept = [self.sql.exec("SELECT value FROM t")]
            return next(self.kept[0])

        async def go_on(self) -> Any:
            return next(self.kept[0])

    async with store.open(limits=limits(sql_connections_max=2)) as runtime:
        a, b, c, d = [runtime.namespace(Reader).get_by_name(name) for name in "abcd"]
        await a.begin()
        await b.insert(1)
        await c.insert(1)  # b's goes, though a's is older
        assert await a.go_on() == {"value": 2}
        await a.begin()
        await c.begin()
        await d.insert(1)
        with pytest.raises(durable.SqlError, match="the cursor is closed"):
            await a.go_on()


async def test_a_cursor_that_is_dropped_is_read_no_more(do: Do[Any]) -> None:
    """So its connection can give way."""

    async def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2)")
        await desk.ctx.confirmed()
        cursor = desk.sql.exec("SELECT value FROM t")
        next(cursor)
        database = desk.sql._database
        before = database.is_read
        del cursor
        gc.collect()
        finished = desk.sql.exec("SELECT value FROM t")
        finished.to_list()
        return before, database.is_read

    assert await do(work) == (True, False)
