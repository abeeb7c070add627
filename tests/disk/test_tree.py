"""Long keys: whatever their length, records are found and listed in the order of their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._lmdb.check import check
from durable._lmdb.environment import Environment

from .kit import VALUE, batch_of, open_store, place_of, stored

# Keys that are alike up to where they are cut, or a little before or behind.
LENGTHS = st.sampled_from([0, 1, 2, 448, 449, 450, 451, 452, 899, 900, 901, 1_350, 1_351])
TAILS = st.text(st.sampled_from("\x00\x01\x02a~é€\U0001f600"), max_size=4)
BODIES = st.sampled_from(["a", "\x00", "é", "\U0001f600"])
KEYS = st.builds(
    lambda body, length, tail: (body * length).encode()[:length].decode("utf-8", "ignore") + tail,
    BODIES,
    LENGTHS,
    TAILS,
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory):
    environment = open_store(tmp_path_factory.mktemp("tree") / "store")
    yield environment
    environment.close()


@settings(max_examples=300)
@given(
    groups=st.lists(st.dictionaries(KEYS, st.sampled_from([VALUE, None]), max_size=6), max_size=4),
    bounds=st.lists(
        st.tuples(KEYS, st.none() | KEYS, st.booleans(), st.none() | st.integers(1, 4)),
        min_size=1,
        max_size=6,
    ),
    is_wiped=st.booleans(),
)
def test_a_scan_is_that_of_a_sorted_dict(
    environment: Environment, groups, bounds, is_wiped: bool
) -> None:
    """Bounds, direction and limit are exact, however long keys and bounds are."""
    handle = place_of(environment, "any")
    environment.commit([batch_of(environment, handle, wipe=True, alarm=None)])
    expected: dict[str, bytes] = {}
    for puts in groups:
        environment.commit([batch_of(environment, handle, dict(puts), wipe=is_wiped)])
        if is_wiped:
            expected.clear()
        for key, value in puts.items():
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
    environment.refresh()

    for lower, upper, reverse, limit in bounds:
        pairs = [
            (key, expected[key])
            for key in sorted(expected, key=str.encode, reverse=reverse)
            if lower <= key and (upper is None or key < upper)
        ]
        found = environment.scan(handle.keyspace, lower, upper, reverse=reverse, limit=limit)
        assert list(found) == pairs[:limit]
    for key in {lower for lower, *_ in bounds} | set(expected):
        assert environment.get(handle.keyspace, key) == expected.get(key)
    assert stored(environment, handle) == expected
    assert check(environment) == []


def test_a_key_of_the_greatest_length_and_its_prefixes(tmp_path: Path) -> None:
    """2,048 bytes, and every length below, stand beside each other."""
    environment = open_store(tmp_path / "store")
    handle = place_of(environment)
    keys = ["k" * length for length in range(2_049)]
    environment.commit([batch_of(environment, handle, dict.fromkeys(keys, VALUE))])

    assert list(stored(environment, handle)) == keys
    assert check(environment) == []

    environment.commit([batch_of(environment, handle, dict.fromkeys(keys[1:]))])
    assert stored(environment, handle) == {"": VALUE}
    assert check(environment) == []
    environment.close()
    assert check(tmp_path / "store") == []


def test_other_objects_are_not_seen(tmp_path: Path) -> None:
    """A scan without bounds ends where the object ends."""
    environment = open_store(tmp_path / "store")
    places = [place_of(environment, name) for name in "abc"]
    for place in places:
        puts = {"k": VALUE, "k" * 1_000: VALUE, "\U0010ffff" * 300: VALUE}
        environment.commit([batch_of(environment, place, puts)])
    environment.commit([batch_of(environment, places[1], wipe=True, alarm=None)])

    assert stored(environment, places[1]) == {}
    assert len(stored(environment, places[0])) == len(stored(environment, places[2])) == 3
    assert len(list(environment.scan(places[0].keyspace, reverse=True))) == 3
    environment.close()
