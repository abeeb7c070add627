"""Groups of batches of any kind: what the store says of objects, keys and alarms is a dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._engine.batch import UNCHANGED, Alarm, DueAlarm, Unchanged
from durable._lmdb.check import check
from durable._lmdb.environment import Environment

from .kit import VALUE, base_of, batch_of, open_store, place_of, stored

NAMES = ("a", "b", "c")
KEYS = st.sampled_from(["", "x", "y", "z" * 450, "z" * 451, "z" * 901])
ALARMS = st.sampled_from([UNCHANGED, UNCHANGED, None, Alarm(5, 5), Alarm(9, 5, 1, 1)])
BATCHES = st.tuples(
    st.sampled_from(NAMES),
    st.dictionaries(KEYS, st.sampled_from([VALUE, None, None]), max_size=3),
    ALARMS,
    st.booleans(),  # begins with a wipe
)
GROUPS = st.lists(st.lists(BATCHES, max_size=6), max_size=6)


@define
class Model:
    """What one object has."""

    keys: dict[str, bytes] = field(factory=dict)
    alarm: Alarm | None = None

    def apply(self, puts: dict[str, bytes | None], alarm: Any, wipe: bool) -> None:
        if wipe:
            self.keys.clear()
        for key, value in puts.items():
            if value is None:
                self.keys.pop(key, None)
            else:
                self.keys[key] = value
        if not isinstance(alarm, Unchanged):
            self.alarm = alarm


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory):
    environment = open_store(tmp_path_factory.mktemp("changes") / "store")
    yield environment
    environment.close()


@settings(max_examples=300)
@given(groups=GROUPS, wakes=st.booleans())
def test_the_store_is_a_dict_of_objects(
    environment: Environment, groups: list, wakes: bool
) -> None:
    """Whatever is written together, and whether or not activations live on between the groups."""
    places = {name: place_of(environment, name) for name in NAMES}
    environment.commit(
        [batch_of(environment, place, wipe=True, alarm=None) for place in places.values()]
    )
    models = {name: Model() for name in NAMES}
    for group in groups:
        batches, seen = [], set()
        for name, puts, alarm, wants_wipe in group:
            # The rule of a wipe: nothing under the old number is on its way.
            wipe = wants_wipe and name not in seen
            seen.add(name)
            batches.append(batch_of(environment, places[name], dict(puts), alarm=alarm, wipe=wipe))
            models[name].apply(puts, alarm, wipe)
        environment.commit(batches)
        environment.refresh()
        if wakes:
            places = {name: place_of(environment, name) for name in NAMES}
    while environment.has_garbage:
        environment.collect_garbage(3)
    environment.refresh()

    number = places["a"].class_number
    for name, model in models.items():
        record = environment.find(number, base_of(name))
        assert (record is not None) == bool(model.keys or model.alarm)
        assert record is None or (record.name, record.alarm) == (name, model.alarm)
        assert stored(environment, places[name]) == model.keys
    known = {base_of(name) for name, model in models.items() if model.keys or model.alarm}
    assert {base for base, _ in environment.objects(number, count_max=9)} == known
    dues = [DueAlarm(m.alarm.due_us, number, base_of(n)) for n, m in models.items() if m.alarm]
    assert environment.alarms(count_max=9) == sorted(dues)
    assert check(environment) == []


def test_a_group_is_whole_when_the_map_grew_in_its_midst(tmp_path: Path) -> None:
    """A try that found the map full leaves no trace, neither on the disk nor in the places."""
    environment = open_store(tmp_path / "store")
    value = b"\x91" + bytes(1 << 20)
    old = place_of(environment, "old")
    environment.commit([batch_of(environment, old, {"gone": VALUE}, alarm=Alarm(5, 5))])
    places = [place_of(environment, f"n{n}") for n in range(100)]
    group = [batch_of(environment, old, {"new": VALUE}, wipe=True, alarm=Alarm(6, 6))]
    group += [batch_of(environment, p, {"k": value}, alarm=Alarm(7, 7)) for p in places]
    group += [batch_of(environment, p, {"k": None}, alarm=None) for p in places[:50]]
    environment.commit(group)

    environment.refresh()
    assert stored(environment, old) == {"new": VALUE}
    assert len(environment.objects(old.class_number, count_max=999)) == 51
    assert len(environment.alarms(count_max=999)) == 51
    environment.commit([batch_of(environment, p, {"k2": VALUE}) for p in places])
    assert all(stored(environment, p)["k2"] == VALUE for p in places)
    assert check(environment) == []
    environment.close()
