"""KeyRanges: for which stretches of the key space the cache holds all that there is.

A key_range is `(lower, upper)`: every key with lower <= key < upper, `upper=None` for no end.
The key_ranges of a cache are sorted, disjoint and never touch, in a tuple that is replaced and
not changed. Keys are valid Unicode, whose order by code point is the order of their UTF-8 bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

KeyRange = tuple[str, str | None]
KeyRanges = tuple[KeyRange, ...]

NOTHING: KeyRanges = ()
EVERYTHING: KeyRanges = (("", None),)


def range_of(key_ranges: KeyRanges, key: str) -> KeyRange | None:
    """The key range that *key* lies in."""
    place = _count_from(key_ranges, key)
    if place and is_below(key, key_ranges[place - 1][1]):
        return key_ranges[place - 1]
    return None


def range_below(key_ranges: KeyRanges, upper: str | None) -> KeyRange | None:
    """The key range that reaches up to *upper* from below, and maybe beyond."""
    if upper is None:
        return key_ranges[-1] if key_ranges and key_ranges[-1][1] is None else None
    place = bisect_left(key_ranges, (upper,))
    if place:
        end = key_ranges[place - 1][1]
        if end is None or end >= upper:
            return key_ranges[place - 1]
    return None


def is_below(key: str, upper: str | None) -> bool:
    return upper is None or key < upper


def lowest(one: str | None, other: str | None) -> str | None:
    """The lower of two upper bounds; None is above all keys."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def with_range(key_ranges: KeyRanges, key_range: KeyRange) -> KeyRanges:
    """*key_ranges* and *key_range*, joined where they meet."""
    lower, upper = key_range
    first = _count_from(key_ranges, lower)
    if first:
        before_lower, before_upper = key_ranges[first - 1]
        if before_upper is None or before_upper >= lower:
            first -= 1
            lower = before_lower
    last = len(key_ranges) if upper is None else _count_from(key_ranges, upper)
    if last > first:
        end = key_ranges[last - 1][1]
        upper = None if end is None or upper is None else max(end, upper)
    return (*key_ranges[:first], (lower, upper), *key_ranges[last:])


def without_keys(key_ranges: KeyRanges, gone: Sequence[str], kept: Sequence[str]) -> KeyRanges:
    """What is still known in full once the keys *gone* are forgotten and *kept* are not.

    Both are sorted. Pieces in which no key is left are given up: to know that nothing lies between
    two forgotten keys costs more room than it is worth.
    """
    return tuple(piece for key_range in key_ranges for piece in _pieces(key_range, gone, kept))


def _pieces(key_range: KeyRange, gone: Sequence[str], kept: Sequence[str]) -> Iterator[KeyRange]:
    lower, upper = key_range
    first = bisect_left(gone, lower)
    last = len(gone) if upper is None else bisect_left(gone, upper)
    if first == last:
        yield key_range
        return
    for key in gone[first:last]:
        if _holds_any(lower, key, kept):
            yield lower, key
        lower = key + "\0"
    if _holds_any(lower, upper, kept):
        yield lower, upper


def _holds_any(lower: str, upper: str | None, keys: Sequence[str]) -> bool:
    place = bisect_left(keys, lower)
    return place < len(keys) and is_below(keys[place], upper)


def _count_from(key_ranges: KeyRanges, key: str) -> int:
    """How many key ranges begin at or before *key*."""
    # Nothing lies between a key and the key with a zero behind it, and a tuple of one is below
    # every longer one with the same first member: so the upper bounds are never compared.
    return bisect_left(key_ranges, (key + "\0",))
