"""The limits of SQL: each is an error, or resets the object where SQLite has undone its turn."""

from __future__ import annotations

from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Desk, Store


def limited(**limits: Any) -> durable.Limits:
    return durable.Limits(shutdown_s_max=1.0, **limits)


async def run(store: Store, limits: durable.Limits, fn: Any) -> Any:
    async with store.open(limits=limits) as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        return await durable.testing.run_in_object(stub, lambda desk, _: fn(desk))


@pytest.mark.parametrize(
    ("limit", "text", "bindings"),
    [
        ({"sql_value_size_max": 100}, "SELECT ?", ("x" * 101,)),
        ({"sql_statement_size_max": 20}, "SELECT 1 + 1 + 1 + 1 + 1", ()),
        ({"sql_columns_max": 3}, "CREATE TABLE u (a, b, c, d)", ()),
        ({"sql_bindings_max": 2}, "SELECT ?, ?, ?", (1, 2, 3)),
        ({"sql_function_arguments_max": 2}, "SELECT max(1, 2, 3)", ()),
        ({"sql_pattern_size_max": 3}, "SELECT 'a' LIKE 'abcd'", ()),
    ],
)
async def test_each_limit_is_said_by_an_error(
    store: Store, limit: Any, text: str, bindings: Any
) -> None:
    """And the object goes on."""

    def work(desk: Desk) -> Any:
        with pytest.raises(durable.SqlError):
            desk.sql.exec(text, *bindings).to_list()
        return desk.rows("SELECT 1")

    assert await run(store, limited(**limit), work) == [(1,)]


async def test_a_statement_that_does_not_end_is_stopped(store: Store) -> None:
    """One that reads costs the object nothing."""
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        with pytest.raises(durable.SqlError, match="interrupt"):
            desk.sql.exec(endless).one()
        return desk.count()

    assert await run(store, limited(sql_s_max=0.05), work) == 1


async def test_a_write_that_does_not_end_resets_the_object(store: Store) -> None:
    """SQLite undoes the whole turn, so the keys of the turn go with it."""
    endless = (
        "INSERT INTO t WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
        "SELECT n FROM r WHERE n < 0"
    )

    class Endless(Desk):
        async def write(self) -> None:
            self.ctx.storage.put("key", 1)
            try:
                self.sql.exec(endless)
            except Exception:
                self.ctx.storage.put("seen", 1)

        async def all(self) -> Any:
            return await self.ctx.storage.list(), await self.values()

    async with store.open(limits=limited(sql_s_max=0.05)) as runtime:
        stub = runtime.namespace(Endless).get_by_name("a")
        await stub.insert(1)
        with pytest.raises(durable.ObjectReset, match="SQLite has undone"):
            await stub.write()
        assert await runtime.namespace(Endless).get_by_name("a").all() == ({}, [1])


async def test_a_turn_that_writes_too_much_resets_the_object(store: Store) -> None:
    """Its pages are in memory until it ends."""

    class Large(Desk):
        async def fill(self, count: int) -> None:
            self.ctx.storage.put("key", count)
            for _ in range(count):
                self.sql.exec("INSERT INTO t VALUES (?)", "x" * 100_000)

        async def all(self) -> Any:
            return await self.ctx.storage.get("key"), len(await self.values())

    async with store.open(limits=limited(sql_turn_bytes_max=1_000_000)) as runtime:
        larges = runtime.namespace(Large)
        await larges.get_by_name("a").insert("x")
        await larges.get_by_name("a").fill(5)
        with pytest.raises(durable.ObjectReset):
            await larges.get_by_name("a").fill(20)
        assert await larges.get_by_name("a").all() == (5, 6)


async def test_what_was_undone_or_written_again_does_not_count(store: Store) -> None:
    """It is the pages in memory that count."""

    class Large(Desk):
        async def fill(self) -> None:
            def undone() -> None:
                for _ in range(8):
                    self.sql.exec("INSERT INTO t VALUES (?)", "x" * 100_000)
                raise LookupError

            self.sql.exec("INSERT INTO t VALUES ('kept')")
            for _ in range(5):
                with pytest.raises(LookupError):
                    self.ctx.storage.transaction_sync(undone)

        async def write_again(self) -> None:
            for number in range(20):
                self.sql.exec("UPDATE t SET value = ?", f"{number}" + "x" * 300_000)

    async with store.open(limits=limited(sql_turn_bytes_max=1_000_000)) as runtime:
        stub = runtime.namespace(Large).get_by_name("a")
        await stub.insert("x")
        await stub.fill()
        assert await stub.values() == ["x", "kept"]
        await stub.write_again()


async def test_a_full_database_resets_the_turn_or_says_so(store: Store) -> None:
    """Nothing is half stored."""

    class Full(Desk):
        async def fill(self) -> None:
            for _ in range(100):
                self.sql.exec("INSERT INTO t VALUES (?)", "x" * 10_000)

    async with store.open(limits=limited(sql_size_max=200_000)) as runtime:
        fulls = runtime.namespace(Full)
        await fulls.get_by_name("a").insert("x")
        with pytest.raises(durable.DurableError, match="full"):
            await fulls.get_by_name("a").fill()
        assert await fulls.get_by_name("a").values() == ["x"]
