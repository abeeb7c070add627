"""`exec`: statements, bindings, cursors and values, as Cloudflare's SQL storage has them."""

from __future__ import annotations

import math
from datetime import datetime
from enum import IntEnum
from typing import Any

import pytest

import durable

from .conftest import Desk, Do


class Size(IntEnum):
    BIG = 3


async def test_rows_are_dicts_by_column(do: Do[Any]) -> None:
    """In the order of the columns; a cursor gives each row once, whichever way it is asked."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')")
        cursor = desk.sql.exec("SELECT a, b FROM t ORDER BY a")
        first = next(cursor)
        raw = next(cursor.raw())
        return first, raw, cursor.to_list(), cursor.to_list(), cursor.column_names, cursor.rows_read

    first, raw, rest, none, columns, read = await do(work)
    assert first == {"a": 1, "b": "x"}
    assert raw == (2, "y")
    assert rest == [{"a": 3, "b": "z"}]
    assert none == []
    assert columns == ["a", "b"]
    assert read == 3


async def test_of_two_columns_of_one_name_the_last_wins(do: Do[Any]) -> None:
    """`raw()` and `column_names` have both."""

    def work(desk: Desk) -> Any:
        query = "SELECT 1 AS a, 2 AS a"
        cursor = desk.sql.exec(query)
        return desk.sql.exec(query).one(), list(cursor.raw()), cursor.column_names

    assert await do(work) == ({"a": 2}, [(1, 2)], ["a", "a"])


async def test_the_columns_of_a_query_without_rows_are_known(do: Do[Any]) -> None:
    """Also of a table that was changed since the query ran first."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a)")
        before = desk.sql.exec("SELECT * FROM t").column_names
        desk.sql.exec("INSERT INTO t VALUES (1)")
        desk.sql.exec("ALTER TABLE t ADD COLUMN b")
        return before, desk.sql.exec("SELECT * FROM t").column_names

    assert await do(work) == (["a"], ["a", "b"])


async def test_one_takes_exactly_one_row(do: Do[Any]) -> None:
    """In the words of Cloudflare's runtime."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
        with pytest.raises(durable.SqlError, match="but got no results"):
            desk.sql.exec("SELECT * FROM t WHERE a > 5").one()
        with pytest.raises(durable.SqlError, match="but got multiple results"):
            desk.sql.exec("SELECT * FROM t").one()
        return desk.sql.exec("SELECT * FROM t WHERE a = 2").one()

    assert await do(work) == {"a": 2}


async def test_values_come_back_as_they_were(do: Do[Any]) -> None:
    """A bool as 0 or 1, bytes of any kind as bytes, a subclass as what it is one of."""
    given = [None, 0, -(2**63), 2**63 - 1, 1.5, math.inf, "", "é𝄞\0x", b"", b"\0\xff"]

    def work(desk: Desk) -> Any:
        same = [desk.rows("SELECT ?", value)[0][0] for value in given]
        others = [True, False, bytearray(b"x"), memoryview(b"y"), Size.BIG]
        return same, [desk.rows("SELECT ?", value)[0][0] for value in others]

    same, others = await do(work)
    assert [(type(value), value) for value in same] == [(type(value), value) for value in given]
    assert others == [1, 0, b"x", b"y", 3]
    assert [type(value) for value in others] == [int, int, bytes, bytes, int]


@pytest.mark.parametrize(
    "value",
    [math.nan, 2**63, -(2**63) - 1, "\ud800", datetime(2026, 1, 1), [1], {}, object()],
    ids=["nan", "too large", "too small", "surrogate", "datetime", "list", "dict", "object"],
)
async def test_what_sql_has_no_value_for_is_refused(do: Do[Any], value: Any) -> None:
    """At the call, and nothing of it is done."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a, b)")
        with pytest.raises(durable.UnstorableValue):
            desk.sql.exec("INSERT INTO t VALUES (?, ?)", 1, value)
        return desk.count()

    assert await do(work) == 0


async def test_of_several_statements_the_last_has_the_bindings_and_the_rows(do: Do[Any]) -> None:
    """The others run to their end, and each sees those before it."""

    def work(desk: Desk) -> Any:
        text = (
            "CREATE TABLE IF NOT EXISTS t (a);\n INSERT INTO t VALUES (1), (2);"
            "SELECT a FROM t WHERE a >= ?;  \n"
        )
        first = desk.rows(text, 2)
        with pytest.raises(durable.SqlError, match="only the last statement"):
            desk.sql.exec("INSERT INTO t VALUES (?); SELECT 1", 5)
        return first, desk.rows(text, 2), desk.count()

    assert await do(work) == ([(2,)], [(2,), (2,)], 4)


async def test_an_error_in_the_middle_keeps_what_came_before_it(do: Do[Any]) -> None:
    """As in Cloudflare's runtime: whoever wants all or nothing has transaction_sync()."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a UNIQUE)")
        with pytest.raises(durable.SqlConstraint):
            desk.sql.exec("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); SELECT 1")
        return desk.count()

    assert await do(work) == 1


@pytest.mark.parametrize("text", ["", " \n", ";", "-- nothing", "SELECT 1; -- nothing"])
async def test_a_text_without_a_statement_is_an_error(do: Do[Any], text: str) -> None:
    """Wherever the statement is missing."""

    def work(desk: Desk) -> Any:
        with pytest.raises(durable.SqlError, match="did not contain a statement"):
            desk.sql.exec(text)

    await do(work)


@pytest.mark.parametrize("bindings", [(), (1, 2)])
async def test_the_number_of_bindings_must_be_right(do: Do[Any], bindings: tuple[int]) -> None:
    """The first time and when the statement is known."""

    def work(desk: Desk) -> Any:
        for _ in range(2):
            with pytest.raises(durable.SqlError, match="Wrong number of parameter bindings"):
                desk.sql.exec("SELECT ?", *bindings)
            desk.sql.exec("SELECT ?", 1)

    await do(work)


async def test_an_error_says_its_code_and_place(do: Do[Any]) -> None:
    """SQLite's own names, and nothing of the package that brings SQLite."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a UNIQUE, b CHECK (b > 0)); INSERT INTO t VALUES (1, 1)")
        with pytest.raises(durable.SqlError) as syntax:
            desk.sql.exec("SELEC 1")
        with pytest.raises(durable.SqlConstraint) as unique:
            desk.sql.exec("INSERT INTO t VALUES (1, 1)")
        return syntax.value, unique.value

    syntax, unique = await do(work)
    assert str(syntax) == 'near "SELEC": syntax error at offset 0: SQLITE_ERROR'
    assert (syntax.code, syntax.offset) == ("SQLITE_ERROR", 0)
    assert str(unique) == (
        "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)"
    )
    assert (unique.code, unique.offset) == ("SQLITE_CONSTRAINT_UNIQUE", None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [1],
            "SQL has no value for binding 2, which is of the type list; "
            "give None, an int, a float, str or bytes",
        ),
        (
            2**63,
            "SQL has no value for binding 2, which is an int beyond 64 bits: 9223372036854775808; "
            "give it as text, which has no bounds, or as a float",
        ),
    ],
    ids=["list", "too large"],
)
async def test_a_refused_value_is_told_with_what_sql_takes(
    do: Do[Any], value: Any, message: str
) -> None:
    """And not with the types that keys take."""

    def work(desk: Desk) -> Any:
        with pytest.raises(durable.UnstorableValue) as refused:
            desk.sql.exec("SELECT ?, ?", 1, value)
        return str(refused.value)

    assert await do(work) == message


@pytest.mark.parametrize(
    "query",
    ["ATTACH 'x' AS y", "VACUUM", "CREATE TABLE _cf_x (a)", "SELECT load_extension('x')"],
)
async def test_what_sql_may_not_do_is_told_with_the_refusal(do: Do[Any], query: str) -> None:
    def work(desk: Desk) -> Any:
        with pytest.raises(durable.SqlForbidden, match=r"may not use other databases.*VACUUM"):
            desk.sql.exec(query)

    await do(work)


async def test_an_error_reaches_the_caller_as_itself(desks: durable.Namespace[Desk]) -> None:
    """And the object goes on."""
    stub = desks.get_by_name("a")
    await stub.insert("x")
    with pytest.raises(durable.UnstorableValue):
        await stub.insert(2**70)

    assert await stub.values() == ["x"]


async def test_written_rows_are_counted(do: Do[Any]) -> None:
    """Inserted, changed and deleted ones, of the statement alone."""

    def work(desk: Desk) -> Any:
        written = [
            desk.sql.exec(query).rows_written
            for query in (
                "CREATE TABLE t (a)",
                "INSERT INTO t VALUES (1), (2), (3)",
                "UPDATE t SET a = a + 1 WHERE a > 1",
                "DELETE FROM t",
                "SELECT 1",
            )
        ]
        returning = desk.sql.exec("INSERT INTO t VALUES (7) RETURNING a")
        return written, returning.one(), returning.rows_written

    assert await do(work) == ([0, 3, 2, 3, 0], {"a": 7}, 1)


async def test_a_query_is_text(do: Do[Any]) -> None:
    """Nothing else is taken for it."""

    def work(desk: Desk) -> Any:
        with pytest.raises(TypeError, match="takes SQL"):
            desk.sql.exec(b"SELECT 1")

    await do(work)


async def test_the_size_counts_pages_in_use(do: Do[Any]) -> None:
    """Of 4,096 bytes each; those that a deletion has freed are not counted."""

    def work(desk: Desk) -> Any:
        empty = desk.sql.database_size
        desk.sql.exec("CREATE TABLE t (a)")
        small = desk.sql.database_size
        desk.sql.exec("INSERT INTO t VALUES (?)", "x" * 100_000)
        large = desk.sql.database_size
        desk.sql.exec("DELETE FROM t")
        return empty, small, large, desk.sql.database_size

    empty, small, large, after = await do(work)
    assert (empty, small, after) == (0, 2 * 4_096, 2 * 4_096)
    assert large >= 100_000


async def test_full_text_json_math_and_trees_are_there(do: Do[Any]) -> None:
    """On every machine the same."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE VIRTUAL TABLE notes USING fts5(body)")
        desk.sql.exec("INSERT INTO notes VALUES ('the quick brown fox'), ('a lazy dog')")
        desk.sql.exec("CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2)")
        desk.sql.exec("INSERT INTO boxes VALUES (1, 0, 5), (2, 10, 20)")
        return (
            desk.rows("SELECT highlight(notes, 0, '<', '>') FROM notes WHERE notes MATCH 'quick'"),
            desk.rows("SELECT id FROM boxes WHERE x1 >= 6"),
            desk.rows("SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]'), sqrt(16)"),
            desk.rows("SELECT value FROM json_each('[4, 5]')"),
        )

    assert await do(work) == (
        [("the <quick> brown fox",)],
        [(2,)],
        [(2, 4.0)],
        [(4,), (5,)],
    )
