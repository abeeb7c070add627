"""Side records: stored beside an object's keys, in the same batches, and never among them."""

from __future__ import annotations

from durable._engine.engine import Engine
from durable._engine.side_records import OWN, end_of

from .conftest import Opened
from .kit import VALUE, batch_of, class_of, place_of, scan, sides_of

PAGE = bytes(4_072)  # of an area whose records the check does not know


def page(number: int) -> bytes:
    return OWN + number.to_bytes(4, "big")


def test_a_side_record_is_read_by_its_key(engine: Engine) -> None:
    """And is no key, however keys are asked for."""
    handle = place_of(engine)
    sides = {page(1): PAGE, OWN + b"a": b"1", OWN + b"b": b"2"}
    engine.commit([batch_of(engine, handle, {"key": VALUE}, sides=dict(sides))])
    engine.refresh()
    reader = engine.in_line

    assert reader.get_side(handle.keyspace, page(1)) == PAGE
    assert reader.get_side(handle.keyspace, page(2)) is None
    assert reader.get_side(handle.keyspace + 1, page(1)) is None
    assert [key for key, _ in scan(engine, handle.keyspace)] == ["key"]
    assert reader.count_some(handle.keyspace, "", None, (), 10) == (1, None)


def test_side_records_are_read_many_at_a_time(engine: Engine) -> None:
    """In the order in which they were asked for."""
    handle = place_of(engine)
    sides: dict[bytes, bytes | None] = {page(number): b"%d" % number for number in (1, 2, 4)}
    engine.commit([batch_of(engine, handle, sides=sides)])
    engine.commit([batch_of(engine, handle, sides={page(2): None})])
    engine.refresh()
    reader = engine.in_line

    wanted = [page(number) for number in (4, 3, 2, 1)]
    assert reader.get_sides(handle.keyspace, wanted) == [b"4", None, None, b"1"]
    assert reader.get_sides(handle.keyspace, []) == []
    assert reader.get_sides(handle.keyspace + 1, wanted) == [None] * 4


def test_a_scan_of_side_records_keeps_to_its_bounds(engine: Engine) -> None:
    """In both directions, up to so many."""
    handle = place_of(engine)
    sides: dict[bytes, bytes | None] = {page(number): b"%d" % number for number in range(1, 300)}
    engine.commit([batch_of(engine, handle, sides={**sides, OWN: b"x", OWN + b"a": b"y"})])
    engine.refresh()
    found = engine.in_line.scan_sides

    def numbers(lower: bytes, upper: bytes, count_max: int, reverse: bool = False) -> list[bytes]:
        pairs = found(handle.keyspace, lower, upper, reverse=reverse, count_max=count_max)
        return [value for _, value in pairs]

    assert numbers(page(0), OWN + b"a", 1_000) == [b"%d" % n for n in range(1, 300)]
    assert numbers(page(255), page(258), 9) == [b"255", b"256", b"257"]
    assert numbers(page(255), page(258), 9, reverse=True) == [b"257", b"256", b"255"]
    assert numbers(OWN, end_of(OWN), 2, reverse=True) == [b"y", b"299"]
    assert numbers(OWN, end_of(OWN), 2) == [b"x", b"1"]
    assert numbers(page(258), page(255), 9) == []


def test_an_object_is_there_as_long_as_it_has_a_side_record(opened: Opened) -> None:
    """Without a key or an alarm; it is gone with the last one."""
    engine = opened.engine
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, sides={OWN + b"a": b"1"})])
    engine.refresh()
    assert engine.find(handle.class_number, handle.base) is not None

    engine.commit([batch_of(engine, handle, sides={OWN + b"a": None})])
    engine.refresh()
    assert engine.find(handle.class_number, handle.base) is None
    engine.commit([batch_of(engine, handle, sides={OWN + b"a": None})])  # once more does no harm


def test_everything_deleted_takes_the_side_records_along(engine: Engine) -> None:
    """Those of the batch itself are of the new keyspace, and stay."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE}, sides={page(1): PAGE, OWN: b"1"})])
    before = handle.keyspace
    engine.commit([batch_of(engine, handle, clears=True, sides={page(2): PAGE})])
    while engine.has_garbage:
        engine.collect_garbage(1)

    assert sides_of(engine, handle) == {page(2): PAGE}
    assert engine.in_line.get_side(before, page(1)) is None


def test_a_deleted_class_takes_the_side_records_along(engine: Engine) -> None:
    """Its objects are gone at once, and what they had is freed."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, sides={page(1): PAGE})])
    catalog = engine.catalog()
    record = class_of(engine, "Counter")
    deleted = type(record)(record.number, record.unique_key, record.name, is_deleted=True)
    engine.change_classes(catalog, catalog.replacing(deleted))
    while engine.has_garbage:
        engine.collect_garbage(1)
    engine.refresh()

    assert engine.in_line.get_side(handle.keyspace, page(1)) is None


def test_a_reader_of_another_thread_sees_side_records_when_it_is_released(engine: Engine) -> None:
    """As it does with keys."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, sides={OWN: b"1"})])
    reader = engine.new_reader()
    assert reader.get_side(handle.keyspace, OWN) == b"1"
    engine.commit([batch_of(engine, handle, sides={OWN: b"2"})])

    reader.release()

    assert reader.get_side(handle.keyspace, OWN) == b"2"
    reader.close()


def test_side_records_are_there_after_the_store_was_closed(kept: Opened) -> None:
    """With the keys beside them."""
    handle = place_of(kept.engine)
    sides: dict[bytes, bytes | None] = {page(1): PAGE, OWN: b"1"}
    kept.engine.commit([batch_of(kept.engine, handle, {"a": VALUE}, sides=sides)])

    engine = kept.reopen()

    assert sides_of(engine, handle) == sides
