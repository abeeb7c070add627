"""Placement: which process should own which shard. Pure functions of values.

Every process that sees the same processes computes the same placement, without asking another.

Each pair of a shard and a process has a score. The pair with the highest score is matched, then the
next one whose shard is free and whose process has room: rendezvous hashing with bounded loads. So
the loads differ by one at most, and when a process comes or goes hardly a shard moves that need
not.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import shake_128

Placement = tuple[str, ...]
"""The process of each shard; empty while there is no process."""


def place(shards: int, processes: Collection[str]) -> Placement:
    """The process that each shard should have."""
    return _place(shards, frozenset(processes))


# Needed at each look, and the same until a process comes or goes; with a thousand processes it
# takes a tenth of a second.
@lru_cache(maxsize=16)
def _place(shards: int, processes: frozenset[str]) -> Placement:
    if not processes:
        return ()
    names = sorted(processes)
    rows = list(zip(*[_scores(name, shards) for name in names], strict=True))
    room = _Room(shards, len(names))
    placed = [""] * shards
    # The best process that still has room for each shard; sought again when that one is full.
    best = [(-score, shard, rows[shard].index(score)) for shard, score in enumerate(map(max, rows))]
    heapq.heapify(best)
    while best:
        _, shard, process = heapq.heappop(best)
        if room.take(process):
            placed[shard] = names[process]
        else:
            row = rows[shard]
            process = max(room.has_room, key=row.__getitem__)
            heapq.heappush(best, (-row[process], shard, process))
    return tuple(placed)


def moved(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """The shards whose process differs between the two."""
    return [n for n, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]


class _Room:
    """How many shards each process takes: all the same number, and some of them one more."""

    def __init__(self, shards: int, processes: int) -> None:
        self._share, self._extra = divmod(shards, processes)
        self._loads = [0] * processes
        # The processes that still have room, in order.
        self.has_room = list(range(processes))

    def take(self, process: int) -> bool:
        """Whether *process* takes one more."""
        load = self._loads[process]
        if load > self._share or (load == self._share and not self._extra):
            return False
        self._loads[process] = load + 1
        if load == self._share:
            self._extra -= 1
            self.has_room.remove(process)
            if not self._extra:
                self.has_room = [each for each in self.has_room if self._loads[each] < self._share]
        elif load + 1 == self._share and not self._extra:
            self.has_room.remove(process)
        return True


def _scores(process: str, shards: int) -> array[int]:
    """The scores of a process with all shards: numbers of 64 bits that look random."""
    scores = array("Q", shake_128(process.encode()).digest(8 * shards))
    if sys.byteorder == "big":
        scores.byteswap()
    return scores
