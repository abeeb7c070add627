"""Long keys: whatever their length, records are found and listed in the order of their bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from durable._engine.engine import Engine

from .kit import VALUE, batch_of, place_of, scan, stored

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


@settings(max_examples=100)
@given(
    groups=st.lists(st.dictionaries(KEYS, st.sampled_from([VALUE, None]), max_size=6), max_size=4),
    bounds=st.lists(
        st.tuples(KEYS, st.none() | KEYS, st.booleans(), st.none() | st.integers(1, 4)),
        min_size=1,
        max_size=6,
    ),
    is_cleared=st.booleans(),
)
def test_a_scan_is_that_of_a_sorted_dict(
    one_engine: Engine, groups, bounds, is_cleared: bool
) -> None:
    """Bounds, direction and limit are exact, however long keys and bounds are."""
    handle = place_of(one_engine, "any")
    one_engine.commit([batch_of(one_engine, handle, clears=True, alarm=None)])
    expected: dict[str, bytes] = {}
    for puts in groups:
        one_engine.commit([batch_of(one_engine, handle, dict(puts), clears=is_cleared)])
        if is_cleared:
            expected.clear()
        for key, value in puts.items():
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
    one_engine.refresh()

    for lower, upper, reverse, limit in bounds:
        pairs = [
            (key, expected[key])
            for key in sorted(expected, key=str.encode, reverse=reverse)
            if lower <= key and (upper is None or key < upper)
        ]
        found = scan(one_engine, handle.keyspace, lower, upper, reverse=reverse, limit=limit)
        assert found == pairs[:limit]
    for key in {lower for lower, *_ in bounds} | set(expected):
        assert one_engine.in_line.get(handle.keyspace, key) == expected.get(key)
    assert stored(one_engine, handle) == expected


def test_a_key_of_the_greatest_length_and_its_prefixes(engine: Engine) -> None:
    """2,048 bytes, and every length below, stand beside each other."""
    handle = place_of(engine)
    keys = ["k" * length for length in range(2_049)]
    engine.commit([batch_of(engine, handle, dict.fromkeys(keys, VALUE))])

    assert list(stored(engine, handle)) == keys
    engine.commit([batch_of(engine, handle, dict.fromkeys(keys[1:]))])
    assert stored(engine, handle) == {"": VALUE}


def test_other_objects_are_not_seen(engine: Engine) -> None:
    """A scan without bounds ends where the object ends."""
    places = [place_of(engine, name) for name in "abc"]
    for place in places:
        puts = {"k": VALUE, "k" * 1_000: VALUE, "\U0010ffff" * 300: VALUE}
        engine.commit([batch_of(engine, place, puts)])
    engine.commit([batch_of(engine, places[1], clears=True, alarm=None)])

    assert stored(engine, places[1]) == {}
    assert len(stored(engine, places[0])) == len(stored(engine, places[2])) == 3
    assert len(list(scan(engine, places[0].keyspace, reverse=True))) == 3
