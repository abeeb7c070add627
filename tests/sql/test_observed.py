"""Observers are told of queries, and debug mode of those that take long; nobody pays otherwise."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import pytest

import durable
from durable import observing
from durable.observing import QueryEnded

from .conftest import Desk, Store

COUNT_TO = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
    "SELECT max(i) AS i FROM n"
)


class Told:
    """An observer that keeps what it is told of queries."""

    def __init__(self) -> None:
        self.queries: list[QueryEnded] = []
        self.threads: set[int] = set()

    def __call__(self, event: observing.Event) -> None:
        if isinstance(event, QueryEnded):
            self.queries.append(event)
            self.threads.add(threading.get_ident())

    @property
    def counts(self) -> list[tuple[str, int, int]]:
        return [(each.query, each.rows_read, each.rows_written) for each in self.queries]


class Asks(Desk):
    """Runs what a test wants it to."""

    async def fill(self) -> None:
        self.sql.exec("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)")

    async def ask(self, query: str, *bindings: Any) -> list[Any]:
        return list(self.sql.exec(query, *bindings).raw())

    async def read_one_at_a_time(self) -> None:
        for _ in self.sql.exec("SELECT value FROM t"):
            await anyio.sleep(0)

    async def leave_half_way(self) -> None:
        next(self.sql.exec("SELECT value FROM t"))
        gc.collect()

    async def one(self, query: str) -> Any:
        return self.sql.exec(query).one()


async def test_a_query_is_told_with_its_object_text_and_rows(store: Store) -> None:
    """One that writes as it returns, one that reads when its rows have ended."""
    told = Told()
    async with store.open(observer=told) as runtime:
        stub = runtime.namespace(Asks).get_by_name("a")
        await stub.fill()
        await stub.ask("SELECT value FROM t WHERE value > ?", 1)
        await stub.ask("DELETE FROM t WHERE value < 3 RETURNING value")
        await stub.one("SELECT count(*) AS n FROM t")

    assert told.counts == [
        ("CREATE TABLE t (value); INSERT INTO t VALUES (1), (2), (3)", 0, 3),
        ("SELECT value FROM t WHERE value > ?", 2, 0),
        ("DELETE FROM t WHERE value < 3 RETURNING value", 2, 2),
        ("SELECT count(*) AS n FROM t", 1, 0),
    ]
    assert {each.label for each in told.queries} == {"Asks('a')"}
    assert {each.object_id for each in told.queries} == {str(stub.id)}
    assert all(each.duration_s > 0 and each.error is None for each in told.queries)


async def test_rows_that_are_read_over_waits_are_one_query(store: Store) -> None:
    """It is told with the last of them, and one that is left half-way when it is let go."""
    told = Told()
    async with store.open(observer=told) as runtime:
        stub = runtime.namespace(Asks).get_by_name("a")
        await stub.fill()
        await stub.read_one_at_a_time()
        await stub.leave_half_way()
        await stub.values()

    selects = [each for each in told.counts if each[0].startswith("SELECT")]
    assert sorted(selects) == [("SELECT value FROM t", rows, 0) for rows in (1, 3, 3)]
    assert told.threads == {threading.get_ident()}


class Ticking:
    """A clock by which each look takes a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def steady(self) -> float:
        self.now_s += 1
        return self.now_s


async def test_the_time_of_a_query_is_that_within_sqlite(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that which passes between its rows."""
    told, clock = Told(), Ticking()
    monkeypatch.setattr("durable._storage.sql.watched.REAL_TIME", clock)

    class Slow(Asks):
        async def read_slowly(self) -> None:
            for _ in self.sql.exec("SELECT value FROM t"):
                clock.now_s += 100

    async with store.open() as runtime:
        stub = runtime.namespace(Slow).get_by_name("a")
        await stub.fill()
        runtime.observe(told)
        await stub.read_slowly()

    (event,) = told.queries
    assert event.duration_s == 1 + 3 + 1  # exec, three rows, and the end of them


async def test_a_query_that_fails_is_told_with_its_error(store: Store) -> None:
    """As it fails, and as it was given."""
    told = Told()
    async with store.open(observer=told) as runtime:
        stub = runtime.namespace(Asks).get_by_name("a")
        for query in ("SELECT 1 FROM nowhere", "BEGIN"):
            with pytest.raises(durable.SqlError):
                await stub.ask(query)

    nowhere, begin = told.queries
    assert (nowhere.query, begin.query) == ("SELECT 1 FROM nowhere", "BEGIN")
    assert nowhere.error is not None
    assert nowhere.error.startswith("SqlError: no such table")
    assert begin.error is not None
    assert begin.error.startswith("SqlForbidden: ")


async def test_a_long_query_is_told_cut_and_without_its_bindings(store: Store) -> None:
    """An event has a bounded size, and nothing that was bound to a parameter is in it."""
    told = Told()
    query = f"SELECT ? AS s /* {'x' * 5_000} */"
    async with store.open(observer=told) as runtime:
        await runtime.namespace(Asks).get_by_name("a").ask(query, "a secret")

    (event,) = told.queries
    assert event.query == query[: observing.QUERY_SIZE_MAX] + "…"
    assert "secret" not in repr(event)


async def test_an_observer_that_comes_later_is_told_from_then_on(store: Store) -> None:
    """And one that has gone of nothing more: texts that are remembered change nothing of that."""
    told = Told()
    async with store.open() as runtime:
        stub = runtime.namespace(Asks).get_by_name("a")
        await stub.fill()
        await stub.ask("SELECT count(*) FROM t")
        end = runtime.observe(told)
        await stub.ask("SELECT count(*) FROM t")
        end()
        await stub.ask("SELECT count(*) FROM t")

    assert told.counts == [("SELECT count(*) FROM t", 1, 0)]


async def test_debug_mode_tells_of_a_query_that_holds_up_the_loop(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its text, its object and its rows; short ones are not told."""
    monkeypatch.setattr("durable._watch.debug.BLOCKING_S_MAX", 0.001)
    async with store.open(debug=True) as runtime:
        stub = runtime.namespace(Asks).get_by_name("a")
        assert await stub.ask(COUNT_TO, 50_000) == [(50_000,)]
        monkeypatch.undo()
        await stub.ask("SELECT 1 AS short")

    (message,) = [text for text in caplog.messages if "a query of Asks('a')" in text]
    assert "reading 1 rows and writing 0" in message
    assert COUNT_TO in message
