"""Reads what is in memory and, where there is nothing, the engine below it.

None above hides what the engine below has.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from attrs import define, field

from .batch import ObjectRecord
from .engine import OwnReader, Reader

Records = Mapping[str, bytes | None]
"""The encoded values of one keyspace by key."""

Sides = Mapping[bytes, bytes | None]
"""The side records of one keyspace."""

# How many keys of the engine below are read at a time to be merged with those above.
KEYS_PER_STEP: Final = 500

NOTHING: Final[Records] = {}
NO_SIDES: Final[Sides] = {}


class RecordsOf(Protocol):
    """The records of each keyspace that has any above."""

    def get(self, keyspace: int, default: Records, /) -> Records: ...


class SidesOf(Protocol):
    """The side records of each keyspace that has any above."""

    def get(self, keyspace: int, default: Sides, /) -> Sides: ...


class Above(Protocol):
    """What lies above, at one moment."""

    @property
    def records(self) -> RecordsOf: ...
    @property
    def sides(self) -> SidesOf: ...


A = TypeVar("A", bound=Above)


@define(eq=False)
class OverlayReader(Generic[A]):
    """An `OwnReader`. What it sees is of one moment, until it is released."""

    _latest: Callable[[], A]  # raises RuntimeClosed once the engine is closed
    _below: Reader | None
    _own_below: OwnReader | None = None  # to be released and closed with this one
    _seen: A | None = field(default=None, init=False)

    @property
    def seen(self) -> A:
        latest = self._latest()
        if self._seen is None:
            self._seen = latest
        return self._seen

    def release(self) -> None:
        self._seen = None
        if self._own_below is not None:
            self._own_below.release()

    def close(self) -> None:
        self._seen = None
        if self._own_below is not None:
            self._own_below.close()

    def get(self, keyspace: int, key: str) -> bytes | None:
        above = self.seen.records.get(keyspace, NOTHING)
        if key in above or self._below is None:
            return above.get(key)
        return self._below.get(keyspace, key)

    def get_many(self, keyspace: int, keys: Iterable[str]) -> dict[str, bytes]:
        above = self.seen.records.get(keyspace, NOTHING)
        wanted = list(keys)
        found = {key: value for key in wanted if (value := above.get(key)) is not None}
        if self._below is not None:
            found |= self._below.get_many(keyspace, [key for key in wanted if key not in above])
        return found

    def count_present(self, keyspace: int, keys: Iterable[str]) -> int:
        above = self.seen.records.get(keyspace, NOTHING)
        wanted = list(keys)
        count = sum([above.get(key) is not None for key in wanted])
        if self._below is not None:
            rest = [key for key in wanted if key not in above]
            count += self._below.count_present(keyspace, rest)
        return count

    def scan_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        if self._below is not None and not self.seen.records.get(keyspace, NOTHING):
            return self._below.scan_some(
                keyspace, lower, upper, reverse=reverse, count_max=count_max, size_max=size_max
            )
        found: list[tuple[str, bytes]] = []
        room = size_max
        for key, value in self._pairs(keyspace, lower, upper, reverse):
            if len(found) == count_max or (room is not None and room <= 0):
                return found, False
            found.append((key, value))
            if room is not None:
                room -= len(value)
        return found, True

    def keys_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> tuple[list[str], bool]:
        above = self.seen.records.get(keyspace, NOTHING)
        keys = self._keys(above, keyspace, lower, upper, reverse)
        found = list(islice(keys, count_max))
        return found, len(found) < count_max or next(keys, None) is None

    def count_some(
        self,
        keyspace: int,
        lower: str,
        upper: str | None,
        without: Container[bytes],
        count_max: int,
    ) -> tuple[int, str | None]:
        above = self.seen.records.get(keyspace, NOTHING)
        if self._below is None:
            keys = list(islice(_between(above, lower, upper), count_max))
            after = keys[-1] + "\0" if len(keys) == count_max else None
            return sum([key.encode() not in without for key in keys]), after
        # Counts the keys below without reading their values; those above are in memory anyway.
        count, after = self._below.count_some(
            keyspace, lower, upper, Hidden(without, above), count_max
        )
        mine = _between(above, lower, upper if after is None else after)
        count += sum([above[key] is not None and key.encode() not in without for key in mine])
        return count, after

    def get_side(self, keyspace: int, key: bytes) -> bytes | None:
        above = self.seen.sides.get(keyspace, NO_SIDES)
        if key in above or self._below is None:
            return above.get(key)
        return self._below.get_side(keyspace, key)

    def scan_sides(
        self,
        keyspace: int,
        lower: bytes,
        upper: bytes,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> list[tuple[bytes, bytes]]:
        above = self.seen.sides.get(keyspace, NO_SIDES)
        mine = {key: above[key] for key in above if lower <= key < upper}
        merged: dict[bytes, bytes | None] = {}
        if self._below is not None:
            # As many more as may be hidden by what lies above.
            merged |= self._below.scan_sides(
                keyspace, lower, upper, reverse=reverse, count_max=count_max + len(mine)
            )
        merged |= mine
        found = [(k, v) for k in sorted(merged, reverse=reverse) if (v := merged[k]) is not None]
        return found[:count_max]

    def _pairs(
        self, keyspace: int, lower: str, upper: str | None, reverse: bool
    ) -> Iterator[tuple[str, bytes]]:
        """The keys of both in order, and their values. A value below that is hidden is not looked
        at, damaged or not."""
        above = self.seen.records.get(keyspace, NOTHING)
        for key in self._keys(above, keyspace, lower, upper, reverse):
            value = above.get(key)
            if value is None:
                assert self._below is not None
                value = self._below.get(keyspace, key)
            if value is not None:
                yield key, value

    def _keys(
        self, above: Records, keyspace: int, lower: str, upper: str | None, reverse: bool
    ) -> Iterator[str]:
        """The keys of both in order."""
        mine = (key for key in _between(above, lower, upper, reverse) if above[key] is not None)
        below = self._keys_below(keyspace, lower, upper, reverse)
        theirs = (key for key in below if key not in above)
        return merge(mine, theirs, reverse=reverse)

    def _keys_below(
        self, keyspace: int, lower: str, upper: str | None, reverse: bool
    ) -> Iterator[str]:
        is_last = self._below is None
        while not is_last:
            assert self._below is not None
            keys, is_last = self._below.keys_some(
                keyspace, lower, upper, reverse=reverse, count_max=KEYS_PER_STEP
            )
            yield from keys
            if keys and reverse:
                upper = keys[-1]
            elif keys:
                lower = keys[-1] + "\0"


@define(eq=False)
class Hidden:
    """The encoded keys that are left out, and those that are hidden by the records above."""

    without: Container[bytes]
    above: Records

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        return key in self.without or key.decode() in self.above


def _between(
    records: Records, lower: str, upper: str | None, reverse: bool = False
) -> Iterator[str]:
    # The order of code points is that of UTF-8.
    chosen = [key for key in records if lower <= key and (upper is None or key < upper)]
    return iter(sorted(chosen, reverse=reverse))


def objects_of_both(
    above: Mapping[bytes, ObjectRecord | None],
    below: Callable[[bytes | None, int], list[tuple[bytes, ObjectRecord]]],
    after: bytes | None,
    count_max: int,
) -> list[tuple[bytes, ObjectRecord]]:
    """Up to *count_max* objects of a class behind the base *after*: those *above*, of which None
    hides one, and those that `below(after, count_max)` finds."""
    found: list[tuple[bytes, ObjectRecord]] = []
    while True:
        some = below(after, count_max)
        is_last = len(some) < count_max
        until = None if is_last else some[-1][0]
        merged: dict[bytes, ObjectRecord | None] = dict(some)
        merged |= {
            base: record
            for base, record in above.items()
            if (after is None or base > after) and (until is None or base <= until)
        }
        found += [(b, r) for b in sorted(merged) if (r := merged[b]) is not None]
        if is_last or len(found) >= count_max:
            return found[:count_max]
        after = until
