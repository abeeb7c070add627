"""A folder with shards: how it is made, who has what, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import durable
from durable._engine.catalog import Catalog
from durable._engine.shards import Owned, SharedStore
from durable._lmdb import process_files, shared_folder
from durable._model.clock import SystemClock
from durable._runtime.engines import look_beside, open_engine, open_shared, open_to_read

CLOCK = SystemClock()


def joined(folder: Path, *, shards: int | None = None, is_alone: bool = False) -> SharedStore:
    store = open_shared(str(folder), CLOCK, shards=shards, is_alone=is_alone)
    store.join()
    return store


def with_class(catalog: Catalog, name: str) -> Catalog:
    return catalog.replacing(catalog.new_class((None, name)))


def test_a_new_store_has_16_shards_or_as_many_as_are_asked_for(tmp_path: Path) -> None:
    assert open_shared(str(tmp_path / "a"), CLOCK).count == 16
    assert open_shared(str(tmp_path / "b"), CLOCK, shards=3).count == 3


def test_the_number_of_shards_is_fixed_when_the_folder_is_made(tmp_path: Path) -> None:
    open_shared(str(tmp_path / "a"), CLOCK, shards=3)

    assert open_shared(str(tmp_path / "a"), CLOCK).count == 3
    with pytest.raises(ValueError, match=r"has 3 shards, not 4.*durable copy --shards 4"):
        open_shared(str(tmp_path / "a"), CLOCK, shards=4)


def test_a_folder_that_was_not_shared_has_one_shard(tmp_path: Path) -> None:
    """What it holds stays where it is."""
    engine = open_engine(str(tmp_path), CLOCK)
    catalog = with_class(engine.catalog(), "Counter")
    engine.change_classes(engine.catalog(), catalog)
    engine.close()

    with pytest.raises(ValueError, match="has 1 shard, not 16"):
        open_shared(str(tmp_path), CLOCK, shards=16)
    store = joined(tmp_path)

    assert store.count == 1
    assert store.catalog() == catalog
    shard = store.acquire(0)
    assert shard is not None
    assert shard.path == str(tmp_path)
    store.leave()


def test_a_folder_with_an_owner_cannot_become_a_shared_one(tmp_path: Path) -> None:
    engine = open_engine(str(tmp_path), CLOCK)

    with pytest.raises(durable.StoreInUse):
        open_shared(str(tmp_path), CLOCK)
    engine.close()


def test_a_shard_has_one_owner_and_an_epoch_for_each(tmp_path: Path) -> None:
    a, b = joined(tmp_path), joined(tmp_path)
    assert a.acquire(5) is not None
    assert a.has(5) == Owned(a.me.id, 1)

    assert b.acquire(5) is None
    assert a.owners()[5] == b.owners()[5] == Owned(a.me.id, 1)
    a.release(5)
    assert b.owners()[5] == Owned(None, 1)
    assert b.acquire(5) is not None
    b.has(5)
    assert a.owners()[5] == Owned(b.me.id, 2)
    a.leave()
    b.leave()


def test_processes_see_each_other_until_they_leave(tmp_path: Path) -> None:
    a, b = joined(tmp_path), joined(tmp_path)

    assert {process.id for process in a.processes()} == {a.me.id, b.me.id}
    assert a.processes()[0].pid == os.getpid()
    b.leave()
    assert [process.id for process in a.processes()] == [a.me.id]
    assert not a.is_alive(b.me.id)
    a.leave()


def test_what_a_dead_process_has_left_behind_is_removed(tmp_path: Path) -> None:
    a, b = joined(tmp_path), joined(tmp_path)
    left = tmp_path / "processes" / b.me.id
    b._files.close_fd()  # type: ignore[attr-defined]  # as the system does at its death

    assert [process.id for process in a.processes()] == [a.me.id]
    assert not left.exists()
    a.leave()


def test_a_store_that_is_opened_without_a_word_is_for_one_process(tmp_path: Path) -> None:
    a = joined(tmp_path)
    with pytest.raises(durable.StoreInUse):
        joined(tmp_path, is_alone=True)
    a.leave()

    alone = joined(tmp_path, is_alone=True)
    with pytest.raises(durable.StoreInUse):
        joined(tmp_path)
    alone.leave()
    joined(tmp_path).leave()


def test_classes_are_those_of_the_store_and_each_shard_knows_them(tmp_path: Path) -> None:
    a, b = joined(tmp_path), joined(tmp_path)
    early = a.acquire(0)
    before = a.catalog()
    after = with_class(before, "Counter")

    assert a.change_classes(before, after)
    assert not b.change_classes(before, with_class(before, "Other"))  # it was not asked again
    assert b.catalog() == after
    late = b.acquire(1)
    assert early is not None
    assert late is not None
    assert early.catalog() == late.catalog() == after
    a.leave()
    b.leave()


def test_a_store_of_shards_is_read_as_a_whole_beside_its_owners(tmp_path: Path) -> None:
    a = joined(tmp_path, shards=3)
    shard = a.acquire(1)
    assert shard is not None

    beside = look_beside(a, {1: shard}, CLOCK)
    assert beside.measure().objects == 0
    beside.close()
    a.leave()
    read = open_to_read(str(tmp_path), CLOCK)
    assert read.catalog() == Catalog()
    assert read.measure().objects == 0
    read.close()


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"format": 1, "shards": "x", "store": 1}'])
def test_a_damaged_file_of_the_layout_is_a_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "shards").write_text(text)

    with pytest.raises(durable.StoreDamaged, match="how many shards"):
        open_shared(str(tmp_path), CLOCK)


def test_a_layout_of_a_later_version_is_refused(tmp_path: Path) -> None:
    said = {"format": 2, "shards": 16, "store": "x", "is_top": False}
    (tmp_path / "shards").write_text(json.dumps(said))

    with pytest.raises(durable.FormatTooNew):
        open_shared(str(tmp_path), CLOCK)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "_file_system", lambda path: "nfs4")

    with pytest.raises(OSError, match=r"network file system \(nfs4\).*local disk"):
        open_shared(str(tmp_path / "new"), CLOCK)
    assert not (tmp_path / "new").exists()


def test_a_process_of_another_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = joined(tmp_path)
    monkeypatch.setattr(process_files, "_boot", lambda: "another")

    with pytest.raises(OSError, match="another machine has the store open"):
        joined(tmp_path)
    a.leave()
