"""Databases of objects from outside: `durable sql`, `export --sqlite`, `check --sql`, `show`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import operate
from durable.cli import main
from durable.operate.databases import (
    NoDatabase,
    check_databases,
    database_size,
    export_sqlite,
    open_database,
)

pytest.importorskip("apsw")
pytest.importorskip("click")
pytest.importorskip("rich")


class Shelf(durable.DurableObject):
    async def fill(self, count: int) -> None:
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS book (title TEXT, year INTEGER, cover BLOB)")
        for number in range(count):
            sql.exec("INSERT INTO book VALUES (?, ?, ?)", f"title {number}", number, b"\0" * number)

    async def keep(self) -> None:
        self.ctx.storage.put("a", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with durable.open(tmp_path / "store") as runtime:
            shelves = runtime.namespace(Shelf)
            await shelves.get_by_name("a").fill(300)
            await shelves.get_by_name("plain").keep()

    anyio.run(fill)
    return tmp_path / "store"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_rows_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, or as lines of JSON."""
    query = "SELECT title, year, cover FROM book WHERE year IN (1, 2) ORDER BY year"
    status, out, _ = run(capsys, "sql", folder, "Shelf", "a", query)
    assert status == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == ["title", "title 1", "title 2"]

    status, out, _ = run(capsys, "sql", folder, "Shelf", "a", query, "--json", "--limit", 1)
    assert json.loads(out) == {"title": "title 1", "year": 1, "cover": {"$bytes": "AA=="}}


def test_without_a_query_the_tables_are_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the statement that made each."""
    status, out, _ = run(capsys, "sql", folder, "Shelf", "a", "--json")

    assert status == 0
    assert json.loads(out)["table"] == "book"
    assert "CREATE TABLE" in json.loads(out)["made by"]


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM book", "SELECT 1; SELECT 2", "SELEC", "", "ATTACH 'x' AS y", "SELECT ?",
     "CREATE TABLE t (a)", "PRAGMA journal_mode", "VACUUM", "BEGIN"],
)  # fmt: skip
def test_what_is_no_question_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], query: str
) -> None:
    """In one line, and nothing is changed."""
    before = operate_rows(folder)
    status, out, err = run(capsys, "sql", folder, "Shelf", "a", query)

    assert (status, out) == (1, "")
    assert err.startswith("durable: ")
    assert len(err.splitlines()) == 1
    assert operate_rows(folder) == before


def test_a_statement_that_writes_is_told_where_to_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the object's own code."""
    _, _, err = run(capsys, "sql", folder, "Shelf", "a", "DELETE FROM book")

    assert "a method of the object writes" in err


def operate_rows(folder: Path) -> list[Any]:
    with operate.look(folder) as store, open_database(store, store.find("Shelf", "a")) as opened:
        return list(opened.query("SELECT * FROM book").rows)


def test_an_object_without_tables_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks."""
    status, _, err = run(capsys, "sql", folder, "Shelf", "plain", "SELECT 1")
    assert status == 1
    assert "has no SQL database" in err
    with (
        operate.look(folder) as store,
        pytest.raises(NoDatabase),
        open_database(store, store.find("Shelf", "plain")),
    ):
        raise AssertionError("it has none")


@pytest.mark.backends("asyncio")
async def test_the_owner_goes_on_meanwhile(folder: Path) -> None:
    """What it writes is not seen in the moment that is looked at, and is in the next."""
    async with durable.open(folder) as runtime:
        stub = runtime.namespace(Shelf).get_by_name("a")
        with operate.look(runtime) as store:
            found = store.find("Shelf", "a")
            with open_database(store, found) as opened:
                rows = opened.query("SELECT count(*) FROM book").rows
                await stub.fill(10)
                assert next(opened.query("SELECT count(*) FROM book").rows) == (300,)
                assert next(rows) == (300,)
            with open_database(store, found) as opened:
                assert next(opened.query("SELECT count(*) FROM book").rows) == (310,)


def test_a_database_goes_out_as_a_file_of_sqlites(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which the standard library's SQLite opens; a file that is there stays."""
    file = tmp_path / "shelf.db"
    status, _, err = run(capsys, "export", folder, "Shelf", "a", "--sqlite", file)
    assert status == 0, err
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*), max(year) FROM book").fetchone() == (300, 299)
    connection.close()
    with operate.look(folder) as store:
        assert database_size(store, store.find("Shelf", "a")) == file.stat().st_size
        assert database_size(store, store.find("Shelf", "plain")) == 0
        with pytest.raises(FileExistsError):
            export_sqlite(store, store.find("Shelf", "a"), file)

    with pytest.raises(SystemExit):
        run(capsys, "export", folder, "Shelf", "--sqlite", tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


def test_show_says_how_large_the_database_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is one."""
    _, out, _ = run(capsys, "show", folder, "Shelf", "a")
    assert "database" in out
    _, out, _ = run(capsys, "show", folder, "Shelf", "plain")
    assert "database" not in out
    _, out, _ = run(capsys, "show", folder, "Shelf", "plain", "--json")
    assert json.loads(out.splitlines()[0])["object"]["database_bytes"] == 0


def test_check_asks_sqlite_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --sql; what it finds says whose it is."""
    status, out, _ = run(capsys, "check", folder, "--sql")
    assert (status, out) == (0, "nothing is wrong\n")

    spoil(folder)
    assert run(capsys, "check", folder)[0] == 0, "each page is one by itself"
    problems = check_databases(folder)
    assert problems
    assert "'a' of Shelf" in problems[0].where
    assert run(capsys, "check", folder, "--sql")[0] == 1


def spoil(folder: Path) -> None:
    """Put one page of the table in the place of another, with its checksum."""
    from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
    from durable._engine.side_records import PAGES
    from durable._lmdb.environment import Environment
    from durable._model.clock import SystemClock
    from durable._model.ids import BASE_SIZE

    with operate.look(folder) as store:
        found = store.find("Shelf", "a")
        sides = dict(store.sides(found))
    handle = ObjectHandle(found.cls.number, found.id.raw[:BASE_SIZE], found.number, "a", None, None)
    moved: dict[bytes, bytes | None] = {
        PAGES + (4).to_bytes(4, "big"): sides[PAGES + (3).to_bytes(4, "big")]
    }
    environment = Environment.open(folder, clock=SystemClock())
    callbacks = Callbacks(lambda: None, lambda error: None)
    environment.commit([Batch(handle, False, {}, UNCHANGED, callbacks, 0, sides=moved)])
    environment.close()


def test_an_export_carries_databases(folder: Path, tmp_path: Path) -> None:
    """Into another store, or under another name."""
    file = tmp_path / "all.jsonl"
    assert main(["export", str(folder), "Shelf", "a", "-o", str(file), "--quiet"]) == 0
    assert main(["import", str(folder), str(file), "--name", "fork", "--quiet"]) == 0
    before = operate_rows(folder)

    with operate.look(folder) as store, open_database(store, store.find("Shelf", "fork")) as fork:
        assert list(fork.query("SELECT * FROM book").rows) == before
