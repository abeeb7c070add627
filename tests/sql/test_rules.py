"""What SQL of an object may not do, and what limits it."""

from __future__ import annotations

from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Desk, Do, Store

FORBIDDEN = [
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT a",
    "RELEASE a",
    "ATTACH 'x' AS y",
    "DETACH main",
    "VACUUM",
    " /* x */ VACUUM",
    "-- x\nVACUUM INTO 'file'",
    "CREATE TEMP TABLE x (a)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE TABLE _cf_x (a)",
    "CREATE TABLE _CF_x (a)",
    "CREATE INDEX _cf_i ON t (a)",
    "CREATE VIEW _cf_v AS SELECT 1",
    "CREATE TRIGGER _cf_t AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE _cf_v USING fts5(a)",
    "ALTER TABLE t RENAME TO _cf_t",
    'ALTER TABLE t RENAME /* x */ TO "_cf_t"',
    "CREATE VIRTUAL TABLE v USING dbstat",
    "CREATE VIRTUAL TABLE v USING fts4(a)",
    "SELECT * FROM dbstat",
    "SELECT load_extension('x')",
    "SELECT sqlite_version()",
    "SELECT sqlite_source_id()",
    "SELECT ceiling(1.5)",
    "SELECT power(2, 3)",
    "SELECT log10(100)",
    "SELECT unistr('a')",
    "SELECT json_pretty('{}')",
    "SELECT fts3_tokenizer('x')",
    "PRAGMA journal_mode",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA page_size = 512",
    "PRAGMA page_count",
    "PRAGMA max_page_count = 5",
    "PRAGMA cache_size = 5",
    "PRAGMA integrity_check",
    "PRAGMA writable_schema = ON",
    "PRAGMA table_info(_cf_x)",
    "PRAGMA foreign_keys = maybe",
    "PRAGMA synchronous = FULL",
    "PRAGMA user_version = 5",
    "SELECT * FROM pragma_page_count",
]
ALLOWED = [
    "CREATE TABLE u (a REFERENCES t)",
    "CREATE INDEX i ON t (a)",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = 9; END",
    "ALTER TABLE t ADD COLUMN b",
    "ALTER TABLE t RENAME COLUMN a TO c",
    "ALTER TABLE t RENAME TO cf_t",
    "ALTER TABLE t RENAME TO rename_to",
    "DROP TABLE t",
    "ANALYZE",
    "REINDEX",
    "EXPLAIN SELECT 1",
    "EXPLAIN QUERY PLAN SELECT * FROM t",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 5) SELECT n FROM r",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM pragma_table_info('t')",
    "PRAGMA table_info(t)",
    "PRAGMA table_list",
    "PRAGMA index_list('t')",
    "PRAGMA foreign_keys",
    "PRAGMA foreign_keys = off",
    "PRAGMA foreign_keys = 'ON'",
    "PRAGMA foreign_key_check",
    "PRAGMA foreign_key_check(t)",
    "PRAGMA quick_check",
    "PRAGMA quick_check(5)",
    "PRAGMA optimize",
    "PRAGMA optimize(0x10002)",
    "PRAGMA data_version",
    "PRAGMA page_size",
    "SELECT ceil(1.5), pow(2, 3), ln(2), json('{}'), '{}' ->> '$.a', upper('a') LIKE 'A'",
    "SELECT row_number() OVER (ORDER BY a) FROM t",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
]


@pytest.mark.parametrize("text", FORBIDDEN)
async def test_what_is_forbidden_says_so(do: Do[Any], text: str) -> None:
    """Each time, and nothing of it is done."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a)")
        for _ in range(2):
            with pytest.raises(durable.SqlForbidden):
                desk.sql.exec(text)
        return desk.rows("SELECT name FROM sqlite_schema")

    assert await do(work) == [("t",)]


@pytest.mark.parametrize("text", ALLOWED)
async def test_what_is_allowed_runs(do: Do[Any], text: str) -> None:
    """As on the real runtime."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a)")
        desk.sql.exec(text).to_list()

    await do(work)


async def test_transactions_are_told_where_they_belong(do: Do[Any]) -> None:
    """The error names the calls that do it."""

    def work(desk: Desk) -> Any:
        with pytest.raises(durable.SqlForbidden, match=r"ctx\.storage\.transaction_sync\(\)"):
            desk.sql.exec("BEGIN TRANSACTION")

    await do(work)


async def test_our_own_transaction_opens_no_door(do: Do[Any]) -> None:
    """SQLite finds statements again by their text, and asks about those no more."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a)")  # which begins one
        for text in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s0"):
            with pytest.raises(durable.SqlForbidden):
                desk.sql.exec(text)
        desk.ctx.storage.transaction_sync(lambda: desk.sql.exec("INSERT INTO t VALUES (1)"))
        for text in ("ROLLBACK TO s0", "RELEASE s0"):
            with pytest.raises(durable.SqlForbidden):
                desk.sql.exec(text)

    await do(work)


async def test_the_schema_cannot_be_written(do: Do[Any]) -> None:
    """Nor the tables behind others."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE VIRTUAL TABLE f USING fts5(a)")
        for text in ("DELETE FROM sqlite_schema", "INSERT INTO f_data VALUES (1, x'00')"):
            with pytest.raises(durable.SqlError):
                desk.sql.exec(text)

    await do(work)


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
