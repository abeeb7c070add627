"""Reads contents in memory and, where these have nothing, the engine below them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final

from attrs import define, field

from durable._engine.engine import OwnReader, Reader

from .contents import Contents, Records, Sides

# How many keys of the engine below are read at a time to be merged with those above.
KEYS_PER_STEP: Final = 500

NOTHING: Final[Records] = {}
THERE: Final = b""  # in place of a value below, which is not read
NO_SIDES: Final[Sides] = {}


@define(eq=False)
class MemoryReader:
    """An `OwnReader`. It sees one moment, until it is released."""

    _latest: Callable[[], Contents]  # raises RuntimeClosed once the engine is closed
    _below: Reader | None
    _own_below: OwnReader | None = None  # to be released and closed with this one
    _seen: Contents | None = field(default=None, init=False)

    @property
    def seen(self) -> Contents:
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
        mine = _between(above, lower, upper, reverse)
        theirs = (
            key for key in self._keys_below(keyspace, lower, upper, reverse) if key not in above
        )
        merged = merge(mine, theirs, reverse=reverse)
        keys = (key for key in merged if above.get(key, THERE) is not None)
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

    def get_sides(self, keyspace: int, keys: Sequence[bytes]) -> list[bytes | None]:
        above = self.seen.sides.get(keyspace, NO_SIDES)
        if self._below is None:
            return [above.get(key) for key in keys]
        rest = [key for key in keys if key not in above]
        below = dict(zip(rest, self._below.get_sides(keyspace, rest), strict=True))
        return [below[key] if key in below else above[key] for key in keys]

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
        mine = {key: value for key, value in above.items() if lower <= key < upper}
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
        """The keys of both in order; those above hide those below."""
        above = self.seen.records.get(keyspace, NOTHING)
        mine = ((key, above[key]) for key in _between(above, lower, upper, reverse))
        below = self._pairs_below(keyspace, lower, upper, reverse)
        theirs = (pair for pair in below if pair[0] not in above)
        for key, value in merge(mine, theirs, key=itemgetter(0), reverse=reverse):
            if value is not None:
                yield key, value

    def _pairs_below(
        self, keyspace: int, lower: str, upper: str | None, reverse: bool
    ) -> Iterator[tuple[str, bytes]]:
        is_last = self._below is None
        while not is_last:
            assert self._below is not None
            pairs, is_last = self._below.scan_some(
                keyspace, lower, upper, reverse=reverse, count_max=KEYS_PER_STEP
            )
            yield from pairs
            if pairs and reverse:
                upper = pairs[-1][0]
            elif pairs:
                lower = pairs[-1][0] + "\0"

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
