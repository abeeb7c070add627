"""Records: what is read by key and by range, and when a commit is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable._engine.engine import Engine, OwnReader, Reader
from durable._model.errors import StoreDamaged

from .conftest import Opened
from .kit import VALUE, batch_of, place_of, scan

KEYS = ["", "a", "b", "c", "d", "é", "𝄞", "k" * 600]
SORTED = sorted(KEYS, key=str.encode)
NO_MOMENT = "each read of this engine sees what is committed by then"


@pytest.fixture
def keyspace(engine: Engine) -> int:
    """That of an object with a few keys, whose values have different sizes."""
    handle = place_of(engine)
    values = {key: VALUE + bytes(10 * n) for n, key in enumerate(SORTED)}
    engine.commit([batch_of(engine, handle, dict(values))])
    engine.refresh()
    return handle.keyspace


def test_a_value_is_read_by_its_key(engine: Engine, keyspace: int) -> None:
    """One, several, or only whether they are there; what is not there is not given."""
    reader = engine.in_line

    assert reader.get(keyspace, "") == VALUE
    assert reader.get(keyspace, "a") == VALUE + bytes(10)
    assert reader.get(keyspace, "k" * 600) == VALUE + bytes(10 * SORTED.index("k" * 600))
    assert reader.get(keyspace, "z") is None
    assert reader.get(keyspace + 1, "a") is None
    assert reader.get_many(keyspace, iter(["a", "z", ""])) == {"": VALUE, "a": VALUE + bytes(10)}
    assert reader.get_many(keyspace, []) == {}
    assert reader.count_present(keyspace, iter(["a", "z", "", "k" * 600])) == 3


def test_a_scan_goes_in_the_order_of_the_bytes(engine: Engine, keyspace: int) -> None:
    """In both directions; the lower bound is included, the upper one is not."""
    assert [key for key, _ in scan(engine, keyspace)] == SORTED
    assert [key for key, _ in scan(engine, keyspace, reverse=True)] == SORTED[::-1]
    assert [key for key, _ in scan(engine, keyspace, "b", "d")] == ["b", "c"]
    assert [key for key, _ in scan(engine, keyspace, "b", "d", reverse=True)] == ["c", "b"]
    assert [key for key, _ in scan(engine, keyspace, "bb", "k")] == ["c", "d"]
    assert scan(engine, keyspace, "d", "b") == []
    assert scan(engine, keyspace + 1) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_says_whether_there_is_more(engine: Engine, keyspace: int, reverse: bool) -> None:
    """It ends with so many keys, or with the key that makes the values so large."""
    keys = SORTED[::-1] if reverse else SORTED
    sizes = {key: len(VALUE) + 10 * n for n, key in enumerate(SORTED)}

    def some(**limits: int | None) -> tuple[list[str], bool]:
        limits.setdefault("count_max", None)
        found, is_last = engine.in_line.scan_some(keyspace, reverse=reverse, **limits)  # type: ignore[arg-type]
        return [key for key, _ in found], is_last

    assert some(count_max=3) == (keys[:3], False)
    assert some(count_max=len(keys)) == (keys, True)
    assert some(count_max=len(keys) - 1) == (keys[:-1], False)
    enough = sizes[keys[0]] + sizes[keys[1]]
    assert some(size_max=enough) == (keys[:2], False)
    assert some(size_max=enough + 1) == (keys[:3], False)
    assert some(size_max=1_000_000) == (keys, True)
    assert some(count_max=2, size_max=1) == (keys[:1], False)


@pytest.mark.parametrize("reverse", [False, True])
def test_keys_alone_are_those_of_a_scan(engine: Engine, keyspace: int, reverse: bool) -> None:
    """In its order and within its bounds, and with word of whether there are more."""
    keys = SORTED[::-1] if reverse else SORTED

    def some(*bounds: str, count_max: int = 100) -> tuple[list[str], bool]:
        return engine.in_line.keys_some(keyspace, *bounds, reverse=reverse, count_max=count_max)

    assert some() == (keys, True)
    assert some(count_max=3) == (keys[:3], False)
    assert some(count_max=len(keys)) == (keys, True)
    assert some(count_max=len(keys) - 1) == (keys[:-1], False)
    for lower in SORTED:
        for upper in SORTED:
            found = scan(engine, keyspace, lower, upper, reverse=reverse)
            assert some(lower, upper) == ([key for key, _ in found], True)
    assert engine.in_line.keys_some(keyspace + 1, count_max=1) == ([], True)


def test_keys_are_counted_in_steps(engine: Engine, keyspace: int) -> None:
    """Without those that are named; each step says where the next one begins."""
    without = {b"b", "é".encode(), b"not there"}
    for count_max in (1, 3, 100):
        count, lower, steps = 0, "", 0
        after: str | None = lower
        while after is not None:
            some, after = engine.in_line.count_some(keyspace, after, None, without, count_max)
            count += some
            steps += 1
        assert count == len(KEYS) - 2
        assert steps <= len(KEYS) // count_max + 1
    assert engine.in_line.count_some(keyspace, "b", "d", (), 100) == (2, None)


def test_a_read_sees_what_was_committed_before_the_refresh(opened: Opened) -> None:
    """Reads are of one moment until the engine is refreshed, where it can hold one."""
    engine = opened.engine
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    engine.refresh()
    assert engine.in_line.get(handle.keyspace, "a") == VALUE
    engine.commit([batch_of(engine, handle, {"a": None, "b": VALUE})])

    if opened.kind.holds_a_moment:
        assert engine.in_line.get(handle.keyspace, "a") == VALUE
        assert engine.in_line.get(handle.keyspace, "b") is None
    engine.refresh()
    assert scan(engine, handle.keyspace) == [("b", VALUE)]


def test_a_reader_sees_one_moment_until_it_is_released(opened: Opened) -> None:
    """Each reader has a moment of its own, whatever is committed or refreshed."""
    engine = opened.engine
    if not opened.kind.holds_a_moment:
        pytest.skip(NO_MOMENT)
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    old, new = engine.new_reader(), engine.new_reader()
    assert old.get(handle.keyspace, "a") == VALUE
    engine.commit([batch_of(engine, handle, {"a": None, "b": VALUE})])
    engine.refresh()

    def keys(reader: Reader) -> list[str]:
        return [key for key, _ in reader.scan_some(handle.keyspace, count_max=None)[0]]

    assert (keys(old), keys(new)) == (["a"], ["b"])
    old.release()
    assert keys(old) == ["b"]
    for reader in (old, new):
        reader.close()


def test_an_object_that_is_deleted_is_read_until_its_reader_is_released(opened: Opened) -> None:
    """A clear, and the garbage collection after it, take nothing from a reader."""
    engine = opened.engine
    if not opened.kind.holds_a_moment:
        pytest.skip(NO_MOMENT)
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE, "b": VALUE})])
    keyspace = handle.keyspace
    reader: OwnReader = engine.new_reader()
    assert reader.get(keyspace, "a") == VALUE
    engine.commit([batch_of(engine, handle, clears=True, alarm=None)])
    while engine.has_garbage:
        engine.collect_garbage()

    assert len(reader.scan_some(keyspace, count_max=None)[0]) == 2
    reader.close()


READS: list[Callable[[Reader, int], Any]] = [
    lambda reader, keyspace: reader.get(keyspace, "b"),
    lambda reader, keyspace: reader.get_many(keyspace, ["a", "b"]),
    lambda reader, keyspace: reader.scan_some(keyspace, count_max=None),
    lambda reader, keyspace: reader.scan_some(keyspace, reverse=True, count_max=None),
]


@pytest.mark.parametrize("read", READS, ids=["get", "get_many", "scan", "scan back"])
def test_a_damaged_value_is_not_given(
    opened: Opened, keyspace: int, read: Callable[[Reader, int], Any]
) -> None:
    """StoreDamaged is raised in its place; a look at the keys alone does not mind."""
    if not opened.kind.rots:
        pytest.skip("memory does not rot")
    engine = opened.engine
    opened.kind.damage(engine, keyspace, "b")

    with pytest.raises(StoreDamaged, match="'b'"):
        read(engine.in_line, keyspace)
    assert engine.in_line.get(keyspace, "a") == VALUE + bytes(10)
    assert engine.in_line.count_present(keyspace, KEYS) == len(KEYS)
    assert engine.in_line.count_some(keyspace, "", None, (), 100) == (len(KEYS), None)
    assert engine.in_line.keys_some(keyspace, count_max=100) == (SORTED, True)
    engine.commit([batch_of(engine, place_of(engine), {"b": VALUE})])
    engine.refresh()
    assert engine.in_line.get(keyspace, "b") == VALUE
