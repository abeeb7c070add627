"""Pages that are read before they are asked for: when, how many, and what a query sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

import durable
import durable.testing
from durable._storage.sql.read_ahead import WIDTH_MAX, ReadAhead

from .conftest import Desk, Do

ROWS = 800  # of a thousand bytes: some 200 pages, of which SQLite keeps 64 by itself


def widths(numbers: Iterator[int]) -> list[int]:
    """How many pages are read at a time as *numbers* are asked for."""
    ahead, owner = ReadAhead(), object()
    found = []
    for number in numbers:
        if ahead.pages.pop(number, None) is None:
            width = ahead.width_at(owner, number)
            found.append(width)
            if width > 1:
                ahead.pages.update(dict.fromkeys(range(number + 1, number + width), b""))
        assert len(ahead.pages) < WIDTH_MAX
    return found


def test_pages_in_a_row_are_read_many_at_a_time() -> None:
    """After some that were read one by one; a page of the tree's inside on the way ends nothing."""
    assert widths(iter(range(10, 100))) == [1, 1, 4, 8, 16, 32, 32]
    assert widths(chain(range(10, 30), [7], range(30, 100))) == [1, 1, 4, 8, 16, 1, 32, 32]


def test_pages_that_are_in_no_row_are_read_one_by_one() -> None:
    """As by an index, backwards, or by turns from two places."""
    assert widths(iter([5, 6, 9, 10, 3, 4, 20])) == [1] * 7
    assert widths(iter(range(100, 10, -1))) == [1] * 90
    assert widths(each for n in range(1, 51) for each in (n, 1_000 + n)) == [1] * 100


def test_fewer_are_read_where_few_of_them_are_asked_for() -> None:
    """As where the pages of two tables alternate, after a part that is all of one."""
    found = widths(chain(range(10, 100), range(100, 200, 2)))

    assert found[5:13] == [32, 32, 32, 16, 8, 4, 2, 1]
    assert set(found[13:]) == {1}


def test_the_rows_of_two_owners_are_not_mixed_up() -> None:
    """What was read ahead for one is dropped when the other begins, or the one is closed."""
    ahead, owner, other = ReadAhead(), object(), object()
    assert [ahead.width_at(owner, number) for number in (1, 2, 3)] == [1, 1, 4]
    ahead.pages[4] = b""
    ahead.drop(other)
    assert ahead.pages

    assert ahead.width_at(other, 7) == 1
    assert not ahead.pages
    assert ahead.owner is other
    ahead.drop(other)
    assert ahead.owner is None


def fill(desk: Desk) -> None:
    desk.sql.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
    for number in range(ROWS):
        desk.sql.exec("INSERT INTO t VALUES (?, ?)", number, f"{number:0>1000}")


def first_pages(desk: Desk) -> None:
    """Go through the first half of the table, so that pages of the second are read ahead."""
    found = desk.rows("SELECT value FROM t ORDER BY id LIMIT ?", ROWS // 2)
    assert [int(value) for (value,) in found] == list(range(ROWS // 2))
    assert read_ahead(desk)


def read_ahead(desk: Desk) -> dict[int, bytes]:
    """The pages that are held."""
    pages: dict[int, bytes] = desk.sql._database.connections.read_ahead.pages
    return pages


def sums(desk: Desk) -> Any:
    return desk.rows("SELECT count(*), sum(CAST(value AS INTEGER)) FROM t")[0]


async def test_a_query_asks_the_store_for_many_pages_at_a_time(
    desks: durable.Namespace[Desk], do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for each only once."""
    await do(fill)
    await durable.testing.evict(desks.get_by_name("a"))
    asked: list[int] = []

    def run(desk: Desk) -> None:
        reads = desk.ctx.storage._records.reads
        get, get_many = reads.get_side, reads.get_sides

        def get_and_note(keyspace: int, key: bytes) -> Any:
            asked.append(1)
            return get(keyspace, key)

        def get_many_and_note(keyspace: int, keys: list[bytes]) -> Any:
            asked.append(len(keys))
            return get_many(keyspace, keys)

        with monkeypatch.context() as patched:
            patched.setattr(reads, "get_side", get_and_note)
            patched.setattr(reads, "get_sides", get_many_and_note)
            assert sums(desk) == (ROWS, ROWS * (ROWS - 1) // 2)

    await do(run)
    assert max(asked) == WIDTH_MAX
    assert ROWS / 4 < sum(asked) < ROWS / 4 + 20
    assert len(asked) < 25


async def test_a_query_sees_what_was_written_to_pages_that_were_read_ahead(do: Do[Any]) -> None:
    """In the same turn, after it, and when a transaction has undone it."""
    await do(fill)
    half, plain = ROWS // 2, (ROWS, ROWS * (ROWS - 1) // 2)
    more = (ROWS, plain[1] + half)

    def write(desk: Desk) -> None:
        first_pages(desk)
        desk.sql.exec("UPDATE t SET value = CAST(value AS INTEGER) + 1 WHERE id >= ?", half)
        assert sums(desk) == more

    def write_and_undo(desk: Desk) -> None:
        def undone() -> None:
            write(desk)
            raise LookupError

        with pytest.raises(LookupError):
            desk.ctx.storage.transaction_sync(undone)
        assert sums(desk) == plain

    await do(write_and_undo)
    await do(write)
    assert await do(sums) == more


async def test_a_query_ends_where_the_database_ends_now(do: Do[Any]) -> None:
    """Of a table that was dropped after pages of it were read ahead nothing comes back."""
    await do(fill)

    def run(desk: Desk) -> Any:
        first_pages(desk)
        desk.sql.exec("DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, value)")
        desk.sql.exec("INSERT INTO t VALUES (1, 7)")
        return sums(desk)

    assert await do(run) == (1, 7)
    assert await do(sums) == (1, 7)


async def test_a_damaged_page_is_told_when_it_is_asked_for(do: Do[Any]) -> None:
    """And not when it is read ahead: a query that ends before it is answered."""
    await do(fill)

    def run(desk: Desk) -> None:
        reads = desk.ctx.storage._records.reads
        first, last = 150, desk.sql._database._pages.count
        get, get_many = reads.get_side, reads.get_sides
        lost = {number.to_bytes(4, "big") for number in range(first, last)}

        def get_or_not(keyspace: int, key: bytes) -> Any:
            if key[1:] in lost:
                raise durable.StoreDamaged("gone")
            return get(keyspace, key)

        def get_many_or_not(keyspace: int, keys: list[bytes]) -> Any:
            if lost.intersection(key[1:] for key in keys):
                raise durable.StoreDamaged("gone")
            return get_many(keyspace, keys)

        reads.get_side, reads.get_sides = get_or_not, get_many_or_not
        try:
            wanted = 4 * (first - 8)
            assert len(desk.rows("SELECT value FROM t ORDER BY id LIMIT ?", wanted)) == wanted
            sums(desk)
        finally:
            reads.get_side, reads.get_sides = get, get_many

    with pytest.raises(durable.StoreDamaged):
        await do(run)
    assert await do(sums) == (ROWS, ROWS * (ROWS - 1) // 2)


async def test_a_runtime_holds_few_pages_that_were_read_ahead(
    desks: durable.Namespace[Desk], do: Do[Any]
) -> None:
    """Those of one object, and none when its connection is closed."""
    await do(fill)
    other = desks.get_by_name("b")
    await durable.testing.run_in_object(other, lambda desk, _: fill(desk))

    await do(first_pages)
    await durable.testing.run_in_object(other, lambda desk, _: first_pages(desk))
    held = await do(read_ahead)
    assert 0 < len(held) < WIDTH_MAX
    await durable.testing.evict(desks.get_by_name("a"))
    assert held
    await durable.testing.evict(other)
    assert not held


async def test_nothing_is_held_for_a_connection_that_could_not_be_opened(do: Do[Any]) -> None:
    """Nor does the runtime keep anything of its object."""
    await do(fill)
    connections = await do(lambda desk: desk.sql._database.connections)

    def run(desk: Desk) -> None:
        database, reads = desk.sql._database, desk.ctx.storage._records.reads
        database.disconnect()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reads, "get_side", lambda keyspace, key: b"no page")
            sums(desk)

    with pytest.raises(durable.StoreDamaged):
        await do(run)
    assert connections.read_ahead.owner is None
    assert not connections._files._announced
    assert not len(connections)
    assert await do(sums) == (ROWS, ROWS * (ROWS - 1) // 2)
