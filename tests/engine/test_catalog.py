"""Classes: what an engine remembers of them, and what becomes of the objects of a deleted one."""

from __future__ import annotations

from attrs import evolve

from durable._engine.batch import Alarm
from durable._engine.catalog import Catalog, Weight
from durable._engine.engine import Engine

from .conftest import Opened
from .kit import VALUE, batch_of, class_of, place_of, stored


def test_a_new_store_knows_no_class(engine: Engine) -> None:
    """And no migration."""
    assert engine.catalog() == Catalog()


def test_a_class_keeps_its_number(kept: Opened) -> None:
    """One of the same name in another script is another class."""
    first = class_of(kept.engine, "A")
    second = class_of(kept.engine, "A", "s")

    engine = kept.reopen()
    assert class_of(engine, "A") == first
    assert class_of(engine, "A", "s") == second
    assert engine.catalog().records == (first, second)


def test_a_change_of_classes_is_seen_at_once(kept: Opened) -> None:
    """With the tags of its migrations; and after a reopen as well."""
    record = class_of(kept.engine, "A")
    before = kept.engine.catalog()
    renamed = evolve(record, name="B", former=((None, "A"),))
    after = before.replacing(renamed).with_tag(None, "v1").with_tag("s", "w1").with_tag("s", "w2")
    kept.engine.change_classes(before, after)

    assert kept.engine.catalog() == after
    assert kept.reopen().catalog() == after
    assert after.tags == {None: ("v1",), "s": ("w1", "w2")}


def test_a_change_of_classes_touches_no_object(engine: Engine) -> None:
    """A class that has another name has the same objects."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE}, alarm=Alarm(5, 5))])
    before = engine.catalog()
    [record] = before.records
    engine.change_classes(before, before.replacing(evolve(record, name="Renamed")))

    assert stored(engine, handle) == {"a": VALUE}
    assert len(engine.alarms(count_max=9)) == 1


def test_the_objects_of_a_deleted_class_go_and_no_others(engine: Engine) -> None:
    """With their alarms, in as many steps as garbage needs."""
    doomed = [place_of(engine, f"n{n}") for n in range(5)]
    number = class_of(engine, "Other").number
    spared = evolve(place_of(engine, "n0"), class_number=number, name=None)
    group = [batch_of(engine, h, {"a": VALUE, "b": VALUE}, alarm=Alarm(5, 5)) for h in doomed]
    engine.commit([*group, batch_of(engine, spared, {"a": VALUE}, alarm=Alarm(7, 7))])
    engine.refresh()
    before = engine.catalog()
    record = class_of(engine, "Counter")
    engine.change_classes(before, before.replacing(evolve(record, is_deleted=True)))
    while engine.has_garbage:
        assert engine.collect_garbage(3) <= 3
    engine.refresh()

    assert engine.objects(record.number, count_max=9) == []
    assert engine.find(record.number, doomed[0].base) is None
    assert [due.class_number for due in engine.alarms(count_max=9)] == [number]
    assert stored(engine, spared) == {"a": VALUE}
    assert engine.weigh_class(record.number) == Weight()


def test_a_class_is_weighed(engine: Engine) -> None:
    """Its objects, their alarms, and the bytes of keys and values."""
    other = class_of(engine, "Other").number
    engine.commit([batch_of(engine, place_of(engine, "a"), {"é": VALUE, "k" * 600: b"\x91vv"})])
    engine.commit([batch_of(engine, place_of(engine, "b"), alarm=Alarm(5, 5))])
    engine.refresh()

    size = 2 + len(VALUE) + 600 + 3
    assert engine.weigh_class(class_of(engine, "Counter").number) == Weight(2, 1, size)
    assert engine.weigh_class(other) == Weight()
