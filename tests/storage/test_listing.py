"""The bounds of `list()` against a filter over a sorted list, key ranges against sets of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._storage.key_ranges import KeyRanges, range_of, with_range, without_keys
from durable._storage.listing import after_prefix, bounds, check_limit

texts = st.text(st.sampled_from("\0ab\ud7ff\ue000\U0010ffff"), max_size=4)
maybe = st.one_of(st.none(), texts)


@given(st.sets(texts, max_size=20), maybe, maybe, maybe, st.booleans())
def test_bounds_are_a_filter_over_utf8_order(
    keys: set[str], start: str | None, end: str | None, prefix: str | None, after: bool
) -> None:
    """Start inclusive, start_after and end exclusive, prefix what keys begin with: as bytes."""
    first = (start or "").encode()
    expected = [
        key
        for key in sorted(keys, key=str.encode)
        if (key.encode() > first if after and start is not None else key.encode() >= first)
        and (end is None or key.encode() < end.encode())
        and key.encode().startswith((prefix or "").encode())
    ]

    key_range = bounds(
        "list()",
        start=None if after else start,
        start_after=start if after else None,
        end=end,
        prefix=prefix,
    )

    found = [] if key_range is None else [key for key in sorted(keys) if _is_in(key, key_range)]
    assert found == expected


@pytest.mark.parametrize(
    ("prefix", "after"),
    [("a", "b"), ("a\U0010ffff", "b"), ("\ud7ff", "\ue000"), ("\U0010ffff", None), ("", None)],
)
def test_what_follows_a_prefix_is_never_a_surrogate(prefix: str, after: str | None) -> None:
    assert after_prefix(prefix) == after


def test_start_and_start_after_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="both start and start_after"):
        bounds("list()", start="a", start_after="b", end=None, prefix=None)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_a_value_error(limit: int) -> None:
    with pytest.raises(ValueError, match="List limit must be positive"):
        check_limit(limit)


@pytest.mark.parametrize("limit", [True, 1.0, "1"])
def test_a_limit_that_is_no_int_is_a_type_error(limit: int) -> None:
    with pytest.raises(TypeError):
        check_limit(limit)


@given(st.lists(st.tuples(texts, maybe), max_size=6), st.lists(texts, max_size=8))
def test_spans_joined_hold_what_each_of_them_holds(
    added: list[tuple[str, str | None]], keys: list[str]
) -> None:
    key_ranges: KeyRanges = ()
    real = [key_range for key_range in added if key_range[1] is None or key_range[0] < key_range[1]]
    for key_range in real:
        key_ranges = with_range(key_ranges, key_range)

    for key in keys:
        assert (range_of(key_ranges, key) is not None) == any(
            _is_in(key, key_range) for key_range in real
        )
    assert list(key_ranges) == sorted(key_ranges, key=lambda key_range: key_range[0])


@given(st.sets(texts, min_size=1, max_size=8), st.data())
def test_spans_without_a_key_still_hold_the_others(keys: set[str], data: st.DataObject) -> None:
    gone = sorted(data.draw(st.sets(st.sampled_from(sorted(keys)))))
    kept = sorted(keys - set(gone))

    key_ranges = without_keys((("", None),), gone, kept)

    assert all(range_of(key_ranges, key) is None for key in gone)
    assert all(range_of(key_ranges, key) is not None for key in kept)
    assert len(key_ranges) <= max(len(kept), 1)


def _is_in(key: str, key_range: tuple[str, str | None]) -> bool:
    return key_range[0] <= key and (key_range[1] is None or key < key_range[1])
