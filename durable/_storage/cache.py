"""The cache of one object: encoded values by key, and what is known about the rest.

An entry is bytes, or None for a key that is known to be absent. A key with no entry is absent too
if it lies in a known key_range, else nothing is known about it. Entries that are not yet durable
are dirty: they override what the disk says and are never given up.

Rule: what the cache says is the truth at this moment. It may forget, it may not be wrong.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, Literal

from attrs import define, field

from .cache_budget import CacheBudget
from .key_ranges import (
    EVERYTHING,
    NOTHING,
    KeyRange,
    KeyRanges,
    lowest,
    range_below,
    range_of,
    with_range,
    without_keys,
)

ENTRY_SIZE: Final = 120  # bytes that an entry or a key range takes beside its key and value
UNSEALED: Final = 1 << 62  # the seqno of a write that has none yet
_FEW = 8


class Unknown(Enum):
    """The cache cannot say: ask the disk."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
Known = bytes | None
Before = tuple[Known | Literal[Unknown.UNKNOWN], int | None]  # an entry and its dirty mark


@define(eq=False, slots=True, weakref_slot=False)
class Cache:
    """What one object has in memory of what it remembers. Nothing here suspends or reads."""

    budget: CacheBudget
    key_ranges: KeyRanges
    # The disk holds nothing of this object, and nothing is on its way there: whatever has no entry
    # is absent, and there is nothing to ask.
    is_complete: bool
    entries: dict[str, Known] = field(factory=dict, init=False)
    # Of each dirty key, the batch in which its last write is.
    dirty: dict[str, int] | None = field(default=None, init=False)
    # Rises when everything is forgotten, so that a read that began before teaches nothing.
    epoch: int = field(default=0, init=False)
    touched: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    _order: list[str] | None = field(default=None, init=False)  # the keys, sorted, once asked for
    _passing: set[str] | None = field(default=None, init=False)  # to be forgotten once durable

    # Asking

    def lookup(self, key: str) -> Known | Literal[Unknown.UNKNOWN]:
        # Not by an exception: those cost more than the rest of a miss.
        value = self.entries.get(key, UNKNOWN)
        if value is UNKNOWN and self.key_ranges and range_of(self.key_ranges, key) is not None:
            return None
        return value

    def select(
        self, key_range: KeyRange, *, reverse: bool, limit: int | None
    ) -> list[tuple[str, bytes]] | None:
        """What is stored in *key_range*, in order, cut at *limit*; None: not all of it is known."""
        lower, upper = key_range
        known = range_below(self.key_ranges, upper) if reverse else range_of(self.key_ranges, lower)
        if known is None:
            return None
        if reverse:
            lower = max(lower, known[0])
        else:
            upper = lowest(upper, known[1])
        is_all = (lower, upper) == key_range
        if limit is None and not is_all:
            return None
        found: list[tuple[str, bytes]] = []
        for key in self._keys(lower, upper, reverse=reverse):
            value = self.entries[key]
            if value is not None:
                found.append((key, value))
                if len(found) == limit:
                    return found
        return found if is_all else None

    def dirty_in(self, key_range: KeyRange) -> dict[str, Known]:
        """What must override the disk's answer for *key_range*."""
        if self.dirty is None:
            return {}
        lower, upper = key_range
        entries = self.entries
        if upper is None:
            return {key: entries[key] for key in self.dirty if lower <= key}
        return {key: entries[key] for key in self.dirty if lower <= key < upper}

    # Writing

    def before(self, key: str) -> Before:
        """What `restore` needs to undo a write."""
        mark = None if self.dirty is None else self.dirty.get(key)
        return self.lookup(key), mark

    def write(self, key: str, value: Known, *, no_cache: bool) -> None:
        """The object wrote; with *no_cache* the entry goes once it is durable."""
        dirty = self.dirty
        if dirty is None:
            dirty = self.dirty = {}
        dirty[key] = UNSEALED
        if no_cache:
            if self._passing is None:
                self._passing = set()
            self._passing.add(key)
        elif self._passing is not None:
            self._passing.discard(key)
        entries = self.entries
        before = entries.get(key)
        if before is None or value is None:
            self._set(key, value)
            return
        # The common case, without a detour: one value takes the place of another.
        entries[key] = value
        if size := len(value) - len(before):
            self._charge(size)

    def restore(self, key: str, before: Before, durable: int) -> None:
        """Undo writes of *key*, back to *before*; batches up to *durable* are durable by now."""
        value, mark = before
        assert self.dirty is not None
        if mark is not None and mark > durable:
            self.dirty[key] = mark
        else:
            del self.dirty[key]
            if not self.dirty:
                self.dirty = None
        if value is UNKNOWN:
            # A key range may have been learned meanwhile that holds only because the key had an
            # entry.
            self.forget([key])
        else:
            self._set(key, value)

    def sealed(self, puts: Mapping[str, Known], seqno: int) -> int:
        """The writes *puts* are batch *seqno* now. Returns how many bytes they have, about."""
        dirty = self.dirty
        size = 0
        for key, value in puts.items():
            size += len(key) if value is None else len(key) + len(value)
            if dirty is not None:
                dirty[key] = seqno
        return size

    def durable(self, keys: Iterable[str], seqno: int) -> None:
        """Batch *seqno* is on disk: those of its *keys* not written again since are clean."""
        dirty, no_cache = self.dirty, self._passing
        if dirty is None:
            return
        needless: list[str] | None = None
        for key in keys:
            if dirty.get(key) == seqno:
                del dirty[key]
                if no_cache is not None and key in no_cache:
                    no_cache.discard(key)
                    self.forget([key])
                elif self.entries[key] is None and range_of(self.key_ranges, key) is not None:
                    needless = needless or []
                    needless.append(key)
        if needless is not None:
            self._remove(needless)
        if not dirty:
            self.dirty = None
        budget = self.budget
        if budget.size > budget.size_max:  # looked at here: each batch passes
            budget.settle(self)

    def clear(self) -> None:
        """Everything is deleted: nothing is stored, and that is known."""
        self._drop()
        self._set_ranges(EVERYTHING)
        self.is_complete = True

    def forget_all(self) -> None:
        """Nothing is known any more: the disk has something else now. Not while any is dirty."""
        assert not self.dirty
        self._drop()
        self.is_complete = False

    # Learning from the disk

    def learn_one(self, key: str, value: Known) -> None:
        """Take in what the disk says this moment about *key*, of which nothing was known."""
        self.entries[key] = value
        if self._order is not None:
            insort(self._order, key)
        self._charge(_size(key, value))

    def learn(self, epoch: int, values: Iterable[tuple[str, Known]]) -> None:
        """Take in what a read found that began in *epoch*; what was written since stays."""
        if epoch != self.epoch:
            return
        self._add((key, value) for key, value in values if key not in self.entries)

    def learn_range(
        self,
        epoch: int,
        key_range: KeyRange,
        found: list[tuple[str, bytes]],
        overridden: Mapping[str, Known],
    ) -> None:
        """Take in that *found* is all the disk had in *key_range*; *overridden* keys were dirty
        then."""
        if epoch != self.epoch:
            return
        new = [
            (key, value)
            for key, value in found
            if key not in self.entries and key not in overridden
        ]
        # A dirty key that has been undone, or was clean and given up, meanwhile: nothing is known
        # about it, so the key range cannot be either. The key range comes before the entries: those
        # may be too much for the budget and be given up at once, which cuts them out of the
        # key range.
        if all(self.lookup(key) is not UNKNOWN for key in overridden):
            self._set_ranges(with_range(self.key_ranges, key_range))
        self._add(new)

    # Forgetting

    def forget(self, keys: list[str]) -> None:
        """Know nothing about *keys* any more."""
        self._remove(keys)
        if self.key_ranges and not self.is_complete:
            self._set_ranges(without_keys(self.key_ranges, sorted(keys), self._sorted()))

    def evict(self, size: int) -> None:
        """Give up *size* bytes of clean entries, oldest first; all of them if there is less."""
        dirty: Mapping[str, int] = self.dirty or {}
        gone: list[str] = []
        freed = 0
        for key, value in self.entries.items():
            if freed >= size:
                break
            if key not in dirty:
                gone.append(key)
                freed += _size(key, value)
        if gone:
            self.forget(gone)
        if freed < size and not self.is_complete:
            self._set_ranges(NOTHING)

    def discard(self) -> None:
        """The object leaves memory."""
        self._drop()
        self.is_complete = False
        self.budget.leave(self)

    def _drop(self) -> None:
        """Know nothing, not of any key range either."""
        self.epoch += 1
        self.entries.clear()
        self.dirty = self._order = self._passing = None
        self.key_ranges = NOTHING
        self._charge(-self.size)

    # The entries, their order and their size

    def _set(self, key: str, value: Known) -> None:
        entries = self.entries
        before = entries.get(key, UNKNOWN)
        entries[key] = value
        size = len(value) if value is not None else 0
        if before is UNKNOWN:
            size += ENTRY_SIZE + len(key)
            if self._order is not None:
                insort(self._order, key)
        elif before is not None:
            size -= len(before)
        self._charge(size)

    def _add(self, values: Iterable[tuple[str, Known]]) -> None:
        entries = self.entries
        added = [(key, value) for key, value in values]
        entries.update(added)
        if self._order is not None:
            self._order += [key for key, _ in added]
            self._order.sort()  # two sorted runs: a merge
        self._charge(sum([_size(key, value) for key, value in added]))

    def _remove(self, keys: list[str]) -> None:
        size = 0
        order = self._order
        if order is not None and len(keys) > _FEW:
            order = self._order = None
        for key in keys:
            size += _size(key, self.entries.pop(key))
            if order is not None:
                del order[bisect_left(order, key)]
        self._charge(-size)

    def _sorted(self) -> list[str]:
        if self._order is None:
            self._order = sorted(self.entries)
        return self._order

    def _keys(self, lower: str, upper: str | None, *, reverse: bool) -> Iterator[str]:
        order = self._sorted()
        first = bisect_left(order, lower)
        last = len(order) if upper is None else bisect_left(order, upper)
        places = range(last - 1, first - 1, -1) if reverse else range(first, last)
        return map(order.__getitem__, places)

    def _set_ranges(self, key_ranges: KeyRanges) -> None:
        # The first one is free: most caches have none or one, and are worth no account.
        size = max(len(key_ranges) - 1, 0) - max(len(self.key_ranges) - 1, 0)
        self.key_ranges = key_ranges
        self._charge(size * ENTRY_SIZE)

    def _charge(self, size: int) -> None:
        if not self.size and size > 0:
            self.budget.join(self)
        self.size += size
        if size:
            self.budget.charge(size)

    def __repr__(self) -> str:
        dirty = len(self.dirty) if self.dirty else 0
        return (
            f"<Cache {len(self.entries)} entries, {dirty} dirty, {len(self.key_ranges)} key_ranges>"
        )


def _size(key: str, value: Known) -> int:
    return ENTRY_SIZE + len(key) + (len(value) if value is not None else 0)
