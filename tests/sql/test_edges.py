"""SQL where it meets what is seldom: transactions that end in another order, text that is none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable._storage.sql import time_limit

from .conftest import Desk, Do, Store


class Edge(Desk):
    async def fill(self) -> None:
        self.ctx.storage.put("key", 1)
        self.sql.exec("CREATE TABLE IF NOT EXISTS t (value); INSERT INTO t VALUES (1)")

    async def delete_all(self) -> None:
        self.ctx.storage.delete_all()

    async def delete_all_and_fill(self) -> None:
        self.ctx.storage.delete_all()
        await self.fill()

    async def delete_all_and_abort_in_a_transaction(self) -> None:
        self.ctx.storage.delete_all()
        self.ctx.storage.transaction_sync(lambda: self.ctx.abort("on purpose"))

    async def all(self) -> Any:
        return await self.ctx.storage.list(), self.rows("SELECT name FROM sqlite_schema")


async def test_a_delete_all_is_kept_by_an_abort_within_a_transaction(store: Store) -> None:
    """It was done when it returned."""
    async with store.open() as runtime:
        edges = runtime.namespace(Edge)
        await edges.get_by_name("a").fill()
        with pytest.raises(durable.ObjectAborted):
            await edges.get_by_name("a").delete_all_and_abort_in_a_transaction()
        assert await edges.get_by_name("a").all() == ({}, [])


async def test_what_a_coming_delete_all_deletes_is_never_seen(store: Store) -> None:
    """Also not while the batch before it, with its own keyspace, is on its way to the disk."""
    async with store.open() as runtime:
        edge = runtime.namespace(Edge).get_by_name("a")
        seen: list[bool] = []

        def spy(desk: Edge, _: Any) -> None:
            buffer = desk.ctx.storage._buffer
            submit = buffer._submit

            def watched(batch: Any) -> None:
                seen.append(buffer.sides.is_on_disk(buffer.handle.keyspace))
                submit(batch)

            buffer._submit = watched

        await edge.fill()
        await durable.testing.run_in_object(edge, spy)
        async with anyio.create_task_group() as group:
            with store.faults.hold_commits():
                for method in ("fill", "delete_all_and_fill", "delete_all"):
                    group.start_soon(getattr(edge, method))
                    await anyio.wait_all_tasks_blocked()
        assert await edge.all() == ({}, [])
    assert seen == [True, False, True]


async def test_a_transaction_may_end_before_one_inside_of_it(do: Do[Any]) -> None:
    """One that begins afterwards is undone all the same."""

    def run(desk: Desk) -> Any:
        buffer: Any = desk.ctx.storage._buffer
        desk.sql.exec("CREATE TABLE t (value)")
        outer = buffer.begin()
        desk.sql.exec("INSERT INTO t VALUES ('outer')")
        inner = buffer.begin()
        desk.sql.exec("INSERT INTO t VALUES ('inner')")
        buffer.commit(outer)
        with pytest.raises(KeyError):
            desk.ctx.storage.transaction_sync(lambda: {}[desk.sql.exec("DELETE FROM t")])
        buffer.commit(inner)
        return desk.rows("SELECT value FROM t")

    assert await do(run) == [("outer",), ("inner",)]


@pytest.mark.parametrize("read", ["to_list", "one", "raw", "__next__"])
async def test_text_that_is_no_utf_8_is_an_sql_error(do: Do[Any], read: str) -> None:
    """However it is read."""

    def run(desk: Desk) -> None:
        cursor = desk.sql.exec("SELECT CAST(x'ff' AS TEXT) UNION ALL SELECT 1")
        with pytest.raises(durable.SqlError, match="no UTF-8"):
            list(getattr(cursor, read)())

    await do(run)


async def test_a_null_character_and_a_view_with_gaps_are_refused(do: Do[Any]) -> None:
    """In our words."""

    def run(desk: Desk) -> None:
        with pytest.raises(durable.SqlError, match="null character"):
            desk.sql.exec("SELECT 1\0")
        with pytest.raises(durable.UnstorableValue, match="memoryview"):
            desk.sql.exec("SELECT ?", memoryview(b"abcd")[::2])

    await do(run)


async def test_a_switch_that_sqlite_passes_over_is_not_turned_later(do: Do[Any]) -> None:
    """`foreign_keys` cannot be turned while a transaction runs."""

    def turn(desk: Desk) -> None:
        desk.sql.exec("CREATE TABLE t (value)")
        desk.sql.exec("PRAGMA foreign_keys = OFF")

    def ask(desk: Desk) -> Any:
        desk.sql._database.disconnect()
        return desk.rows("PRAGMA foreign_keys")

    await do(turn)
    assert await do(ask) == [(1,)]


async def test_many_short_queries_are_not_one_long_one(
    do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sql_s_max` is of one statement, also where an object runs them without a pause."""

    class Clock:
        now_s = 100.0

        def steady(self) -> float:
            Clock.now_s += 0.9
            return Clock.now_s

    monkeypatch.setattr(time_limit, "_REAL_TIME", Clock())
    query = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) "
        "SELECT count(*) FROM c"
    )

    def run(desk: Desk) -> None:
        for _ in range(40):
            assert desk.rows(query) == [(20_000,)]

    await do(run)
    assert Clock.now_s > 140


async def test_a_first_page_that_is_damaged_resets_the_object(
    desks: durable.Namespace[Desk], do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any other page does: nothing is built on what is left."""
    await desks.get_by_name("a").insert(1)

    def run(desk: Desk) -> None:
        desk.sql._database.disconnect()

        def broken(*_: Any) -> None:
            raise durable.StoreDamaged("gone")

        with monkeypatch.context() as patched:
            patched.setattr(type(desk.ctx.storage._records.reads), "get_side", broken)
            with suppress(durable.DurableError):
                desk.rows("SELECT value FROM t")
        desk.ctx.storage.put("after", 1)

    with pytest.raises(durable.StoreDamaged):
        await do(run)
    assert await do(lambda desk: desk.ctx.storage.list()) == {}
