"""A statement that changes nothing is no write: nothing is stored for it, and no message waits."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Desk, Start, Store

CREATE = "CREATE TABLE IF NOT EXISTS t (value)"
NO_CHANGES = (
    CREATE,
    "CREATE INDEX IF NOT EXISTS by_value ON t (value)",
    "DROP TABLE IF EXISTS other",
    "UPDATE t SET value = 0 WHERE value > 100",
    "DELETE FROM t WHERE value > 100",
    "INSERT INTO t SELECT 1 WHERE false",
    "INSERT OR IGNORE INTO u VALUES (1)",
)


class Visits(Desk):
    """Makes its table where many do."""

    def __init__(self, ctx: durable.State, env: object) -> None:
        super().__init__(ctx, env)
        self.sql.exec(CREATE)

    async def last(self) -> int | None:
        return await self.ctx.storage.get("last")


@pytest.fixture
async def visits(runtime: durable.Runtime) -> durable.Stub[Visits]:
    """An object that has its tables on the disk, and is not in memory."""
    stub = runtime.namespace(Visits).get_by_name("a")
    await stub.insert(1)
    await durable.testing.run_in_object(
        stub,
        lambda desk, _: desk.sql.exec(
            "CREATE INDEX by_value ON t (value); CREATE TABLE u (id INTEGER PRIMARY KEY); "
            "INSERT INTO u VALUES (1)"
        ),
    )
    await durable.testing.evict(stub)
    return runtime.namespace(Visits).get_by_name("a")


async def test_a_table_that_is_there_is_made_without_a_write(
    store: Store, visits: durable.Stub[Visits]
) -> None:
    """An object that is constructed makes no batch by that, and answers while the disk is held."""
    with store.faults.hold_commits(), anyio.fail_after(5):
        assert await visits.values() == [1]

        assert store.faults.commits_waiting == 0


@pytest.mark.parametrize("statement", NO_CHANGES)
async def test_a_statement_that_changes_nothing_is_not_stored(
    store: Store, visits: durable.Stub[Visits], statement: str
) -> None:
    """Whether SQLite knows so before it looks, or after."""
    with store.faults.hold_commits(), anyio.fail_after(5):
        await durable.testing.run_in_object(visits, lambda desk, _: desk.sql.exec(statement))

        assert store.faults.commits_waiting == 0


async def test_what_follows_a_statement_without_a_change_is_stored(
    visits: durable.Stub[Visits], runtime: durable.Runtime
) -> None:
    """It belongs to the turn as ever."""

    def write(desk: Visits) -> None:
        desk.sql.exec(CREATE)
        desk.sql.exec("DELETE FROM t WHERE value > 100")
        desk.sql.exec("INSERT INTO t VALUES (5)")
        desk.ctx.storage.put("last", 5)

    await durable.testing.run_in_object(visits, lambda desk, _: write(desk))
    await durable.testing.evict(visits)
    found = runtime.namespace(Visits).get_by_name("a")

    assert await found.values() == [1, 5]
    assert await found.last() == 5


async def test_a_key_beside_a_statement_without_a_change_waits_for_the_disk(
    store: Store, visits: durable.Stub[Visits], start: Start[Any]
) -> None:
    """A put of the same turn is a write, whatever SQL has done."""

    def write(desk: Visits) -> None:
        desk.sql.exec(CREATE)
        desk.ctx.storage.put("last", 5)
        desk.sql.exec("DELETE FROM t WHERE value > 100")

    with store.faults.hold_commits():
        call = start(durable.testing.run_in_object(visits, lambda desk, _: write(desk)))
        await store.settle()

        assert not call.done
        assert store.faults.commits_waiting == 1
    await call.result()


async def test_in_a_transaction_a_statement_without_a_change_is_undone_with_the_rest(
    visits: durable.Stub[Visits],
) -> None:
    """What comes after it in the transaction is undone, what came before the transaction stays."""

    def write(desk: Visits) -> None:
        desk.sql.exec("INSERT INTO t VALUES (2)")

        def within() -> None:
            desk.sql.exec(CREATE)
            desk.sql.exec("INSERT INTO t VALUES (3)")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            desk.ctx.storage.transaction_sync(within)

    await durable.testing.run_in_object(visits, lambda desk, _: write(desk))

    assert await visits.values() == [1, 2]
