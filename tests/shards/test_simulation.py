"""Placement, ownership and routing of a shared folder, simulated with disorder: `simulation.py`.

A few seeds by default, more by `DURABLE_SIMULATIONS=10000`, from `DURABLE_SIMULATIONS_FROM` on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from durable._shards import lines as lines_module
from durable._shards.balance import Balance, Plan
from durable._shards.known_owners import KnownOwners
from durable._shards.lines import Line
from durable._shards.placement import place

from .broken_lines import Overtakes, PutsBackLast
from .simulated_calls import Call, Lost, NotBegun, Reset, Sent, SimulatedPeer
from .simulated_process import SimulatedProcess
from .simulation import Parts, live

SEEDS = int(os.environ.get("DURABLE_SIMULATIONS", "40"))
SEEDS_FROM = int(os.environ.get("DURABLE_SIMULATIONS_FROM", "0"))
# In so many histories a fault is found; most are in the first few.
BROKEN_SEEDS = 60


def test_shards_have_one_owner_and_calls_keep_their_order_whatever_happens() -> None:
    """And when nothing changes any more, all come to rest soon."""
    ends: Counter[str] = Counter()
    settled_s = 0.0
    for seed in range(SEEDS_FROM, SEEDS_FROM + SEEDS):
        simulation = live(seed)
        settled_s = max(settled_s, simulation.settled_s)
        ends.update(type(call.error).__name__ for _, call in simulation.calls if call.is_done)
        ends["moves"] += simulation.moves
    print(f"\n{SEEDS} seeds: {dict(ends)}, settled within {settled_s:.2f} s")

    # The disorder was there.
    for kind in (Lost, NotBegun, Reset, type(None)):
        assert ends[kind.__name__], f"no call has ended with {kind.__name__}"
    assert ends["moves"] > SEEDS


def test_a_seed_is_a_history() -> None:
    one, other = live(7), live(7)

    assert one.agenda.now_s == other.agenda.now_s
    assert one.folder.owned == other.folder.owned
    assert [call.begun for _, call in one.calls] == [call.begun for _, call in other.calls]


# What must be caught


def caught(parts: Parts) -> str:
    """What the simulation says of parts that are broken."""
    for seed in range(BROKEN_SEEDS):
        try:
            live(seed, parts)
        except AssertionError as error:
            return str(error)
    pytest.fail(f"nothing was caught in {BROKEN_SEEDS} histories")


class TakesEveryCall(SimulatedProcess):
    """Does not look whether it has the shard."""

    def takes_calls(self, shard: int) -> bool:
        return not self.is_leaving


class GivesUpAtOnce(SimulatedProcess):
    """Lets another process have a shard in which calls run."""

    def what_runs(self, running: dict[Call, None]) -> bool:
        return False


class SendsLostOnesAgain(SimulatedPeer):
    """Takes a call that may have begun for one that has not."""

    def gone(self, unsent: list[Any]) -> None:
        super().gone([*unsent, *(Sent(call.port, call) for call in self.under_way if call.port)])


class KeepsAll(Balance):
    """Gives nothing up."""

    def plan(self, ready: Collection[str]) -> Plan:
        return Plan((), super().plan(ready).take)


class TakesNothingOfTheDead(Balance):
    """Takes what was never had, and nothing else."""

    looks = 0

    def plan(self, ready: Collection[str]) -> Plan:
        self.looks += 1
        plan = super().plan(ready)
        return Plan(plan.give, plan.take if self.looks < 3 else ())


class LeavesTooEarly(Balance):
    """Gives up what a process that ends has at first, and not what comes later."""

    has_left = False

    def leave(self, *, has_others: bool) -> Sequence[int] | None:
        if not self.has_left:
            self.has_left = True
            return super().leave(has_others=has_others)
        return () if self.giving or self.taking else None


class TakesCallsWhileItLeaves(SimulatedProcess):
    """Carries calls out as long as it has their shard."""

    def takes_calls(self, shard: int) -> bool:
        return shard in self.open


class NeverSettles(Balance):
    """Finds another placement at each look."""

    looks = 0

    def plan(self, ready: Collection[str]) -> Plan:
        self.looks += 1
        placed = place(self.count, [f"{process} {self.looks // 8}" for process in ready])
        self._mine = {n for n, process in enumerate(placed) if process.startswith(f"{self.me} ")}
        give = set(self.open) - self._mine - self.giving
        take = self._mine - set(self.open) - set(self.leaving) - self.taking
        return Plan(sorted(give), sorted(take))


class FindsNoOwner(KnownOwners):
    """Does not know of owners what is only written."""

    def hear(self, shard: int, owned: Any) -> None:
        """Nothing that others say."""


BROKEN = {
    "takes every call": (Parts(process=TakesEveryCall), "without its shard"),
    "gives up at once": (Parts(process=GivesUpAtOnce), "without its shard"),
    "sends lost ones again": (Parts(peer=SendsLostOnesAgain), "begins twice"),
    "keeps all": (Parts(balance=KeepsAll), "where they should be"),
    "takes nothing of the dead": (Parts(balance=TakesNothingOfTheDead), "where they should be"),
    "leaves too early": (
        Parts(balance=LeavesTooEarly, process=TakesCallsWhileItLeaves),
        "in a process that is being closed",
    ),
    "never settles": (Parts(balance=NeverSettles), "without need"),
    "finds no owner": (Parts(owners=FindsNoOwner), "though nothing has changed"),
}


@pytest.mark.parametrize(("parts", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_parts_are_caught(parts: Parts, says: str) -> None:
    assert says in caught(parts)


@pytest.mark.parametrize("broken", [PutsBackLast, Overtakes])
def test_broken_lines_are_caught(broken: type[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "Line", broken)

    assert caught(Parts()) == "calls begin in another order"
