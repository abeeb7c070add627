"""Commits: all of a group or nothing of it; keyspaces, garbage and the end."""

from __future__ import annotations

import pytest

from durable._engine.batch import Alarm
from durable._engine.engine import Engine
from durable._model.errors import RuntimeClosed

from .conftest import Opened
from .kit import VALUE, batch_of, class_of, place_of, stored


def test_a_group_is_stored_in_the_order_of_its_batches(engine: Engine) -> None:
    """The last write of a key is the one that is there."""
    handle = place_of(engine)
    values = [b"\x91%d" % n for n in range(3)]
    engine.commit([batch_of(engine, handle, {"a": value}) for value in values])

    assert stored(engine, handle) == {"a": values[-1]}


def test_of_a_group_that_fails_nothing_is_stored(engine: Engine) -> None:
    """Neither what came before the batch at fault, nor a trace in the handles."""
    old, new = place_of(engine, "old"), place_of(engine, "new")
    engine.commit([batch_of(engine, old, {"a": VALUE}, alarm=Alarm(5, 5))])
    broken = batch_of(engine, old, {"c": VALUE})
    broken.clears = True  # without a new keyspace, which no write buffer does
    with pytest.raises(AssertionError):
        engine.commit(
            [
                batch_of(engine, new, {"b": VALUE}, alarm=Alarm(7, 7)),
                batch_of(engine, old, {"a": None, "b": VALUE}, alarm=None),
                broken,
            ]
        )

    assert stored(engine, old) == {"a": VALUE}
    assert stored(engine, new) == {}
    assert new.created_us is None
    assert [due.due_us for due in engine.alarms(count_max=9)] == [5]
    engine.commit([batch_of(engine, h, {"d": VALUE}) for h in (old, new)])
    assert stored(engine, old) == {"a": VALUE, "d": VALUE}
    assert stored(engine, new) == {"d": VALUE}


def test_a_keyspace_is_never_given_out_again(kept: Opened) -> None:
    """One that has had records is not given out after a reopen, though they are gone."""
    engine = kept.engine
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE})])
    engine.commit([batch_of(engine, handle, {"b": VALUE}, clears=True)])
    engine.commit([batch_of(engine, handle, {"b": None})])
    last = handle.keyspace

    engine = kept.reopen()
    assert engine.next_keyspace() > last


def test_each_keyspace_is_another(engine: Engine) -> None:
    """And none is 0, which stands for none."""
    given = [engine.next_keyspace() for _ in range(100)]

    assert len(set(given)) == 100
    assert min(given) > 0


def test_garbage_goes_in_bounded_steps(engine: Engine) -> None:
    """Each step frees so many records at most, and a new write is none the worse for it."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {f"{n}": VALUE for n in range(10)})])
    engine.commit([batch_of(engine, handle, {"new": VALUE}, clears=True)])
    freed = []
    while engine.has_garbage:
        freed.append(engine.collect_garbage(4))

    assert freed in ([], [4, 4, 2])  # an engine may have none
    assert stored(engine, handle) == {"new": VALUE}


def test_garbage_is_remembered_by_the_store(kept: Opened) -> None:
    """It goes after a reopen, if it did not go before."""
    engine = kept.engine
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {f"{n}": VALUE for n in range(10)})])
    engine.commit([batch_of(engine, handle, clears=True, alarm=None)])
    had_garbage = engine.has_garbage

    engine = kept.reopen()
    assert engine.has_garbage == had_garbage
    while engine.has_garbage:
        engine.collect_garbage()
    assert engine.collect_garbage() == 0


def test_a_clear_of_nothing_leaves_no_garbage(engine: Engine) -> None:
    """There is nothing to free where there was nothing."""
    engine.commit([batch_of(engine, place_of(engine), clears=True, alarm=None)])

    assert not engine.has_garbage


def test_a_commit_of_nothing_is_allowed(engine: Engine) -> None:
    """An empty group, and a batch that writes nothing, which is a way to wait for others."""
    handle = place_of(engine)
    engine.commit([])
    engine.commit([batch_of(engine, handle)])

    assert stored(engine, handle) == {}
    assert handle.created_us is None


def test_measures_rise_with_what_is_stored(kept: Opened) -> None:
    """How many objects, records and alarms there are."""
    engine = kept.engine
    for n in range(3):
        handle = place_of(engine, f"n{n}")
        engine.commit([batch_of(engine, handle, {"a": VALUE, "b": VALUE}, alarm=Alarm(5, 5))])
    engine.refresh()
    kept.kind.settle(engine)
    measures = engine.measure()

    assert (measures.classes, measures.objects) == (1, 3)
    assert (measures.records, measures.alarms) == (6, 3)


def test_after_a_close_every_call_says_so(kept: Opened) -> None:
    """A closed store is a clear error, and closing it again is none."""
    engine = kept.engine
    handle = place_of(engine)
    class_of(engine, "Counter")
    batch = batch_of(engine, handle, {"a": VALUE})
    catalog = engine.catalog()
    engine.close()
    engine.close()

    for call in (
        lambda: engine.in_line.get(1, "a"),
        lambda: engine.in_line.scan_some(1, count_max=None),
        lambda: engine.find(1, bytes(16)),
        lambda: engine.objects(1, count_max=1),
        lambda: engine.alarms(count_max=1),
        lambda: engine.commit([batch]),
        lambda: engine.change_classes(catalog, catalog),
        engine.catalog,
        engine.next_alarm_us,
    ):
        with pytest.raises(RuntimeClosed, match="is closed"):
            call()
    kept.reopen()
