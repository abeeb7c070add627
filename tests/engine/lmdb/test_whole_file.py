"""Check and copy of an open store: while its map grows, and where the disk gives nothing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from durable._engine.codec import encode
from durable._lmdb import check as checking
from durable._lmdb import lmdb_files, reader
from durable._lmdb.backup import copy_file
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.folder import DATA_FILE
from durable._lmdb.pages import unreadable_parts

from ..kit import base_of, batch_of, open_store, place_of, scan

LARGE = bytes(1 << 20)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """One whose map is soon too small."""
    monkeypatch.setattr(lmdb_files, "MAP_SIZE_MIN", 8 << 20)
    monkeypatch.setattr(lmdb_files, "GROWTH_SPARE", 1 << 20)
    environment = open_store(tmp_path / "store")
    puts = {str(number): encode(number) for number in range(50)}
    environment.commit([batch_of(environment, place_of(environment, "one"), puts)])
    environment.commit([batch_of(environment, place_of(environment, "two"), {"large": LARGE * 3})])
    environment.refresh()
    yield environment
    environment.close()


def grow(store: Environment) -> None:
    """Commit more than the map takes."""
    before = store.handle.map_size
    number = 0
    while store.handle.map_size == before:
        store.refresh()
        puts = {f"more {number}": LARGE}
        store.commit([batch_of(store, place_of(store, "more"), puts)])
        number += 1


@pytest.fixture
def at_pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens at the pauses of a long read, one after the other: the lock is free then."""
    happens: list[Callable[[], None]] = []

    def sleep(seconds: float) -> None:
        if happens:
            happens.pop(0)()

    monkeypatch.setattr(reader, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(checking, "RECORDS_PER_PAUSE", 10)
    return happens


def test_a_check_begins_anew_when_the_map_has_to_grow(
    store: Environment, at_pauses: list[Callable[[], None]]
) -> None:
    """Commits go on, and the check is of one moment all the same: a later one."""
    seen: list[int] = []
    at_pauses += [lambda: grow(store), lambda: seen.append(1), lambda: grow(store)]

    assert check(store, values=False) == []

    assert seen
    assert not at_pauses
    store.refresh()
    assert store.find(1, base_of("more")) is not None


@pytest.mark.parametrize("compact", [False, True])
def test_a_copy_begins_anew_when_the_map_has_to_grow(
    compact: bool, store: Environment, at_pauses: list[Callable[[], None]], tmp_path: Path
) -> None:
    """It is whole, and of a moment behind the growth."""
    at_pauses += [lambda: grow(store)]
    (tmp_path / "copy").mkdir()

    copy_file(store, str(tmp_path / "copy"), compact=compact)

    assert not at_pauses
    assert sorted(os.listdir(tmp_path / "copy")) == [DATA_FILE]
    copied = open_store(tmp_path / "copy")
    try:
        assert check(copied, values=False) == []
        assert dict(scan(copied, 1)) == dict(scan(store, 1))
        assert copied.find(1, base_of("more")) is not None
    finally:
        copied.close()


@pytest.mark.parametrize("compact", [False, True])
def test_a_copy_is_of_one_moment_while_commits_go_on(
    compact: bool, store: Environment, at_pauses: list[Callable[[], None]], tmp_path: Path
) -> None:
    """Nothing of what is written while it is made is in it, though pages are used again."""

    def write(number: int) -> None:
        place = place_of(store, "one")
        store.commit([batch_of(store, place, {"0": encode(number), f"n{number}": LARGE})])

    at_pauses += [lambda number=number: write(number) for number in range(3)]
    (tmp_path / "copy").mkdir()
    before = dict(scan(store, 1))

    copy_file(store, str(tmp_path / "copy"), compact=compact)

    copied = open_store(tmp_path / "copy")
    try:
        assert len(at_pauses) < 3
        assert check(copied, values=False) == []
        assert dict(scan(copied, 1)) == before
    finally:
        copied.close()


# A disk that does not give what it has


def refuse(monkeypatch: pytest.MonkeyPatch, *bad: range) -> None:
    """Reads of these bytes of any file fail."""
    real = os.pread

    def pread(fd: int, size: int, place: int) -> bytes:
        if any(place < part.stop and part.start < place + size for part in bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, place)

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ([range(5_000, 5_001)], [(4_096, 8_191)]),
        ([range(5_000, 9_000)], [(4_096, 12_287)]),
        ([range(4_096, 8_192), range(16_384, 20_480)], [(4_096, 8_191), (16_384, 20_479)]),
        ([range((1 << 20) - 1, (1 << 20) + 1)], [((1 << 20) - 4_096, (1 << 20) + 4_095)]),
        ([range(2_100_000, 2_100_001)], [(2_097_152, 2_101_247)]),
    ],
)
def test_the_parts_that_the_disk_does_not_give_are_told(
    bad: list[range], told: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the block, with neighbors as one; what is around them is read."""
    file = tmp_path / "file"
    file.write_bytes(bytes(3 << 20))
    refuse(monkeypatch, *bad)

    found = unreadable_parts(str(file))

    assert [(first, last) for first, last, _ in found] == told
    assert {why for _, _, why in found} == {os.strerror(errno.EIO)}


def test_the_last_bytes_of_a_file_are_told_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file ends within a block."""
    file = tmp_path / "file"
    file.write_bytes(bytes(10_000))
    refuse(monkeypatch, range(9_999, 10_000))

    assert [part[:2] for part in unreadable_parts(str(file))] == [(8_192, 9_999)]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_check_ends_at_a_page_that_cannot_be_read(
    is_open: bool, store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where, and does not look through the map, where this would end the process."""
    path = store.path
    if not is_open:
        store.close()
    refuse(monkeypatch, range(20_000, 20_001))
    monkeypatch.setattr(checking, "_check_open", lambda *_: pytest.fail("looked through the map"))

    (problem,) = check(store if is_open else path)

    assert problem.where == os.path.join(path, DATA_FILE)
    assert "the bytes from 16,384 to 20,479 cannot be read: Input/output error" in problem.what
    assert "restore the rest from a backup" in problem.what
