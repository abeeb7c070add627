"""Lists and counts, read in parts: however much there is, the event loop goes on meanwhile.

Rule: what they say is as it was at the call. What was written before and the disk may not have yet
is kept here and overrides it; what is written later leaves only when the reading has ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from attrs import define, field

from .cache import Cache, Known
from .key_ranges import KeyRange

if TYPE_CHECKING:
    from durable._engine.engine import Reader

R_co = TypeVar("R_co", covariant=True)

# A part ends with so many keys, or with so many bytes of values.
KEYS_PER_PART: Final = 1_000
PART_SIZE_MAX: Final = 1 << 20
KEYS_PER_COUNT: Final = 10_000
# A longer list teaches the cache nothing: to take it in would hold up the loop, and to keep it
# would cost all other objects their part of the cache.
KEYS_LEARNED_MAX: Final = 20_000

Pairs = list[tuple[str, bytes]]


class Parts(Protocol[R_co]):
    """A result that is read and put together part by part."""

    @property
    def result(self) -> R_co:
        """What there is so far."""

    def read(self, reader: Reader, /) -> Any:
        """Ask the disk for the next part; on any thread."""

    def take(self, part: Any, /) -> bool:
        """Take it in. Returns whether it was the last one."""


class Overriding:
    """What was written and the disk may not have yet, as it was at the call."""

    __slots__ = ("_dirty", "_keys", "deleted")

    def __init__(self, dirty: dict[str, Known]) -> None:
        self._dirty = dirty
        self._keys = sorted(dirty)
        # So many of what the disk has are not there, at most.
        self.deleted: int = sum([value is None for value in dirty.values()])

    def within(self, key_range: KeyRange) -> dict[str, Known]:
        keys = self._keys
        if not keys:
            return {}
        lower, upper = key_range
        first = bisect_left(keys, lower)
        last = len(keys) if upper is None else bisect_left(keys, upper)
        return {key: self._dirty[key] for key in keys[first:last]}


@define(eq=False)
class StoredList:
    """A list of what the disk has, under what was written and may not be there yet."""

    _cache: Cache
    _decode: Callable[[bytes], Any]
    _keyspace: int
    _span: KeyRange
    _reverse: bool
    _limit: int | None
    _learns: bool
    result: dict[str, Any] = field(factory=dict, init=False)
    _left: KeyRange = field(init=False)
    _dirty: Overriding = field(init=False)
    _epoch: int = field(init=False)
    _stored: Pairs = field(factory=list, init=False)  # all of it, to be learned at the end

    def __attrs_post_init__(self) -> None:
        self._left = self._span
        self._epoch = self._cache.epoch
        self._dirty = Overriding(self._cache.dirty_in(self._span))

    def read(self, reader: Reader) -> tuple[Pairs, bool]:
        count_max = KEYS_PER_PART
        if self._limit is not None:
            count_max = min(count_max, self._limit - len(self.result) + self._dirty.deleted)
        return reader.scan_some(
            self._keyspace, *self._left,
            reverse=self._reverse, count_max=count_max, size_max=PART_SIZE_MAX,
        )  # fmt: skip

    def take(self, part: tuple[Pairs, bool]) -> bool:
        stored, is_last = part
        seen = self._left
        if not is_last:
            seen, self._left = divide(self._left, stored[-1][0], self._reverse)
        overriding = self._dirty.within(seen)
        self._note(stored)
        merged = merge(stored, overriding, self._reverse) if overriding else stored
        if self._limit is not None:
            merged = merged[: self._limit - len(self.result)]
        decode = self._decode
        self.result.update([(key, decode(value)) for key, value in merged])
        is_done = is_last or len(self.result) == self._limit
        if is_done and self._learns:
            whole = (seen[0], self._span[1]) if self._reverse else (self._span[0], seen[1])
            self._cache.learn_range(self._epoch, whole, self._stored, self._dirty.within(whole))
        return is_done

    def _note(self, stored: Pairs) -> None:
        if not self._learns:
            return
        self._stored += stored
        if len(self._stored) > KEYS_LEARNED_MAX:
            self._learns = False
            self._stored = []


@define(eq=False)
class StoredKeys:
    """The keys of such a list alone. No value is read, so the cache learns nothing."""

    _cache: Cache
    _keyspace: int
    _left: KeyRange
    _reverse: bool
    _limit: int | None
    result: list[str] = field(factory=list, init=False)
    _dirty: Overriding = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._dirty = Overriding(self._cache.dirty_in(self._left))

    def read(self, reader: Reader) -> tuple[list[str], bool]:
        count_max = KEYS_PER_COUNT
        if self._limit is not None:
            count_max = min(count_max, self._limit - len(self.result) + self._dirty.deleted)
        return reader.keys_some(
            self._keyspace, *self._left, reverse=self._reverse, count_max=count_max
        )

    def take(self, part: tuple[list[str], bool]) -> bool:
        stored, is_last = part
        seen = self._left
        if not is_last:
            seen, self._left = divide(self._left, stored[-1], self._reverse)
        overriding = self._dirty.within(seen)
        if overriding:
            kept = {key for key, value in overriding.items() if value is not None}
            kept.update([key for key in stored if key not in overriding])
            stored = sorted(kept, reverse=self._reverse)
        self.result += stored
        if self._limit is not None:
            del self.result[self._limit :]
        return is_last or len(self.result) == self._limit


@define(eq=False)
class KnownList:
    """A list of what the cache has: nothing is read, but to decode it takes its time."""

    _pairs: Pairs
    _decode: Callable[[bytes], Any]
    result: dict[str, Any] = field(factory=dict, init=False)
    _taken: int = field(default=0, init=False)

    def read(self, reader: Reader) -> None:
        """Nothing."""

    def take(self, part: None) -> bool:
        decode = self._decode
        first, size = self._taken, 0
        while self._taken < len(self._pairs):
            key, value = self._pairs[self._taken]
            self.result[key] = decode(value)
            self._taken += 1
            size += len(value)
            if self._taken - first == KEYS_PER_PART or size >= PART_SIZE_MAX:
                break
        return self._taken == len(self._pairs)


@define(eq=False)
class Count:
    """How many keys there are in a key range."""

    _cache: Cache
    _keyspace: int
    _span: KeyRange
    result: int = field(init=False)
    _lower: str = field(init=False)
    # These are counted already: as what they are and not as what the disk has of them.
    _without: frozenset[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        dirty = self._cache.dirty_in(self._span)
        self._lower = self._span[0]
        self._without = frozenset(map(str.encode, dirty))
        self.result = sum([value is not None for value in dirty.values()])

    def read(self, reader: Reader) -> tuple[int, str | None]:
        return reader.count_some(
            self._keyspace, self._lower, self._span[1], self._without, KEYS_PER_COUNT
        )

    def take(self, part: tuple[int, str | None]) -> bool:
        count, following = part
        self.result += count
        if following is None:
            return True
        self._lower = following
        return False


def divide(left: KeyRange, last: str, reverse: bool) -> tuple[KeyRange, KeyRange]:
    """Of the keys that were left: those up to *last*, which were read, and the others."""
    lower, upper = left
    if reverse:
        return (last, upper), (lower, last)
    return (lower, last + "\0"), (last + "\0", upper)


def merge(stored: Pairs, overriding: Mapping[str, Known], reverse: bool) -> Pairs:
    merged: dict[str, Known] = {**dict(stored), **overriding}
    return [
        (key, value)
        for key in sorted(merged, reverse=reverse)
        if (value := merged[key]) is not None
    ]
