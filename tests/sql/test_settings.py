"""What a connection is set to, and whose it is: SQLite stores nothing by itself, a runtime's file
system is its own, and a forked child leaves the parent's connections alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw
import pytest

import durable
import durable.testing
from durable._engine.page_packing import PAGE_SIZE
from durable._storage.sql.vfs import PageFiles

from .conftest import Desk, Do, Store

pytestmark = pytest.mark.backends("asyncio", "trio")


async def test_sqlite_keeps_its_journal_in_memory_and_syncs_nothing(do: Do[Any]) -> None:
    """Each setting is made: one text of several pragmas would end at the first that has a row."""

    def work(desk: Desk) -> Any:
        desk.sql.exec("CREATE TABLE t (value)")
        database = desk.sql._database
        asked = (
            "page_size", "locking_mode", "journal_mode", "synchronous", "temp_store",
            "trusted_schema", "foreign_keys",
        )  # fmt: skip
        database.texts.is_ours = True
        return [database.connection.pragma(name) for name in asked]

    assert await do(work) == [PAGE_SIZE, "exclusive", "memory", 0, 2, 0, 1]


def test_no_file_but_an_announced_database_is_opened() -> None:
    """No journal, no temporary file, nothing of the machine's."""
    files = PageFiles(durable.testing.VirtualClock())
    try:
        kinds = (apsw.SQLITE_OPEN_MAIN_JOURNAL, apsw.SQLITE_OPEN_TEMP_DB, apsw.SQLITE_OPEN_WAL)
        for kind in (*kinds, apsw.SQLITE_OPEN_MAIN_DB):
            for name in ("/1", "/1-journal", "/etc/passwd", None):
                with pytest.raises(apsw.CantOpenError):
                    files.xOpen(name, [kind | apsw.SQLITE_OPEN_READWRITE, 0])
    finally:
        files.unregister()


def ended(child: int) -> int:
    """How a child has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ours() -> set[str]:
    return {name for name in apsw.vfs_names() if name.startswith("durable-")}


async def test_each_runtime_has_a_file_system_of_its_own(tmp_path: Path) -> None:
    """With its clock in it, and none is left when they are closed."""
    before = ours()

    class Times(Desk):
        async def now(self) -> Any:
            return self.rows("SELECT unixepoch()")[0][0]

    clocks = [durable.testing.VirtualClock(start_s=start_s) for start_s in (1_000.0, 2_000.0)]
    first = durable.testing.open(tmp_path / "first", clock=clocks[0])
    second = durable.testing.open(tmp_path / "second", clock=clocks[1])
    async with first as one, second as two:
        stubs = [runtime.namespace(Times).get_by_name("a") for runtime in (one, two)]
        assert [await stub.now() for stub in stubs] == [1_000, 2_000]
        assert len(ours() - before) == 2
    assert ours() == before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_forked_child_leaves_the_connections_of_its_parent_alone(store: Store) -> None:
    """It may use none of them, and whatever it does at its end, the parent goes on."""

    class Forks(Desk):
        async def fork(self) -> int:
            await self.insert("before")
            cursor = self.sql.exec("SELECT value FROM t")
            child = os.fork()
            if not child:
                status = 1
                try:
                    self.sql.exec("INSERT INTO t VALUES ('of the child')")
                except durable.WrongLoop:
                    del cursor  # its connection is still open, and stays so
                    status = 0
                finally:
                    os._exit(status)
            status = ended(child)
            assert next(cursor) == {"value": "before"}
            await self.insert("after")
            return status

    async with store.open() as runtime:
        stub = runtime.namespace(Forks).get_by_name("a")
        assert await stub.fork() == 0
        await durable.testing.evict(stub)
        assert await stub.values() == ["before", "after"]


async def test_a_full_text_table_that_a_turn_has_undone_resets_the_object(store: Store) -> None:
    """SQLite cannot commit after a savepoint in which one was made was undone: nothing of the turn
    is stored, its keys neither. In `transaction()`, which is a turn of its own, it can."""

    class Undoes(Desk):
        async def undo(self) -> None:
            self.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
            self.ctx.storage.put("key", 1)

            def make() -> None:
                self.sql.exec("CREATE VIRTUAL TABLE f USING fts5(body)")
                self.sql.exec("INSERT INTO f VALUES ('hello')")
                raise LookupError

            with pytest.raises(LookupError):
                self.ctx.storage.transaction_sync(make)
            self.sql.exec("INSERT INTO t VALUES (1)")

        async def look(self) -> Any:
            return self.ctx.storage.kv.get("key"), await self.values()

    async with store.open() as runtime:
        undoes = runtime.namespace(Undoes)
        with pytest.raises(durable.ObjectReset) as reset:
            await undoes.get_by_name("a").undo()
        assert isinstance(reset.value.__cause__, durable.SqlError)
        assert await undoes.get_by_name("a").look() == (None, [])
