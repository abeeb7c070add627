"""A value that is not what was written is never given: it has rotted, or it is another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable._engine.checksums import OVERHEAD, is_complete, protect
from durable._engine.codec import decode, encode
from durable._lmdb import layout
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.layout import POINTER_END, node_level, object_key, top_level, write_number
from durable._model.errors import StoreDamaged

from ..kit import base_of, batch_of, open_store, place_of, scan

LONG = "k" * 1_000
OTHER = "j" * 1_000
PIECE = b"k" * 450
VALUE = encode("the value")
KEYS = ["a", LONG]


@pytest.fixture
def store(tmp_path: Path):
    """Two objects with the same keys; the numbers are 1 and 2."""
    environment = open_store(tmp_path / "store")
    for name in ("one", "two"):
        puts = {"a": VALUE, "b": encode(name), LONG: VALUE, OTHER: encode("another")}
        environment.commit([batch_of(environment, place_of(environment, name), puts)])
    environment.refresh()
    yield environment
    environment.close()


def change(store: Environment, what: Callable[[Any], Any]) -> None:
    store.handle.write(what)
    store.refresh()


def record_key(key: str) -> bytes:
    return top_level(1) + b"a" if key == "a" else node_level(1, 2) + b"k" * 100


READS: list[Callable[[Environment, str], Any]] = [
    lambda store, key: store.in_line.get(1, key),
    lambda store, key: store.in_line.get_many(1, ["b", key]),
    lambda store, key: scan(store, 1),
    lambda store, key: scan(store, 1, reverse=True),
]


@pytest.mark.parametrize("key", KEYS, ids=["short", "long"])
@pytest.mark.parametrize("place", range(len(VALUE) + OVERHEAD))
def test_no_byte_of_a_value_changes_unnoticed(store: Environment, key: str, place: int) -> None:
    """Whichever byte it is: each read raises, and the check says which object and which key."""
    raw = store.handle.read(lambda txn, databases: txn.get(record_key(key)))
    assert raw is not None
    for bit in range(8):
        rotten = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
        change(store, lambda txn, rotten=rotten: txn.put(record_key(key), rotten))

        for read in READS:
            with pytest.raises(StoreDamaged, match=f"the key '{key[:40]}.*durable check"):
                read(store, key)
    (problem,) = check(store)
    assert problem.where == "the object 'one' of Counter"
    assert f"the value of the key '{key[:40]}" in problem.what
    assert "is damaged" in problem.what


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 100, 5_000])
def test_zeros_in_the_place_of_a_value_are_noticed(store: Environment, size: int) -> None:
    """As where a disk has lost a block; and nothing at all."""
    change(store, lambda txn: txn.put(record_key("a"), bytes(size)))

    with pytest.raises(StoreDamaged):
        store.in_line.get(1, "a")


@pytest.mark.parametrize(
    "source", [top_level(1) + b"b", top_level(2) + b"a"], ids=["another key", "another object"]
)
def test_a_value_of_another_key_or_object_is_not_given(store: Environment, source: bytes) -> None:
    """Though it is whole where it belongs."""
    change(store, lambda txn: txn.put(record_key("a"), txn.get(source)))

    with pytest.raises(StoreDamaged):
        store.in_line.get(1, "a")
    assert len(check(store)) == 1


def test_a_long_key_that_leads_astray_gives_no_value(store: Environment) -> None:
    """A pointer has no checksum; what it leads to has the whole key in its own."""
    change(
        store,
        lambda txn: (
            txn.put(node_level(1, 3) + b"j" * 450 + POINTER_END, write_number(2)),
            txn.put(node_level(1, 2) + b"j" * 100, txn.get(node_level(1, 2) + b"k" * 100)),
        ),
    )

    with pytest.raises(StoreDamaged):
        store.in_line.get(1, OTHER)


def test_what_is_damaged_can_be_deleted_and_written_over(store: Environment) -> None:
    """And the object's other keys are read as ever."""
    handle = place_of(store, "one")
    change(store, lambda txn: [txn.put(record_key(key), b"rot") for key in KEYS])
    assert store.in_line.get(1, "b") == encode("one")
    assert store.in_line.count_present(1, ["a", "b", "c"]) == 2

    store.commit([batch_of(store, handle, {"a": encode(1), LONG: None})])
    store.refresh()

    assert store.in_line.get(1, "a") == encode(1)
    assert store.in_line.get(1, LONG) is None
    assert check(store) == []


def test_the_record_of_an_object_is_protected_too(store: Environment) -> None:
    """It says under which number the values are: of a changed one they would be another's."""
    key = object_key(1, base_of("one"))
    raw = store.handle.read(lambda txn, databases: txn.get(key, db=databases.objects))
    assert raw is not None
    for place in range(len(raw)):
        rotten = raw[:place] + bytes([raw[place] ^ 3]) + raw[place + 1 :]
        change(
            store,
            lambda txn, rotten=rotten: txn.put(key, rotten, db=store.handle.databases.objects),
        )

        with pytest.raises(StoreDamaged):
            store.find(1, base_of("one"))
    assert any("objec" in problem.where for problem in check(store))


# Stores of format 1


def make_old(folder: Path) -> None:
    """What version 1 of the format had: the same, and no checksums."""
    environment = open_store(folder)
    handle = place_of(environment, "old")
    puts = {key: encode(key) for key in ("a", "b", LONG)}
    environment.commit([batch_of(environment, handle, puts)])

    def strip(txn: Any) -> None:
        databases = environment.handle.databases
        for database in (databases.records, databases.objects, databases.classes):
            for key, raw in list(txn.cursor(database).iternext()):
                if raw[:1] == b"\xc1":
                    txn.put(key, raw[1:-4], db=database)
        txn.put(layout.META_FORMAT, layout.write_format(1), db=databases.meta)

    environment.handle.write(strip)
    environment.close()


def format_of(environment: Environment) -> int:
    def look(txn: Any, databases: Any) -> int:
        return layout.read_format(txn.get(layout.META_FORMAT, db=databases.meta))

    return environment.handle.read(look)


@pytest.fixture
def old(tmp_path: Path):
    make_old(tmp_path / "old")
    environment = open_store(tmp_path / "old")
    yield environment
    environment.close()


def test_an_older_store_is_read_and_left_as_it_is(old: Environment) -> None:
    """An older version of the library can go on with it after a look."""
    assert dict(scan(old, 1)) == {key: encode(key) for key in ("a", "b", LONG)}
    assert old.in_line.get(1, LONG) == encode(LONG)
    assert old.find(1, base_of("old")) is not None
    assert check(old) == []
    assert format_of(old) == 1


def test_an_older_store_becomes_one_of_this_format_with_the_first_write(
    old: Environment, tmp_path: Path
) -> None:
    """What is written has checksums, what is not stays; that survives the next open."""
    handle = place_of(old, "old")
    old.commit([batch_of(old, handle, {"b": encode("new"), "c": encode("new")})])
    old.commit([batch_of(old, place_of(old, "young"), {"a": VALUE})])
    old.close()
    with_both = open_store(tmp_path / "old")
    try:
        assert format_of(with_both) == layout.FORMAT_OF_KEYS
        assert dict(scan(with_both, 1)) == {
            **{key: encode(key) for key in ("a", LONG)},
            **{key: encode("new") for key in ("b", "c")},
        }
        assert check(with_both) == []

        # A new value of an old object is protected, though its old values are not.
        raw = with_both.handle.read(lambda txn, databases: txn.get(top_level(1) + b"b"))
        assert raw == protect(top_level(1) + b"b", encode("new"))
        for place_in in range(len(raw)):
            rotten = raw[:place_in] + bytes([raw[place_in] ^ 1]) + raw[place_in + 1 :]
            change(with_both, lambda txn, rotten=rotten: txn.put(top_level(1) + b"b", rotten))
            with pytest.raises(StoreDamaged):
                decode(with_both.in_line.get(1, "b") or b"")
        (problem,) = check(with_both)
        assert "'b'" in problem.what

        # Of an object that is younger than the format no value without a checksum is taken.
        change(with_both, lambda txn: txn.put(top_level(2) + b"a", VALUE))
        with pytest.raises(StoreDamaged):
            with_both.in_line.get(2, "a")
    finally:
        with_both.close()


def test_a_failed_first_write_leaves_an_older_store_as_it_is(
    old: Environment, tmp_path: Path
) -> None:
    """The format changes with what is written, or not at all."""

    def fail(txn: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        old.handle.write(fail)
    assert format_of(old) == 1

    old.commit([batch_of(old, place_of(old, "old"), {"b": encode(1)})])

    assert format_of(old) == layout.FORMAT_OF_KEYS


def test_an_older_store_whose_codec_begins_values_with_the_mark_is_read(old: Environment) -> None:
    """Its values are given to the codec as they are."""
    value = b"\xc1 as some codec writes it"
    change(old, lambda txn: txn.put(top_level(1) + b"a", value))

    assert old.in_line.get(1, "a") == value


def test_a_checksum_is_of_the_key_and_the_value() -> None:
    """As docs/file-format.md says it, worked out by hand."""
    import zlib

    record = protect(b"key", b"value")

    assert record[:-4] == b"\xc1value"
    assert int.from_bytes(record[-4:], "little") == zlib.crc32(b"key" + b"\xc1value")
    assert is_complete(b"key", record)
    assert not is_complete(b"kez", record)
