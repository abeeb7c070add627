"""Placement: which process should own which shard. Pure functions of values.

Every process that sees the same processes computes the same placement, without asking another.

Each pair of a shard and a process has a score. The pair with the highest score is matched, then the
next one whose shard is free and whose process has room: rendezvous hashing with bounded loads. So
the loads differ by one at most, and when a process comes or goes hardly a shard moves that need
not.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import blake2b

Placement = tuple[str, ...]
"""The process of each shard; empty while there is no process."""

_MASK = (1 << 64) - 1


def place(shards: int, processes: Collection[str]) -> Placement:
    """The process that each shard should have."""
    return _place(shards, frozenset(processes))


# Needed at each look, and the same until a process comes or goes; with a thousand processes it
# takes a second.
@lru_cache(maxsize=16)
def _place(shards: int, processes: frozenset[str]) -> Placement:
    if not processes:
        return ()
    seeds = sorted((_seed(process), process) for process in processes)
    room = _Room(shards, len(seeds))
    loads = dict.fromkeys(processes, 0)
    placed: list[str] = [""] * shards
    # The best process that still has room for each shard; sought again when that one is full.
    best = [_best(shard, seeds) for shard in range(shards)]
    heapq.heapify(best)
    while best:
        _, shard, process = heapq.heappop(best)
        if room.take(loads[process]):
            loads[process] += 1
            placed[shard] = process
            continue
        seeds = [pair for pair in seeds if room.is_left(loads[pair[1]])]
        heapq.heappush(best, _best(shard, seeds))
    return tuple(placed)


def moved(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """The shards whose process differs between the two."""
    return [n for n, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]


class _Room:
    """How many shards each process takes: all the same number, and some of them one more."""

    def __init__(self, shards: int, processes: int) -> None:
        self._share, self._extra = divmod(shards, processes)

    def is_left(self, load: int) -> bool:
        return load < self._share or (load == self._share and self._extra > 0)

    def take(self, load: int) -> bool:
        """Whether a process with *load* shards takes one more."""
        if not self.is_left(load):
            return False
        self._extra -= load == self._share
        return True


def _best(shard: int, seeds: list[tuple[int, str]]) -> tuple[int, int, str]:
    """The process of the highest score, which sorts first."""
    salt = (shard + 1) * 0x9E3779B97F4A7C15 & _MASK
    score, process = max((_mixed(seed ^ salt), process) for seed, process in seeds)
    return -score, shard, process


def _seed(process: str) -> int:
    return int.from_bytes(blake2b(process.encode(), digest_size=8).digest(), "big")


def _mixed(number: int) -> int:
    """A number of which each bit depends on each bit of *number*: the finalizer of MurmurHash3."""
    number = (number ^ (number >> 33)) * 0xFF51AFD7ED558CCD & _MASK
    number = (number ^ (number >> 33)) * 0xC4CEB9FE1A85EC53 & _MASK
    return number ^ (number >> 33)
