"""What a journal has is there after a crash: whole records, in their order, and damage is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define, field

from durable._engine.batch import Alarm, ObjectHandle
from durable._lmdb import layout
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.journal import segments
from durable._lmdb.journal.journaled import Journaled
from durable._lmdb.journal.marking import format_of
from durable._lmdb.journal.segments import HEAD_SIZE, NAMES
from durable._model.errors import StoreDamaged, StoreInUse

from ..kit import VALUE, Clock, batch_of, open_store, place_of, stored

SMALL = 32 << 10


@define
class Program:
    """A store with a journal that nothing is brought in from, unless the test says so."""

    folder: Path
    engine: Journaled = field(init=False)
    handle: ObjectHandle = field(init=False)
    count: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.engine = Journaled(open_store(self.folder), Clock(), follows=False)
        self.handle = place_of(self.engine)

    def put(self, size: int = 10) -> None:
        """One more key, which is confirmed."""
        self.count += 1
        value = VALUE + bytes(size)
        batch = batch_of(self.engine, self.handle, {f"{self.count:03}": value})
        self.engine.commit([batch])

    def dies(self) -> Path:
        """A folder with what is on the disk now."""
        target = self.folder.with_name(f"after {self.count}")
        shutil.copytree(self.folder, target)
        (target / "owner").unlink()
        return target


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = Program(tmp_path / "store")
    program.put()
    return program


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the journal changes them often."""
    monkeypatch.setattr(segments, "SEGMENT_SIZE", SMALL)


def found(folder: Path) -> list[str]:
    """The keys that are there when the store is opened again, without a journal."""
    store = open_store(folder)
    try:
        assert check(store) == []
        return sorted(stored(store, place_of(store)))
    finally:
        store.close()


def keys(count: int) -> list[str]:
    return [f"{number:03}" for number in range(1, count + 1)]


def change(file: Path, at: int, to: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(to)


def test_what_is_only_in_the_journal_is_there_after_a_crash(program: Program) -> None:
    """Keys, side records, alarms, what was deleted, and the name of the object."""
    engine, handle = program.engine, program.handle
    program.put()
    engine.commit([batch_of(engine, handle, {"001": None}, alarm=Alarm(5, 5))])
    engine.commit([batch_of(engine, handle, sides={b"\x04timer": b"x"})])
    other = place_of(engine, "other")
    engine.commit([batch_of(engine, other, {"a": VALUE})])
    engine.commit([batch_of(engine, other, {"b": VALUE}, clears=True)])

    store = open_store(program.dies())
    assert stored(store, place_of(store)).keys() == {"002"}
    again = place_of(store)
    assert again.alarm == Alarm(5, 5)
    assert again.name == "front page"
    assert store.in_line.get_side(again.keyspace, b"\x04timer") == b"x"
    assert stored(store, place_of(store, "other")).keys() == {"b"}
    assert store.next_keyspace() > place_of(store, "other").keyspace
    assert check(store) == []
    store.close()


def test_a_store_that_was_closed_has_no_journal(program: Program) -> None:
    """Its file has all, in the format that it had; nothing is left of the journal."""
    program.put()
    assert {*NAMES} <= set(os.listdir(program.folder))
    program.engine.close()

    assert not {*NAMES}.intersection(os.listdir(program.folder))
    store = open_store(program.folder)
    version = store.handle.read(lambda txn, databases: format_of(txn, databases.meta))
    assert version == layout.FORMAT_OF_KEYS
    store.close()
    assert found(program.folder) == keys(2)


def test_a_version_without_journals_refuses_the_file(program: Program) -> None:
    """It would miss what was confirmed last."""
    file = program.engine.file
    version = file.handle.read(lambda txn, databases: format_of(txn, databases.meta))

    assert version == layout.FORMAT_OF_JOURNALS > layout.FORMAT_OF_SIDES


def test_a_record_that_is_not_whole_is_the_end(program: Program) -> None:
    """It was being written when the power failed."""
    program.put()
    folder = program.dies()
    file = folder / NAMES[0]
    content = file.read_bytes()
    last = content.rindex(b"002")
    change(file, last, b"x")

    assert found(folder) == keys(1)


def test_a_hole_is_an_error_that_says_where(program: Program) -> None:
    """What was confirmed behind it would be lost without a word."""
    program.put()
    program.put()
    folder = program.dies()
    change(folder / NAMES[0], (folder / NAMES[0]).read_bytes().index(b"002"), b"x")

    with pytest.raises(StoreDamaged, match=r"the byte [\d,]+ of .*journal-0.* is not whole"):
        open_store(folder)
    with pytest.raises(StoreDamaged, match="restore the folder from a backup"):
        Environment.open_to_read(folder, clock=Clock())


def test_a_journal_that_is_gone_is_an_error(program: Program) -> None:
    """The store's file alone lacks what was confirmed last."""
    folder = program.dies()
    for name in NAMES:
        (folder / name).unlink()

    with pytest.raises(StoreDamaged, match="journal-0 and journal-1, are not there"):
        open_store(folder)


def test_a_journal_of_another_store_is_not_taken_for_ones_own(
    program: Program, tmp_path: Path
) -> None:
    """Whoever puts files back may confuse them."""
    other = Program(tmp_path / "other")
    other.put()
    folder = program.dies()
    for name in NAMES:
        shutil.copy(other.folder / name, folder / name)

    with pytest.raises(StoreDamaged, match="are not there"):
        open_store(folder)


@pytest.mark.parametrize("brings_in", [False, True])
def test_segments_are_written_in_turn(
    small_segments: None, tmp_path: Path, brings_in: bool
) -> None:
    """Whatever of a segment's former life lies behind its records is not taken for some."""
    program = Program(tmp_path / "store")
    for number in range(60):
        program.put(1_000)
        if brings_in and number % 7 == 0:
            program.engine.bring_in()
        if number % 9 == 0:
            assert found(program.dies()) == keys(number + 1)

    assert sum((program.folder / name).stat().st_size for name in NAMES) == 2 * SMALL


def test_a_group_that_no_segment_has_room_for_leaves_the_segments_as_they_are(
    small_segments: None, tmp_path: Path
) -> None:
    """Else two of them would overwrite a segment of which the file's mark still speaks."""
    program = Program(tmp_path / "store")
    program.put()
    for _ in range(3):
        program.put(2 * SMALL)
        assert found(program.dies()) == keys(program.count)


def test_a_segment_that_is_missing_is_an_error(small_segments: None, tmp_path: Path) -> None:
    """The first one says that it has ended."""
    program = Program(tmp_path / "store")
    journal = program.engine._journal
    assert journal is not None
    before = journal._segments[0]
    while journal._segments[0] is before:
        program.put(1_000)
    folder = program.dies()
    (folder / NAMES[1]).write_bytes(bytes(SMALL))

    with pytest.raises(StoreDamaged, match=r"what follows the position [\d,]+ is not there"):
        open_store(folder)


def test_what_was_brought_in_is_not_brought_in_again(program: Program) -> None:
    """The file says up to where it has the journal."""
    program.engine.bring_in()
    program.put()
    folder = program.dies()
    # A change that would come back.
    change(folder / NAMES[0], HEAD_SIZE + 40, b"\xff\xff")

    assert found(folder) == keys(2)


def test_a_recovery_that_is_cut_off_is_done_again(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the journal go when the store's file does not know it any more."""
    program.put()
    folder = program.dies()

    def dies(folder: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("durable._lmdb.environment.remove_journal", dies)
        with pytest.raises(KeyboardInterrupt):
            open_store(folder)
    assert {*NAMES} <= set(os.listdir(folder))

    assert found(folder) == keys(2)
    assert not {*NAMES}.intersection(os.listdir(folder))


@pytest.mark.parametrize("look", [check, lambda folder: None])
def test_a_look_at_a_store_whose_program_was_killed_sees_what_was_confirmed(
    program: Program, look: Callable[[Path], object]
) -> None:
    """It brings the journal into the file first."""
    folder = program.dies()
    look(folder)
    looked_at = Environment.open_to_read(folder, clock=Clock())
    try:
        assert stored(looked_at, place_of(looked_at)).keys() == {"001"}
    finally:
        looked_at.close()


def test_the_owner_is_not_disturbed_by_an_open(program: Program) -> None:
    """While the store is open its journal is its own."""
    with pytest.raises(StoreInUse):
        open_store(program.folder)
    program.put()
    program.engine.close()

    assert found(program.folder) == keys(2)
