"""SQL is part of its object: it is stored, undone, held back and deleted together with keys (P6 to
P9, P11, P13, P14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Desk, Do, Start, Store


class Ledger(Desk):
    """Writes by SQL, keys and alarm at once."""

    async def alarm(self) -> None:
        """Far away."""

    async def write(self, value: int) -> int:
        self.ctx.storage.put("last", value)
        self.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
        self.sql.exec("INSERT INTO t VALUES (?)", value)
        self.ctx.storage.set_alarm(timedelta(days=value))
        return value

    async def state(self) -> tuple[Any, list[Any], Any]:
        alarm = await self.ctx.storage.get_alarm()
        return await self.ctx.storage.get("last"), await self.values(), alarm is not None

    async def write_and_abort(self, value: int) -> None:
        await self.write(value)
        self.ctx.abort("on purpose")

    async def write_twice_with_a_wait(self, value: int) -> None:
        await self.write(value)
        await anyio.sleep(0)
        await self.write(value + 1)
        self.ctx.abort("on purpose")

    async def delete_all(self) -> Any:
        self.ctx.storage.delete_all()
        return self.rows("SELECT name FROM sqlite_schema"), self.sql.database_size

    async def delete_all_and_write(self, value: int) -> None:
        await self.write(-1)
        self.ctx.storage.delete_all()
        await self.write(value)

    async def select(self) -> list[Any]:
        return self.rows("SELECT value FROM t")

    async def keys(self) -> list[str]:
        return await self.ctx.storage.list(keys_only=True)


@pytest.fixture
async def ledgers(runtime: durable.Runtime) -> durable.Namespace[Ledger]:
    return runtime.namespace(Ledger)


async def test_keys_sql_and_alarm_are_stored_together(store: Store) -> None:
    """And found by the next runtime."""
    async with store.open() as runtime:
        assert await runtime.namespace(Ledger).get_by_name("a").write(5) == 5
    async with store.open() as runtime:
        assert await runtime.namespace(Ledger).get_by_name("a").state() == (5, [5], True)


async def test_a_reset_loses_the_turn_and_no_more(ledgers: durable.Namespace[Ledger]) -> None:
    """Of keys, SQL and alarm alike."""
    await ledgers.get_by_name("a").write(1)
    with pytest.raises(durable.ObjectAborted):
        await ledgers.get_by_name("a").write_and_abort(2)
    assert await ledgers.get_by_name("a").state() == (1, [1], True)

    with pytest.raises(durable.ObjectAborted):
        await ledgers.get_by_name("a").write_twice_with_a_wait(7)
    assert await ledgers.get_by_name("a").state() == (7, [1, 7], True)


async def test_nothing_is_heard_before_a_write_by_sql_is_on_disk(
    ledgers: durable.Namespace[Ledger], store: Store, start: Start[Any]
) -> None:
    """The output gate holds the answer."""
    stub = ledgers.get_by_name("a")
    await stub.values()
    with store.faults.hold_commits():
        call = start(stub.insert(1))
        await store.settle()
        assert not call.done
        reading = start(stub.values())
        await store.settle()
        assert not reading.done, "it would tell of what is not on disk"
    await call.result()
    assert await reading.result() == [1]


async def test_a_failed_commit_resets_and_nothing_of_it_is_there(
    ledgers: durable.Namespace[Ledger], store: Store
) -> None:
    """Neither keys nor SQL."""
    await ledgers.get_by_name("a").write(1)
    store.faults.fail_commits()
    with pytest.raises(durable.CommitFailed):
        await ledgers.get_by_name("a").write(2)
    store.faults.repair()

    assert await ledgers.get_by_name("a").state() == (1, [1], True)


async def test_a_select_alone_waits_for_no_disk(
    ledgers: durable.Namespace[Ledger], store: Store
) -> None:
    """It writes nothing, so nothing has to be on disk before its answer leaves."""
    stub = ledgers.get_by_name("a")
    await stub.insert(1)
    with store.faults.hold_commits(), anyio.fail_after(5):
        assert await stub.select() == [(1,)]


async def test_keys_and_tables_do_not_show_each_other(ledgers: durable.Namespace[Ledger]) -> None:
    """Whatever is listed."""
    stub = ledgers.get_by_name("a")
    await stub.write(1)

    assert await stub.keys() == ["last"]


async def test_everything_deleted_is_tables_too(ledgers: durable.Namespace[Ledger]) -> None:
    """At once, for the next statement of the same turn; what is written after it stays."""
    stub = ledgers.get_by_name("a")
    await stub.write(1)
    assert await stub.delete_all() == ([], 0)
    assert await stub.state() == (None, [], False)

    await stub.write(2)
    await stub.delete_all_and_write(3)
    assert await stub.state() == (3, [3], True)
    await durable.testing.evict(stub)
    assert await stub.state() == (3, [3], True)


async def test_an_object_with_nothing_but_tables_is_there(
    ledgers: durable.Namespace[Ledger],
) -> None:
    """It is listed, and gone when all is deleted."""
    stub = ledgers.get_by_name("a")
    await stub.insert(1)
    assert [found.name async for found in ledgers.objects()] == ["a"]

    await ledgers.delete(stub.id)
    assert [found.name async for found in ledgers.objects()] == []


async def test_an_evicted_object_finds_its_tables(ledgers: durable.Namespace[Ledger]) -> None:
    """More of them than SQLite keeps in memory."""
    stub = ledgers.get_by_name("a")
    for value in range(5):
        await stub.insert("x" * 100_000 + str(value))
    await durable.testing.evict(stub)

    values = await stub.values()
    assert [value[-1] for value in values] == ["0", "1", "2", "3", "4"]


# Transactions


async def test_a_transaction_is_kept_or_undone_whole(do: Do[Any]) -> None:
    """SQL in it too, nested ones included."""

    async def work(desk: Desk) -> Any:
        storage = desk.ctx.storage
        desk.sql.exec("CREATE TABLE t (value)")

        async def inner(txn: durable.Transaction) -> None:
            txn.put("inner", 1)
            desk.sql.exec("INSERT INTO t VALUES ('inner')")

        async def outer(txn: durable.Transaction) -> None:
            txn.put("outer", 1)
            desk.sql.exec("INSERT INTO t VALUES ('outer')")
            await storage.transaction(inner)
            with pytest.raises(ZeroDivisionError):
                await storage.transaction(fails)
            txn.rollback()
            desk.sql.exec("INSERT INTO t VALUES ('after')")

        async def fails(txn: durable.Transaction) -> None:
            desk.sql.exec("INSERT INTO t VALUES ('fails')")
            raise ZeroDivisionError

        await storage.transaction(outer)
        undone = await desk.values(), await storage.list()
        await storage.transaction(inner)
        with pytest.raises(ZeroDivisionError):
            await storage.transaction(fails)
        return undone, (await desk.values(), await storage.list())

    undone, kept = await do(work)
    assert undone == (["after"], {})
    assert kept == (["after", "inner"], {"inner": 1})


async def test_a_synchronous_transaction_is_kept_or_undone_whole(do: Do[Any]) -> None:
    """With keys and alarm; it returns what its function returns; nested ones too."""

    def work(desk: Desk) -> Any:
        storage = desk.ctx.storage
        desk.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES ('before')")

        def adds(value: str) -> str:
            storage.put(value, 1)
            desk.sql.exec("INSERT INTO t VALUES (?)", value)
            return value

        def fails() -> None:
            adds("fails")
            assert storage.transaction_sync(lambda: adds("inner of it")) == "inner of it"
            raise ZeroDivisionError

        def outer() -> None:
            adds("outer")
            with pytest.raises(ZeroDivisionError):
                storage.transaction_sync(fails)
            storage.transaction_sync(lambda: adds("inner"))

        with pytest.raises(ZeroDivisionError):
            storage.transaction_sync(fails)
        undone = desk.rows("SELECT value FROM t"), storage.kv.list(keys_only=True)
        storage.transaction_sync(outer)
        return undone, desk.rows("SELECT value FROM t"), storage.kv.list(keys_only=True)

    undone, rows, keys = await do(work)
    assert undone == ([("before",)], [])
    assert rows == [("before",), ("outer",), ("inner",)]
    assert keys == ["inner", "outer"]


async def test_a_synchronous_transaction_does_not_cut_its_turn(store: Store) -> None:
    """What is written before and after it is stored with it, or not at all (P7)."""

    class Cut(Desk):
        async def write(self) -> None:
            self.ctx.storage.put("before", 1)
            self.ctx.storage.transaction_sync(lambda: self.ctx.storage.put("inside", 1))
            self.ctx.storage.put("after", 1)
            self.ctx.abort("on purpose")

        async def all(self) -> dict[str, Any]:
            return await self.ctx.storage.list()

    async with store.open() as runtime:
        cuts = runtime.namespace(Cut)
        with pytest.raises(durable.ObjectAborted):
            await cuts.get_by_name("a").write()
        assert await cuts.get_by_name("a").all() == {}


async def test_a_synchronous_transaction_takes_a_plain_function(do: Do[Any]) -> None:
    """What returns something to await has done nothing."""

    def work(desk: Desk) -> Any:
        storage = desk.ctx.storage

        async def coroutine() -> None:
            storage.put("never", 1)

        def returns_one() -> Any:
            storage.put("undone", 1)
            return coroutine()

        for wrong in (coroutine, returns_one, None, 5):
            with pytest.raises(TypeError, match="takes a plain function"):
                storage.transaction_sync(wrong)  # type: ignore[arg-type]
        with pytest.raises(durable.DurableError, match="within a transaction"):
            storage.transaction_sync(storage.delete_all)
        return storage.kv.list(keys_only=True)

    assert await do(work) == []


async def test_the_reader_thread_changes_nothing(store: Store) -> None:
    """SQL is read in-line, whatever `reads` says, and sees the writes of keys beside it."""
    async with store.open(reads="thread") as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.write(1)
        await durable.testing.evict(stub)
        assert await stub.state() == (1, [1], True)


async def test_many_objects_share_a_commit(store: Store) -> None:
    """One transaction of the engine for the SQL of all of them."""
    async with store.open() as runtime:
        ledgers = runtime.namespace(Ledger)
        with store.faults.hold_commits():
            calls = [ledgers.get_by_name(str(n)).write(n) for n in range(1, 51)]
            await store.settle()
        for call in calls:
            await call
        commits = runtime.statistics().commits
        assert commits.batches >= 50
        assert commits.count < 10
        states = [await ledgers.get_by_name(str(n)).state() for n in range(1, 51)]
    assert states == [(n, [n], True) for n in range(1, 51)]
