"""A lease: until when a process may believe that it owns its shards. Decisions, as values.

Two clocks measure it. The database's decides when others may take over; the owner's decides when
the owner stops, and stops first: it counts from before a renewal was requested, since the answer
may have taken any time, and it allows for clocks that differ.

Rule: a lease that is over is over for ever. Its process joins again, under another number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from attrs import define, field, frozen

# By how much one clock may be slower than another one, and by which part of a lease the clock of a
# standby that takes over may be ahead of its predecessor's.
DRIFT_MAX: Final = 0.1
SKEW_MAX: Final = 0.05
BELIEVED: Final = 1 - DRIFT_MAX - SKEW_MAX
# How often it is renewed while it lasts.
RENEWALS: Final = 3


@define(eq=False)
class Lease:
    """One process's belief in its own lease. Any thread may read it."""

    lease_s: float
    # Seconds that pass at the same pace whatever happens, while the machine sleeps too.
    now: Callable[[], float]
    valid_until: float = field(default=-math.inf, init=False)
    is_over: bool = field(default=False, init=False)

    def is_valid(self) -> bool:
        """Whether this process may still act as the owner of its shards."""
        return self.now() < self.valid_until

    def asking(self) -> float:
        """Called before a renewal is requested; returns the time to give to `granted`."""
        return self.now()

    def granted(self, asked: float) -> None:
        """The database has renewed it, some time after *asked*."""
        if not self.is_over:
            self.valid_until = max(self.valid_until, asked + self.lease_s * BELIEVED)

    def end(self) -> None:
        """The database has refused a renewal, or has not answered in time: nothing is owned."""
        self.is_over = True
        self.valid_until = -math.inf

    @property
    def renew_every_s(self) -> float:
        return self.lease_s / RENEWALS


@frozen
class Seen:
    """What the database says of a process."""

    number: int
    # How long its lease had left when that was read; below zero: it is over. Minus infinity: it was
    # declared dead.
    left_s: float


def dead_owners(owners: Iterable[int | None], processes: Mapping[int, Seen]) -> set[int]:
    """The owners that were declared dead, or have gone: their shards may be claimed. Both arguments
    must come from one read: an owner that has joined since is in neither."""
    return {
        owner
        for owner in owners
        if owner is not None and (owner not in processes or processes[owner].left_s == -math.inf)
    }


def to_declare_dead(processes: Collection[Seen], certain: Collection[int], me: int) -> list[int]:
    """The processes whose lease has run out, and those that are certainly dead."""
    return sorted(
        seen.number
        for seen in processes
        if seen.number != me
        and seen.left_s != -math.inf
        and (seen.left_s <= 0 or seen.number in certain)
    )


def look_again_s(processes: Collection[Seen], lease: Lease, me: int) -> float:
    """The pause until the next look at the processes: until the next renewal, or until the lease
    runs out of a process that should have renewed it by now."""
    late_s = lease.lease_s * (1 - 2 / RENEWALS)
    ends = [seen.left_s for seen in processes if seen.number != me and 0 < seen.left_s < late_s]
    return min([lease.renew_every_s, *ends])
