"""Side records in the file: their format, and what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from durable._engine.side_records import OWN
from durable._lmdb import layout
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._model.errors import StoreDamaged

from ..kit import VALUE, batch_of, open_store, place_of


@pytest.fixture
def store(tmp_path: Path):
    environment = open_store(tmp_path / "store")
    yield environment
    environment.close()


def format_of(environment: Environment) -> int:
    def look(txn: Any, databases: Any) -> int:
        return layout.read_format(txn.get(layout.META_FORMAT, db=databases.meta))

    return environment.handle.read(look)


def test_the_format_rises_with_the_first_side_record(store: Environment) -> None:
    """So that a version of the library that knows none reads the stores that have none."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    assert format_of(store) == layout.FORMAT_OF_KEYS

    store.commit([batch_of(store, handle, sides={OWN: None})])  # there was none
    assert format_of(store) == layout.FORMAT_OF_KEYS

    store.commit([batch_of(store, handle, sides={OWN: b"1"})])
    assert format_of(store) == layout.FORMAT
    path = store.path
    store.close()
    again = open_store(Path(path))
    try:
        assert format_of(again) == layout.FORMAT
        assert again.in_line.get_side(handle.keyspace, OWN) == b"1"
    finally:
        again.close()


def test_a_damaged_side_record_is_told_and_never_given(store: Environment) -> None:
    """When it is read, and by the check, which says whose it is."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, sides={OWN + b"a": b"1", OWN + b"b": b"2"})])
    place = layout.side_key(handle.keyspace, OWN + b"a")
    assert check(store) == []

    store.handle.write(lambda txn: txn.put(place, txn.get(place)[:-1] + b"x"))
    store.refresh()

    with pytest.raises(StoreDamaged):
        store.in_line.get_side(handle.keyspace, OWN + b"a")
    with pytest.raises(StoreDamaged):
        store.in_line.get_sides(handle.keyspace, [OWN + b"b", OWN + b"a"])
    with pytest.raises(StoreDamaged):
        store.in_line.scan_sides(handle.keyspace, OWN, b"\x05", count_max=9)
    assert store.in_line.get_side(handle.keyspace, OWN + b"b") == b"2"
    (problem,) = check(store)
    assert "'front page'" in str(problem)
    assert "damaged" in str(problem)


def test_side_records_of_nobody_are_found(store: Environment) -> None:
    """As keys of nobody are."""
    store.handle.write(lambda txn: txn.put(layout.side_key(9, OWN), b"1"))

    assert any("belong to no object" in str(problem) for problem in check(store))
