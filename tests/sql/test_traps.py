"""What SQLite does by itself, and what a connection forgets: each of these lost or kept something
once."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import operate
from durable._engine.side_records import PAGES
from durable._lmdb import layout
from durable._lmdb.environment import Environment

from .conftest import Desk, Do, Store


async def reset_by(desks: durable.Namespace[Any], method: str, *args: Any) -> durable.DurableError:
    """The error of a call that resets its object."""
    with pytest.raises(durable.ObjectReset) as raised:
        await getattr(desks.get_by_name("a"), method)(*args)
    return raised.value


class Undone(Desk):
    async def make(self) -> None:
        self.sql.exec(
            "CREATE TABLE t (value PRIMARY KEY); CREATE TABLE parent (id PRIMARY KEY);"
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
            "CREATE TRIGGER g BEFORE INSERT ON t WHEN NEW.value = 'stop' "
            "BEGIN SELECT RAISE(ROLLBACK, 'stopped'); END; INSERT INTO t VALUES (1)"
        )

    async def write_then(self, statement: str) -> None:
        self.ctx.storage.put("key", 1)
        self.sql.exec("INSERT INTO t VALUES (2)")
        try:
            self.sql.exec(statement)
        except Exception:
            self.ctx.storage.put("seen", 1)

    async def all(self) -> Any:
        return await self.ctx.storage.list(), self.rows("SELECT * FROM t")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR ROLLBACK INTO t VALUES (1)",
        "INSERT INTO t VALUES ('stop')",
        "INSERT INTO child VALUES (5)",  # what it refers to is not there when the turn ends
    ],
)
async def test_what_sqlite_undoes_by_itself_resets_the_object(store: Store, statement: str) -> None:
    """Or keys would be stored without the SQL of their turn. Code of the object sees none of it."""
    async with store.open() as runtime:
        undone = runtime.namespace(Undone)
        await undone.get_by_name("a").make()
        error = await reset_by(undone, "write_then", statement)
        assert isinstance(error.__cause__, durable.SqlError)

        assert await undone.get_by_name("a").all() == ({}, [(1,)])


async def test_a_deferred_key_that_fails_in_a_transaction_resets_the_object(store: Store) -> None:
    """A transaction is stored when it ends, so the constraint is looked at there."""

    class Deferred(Undone):
        async def transact(self) -> None:
            async def write(txn: durable.Transaction) -> None:
                txn.put("key", 1)
                self.sql.exec("INSERT INTO child VALUES (5)")

            await self.ctx.storage.transaction(write)

    async with store.open() as runtime:
        deferred = runtime.namespace(Deferred)
        await deferred.get_by_name("a").make()
        error = await reset_by(deferred, "transact")
        assert "constraints were violated" in str(error)

        assert await deferred.get_by_name("a").all() == ({}, [(1,)])


async def test_rows_that_were_not_read_keep_no_turn_from_ending(store: Store) -> None:
    """Those of a statement that writes, and those of one that reads beside it."""

    class Reads(Desk):
        async def work(self) -> None:
            self.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)")
            self.kept = [
                self.sql.exec("INSERT INTO t VALUES (4), (5) RETURNING value"),
                self.sql.exec("SELECT value FROM t"),
            ]
            next(self.kept[1])

        async def rest(self) -> list[Any]:
            self.sql.exec("INSERT INTO t VALUES (6)")
            return [[row["value"] for row in cursor] for cursor in self.kept]

    async with store.open() as runtime:
        stub = runtime.namespace(Reads).get_by_name("a")
        await stub.work()
        returned, rest = await stub.rest()
        assert returned == [4, 5]
        assert rest[:4] == [2, 3, 4, 5]


async def test_an_open_cursor_outlives_waits_and_not_its_connection(do: Do[Any]) -> None:
    """It says that it was closed, and by what it may have been."""

    async def begin(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)")
        cursor = desk.sql.exec("SELECT value FROM t")
        next(cursor)
        await anyio.sleep(0)
        next(cursor)
        desk.ctx.storage.delete_all()
        with pytest.raises(durable.SqlError, match="the cursor is closed"):
            next(cursor)
        with pytest.raises(durable.SqlError, match="the cursor is closed"):
            cursor.to_list()

    await do(begin)


async def test_a_table_that_is_read_cannot_be_dropped(do: Do[Any]) -> None:
    """SQLite says that it is locked."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)")
        cursor = desk.sql.exec("SELECT value FROM t")
        next(cursor)
        with pytest.raises(durable.SqlError) as locked:
            desk.sql.exec("DROP TABLE t")
        rest = cursor.to_list()
        desk.sql.exec("DROP TABLE t")
        return locked.value.code, len(rest)

    assert await do(work) == ("SQLITE_LOCKED", 2)


async def test_pages_after_a_deletion_are_found_again(store: Store) -> None:
    """Also when they are durable and SQLite has forgotten them: only the old pages are gone."""

    class Renewed(Desk):
        async def renew(self, count: int) -> None:
            self.ctx.storage.delete_all()
            self.sql.exec("CREATE TABLE t (value)")
            for number in range(count):
                self.sql.exec("INSERT INTO t VALUES (?)", f"{number}" + "x" * 2_000)

    async with store.open(limits=limits(sql_connections_max=1)) as runtime:
        stubs = [runtime.namespace(Renewed).get_by_name(name) for name in "ab"]
        for round in range(3):
            for stub in stubs:
                await stub.renew(200 + round)
            for stub in stubs:  # each takes the connection from the other
                assert len(await stub.values()) == 200 + round


async def test_full_text_made_in_an_undone_transaction_does_no_harm(do: Do[Any]) -> None:
    """SQLite cannot commit after a savepoint in which such a table was made was undone."""

    async def work(desk: Desk) -> Any:
        async def make(txn: durable.Transaction) -> None:
            desk.sql.exec("CREATE VIRTUAL TABLE f USING fts5(body)")
            desk.sql.exec("INSERT INTO f VALUES ('hello')")
            txn.rollback()

        await desk.ctx.storage.transaction(make)
        desk.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1)")
        await desk.ctx.confirmed()
        return desk.rows("SELECT name FROM sqlite_schema")

    assert await do(work) == [("t",)]


async def test_pragma_optimize_is_a_write(do: Do[Any]) -> None:
    """It says that it only reads, and writes statistics: those are in the turn's batch."""

    async def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (a, b); CREATE INDEX i ON t (a)")
        desk.sql.exec(
            "INSERT INTO t WITH RECURSIVE r(n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 900) SELECT n, n FROM r"
        )
        await desk.ctx.confirmed()
        desk.sql.exec("PRAGMA optimize(0x10002)")
        await desk.ctx.confirmed()

    await do(work)


async def test_a_switch_outlives_its_connection(store: Store) -> None:
    """As long as the object is in memory, whichever connections it has had."""

    class Switched(Desk):
        async def switch(self) -> None:
            self.sql.exec("PRAGMA case_sensitive_like = ON")

        async def like(self) -> Any:
            return self.rows("SELECT 'A' LIKE 'a'")

    async with store.open(limits=limits(sql_connections_max=1)) as runtime:
        first, second = [runtime.namespace(Switched).get_by_name(name) for name in "ab"]
        assert await first.like() == [(1,)]
        await first.switch()
        assert await second.like() == [(1,)]
        assert await first.like() == [(0,)]
        assert await second.like() == [(1,)]


async def test_foreign_keys_are_checked(do: Do[Any]) -> None:
    """From the start, as at Cloudflare and unlike plain SQLite."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE p (id PRIMARY KEY); CREATE TABLE c (id REFERENCES p)")
        with pytest.raises(durable.SqlConstraint, match="FOREIGN KEY"):
            desk.sql.exec("INSERT INTO c VALUES (1)")

    await do(work)


async def test_sql_goes_by_the_clock_of_the_runtime(store: Store) -> None:
    """Also in a test that moves it."""

    class Times(Desk):
        async def now(self) -> Any:
            return self.rows("SELECT unixepoch(), datetime('now'), strftime('%Y', 'now')")[0]

    async with store.open() as runtime:
        stub = runtime.namespace(Times).get_by_name("a")
        before = await stub.now()
        await store.clock.advance(86_400)
        after = await stub.now()
        assert after[0] == before[0] + 86_400
        assert int(store.clock.now()) == after[0]


def limits(**given: Any) -> durable.Limits:
    return durable.Limits(shutdown_s_max=1.0, **given)


@pytest.mark.one_folder
async def test_a_damaged_page_resets_the_object_and_is_never_read(store: Store) -> None:
    """And the check says whose it is."""
    async with store.open() as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        await stub.insert("x")
        keyspace = _keyspace(runtime)
    _damage(store, keyspace)

    async with store.open() as runtime:
        with pytest.raises(durable.StoreDamaged):
            await runtime.namespace(Desk).get_by_name("a").values()
    problems = operate.check(store.folder)
    assert any("'a'" in str(problem) for problem in problems)
    _damage(store, keyspace)  # the same bit again


def _keyspace(runtime: durable.Runtime) -> int:
    (activation,) = list(runtime._directory)
    return activation.handle.keyspace


def _damage(store: Store, keyspace: int) -> None:
    """Flip a bit of the second page, by the engine itself."""
    environment = Environment.open(store.folder, clock=store.clock)

    def flip(txn: Any) -> None:
        place = layout.side_key(keyspace, PAGES + (2).to_bytes(4, "big"))
        raw = bytearray(txn.get(place))
        raw[9] ^= 1
        txn.put(place, bytes(raw))

    environment.handle.write(flip)
    environment.close()


async def test_without_the_extra_the_error_names_it(
    do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first use of `ctx.storage.sql`, and never before."""
    for name in [name for name in sys.modules if name.startswith("durable._storage.sql.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apsw", None)

    def work(desk: Desk) -> Any:
        with pytest.raises(durable.DurableError, match=r"durable-objects\[sql\]"):
            _ = desk.sql

    await do(work)


async def test_scratch_reads_tables_and_keeps_its_own_apart(store: Store) -> None:
    """A store that is tried on shows what it had, and what is written to it is gone."""
    async with store.open() as runtime:
        await runtime.namespace(Desk).get_by_name("a").insert("kept")
    async with store.open(scratch=True) as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        await stub.insert("tried")
        await durable.testing.evict(stub)
        assert await stub.values() == ["kept", "tried"]
    async with store.open() as runtime:
        assert await runtime.namespace(Desk).get_by_name("a").values() == ["kept"]
