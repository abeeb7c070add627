"""Groups of batches of any kind: what the store says of objects, keys and alarms is a dict."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._engine.batch import UNCHANGED, Alarm, DueAlarm, Unchanged
from durable._engine.engine import Engine

from .kit import VALUE, base_of, batch_of, place_of, sides_of, stored

NAMES = ("a", "b", "c")
KEYS = st.sampled_from(["", "x", "y", "z" * 450, "z" * 451, "z" * 901])
ALARMS = st.sampled_from([UNCHANGED, UNCHANGED, None, Alarm(5, 5), Alarm(9, 5, 1, 1)])
BATCHES = st.tuples(
    st.sampled_from(NAMES),
    st.dictionaries(KEYS, st.sampled_from([VALUE, None, None]), max_size=3),
    ALARMS,
    st.booleans(),  # begins with a clear
    st.dictionaries(
        st.sampled_from([b"\x02\0\0\0\1", b"\x03", b"\x04timer"]),
        st.sampled_from([VALUE, None]),
        max_size=2,
    ),
)
GROUPS = st.lists(st.lists(BATCHES, max_size=6), max_size=6)


@define
class Model:
    """What one object has."""

    keys: dict[str, bytes] = field(factory=dict)
    sides: dict[bytes, bytes] = field(factory=dict)
    alarm: Alarm | None = None

    def apply(self, puts: dict, alarm: Any, clears: bool, sides: dict) -> None:
        if clears:
            self.keys.clear()
            self.sides.clear()
        kept = {**self.sides, **sides}
        self.sides = {key: value for key, value in kept.items() if value is not None}
        for key, value in puts.items():
            if value is None:
                self.keys.pop(key, None)
            else:
                self.keys[key] = value
        if not isinstance(alarm, Unchanged):
            self.alarm = alarm

    @property
    def is_there(self) -> bool:
        return bool(self.keys or self.sides or self.alarm)


@settings(max_examples=100)
@given(groups=GROUPS, wakes=st.booleans())
def test_the_store_is_a_dict_of_objects(one_engine: Engine, groups: list, wakes: bool) -> None:
    """Whatever is written together, and whether or not activations live on between the groups."""
    places = {name: place_of(one_engine, name) for name in NAMES}
    one_engine.commit(
        [batch_of(one_engine, place, clears=True, alarm=None) for place in places.values()]
    )
    models = {name: Model() for name in NAMES}
    for group in groups:
        batches, seen = [], set()
        for name, puts, alarm, wants_clear, sides in group:
            # The rule of a clear: nothing under the old number is on its way.
            clears = wants_clear and name not in seen
            seen.add(name)
            batches.append(
                batch_of(
                    one_engine,
                    places[name],
                    dict(puts),
                    alarm=alarm,
                    clears=clears,
                    sides=dict(sides),
                )
            )
            models[name].apply(puts, alarm, clears, sides)
        one_engine.commit(batches)
        one_engine.refresh()
        if wakes:
            places = {name: place_of(one_engine, name) for name in NAMES}
    while one_engine.has_garbage:
        one_engine.collect_garbage(3)
    one_engine.refresh()

    number = places["a"].class_number
    for name, model in models.items():
        record = one_engine.find(number, base_of(name))
        assert (record is not None) == model.is_there
        assert record is None or (record.name, record.alarm) == (name, model.alarm)
        assert stored(one_engine, places[name]) == model.keys
        assert sides_of(one_engine, places[name]) == model.sides
    known = {base_of(name) for name, model in models.items() if model.is_there}
    assert {base for base, _ in one_engine.objects(number, count_max=9)} == known
    dues = [DueAlarm(m.alarm.due_us, number, base_of(n)) for n, m in models.items() if m.alarm]
    assert one_engine.alarms(count_max=9) == sorted(dues)

    # The side records are no pages of databases, and the last example would be found to be damaged.
    places = {name: place_of(one_engine, name) for name in NAMES}
    one_engine.commit([batch_of(one_engine, place, clears=True) for place in places.values()])
