"""The balance of one process: which shards it is to take and which to give up, and when to look
again.

Each process decides for itself, by what it sees of the others: who is ready to have shards, who
lives, and who had which shard last. All see the same in the end, so all come to rest.

Rule: a shard that is on its way, to this process or from it, is decided about when it is there.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Final

from attrs import define, field, frozen

from .placement import place

# When to look again if nothing tells a process to: all is as it should be; another process is to
# give a shard up; the owner of a shard is dead, and its lock has yet to be dropped.
LOOKS_S: Final = 1.0
LOOKS_SOON_S: Final = 0.25
LOOKS_AT_ONCE_S: Final = 0.005
# With this many looks at once in a row, something else is wrong.
LOOKS_AT_ONCE_MAX: Final = 200


@frozen
class Plan:
    """What is to be begun."""

    give: Sequence[int]
    take: Sequence[int]


@define(eq=False)
class Balance:
    """What one process of a store is to do. Nothing here suspends."""

    me: str
    count: int
    # The shards that this process has, and those that it is giving up.
    open: Collection[int]
    leaving: Collection[int]
    is_on: bool = field(default=False, init=False)
    # Shards on their way to this process, or from it.
    taking: set[int] = field(factory=set, init=False)
    giving: set[int] = field(factory=set, init=False)
    # Those that this process should have, when it looked last.
    _mine: set[int] = field(factory=set, init=False)
    _looks_at_once: int = field(default=0, init=False)

    def plan(self, ready: Collection[str]) -> Plan:
        """What to begin while the processes *ready* are to have the shards."""
        placed = place(self.count, ready)
        self._mine = {shard for shard, process in enumerate(placed) if process == self.me}
        # While no process is to have shards, none is given up for the sake of balance.
        too_many = set(self.open) - self._mine - self.giving if placed else set()
        missing = self._mine - set(self.open) - set(self.leaving) - self.taking
        return Plan(sorted(too_many), sorted(missing))

    def leave(self, *, has_others: bool) -> Sequence[int] | None:
        """What to give up next by a process that ends; None when nothing is on its way any more.

        A shard that was on its way here is given up when it has come. Without others there is
        nobody to give them to: they are free when the process is gone.
        """
        give = sorted(set(self.open) - self.giving) if has_others else []
        return give if give or self.giving or self.taking else None

    def next_owner(self, shard: int, ready: Collection[str]) -> str | None:
        """The process that is to have a shard that is given up; None if there is no other."""
        placed = place(self.count, ready)
        return placed[shard] if placed and placed[shard] != self.me else None

    def look_pause_s(
        self, last_owners: Sequence[str | None], living: Collection[str], met: Container[str]
    ) -> float:
        """When to look again, after what was planned was tried. *met* are those that this process
        can speak with; one that lives and is not among them begins, or has just died."""
        missing = self._mine - set(self.open)
        if all(process in met for process in living):
            if not missing:
                return LOOKS_S
            if all(last_owners[shard] in living for shard in missing):
                return LOOKS_SOON_S
        self._looks_at_once += 1
        return LOOKS_AT_ONCE_S if self._looks_at_once < LOOKS_AT_ONCE_MAX else LOOKS_SOON_S

    def something_changed(self) -> None:
        """A process came or went, or a shard is free: there is something to look at again."""
        self._looks_at_once = 0

    def __repr__(self) -> str:
        return (
            f"<Balance of {self.me}, {len(self.open)} of {self.count} shards, "
            f"{len(self._mine)} to have, {len(self.taking)} on their way here, "
            f"{len(self.giving)} away>"
        )
