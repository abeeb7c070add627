"""A statement that is the only one of its turn is a transaction of SQLite's by itself, and a second
one changes that: nothing of it is to be seen, whatever the turn does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Desk, Do, Store

INSERT = "INSERT INTO t (value) VALUES (?)"


def make(desk: Desk) -> None:
    desk.sql.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, value UNIQUE)")


@pytest.fixture
async def warm(do: Do[Any]) -> Callable[[Callable[[Desk], Any]], Any]:
    """`do` in an object that has inserted 1 and 2, each in a turn of its own, so that the next such
    insert is alone."""
    await do(make)
    for value in (1, 2):
        await do(lambda desk, value=value: desk.sql.exec(INSERT, value))  # type: ignore[misc]
    return do


def is_alone(desk: Desk) -> bool:
    """Whether the next insert is to be."""
    statement = desk.sql._database.texts.singles.get(INSERT)
    return statement is not None and statement.is_alone


def values(desk: Desk) -> list[Any]:
    return [value for (value,) in desk.rows("SELECT value FROM t ORDER BY id")]


async def test_an_insert_that_is_alone_is_stored(warm: Do[Any], desks: Any) -> None:
    """And is there when the object has been evicted."""
    await warm(lambda desk: (desk.sql.exec(INSERT, 3), desk.ctx.storage.put("last", 3)))
    assert await warm(is_alone)
    await durable.testing.evict(desks.get_by_name("a"))

    assert await warm(values) == [1, 2, 3]


async def test_one_that_is_followed_is_put_into_a_transaction_from_then_on(warm: Do[Any]) -> None:
    """SQLite would write their pages twice else."""

    def two(desk: Desk) -> None:
        desk.sql.exec(INSERT, 3)
        desk.sql.exec("UPDATE t SET value = 4 WHERE value = 3")

    assert await warm(is_alone)
    await warm(two)
    assert not await warm(is_alone)
    await warm(lambda desk: desk.sql.exec(INSERT, 5))

    assert await warm(values) == [1, 2, 4, 5]


@pytest.mark.parametrize("count", [1, 400])
async def test_what_was_alone_stays_when_a_transaction_after_it_is_undone(
    warm: Do[Any], desks: Any, count: int
) -> None:
    """Also if SQLite has written pages of that one in its middle."""

    def work(desk: Desk) -> None:
        desk.sql.exec(INSERT, 3)

        def undone() -> None:
            for number in range(count):
                desk.sql.exec(INSERT, f"{number}" + "x" * 2_000)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            desk.ctx.storage.transaction_sync(undone)

    await warm(work)
    assert await warm(values) == [1, 2, 3]
    await durable.testing.evict(desks.get_by_name("a"))

    assert await warm(values) == [1, 2, 3]
    assert await warm(lambda desk: desk.sql.exec("PRAGMA quick_check").raw().__next__()) == ("ok",)


async def test_a_reset_loses_the_one_of_its_turn(warm: Do[Any]) -> None:
    """It is the turn's, though SQLite takes it for committed."""

    def work(desk: Desk) -> None:
        desk.sql.exec(INSERT, 3)
        desk.ctx.abort("on purpose")

    with pytest.raises(durable.ObjectReset):
        await warm(work)

    assert await warm(values) == [1, 2]


async def test_deleting_everything_after_it_deletes_it(warm: Do[Any]) -> None:
    """And what is written next is all there is."""

    def work(desk: Desk) -> None:
        desk.sql.exec(INSERT, 3)
        desk.ctx.storage.delete_all()
        make(desk)
        desk.sql.exec(INSERT, 4)

    await warm(work)
    assert await warm(values) == [4]


async def test_one_that_fails_keeps_open_cursors_and_the_turn(warm: Do[Any]) -> None:
    """A constraint undoes the statement and no more."""

    def work(desk: Desk) -> Any:
        cursor = desk.sql.exec("SELECT value FROM t ORDER BY id")
        first = next(cursor)
        desk.ctx.storage.put("key", 1)
        with pytest.raises(durable.SqlConstraint):
            desk.sql.exec(INSERT, 1)
        return [first, *cursor], desk.ctx.storage.kv.get("key")

    assert await warm(work) == ([{"value": 1}, {"value": 2}], 1)
    assert await warm(values) == [1, 2]


async def test_what_one_that_fails_has_kept_is_stored(warm: Do[Any], desks: Any) -> None:
    """OR FAIL keeps the rows before the one that it fails at."""
    fails = "INSERT OR FAIL INTO t (value) VALUES (?), (?)"
    await warm(lambda desk: desk.sql.exec(fails, 3, 4))

    def work(desk: Desk) -> None:
        with pytest.raises(durable.SqlConstraint):
            desk.sql.exec(fails, 5, 1)

    await warm(work)
    await durable.testing.evict(desks.get_by_name("a"))

    assert await warm(values) == [1, 2, 3, 4, 5]


async def test_one_that_fails_late_leaves_nothing(warm: Do[Any], desks: Any) -> None:
    """SQLite has written pages of it by then, and puts back what was there."""
    many = (
        "INSERT INTO t (value) SELECT CASE i WHEN ? THEN 1 ELSE i || hex(zeroblob(1000)) END FROM "
        "(WITH RECURSIVE r(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM r LIMIT 1000) "
        "SELECT i FROM r)"
    )
    await warm(lambda desk: desk.sql.exec(f"{many} LIMIT ?", 0, 0))
    await warm(lambda desk: desk.sql.exec(f"{many} LIMIT ?", 0, 0))

    def work(desk: Desk) -> None:
        desk.ctx.storage.put("key", 1)
        with pytest.raises(durable.SqlConstraint):
            desk.sql.exec(f"{many} LIMIT ?", 1_000, 1_000)

    await warm(work)
    for _ in range(2):
        assert await warm(values) == [1, 2]
        assert await warm(lambda desk: desk.rows("PRAGMA quick_check")) == [("ok",)]
        await durable.testing.evict(desks.get_by_name("a"))
    assert await warm(lambda desk: desk.ctx.storage.kv.get("key")) == 1


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TRIGGER g BEFORE INSERT ON t WHEN NEW.value = 3 "
        "BEGIN SELECT RAISE(ROLLBACK, 'stopped'); END",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO child VALUES (NEW.value); END",
    ],
)
async def test_what_acts_on_the_turn_is_seen_to_once_it_is_made(warm: Do[Any], schema: str) -> None:
    """A trigger that undoes the turn, and a key that is looked at in its end."""
    await warm(
        lambda desk: desk.sql.exec(
            "CREATE TABLE parent (id PRIMARY KEY);"
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
            "INSERT INTO parent VALUES (10), (11)"
        )
    )
    assert not await warm(is_alone)
    await warm(lambda desk: desk.sql.exec(schema))
    for value in (10, 11):
        await warm(lambda desk, value=value: desk.sql.exec(INSERT, value))  # type: ignore[misc]

    def work(desk: Desk) -> None:
        desk.ctx.storage.put("key", 1)
        try:
            desk.sql.exec(INSERT, 3)
        except durable.DurableError:
            desk.ctx.storage.put("seen", 1)

    with pytest.raises(durable.ObjectReset):
        await warm(work)

    assert await warm(values) == [1, 2, 10, 11]
    assert await warm(lambda desk: desk.ctx.storage.kv.get("key")) is None


async def test_keys_that_are_deferred_by_a_pragma_are_looked_at_when_the_turn_ends(
    warm: Do[Any],
) -> None:
    """As for keys that are declared so."""
    child = "INSERT INTO child VALUES (?)"
    await warm(
        lambda desk: desk.sql.exec(
            "CREATE TABLE parent (id PRIMARY KEY); CREATE TABLE child (id REFERENCES parent);"
            "INSERT INTO parent VALUES (1)"
        )
    )
    for _ in range(3):
        await warm(lambda desk: desk.sql.exec(child, 1))

    def work(desk: Desk) -> None:
        desk.sql.exec("PRAGMA defer_foreign_keys = ON")
        desk.sql.exec(child, 2)
        desk.sql.exec("INSERT INTO parent VALUES (2)")

    await warm(work)
    assert await warm(lambda desk: desk.count("child")) == 4


async def test_one_that_is_stopped_resets_the_object(store: Store) -> None:
    """As any that writes: SQLite undoes all that it has written."""

    class Endless(Desk):
        async def insert_to(self, number: int) -> None:
            self.ctx.storage.put("key", number)
            self.sql.exec(
                "INSERT INTO t SELECT n FROM (WITH RECURSIVE r(n) AS "
                "(SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < ?) SELECT n FROM r)",
                number,
            )

        async def key(self) -> Any:
            return await self.ctx.storage.get("key")

    limits = durable.Limits(sql_s_max=0.05, shutdown_s_max=1.0)
    async with store.open(limits=limits) as runtime:
        stub = runtime.namespace(Endless).get_by_name("a")
        await stub.insert(0)
        for _ in range(2):
            await stub.insert_to(1)
        with pytest.raises(durable.ObjectReset, match="undone"):
            await stub.insert_to(1 << 40)
        stub = runtime.namespace(Endless).get_by_name("a")

        assert await stub.values() == [0, 1, 1]
        assert await stub.key() == 1


async def test_one_that_writes_too_much_resets_the_object(store: Store) -> None:
    """SQLite can neither write its pages nor put back what was there: none of them is stored."""

    class Large(Desk):
        async def grow(self, size: int) -> None:
            self.sql.exec("UPDATE t SET value = zeroblob(?)", size)

        async def sizes(self) -> Any:
            return self.rows("SELECT length(value) FROM t"), self.rows("PRAGMA quick_check")

    limits = durable.Limits(sql_turn_bytes_max=1_000_000, shutdown_s_max=1.0)
    async with store.open(limits=limits) as runtime:
        stub = runtime.namespace(Large).get_by_name("a")
        for value in range(20):
            await stub.insert(value)
        for _ in range(2):
            await stub.grow(10_000)
        with pytest.raises(durable.ObjectReset, match="SQLITE_FULL"):
            await stub.grow(100_000)

        stub = runtime.namespace(Large).get_by_name("a")
        assert await stub.sizes() == ([(10_000,)] * 20, [("ok",)])


async def test_a_switch_after_it_is_as_in_a_transaction(warm: Do[Any]) -> None:
    """SQLite passes over this one, since the turn has written."""

    def work(desk: Desk) -> Any:
        desk.rows("PRAGMA foreign_keys")
        desk.sql.exec(INSERT, 3)
        desk.sql.exec("PRAGMA foreign_keys = OFF")
        return desk.rows("PRAGMA foreign_keys")

    assert await warm(work) == [(1,)]
    assert await warm(lambda desk: desk.rows("PRAGMA foreign_keys")) == [(1,)]
    assert await warm(values) == [1, 2, 3]


async def test_a_pragma_that_is_forbidden_stays_so(do: Do[Any]) -> None:
    """Though the library runs the same text itself."""

    def work(desk: Desk) -> None:
        make(desk)
        assert desk.sql.database_size > 0
        for pragma in ("page_count", "freelist_count", "locking_mode=EXCLUSIVE", "synchronous=OFF"):
            with pytest.raises(durable.SqlForbidden):
                desk.sql.exec(f"PRAGMA {pragma}")

    await do(work)


async def test_rows_are_counted_for_each_whatever_ran_before(warm: Do[Any]) -> None:
    """One that is alone, those in a transaction, one that failed half-way."""
    half = "INSERT OR FAIL INTO t (value) VALUES (?1), (1), (?1 + 1)"

    def written(*values: Any, query: str = INSERT) -> Any:
        return warm(lambda desk: [desk.sql.exec(query, each).rows_written for each in values])

    assert await written(3) == [1]
    assert await written(4, 5) == [1, 1]
    assert await written(6) == [1]
    for value in (7, 17):  # the second time its text is known
        with pytest.raises(durable.SqlConstraint):
            await written(value, query=half)
    assert await written("UPDATE t SET value = value + 100", query="SELECT ?") == [0]
    assert await warm(lambda desk: desk.sql.exec("DELETE FROM t").rows_written) == 8
    assert await written(8) == [1]


async def test_a_value_that_cannot_be_stored_leaves_the_turn_as_it_is(warm: Do[Any]) -> None:
    """Nothing of the statement has run, and what else the turn writes is stored."""

    def work(desk: Desk) -> None:
        with pytest.raises(durable.UnstorableValue, match="binding 1, which is an int beyond"):
            desk.sql.exec(INSERT, 1 << 63)
        desk.ctx.storage.put("key", 1)
        desk.sql.exec(INSERT, 3)

    await warm(work)
    assert await warm(values) == [1, 2, 3]
    assert await warm(lambda desk: desk.ctx.storage.kv.get("key")) == 1


async def test_turns_that_share_a_batch_store_keys_and_pages(warm: Do[Any], desks: Any) -> None:
    """Of either kind alone, and of both."""
    stub = desks.get_by_name("a")

    def work(number: int) -> Callable[[Desk, Any], None]:
        def write(desk: Desk, _: Any) -> None:
            if number % 3 != 1:
                desk.ctx.storage.put(f"key {number}", number)
            if number % 3 != 2:
                desk.sql.exec(INSERT, number)

        return write

    async with anyio.create_task_group() as tasks:
        for number in range(100, 200):
            tasks.start_soon(durable.testing.run_in_object, stub, work(number))
    await durable.testing.evict(stub)

    keys = await warm(lambda desk: list(desk.ctx.storage.kv.list().values()))
    assert keys == [number for number in range(100, 200) if number % 3 != 1]
    inserted = [number for number in range(100, 200) if number % 3 != 2]
    assert sorted(await warm(values)) == [1, 2, *inserted]
