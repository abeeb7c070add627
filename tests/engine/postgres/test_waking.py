"""Waking: what comes with an object in one answer, and where that ends."""

from __future__ import annotations

from durable._engine.batch import Alarm
from durable._engine.waking import WOKEN_COUNT_MAX
from durable._postgres.engine import PostgresEngine

from ..kit import VALUE, base_of, batch_of, place_of
from .kit import run


def test_all_of_a_small_object_comes_with_it(engine: PostgresEngine) -> None:
    """Its record, its keys and its side records."""
    handle = place_of(engine)
    sides: dict[bytes, bytes | None] = {b"\x02\0\0\0\1": b"page", b"\x04own": b"x"}
    engine.commit(
        [batch_of(engine, handle, {"b": VALUE, "a": b"\x01"}, alarm=Alarm(5, 5), sides=sides)]
    )
    woken = engine.wake(handle.class_number, handle.base)

    assert woken is not None
    assert woken.record == engine.find(handle.class_number, handle.base)
    assert (list(woken.keys), woken.upper) == ([("a", b"\x01"), ("b", VALUE)], None)
    assert (woken.sides, woken.are_all_sides) == (sides, True)
    assert engine.wake(handle.class_number, base_of("nobody")) is None


def test_what_is_too_much_stays_behind(engine: PostgresEngine) -> None:
    """The first keys come, as far as there is room, and the side records as far as that is left."""
    handle = place_of(engine)
    large = b"\x01" + bytes(400_000)
    engine.commit(
        [
            batch_of(
                engine,
                handle,
                {"a": large, "b": large, "c": large, "d": VALUE},
                sides={b"\x021": large, b"\x022": b"x"},
            )
        ]
    )
    woken = engine.wake(handle.class_number, handle.base)

    assert woken is not None
    assert [key for key, _ in woken.keys] == ["a", "b"]
    assert woken.upper is not None
    assert "b" < woken.upper <= "c"
    assert (woken.sides, woken.are_all_sides) == ({}, False)


def test_many_keys_come_in_part(engine: PostgresEngine) -> None:
    """However small they are."""
    handle = place_of(engine)
    count = WOKEN_COUNT_MAX + 1
    engine.commit([batch_of(engine, handle, {f"{n:04}": VALUE for n in range(count)})])
    woken = engine.wake(handle.class_number, handle.base)

    assert woken is not None
    assert len(woken.keys) == WOKEN_COUNT_MAX
    assert woken.upper == f"{count - 2:04}\0"


def test_a_damaged_value_is_no_obstacle(engine: PostgresEngine) -> None:
    """It is told of when it is asked for: nothing is said of it and of what is behind it."""
    handle = place_of(engine)
    engine.commit([batch_of(engine, handle, {"a": VALUE, "b": VALUE, "c": VALUE})])
    run(engine.url, "update durable.records set value = '\\x00' where key = 'b'")
    woken = engine.wake(handle.class_number, handle.base)

    assert woken is not None
    assert (list(woken.keys), woken.upper) == ([("a", VALUE)], "b")
