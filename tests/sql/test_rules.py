"""What SQL of an object may not do, and what limits it."""

from __future__ import annotations

from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Desk, Do

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
    'EXPLAIN ALTER/**/TABLE "main" . "t"RENAME TO[_CF_t]',
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
    "CREATE TABLE w (a, b); ALTER TABLE w DROP COLUMN b",
    "ALTER TABLE t RENAME a TO _cf_b",
    "ALTER TABLE t RENAME TO cf_t",
    "SELECT 'alter table t rename to _cf_t'",
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


async def test_a_name_that_looks_like_a_comment_hides_nothing(do: Do[Any]) -> None:
    """What follows it is looked at all the same, and the error has the code that SQLite's have."""

    def work(desk: Desk) -> Any:
        desk.sql.exec('CREATE TABLE "a--b" (a)')
        with pytest.raises(durable.SqlForbidden) as caught:
            desk.sql.exec('ALTER TABLE "a--b" RENAME TO _cf_t')
        return caught.value.code

    assert await do(work) == "SQLITE_AUTH"


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
