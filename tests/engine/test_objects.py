"""Objects: which ones a store knows, what it knows of them, and their alarms."""

from __future__ import annotations

import itertools

from durable._engine.batch import Alarm, DueAlarm, ObjectRecord
from durable._engine.engine import Engine

from .conftest import Opened
from .kit import VALUE, Clock, base_of, batch_of, class_of, place_of, stored


def test_what_was_committed_is_there_after_a_reopen(kept: Opened) -> None:
    """The records of an object, and what is known of it."""
    engine = kept.engine
    handle = place_of(engine)
    puts = {"a": VALUE, "b": b"\x91b"}
    engine.commit([batch_of(engine, handle, dict(puts), alarm=Alarm(7, 5, 1, 2))])

    engine = kept.reopen()
    record = engine.find(handle.class_number, handle.base)
    assert record == ObjectRecord(handle.keyspace, 1_000_000_000, "front page", Alarm(7, 5, 1, 2))
    assert stored(engine, handle) == puts
    assert engine.alarms(count_max=9) == [DueAlarm(7, handle.class_number, handle.base)]


def test_an_object_is_known_from_its_first_write_to_its_last_delete(engine: Engine) -> None:
    """A store knows the objects that have a key or an alarm, and no others."""
    handle = place_of(engine)

    def is_known() -> bool:
        engine.refresh()
        found = engine.find(handle.class_number, handle.base)
        listed = engine.objects(handle.class_number, count_max=5)
        assert listed == ([] if found is None else [(handle.base, found)])
        return found is not None

    engine.commit([batch_of(engine, handle, {"gone": None})])
    assert not is_known()
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    assert is_known()
    engine.commit([batch_of(engine, handle, {"a": None}, alarm=Alarm(5, 5))])
    assert is_known()
    engine.commit([batch_of(engine, handle, alarm=None)])
    assert not is_known()
    assert engine.alarms(count_max=5) == []

    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    assert stored(engine, handle) == {"a": VALUE}


def test_an_object_may_come_and_go_within_one_group(engine: Engine) -> None:
    """What counts is what is there at the end of the transaction."""
    gone, kept = place_of(engine, "gone"), place_of(engine, "kept")
    engine.commit(
        [
            batch_of(engine, gone, {"a": VALUE}, alarm=Alarm(5, 5)),
            batch_of(engine, kept, {"a": VALUE}),
            batch_of(engine, kept, {"a": None}),
            batch_of(engine, gone, {"a": None}, alarm=None),
            batch_of(engine, kept, {"b": VALUE}),
        ]
    )

    assert stored(engine, gone) == {}
    assert engine.find(gone.class_number, gone.base) is None
    assert stored(engine, kept) == {"b": VALUE}


def test_a_clear_takes_everything_and_what_comes_after_it_stays(engine: Engine) -> None:
    """A clear comes before the puts of its batch, and leaves no alarm that the batch drops."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE, "k" * 2_000: VALUE}, alarm=Alarm(5, 5))])
    old = handle.keyspace
    engine.commit([batch_of(engine, handle, {"b": VALUE}, clears=True, alarm=None)])

    assert stored(engine, handle) == {"b": VALUE}
    assert handle.keyspace != old
    assert engine.alarms(count_max=1) == []


def test_a_clear_that_says_nothing_of_the_alarm_leaves_it(engine: Engine) -> None:
    """The alarm is another part of an object than its records."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE}, alarm=Alarm(5, 5))])
    engine.commit([batch_of(engine, handle, clears=True)])

    assert stored(engine, handle) == {}
    found = engine.find(handle.class_number, handle.base)
    assert found is not None
    assert found.alarm == Alarm(5, 5)


def test_a_clear_with_nothing_after_it_forgets_the_object(engine: Engine) -> None:
    """An object without a key or an alarm is not known."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    engine.commit([batch_of(engine, handle, clears=True, alarm=None)])

    engine.refresh()
    assert engine.find(handle.class_number, handle.base) is None


def test_two_lives_of_an_object_have_nothing_in_common(engine: Engine) -> None:
    """What is written after everything was deleted has another keyspace and another age."""
    first = place_of(engine)
    engine.commit([batch_of(engine, first, {"a": VALUE, "b": VALUE})])
    engine.commit([batch_of(engine, first, clears=True, alarm=None)])
    engine.refresh()
    second = place_of(engine)
    engine.commit([batch_of(engine, second, {"c": VALUE})])

    assert second.keyspace != first.keyspace
    assert stored(engine, second) == {"c": VALUE}


def test_created_is_the_time_of_the_first_write(engine: Engine, clock: Clock) -> None:
    """An object is created by the write that makes it known, and by that of its next life."""
    handle = place_of(engine)
    steps = [{"a": VALUE}, {"b": VALUE}, {"a": None, "b": None}, {"a": VALUE}]
    for clock.now_s, puts in zip(itertools.count(1.0), steps):
        engine.commit([batch_of(engine, handle, dict(puts))])
        if clock.now_s < 3.0:
            assert handle.created_us == 1_000_000
    assert handle.created_us == 4_000_000


def test_an_object_that_comes_from_elsewhere_keeps_its_age(engine: Engine) -> None:
    """A batch may say when its object was created."""
    handle = place_of(engine)
    batch = batch_of(engine, handle, {"a": VALUE})
    batch.created_us = 77
    engine.commit([batch])

    engine.refresh()
    found = engine.find(handle.class_number, handle.base)
    assert found is not None
    assert (found.created_us, handle.created_us) == (77, 77)


def test_a_name_that_is_learned_later_is_kept(engine: Engine) -> None:
    """The next write of an object brings its name to the store, and no write takes it away."""
    handle = place_of(engine)
    names = []
    for handle.name in (None, "front page", None):
        engine.commit([batch_of(engine, handle, {"a": VALUE})])
        engine.refresh()
        found = engine.find(handle.class_number, handle.base)
        assert found is not None
        names.append(found.name)

    assert names == [None, "front page", "front page"]


def test_objects_are_listed_by_base_in_steps(engine: Engine) -> None:
    """A class lists its objects in the order of their bases, and not those of another."""
    other = class_of(engine, "Other").number
    names = [f"n{n}" for n in range(7)]
    for name in names:
        engine.commit([batch_of(engine, place_of(engine, name), {"a": VALUE})])
    engine.refresh()
    number = class_of(engine, "Counter").number

    first = engine.objects(number, count_max=4)
    rest = engine.objects(number, after=first[-1][0], count_max=4)
    assert [base for base, _ in first + rest] == sorted(base_of(name) for name in names)
    assert engine.objects(number, after=rest[-1][0], count_max=4) == []
    assert engine.objects(other, count_max=4) == []


def test_alarms_are_listed_by_time(engine: Engine) -> None:
    """The index has one entry for each object with an alarm, the earliest first."""
    handles = [place_of(engine, f"n{n}") for n in range(3)]
    for handle, due in zip(handles, [30, 10, 20], strict=True):
        engine.commit([batch_of(engine, handle, alarm=Alarm(due, due))])
    engine.commit([batch_of(engine, handles[0], alarm=Alarm(5, 30, 1, 1))])
    engine.refresh()

    found = engine.alarms(count_max=2)
    assert [due.due_us for due in found] == [5, 10]
    assert [due.due_us for due in engine.alarms(after=found[-1], count_max=9)] == [20]
    assert engine.next_alarm_us() == 5
    assert [alarm.base for alarm in found] == [handles[0].base, handles[1].base]


def test_alarms_of_one_time_are_listed_once_each(engine: Engine) -> None:
    """In steps of one, though all are due at the same time."""
    handles = [place_of(engine, f"n{n}") for n in range(4)]
    engine.commit([batch_of(engine, handle, alarm=Alarm(9, 9)) for handle in handles])
    engine.refresh()

    after, found = None, []
    while step := engine.alarms(after=after, count_max=1):
        after = step[-1]
        found += step
    assert found == sorted(DueAlarm(9, h.class_number, h.base) for h in handles)


def test_no_alarm_is_due_where_there_is_none(engine: Engine) -> None:
    """Nor when the last one was deleted."""
    assert engine.next_alarm_us() is None
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, alarm=Alarm(9, 9))])
    engine.commit([batch_of(engine, handle, alarm=None)])
    engine.refresh()

    assert engine.next_alarm_us() is None
