"""The balance of one process: which shards to take, which to give up, and when to look again.

Each process decides for itself, by what it sees of the others: which are ready to own shards, which
are alive, and the last owner of each shard. All see the same in the end, so all come to rest.

Rule: a shard on its way to or from this process is decided about once it has arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Final

from attrs import define, field, frozen

from .placement import place

# The pause between looks that nothing else causes: when all is as it should be; while another
# process has a shard to give up; while the owner of a shard is dead and its lock is still held.
LOOKS_S: Final = 1.0
LOOKS_SOON_S: Final = 0.25
LOOKS_AT_ONCE_S: Final = 0.005
# With this many looks at once in a row, something else is wrong.
LOOKS_AT_ONCE_MAX: Final = 200


@frozen
class Plan:
    """What to begin."""

    give: Sequence[int]
    take: Sequence[int]


@define(eq=False)
class Balance:
    """The decisions of one process of a store. Nothing here suspends."""

    me: str
    count: int
    # The shards that this process owns, and those that it is giving up.
    open: Collection[int]
    leaving: Collection[int]
    is_on: bool = field(default=False, init=False)
    # Shards on their way to this process, or from it.
    taking: set[int] = field(factory=set, init=False)
    giving: set[int] = field(factory=set, init=False)
    # The shards that this process should own, as of the last look.
    _mine: set[int] = field(factory=set, init=False)
    _looks_at_once: int = field(default=0, init=False)

    def plan(self, ready: Collection[str]) -> Plan:
        """What to begin, when the processes *ready* are to own the shards."""
        placed = place(self.count, ready)
        self._mine = {shard for shard, process in enumerate(placed) if process == self.me}
        # While no process is ready, no shard is given up for the sake of balance.
        too_many = set(self.open) - self._mine - self.giving if placed else set()
        missing = self._mine - set(self.open) - set(self.leaving) - self.taking
        return Plan(sorted(too_many), sorted(missing))

    def strays(self, last_owners: Sequence[str | None]) -> list[int]:
        """The shards that the store counts as this process's, and that it neither has nor is to
        have: those of a claim whose answer was lost, or whose release was."""
        expected = {*self._mine, *self.open, *self.leaving, *self.taking, *self.giving}
        return [
            shard
            for shard, owner in enumerate(last_owners)
            if owner == self.me and shard not in expected
        ]

    def leave(self, *, has_others: bool) -> Sequence[int] | None:
        """What a closing process gives up next; None when nothing is on its way any more.

        A shard that was on its way here is given up once it has arrived. Without other processes
        none is given up: the shards are free when this process is gone.
        """
        give = sorted(set(self.open) - self.giving) if has_others else []
        return give if give or self.giving or self.taking else None

    def next_owner(self, shard: int, ready: Collection[str]) -> str | None:
        """The new owner of a shard that is given up; None if there is no other process."""
        placed = place(self.count, ready)
        return placed[shard] if placed and placed[shard] != self.me else None

    def look_pause_s(
        self, last_owners: Sequence[str | None], living: Collection[str], met: Container[str]
    ) -> float:
        """The pause until the next look, after the plan was tried. *met* are the processes that
        this one is connected to; a living one that is missing there is starting, or has just died.
        """
        missing = self._mine - set(self.open)
        if all(process in met for process in living):
            if not missing:
                return LOOKS_S
            if all(last_owners[shard] in living for shard in missing):
                return LOOKS_SOON_S
        self._looks_at_once += 1
        return LOOKS_AT_ONCE_S if self._looks_at_once < LOOKS_AT_ONCE_MAX else LOOKS_SOON_S

    def something_changed(self) -> None:
        """A process came or went, or a shard became free: look again."""
        self._looks_at_once = 0

    def __repr__(self) -> str:
        return (
            f"<Balance of {self.me}, {len(self.open)} of {self.count} shards, "
            f"{len(self._mine)} to have, {len(self.taking)} on their way here, "
            f"{len(self.giving)} away>"
        )
