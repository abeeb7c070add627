"""Pages as they are stored: packed and unpacked they are the same for SQLite."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._engine.page_packing import PAGE_SIZE, RESERVED, USABLE, pack, pages_of, unpack
from durable._engine.side_records import PAGES
from durable._engine.view import Malformed
from durable._lmdb.check import check
from tests.engine.kit import batch_of, open_store, place_of


def made(folder: Path, rows: int) -> list[bytes]:
    """The pages of a database of SQLite's own, with as many bytes reserved as ours."""
    file = folder / "plain.db"
    connection = apsw.Connection(str(file))
    connection.reserve_bytes(reserve=RESERVED)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}").fetchall()
    connection.execute("CREATE TABLE t (a, b); CREATE INDEX i ON t (b)")
    with connection:
        for number in range(rows):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * (number * 37 % 9_000)))
    connection.execute("DELETE FROM t WHERE a % 3 = 0")
    connection.close()
    raw = file.read_bytes()
    return [raw[at : at + PAGE_SIZE] for at in range(0, len(raw), PAGE_SIZE)]


@pytest.mark.parametrize("rows", [0, 1, 50, 1_000])
def test_a_packed_page_is_shorter_and_means_the_same(tmp_path: Path, rows: int) -> None:
    """SQLite reads a file of unpacked pages as it read the one before."""
    pages = made(tmp_path, rows)
    packed = [pack(number, page) for number, page in enumerate(pages, 1)]
    back = [unpack(number, stored) for number, stored in enumerate(packed, 1)]
    again = tmp_path / "again.db"
    again.write_bytes(b"".join([page.ljust(PAGE_SIZE, b"\0") for page in back]))

    assert pages_of(packed[0]) == len(pages)
    assert sum(map(len, packed)) < sum(map(len, pages))
    connection = apsw.Connection(str(again))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    plain = apsw.Connection(str(tmp_path / "plain.db"))
    rows_of = "SELECT * FROM t ORDER BY a"
    assert connection.execute(rows_of).fetchall() == plain.execute(rows_of).fetchall()


@pytest.mark.parametrize(("space", "is_left_out"), [(0, False), (512, False), (513, True)])
def test_little_free_space_is_stored(space: int, is_left_out: bool) -> None:
    """A page that is nearly full takes as much of the disk without it, and is read sooner with."""
    content = 8 + 2 + space  # behind a header and the pointer to one cell
    header = b"\x0d\0\0\0\x01" + content.to_bytes(2, "big") + b"\0"
    page = (header + content.to_bytes(2, "big")).ljust(content, b"\0").ljust(USABLE, b"x")
    stored = pack(2, page.ljust(PAGE_SIZE, b"\0"))

    assert len(stored) == (USABLE - space if is_left_out else USABLE)
    assert unpack(2, stored) == page


@given(number=st.integers(1, 3), stored=st.binary(max_size=USABLE + 10))
def test_bytes_that_are_no_page_are_told(number: int, stored: bytes) -> None:
    """Or they are one that packs to them again."""
    try:
        page = unpack(number, stored)
    except Malformed:
        return
    assert len(page) == USABLE
    packed = pack(number, page)
    assert packed in {stored, page} or len(stored) == USABLE
    assert unpack(number, packed) == page


def test_the_check_looks_at_pages(tmp_path: Path) -> None:
    """Each unpacks, and none lies behind the end that the first one says."""
    pages = made(tmp_path, 50)
    store = open_store(tmp_path / "store")
    handle = place_of(store)

    def page(number: int) -> bytes:
        return PAGES + number.to_bytes(4, "big")

    sides = {page(n): pack(n, content) for n, content in enumerate(pages, 1)}
    store.commit([batch_of(store, handle, sides=dict(sides))])
    assert check(store) == []

    store.commit([batch_of(store, handle, sides={page(2): b"no page", page(999): sides[page(2)]})])
    problems = [problem.what for problem in check(store)]
    assert any("page 2 of its database" in what for what in problems)
    assert any("page 999 lies behind the end" in what for what in problems)
    store.close()
