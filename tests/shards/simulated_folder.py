"""A shared folder, simulated: which processes it names, and who has the lock of which shard.

As in a real one, the locks of a dead process are dropped a moment after its connections have ended,
one after the other.
"""

from __future__ import annotations

from attrs import define, field, frozen

from tests.simulated.agenda import Agenda
from tests.simulated.machine import Machine

# How long the system takes to drop a lock of a process that has died.
DROPPED_S_MAX = 0.005


@frozen
class Owned:
    """What the owner's file of a shard says."""

    owner: str | None = None
    epoch: int = 0


@define(eq=False)
class SimulatedFolder:
    """All that processes see of each other without speaking."""

    agenda: Agenda
    count: int
    owned: list[Owned] = field(init=False)
    # The state of each process that is named there.
    states: dict[str, str] = field(factory=dict, init=False)
    _locks: dict[int, Machine] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.owned = [Owned()] * self.count

    # The processes

    def join(self, machine: Machine) -> None:
        self.states[machine.name] = "starting"
        machine.on_death.append(lambda: self._drop_all(machine))

    def say(self, machine: Machine, state: str) -> None:
        self.states[machine.name] = state

    def ready(self) -> list[str]:
        """The processes that are to have shards."""
        return [name for name, state in self.states.items() if state == "ready"]

    def withdraw(self, machine: Machine) -> None:
        self.states.pop(machine.name, None)

    # The shards

    def try_to_lock(self, machine: Machine, shard: int) -> bool:
        if shard in self._locks:
            return False
        self._locks[shard] = machine
        return True

    def has(self, machine: Machine, shard: int) -> bool:
        """Whether the machine has the lock of the shard."""
        return self._locks.get(shard) is machine

    def owner(self, shard: int) -> Machine | None:
        return self._locks.get(shard)

    def unlock(self, machine: Machine, shard: int) -> None:
        assert self.has(machine, shard)
        del self._locks[shard]

    def write_owner(self, shard: int, owner: str | None, *, is_new: bool) -> Owned:
        """Say who has a shard; returns what was written."""
        epoch = self.owned[shard].epoch + is_new
        self.owned[shard] = Owned(owner, epoch)
        return self.owned[shard]

    def _drop_all(self, machine: Machine) -> None:
        """The system notices one after the other that its process is gone."""
        chance = self.agenda.chance
        self.agenda.after(chance.uniform(0, DROPPED_S_MAX), lambda: self.withdraw(machine))
        for shard in [shard for shard, owner in self._locks.items() if owner is machine]:
            self.agenda.after(chance.uniform(0, DROPPED_S_MAX), lambda n=shard: self._locks.pop(n))
