"""Spans: for which stretches of the key space the cache holds all that there is.

A span is `(lower, upper)`: every key with lower <= key < upper, `upper=None` for no end. The spans
of a cache are sorted, disjoint and never touch, in a tuple that is replaced and not changed. Keys
are valid Unicode, whose order by code point is the order of their UTF-8 bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

Span = tuple[str, str | None]
Spans = tuple[Span, ...]

NOTHING: Spans = ()
EVERYTHING: Spans = (("", None),)


def span_of(spans: Spans, key: str) -> Span | None:
    """The span that *key* lies in."""
    place = _count_from(spans, key)
    if place and is_below(key, spans[place - 1][1]):
        return spans[place - 1]
    return None


def span_below(spans: Spans, upper: str | None) -> Span | None:
    """The span that reaches up to *upper* from below, and maybe beyond."""
    if upper is None:
        return spans[-1] if spans and spans[-1][1] is None else None
    place = bisect_left(spans, (upper,))
    if place:
        end = spans[place - 1][1]
        if end is None or end >= upper:
            return spans[place - 1]
    return None


def is_below(key: str, upper: str | None) -> bool:
    return upper is None or key < upper


def lowest(one: str | None, other: str | None) -> str | None:
    """The lower of two upper bounds."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def with_span(spans: Spans, span: Span) -> Spans:
    """*spans* and *span*, joined where they meet."""
    lower, upper = span
    first = _count_from(spans, lower)
    if first:
        before_lower, before_upper = spans[first - 1]
        if before_upper is None or before_upper >= lower:
            first -= 1
            lower = before_lower
    last = len(spans) if upper is None else _count_from(spans, upper)
    if last > first:
        end = spans[last - 1][1]
        upper = None if end is None or upper is None else max(end, upper)
    return (*spans[:first], (lower, upper), *spans[last:])


def without_keys(spans: Spans, gone: Sequence[str], kept: Sequence[str]) -> Spans:
    """What is still known in full once the keys *gone* are forgotten and *kept* are not.

    Both are sorted. Pieces in which no key is left are given up: to know that nothing lies between
    two forgotten keys costs more room than it is worth.
    """
    return tuple(piece for span in spans for piece in _pieces(span, gone, kept))


def _pieces(span: Span, gone: Sequence[str], kept: Sequence[str]) -> Iterator[Span]:
    lower, upper = span
    first = bisect_left(gone, lower)
    last = len(gone) if upper is None else bisect_left(gone, upper)
    if first == last:
        yield span
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


def _count_from(spans: Spans, key: str) -> int:
    """How many spans begin at or before *key*."""
    # Nothing lies between a key and the key with a zero behind it, and a tuple of one is below
    # every longer one with the same first member: so the upper bounds are never compared.
    return bisect_left(spans, (key + "\0",))
