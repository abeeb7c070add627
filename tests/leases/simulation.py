"""Leases, simulated: processes whose clocks differ, that are stopped, cut off or killed, and a
database that is slow or fails over, while clients count.

The real parts that decide run here: the lease and what follows from it (`_engine/lease.py`), the
output gate that asks it, the placement. What must be true at each moment: an answer leaves a
process only while nobody else has its shard (P19); what was confirmed is stored once, and is in
every answer to a question that was asked after (P20).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field, frozen

from durable._engine.lease import (
    RENEWALS,
    SKEW_MAX,
    Lease,
    Seen,
    dead_owners,
    look_again_s,
    to_declare_dead,
)
from durable._gates.leased_output_gate import LeasedOutputGate
from durable._gates.output_gate import OutputGate
from durable._shards.placement import place
from tests.simulated.agenda import Agenda
from tests.simulated.machine import Machine

from .simulated_database import EXCLUSIVE, LOST, SHARED, Row, SimulatedDatabase

SHARDS = 4
LEASE_S = 3.0
PROCESSES_MAX = 4
LIVES_S = 60.0
# After the last fault: a lease, the retries of all, and what hangs at the database.
SETTLED_S_MAX = 4 * LEASE_S + 10.0


class BelievedFromTheAnswer(Lease):
    """Broken: it counts from when the answer came."""

    def granted(self, asked: float) -> None:
        super().granted(self.now())


class WithoutAllowance(Lease):
    """Broken: as if all clocks went alike."""

    def granted(self, asked: float) -> None:
        if not self.is_over:
            self.valid_until = max(self.valid_until, asked + self.lease_s)


@frozen
class Parts:
    """What a process is made of; tests put broken parts there."""

    lease: type[Lease] = Lease
    # Commits compare the epoch.
    is_fenced: bool = True
    # Answers ask the lease.
    asks_lease: bool = True
    # A claim follows on a declared death, which waits for a renewal in flight.
    declares_dead: bool = True
    # A commit of which nothing is known is waited for, by raising the epoch.
    settles_doubt: bool = True
    # What was submitted is answered before the process joins anew.
    waits_for_submitted: bool = True
    # A call of which the client knows nothing is sent again.
    sends_again: bool = False


@define(eq=False)
class Call:
    """One call of a client: counts, or asks how far it is."""

    number: int
    shard: int
    is_read: bool
    # How many calls were confirmed when it was made.
    confirmed_before: frozenset[int]
    # Where the answer goes.
    answer: Callable[[Any], None] | None = None


@define(eq=False)
class Thing:
    """The one object of a shard, in a process."""

    shard: int
    epoch: int
    gate: OutputGate
    calls: set[int]
    # Sealed, by seqno, and not on their way yet.
    submitted: list[tuple[int, int]] = field(factory=list)
    is_committing: bool = False
    is_leaving: bool = False
    is_broken: bool = False


@define(eq=False)
class SimulatedProcess:
    """One process of the store."""

    simulation: Simulation
    machine: Machine
    number: int = 0
    lease: Lease = field(init=False)
    things: dict[int, Thing] = field(factory=dict)
    seen: dict[int, Seen] = field(factory=dict)
    names: dict[int, str] = field(factory=dict)
    commits: int = 0
    _is_joining: bool = False
    _taking: set[int] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.lease = self._new_lease()

    @property
    def database(self) -> SimulatedDatabase:
        return self.simulation.database

    def _new_lease(self) -> Lease:
        return self.simulation.parts.lease(LEASE_S, self.machine.steady)

    def _ask(self, locks: dict[Row, str], body: Any, answered: Callable[[Any], None]) -> None:
        self.database.ask(self.machine, locks, body, answered)

    # The lease

    def join(self) -> None:
        self._is_joining = True
        lease = self._new_lease()
        asked = lease.asking()

        def joined(number: Any) -> None:
            if number is LOST:
                self.join()
                return
            self._is_joining = False
            self.number, self.lease = number, lease
            lease.granted(asked)
            self._renew()

        self._ask({}, self.database.join(self.machine.name, LEASE_S), joined)

    def _renew(self) -> None:
        lease, asked = self.lease, self.lease.asking()

        def renewed(said: Any) -> None:
            if lease is not self.lease or lease.is_over:
                return
            if said is LOST:
                if not lease.is_valid():
                    self.lose()
                else:
                    self.machine.call_later(0.1, self._renew)
                return
            is_renewed, left, self.names, shards = said
            if not is_renewed:
                self.lose()
                return
            lease.granted(asked)
            self.seen = {number: Seen(number, left_s) for number, left_s in left.items()}
            self._balance(shards)
            pause_s = look_again_s(self.seen.values(), lease, self.number)
            self.machine.call_later(min(pause_s, LEASE_S / RENEWALS) + 0.001, self._renew)

        row = ("process", self.number)
        self._ask({row: EXCLUSIVE}, self.database.renew(self.number, LEASE_S), renewed)

    def lose(self) -> None:
        """The lease is over: nothing is owned any more."""
        if self.lease.is_over:
            return
        self.lease.end()
        for thing in self.things.values():
            self._break(thing)
        self.things.clear()
        self._join_when_answered()

    def _join_when_answered(self) -> None:
        if self.commits and self.simulation.parts.waits_for_submitted:
            self.machine.call_later(0.05, self._join_when_answered)
        else:
            self.join()

    def _break(self, thing: Thing) -> None:
        thing.is_broken = True
        thing.submitted.clear()
        for unheard in thing.gate.drop_waiting():
            unheard.fail(None)  # type: ignore[arg-type]

    # Shards

    def _balance(self, shards: dict[int, tuple[int | None, int]]) -> None:
        living = {self.names[each.number] for each in self.seen.values() if each.left_s > 0}
        placed = place(SHARDS, living | {self.machine.name})
        for shard, name in enumerate(placed):
            thing = self.things.get(shard)
            if name == self.machine.name and thing is None and shard not in self._taking:
                self._take(shard)
            elif name != self.machine.name and thing is not None:
                self._give_up(thing)

    def _take(self, shard: int) -> None:
        self._taking.add(shard)
        late = to_declare_dead(self.seen.values(), (), self.number)
        if not self.simulation.parts.declares_dead:
            # Broken: whoever has no live lease, by what was read, is claimed from.
            self._claim(shard, self.lease, set(late))
            return
        locks = {("process", number): EXCLUSIVE for number in late}
        lease = self.lease
        self._ask(
            locks, self.database.declare_dead(late), lambda _: self._claim(shard, lease, set())
        )

    def _claim(self, shard: int, lease: Lease, free: set[int]) -> None:
        owners, expires = self.database.owners_and_leases()
        seen = {number: Seen(number, until) for number, until in expires.items()}
        free = free | dead_owners(owners, seen) | {self.number}
        number = self.number

        def claimed(said: Any) -> None:
            epoch = None if said is LOST else said.get(shard)
            if epoch is None or lease.is_over or lease is not self.lease:
                self._taking.discard(shard)
            else:
                self._load(shard, epoch, lease)

        self._ask(
            {("shard", shard): EXCLUSIVE}, self.database.claim([shard], free, number), claimed
        )

    def _load(self, shard: int, epoch: int, lease: Lease) -> None:
        """What is read is read once the claim has committed."""

        def loaded(calls: Any) -> None:
            self._taking.discard(shard)
            if calls is not LOST and not lease.is_over and lease is self.lease:
                gate = self._new_gate(lease)
                self.things[shard] = Thing(shard, epoch, gate, set(calls))

        self._ask({}, self.database.load(shard), loaded)

    def _new_gate(self, lease: Lease) -> OutputGate:
        if self.simulation.parts.asks_lease:
            return LeasedOutputGate(lease=lease, on_over=partial(self.machine.call_soon, self.lose))
        return OutputGate()

    def _give_up(self, thing: Thing) -> None:
        thing.is_leaving = True
        if thing.submitted or thing.is_committing or thing.is_broken:
            return  # at the next look
        del self.things[thing.shard]
        self._break(thing)
        self._ask(
            {("shard", thing.shard): EXCLUSIVE},
            self.database.release(thing.shard, self.number, thing.epoch),
            lambda _: None,
        )

    # Calls

    def call(self, call: Call, answer: Callable[[Any], None]) -> None:
        """A client's call has arrived."""
        thing = self.things.get(call.shard)
        if thing is None or thing.is_leaving or thing.is_broken:
            answer(None)  # it has not begun
            return
        gate = thing.gate
        if not call.is_read:
            thing.calls.add(call.number)
            gate.note_write()
            thing.submitted.append((gate.seal(), call.number))
        said = frozenset(thing.calls)

        def leave() -> None:
            self.simulation.check_answer(self, thing, call, said)
            answer(said)

        gate.when_durable(gate.seqno(), leave, _Unheard(answer))
        self._commit(thing)

    def _commit(self, thing: Thing) -> None:
        """One group after the other."""
        if thing.is_committing or not thing.submitted:
            return
        group, thing.submitted = thing.submitted, []
        thing.is_committing = True
        self.commits += 1

        def committed(said: Any) -> None:
            self.commits -= 1
            thing.is_committing = False
            if said is LOST:
                self._settle(thing, group)
            elif not said:
                self._drop(thing)  # superseded
            elif not thing.is_broken:
                thing.gate.durable = group[-1][0]
                thing.gate.release()
                self._commit(thing)

        body = self.database.commit(
            thing.shard,
            self.number,
            thing.epoch,
            [number for _, number in group],
            frozenset(thing.calls),
            is_fenced=self.simulation.parts.is_fenced,
        )
        self._ask({("shard", thing.shard): SHARED}, body, committed)

    def _drop(self, thing: Thing) -> None:
        self._break(thing)
        if self.things.get(thing.shard) is thing:
            del self.things[thing.shard]

    def _settle(self, thing: Thing, group: list[tuple[int, int]]) -> None:
        """Nobody knows what became of a commit: wait for its end, and begin anew."""
        self._drop(thing)
        lease, shard = self.lease, thing.shard
        if lease.is_over or shard in self._taking:
            return
        self._taking.add(shard)
        if not self.simulation.parts.settles_doubt:
            self._load(shard, thing.epoch, lease)  # broken: as if it had failed
            return

        def raised(epoch: Any) -> None:
            if epoch is LOST or epoch is None or lease is not self.lease or lease.is_over:
                self._taking.discard(shard)
            else:
                self._load(shard, epoch, lease)

        self._ask(
            {("shard", shard): EXCLUSIVE}, self.database.raise_epoch(shard, self.number), raised
        )


@frozen
class _Unheard:
    answer: Callable[[Any], None]

    def fail(self, error: Any) -> None:
        self.answer(LOST)


@define(eq=False)
class Simulation:
    """One history."""

    seed: int
    parts: Parts = field(factory=Parts)
    # How far the clock of the database is set back and forward at most, in leases, by an operator
    # or a service that corrects it, in place of failovers.
    steps: tuple[float, float] | None = None
    agenda: Agenda = field(init=False)
    database: SimulatedDatabase = field(init=False)
    processes: list[SimulatedProcess] = field(factory=list)
    # By shard.
    confirmed: dict[int, set[int]] = field(factory=dict)
    calls: int = 0
    answers: int = 0
    faults: list[str] = field(factory=list)
    is_over: bool = False
    stepped_s: float = -math.inf
    # How long after a step there were answers of a former owner: not wrong within a lease, where
    # the steps are larger than owners allow for.
    stale_s: list[float] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.agenda = Agenda(self.seed)
        self.database = SimulatedDatabase(self.agenda)
        for shard in range(SHARDS):
            self.database.shards[shard] = (None, 0)
            self.database.values[shard] = frozenset()
            self.confirmed[shard] = set()

    # What must be true

    def check_answer(
        self, process: SimulatedProcess, thing: Thing, call: Call, said: frozenset[int]
    ) -> None:
        owner, epoch = self.database.shards[thing.shard]
        if (owner, epoch) != (process.number, thing.epoch):
            self._is_wrong(f"P19: {process.machine.name} answers for shard {thing.shard}")
        if missing := call.confirmed_before - said:
            self._is_wrong(f"P20: an answer knows nothing of {missing}, confirmed before")
        self.answers += 1

    def _is_wrong(self, what: str) -> None:
        """Not raised: what is raised as a message leaves is no matter of the gate's."""
        since_s = self.agenda.now_s - self.stepped_s
        if self.steps is not None and self.steps[1] > SKEW_MAX and since_s < LEASE_S:
            self.stale_s.append(since_s)
            return
        self.faults.append(f"{what}, at {self.agenda.now_s:.3f} s")

    def check_stored(self) -> None:
        assert not self.faults, self.faults
        for shard, numbers in self.confirmed.items():
            missing = numbers - self.database.values[shard]
            assert not missing, f"P20: {missing} are lost"
        twice = [number for number, count in self.database.stored.items() if count > 1]
        assert not twice, f"calls were carried out twice: {twice}"

    # Clients

    def call(self, shard: int, *, is_read: bool, tries: int = 0, number: int = 0) -> None:
        living = [process for process in self.processes if not process.machine.is_dead]
        if self.is_over or not living:
            return
        chance = self.agenda.chance
        having = [process for process in living if shard in process.things]
        process = chance.choice(having if having and chance.random() < 0.9 else living)
        if not number:
            self.calls += 1
            number = self.calls
        call = Call(number, shard, is_read, frozenset(self.confirmed[shard]))

        def answered(said: Any) -> None:
            if said is LOST:
                if self.parts.sends_again and tries < 3:
                    self.call(shard, is_read=is_read, tries=tries + 1, number=number)
            elif said is not None and not is_read:
                self.confirmed[shard].add(call.number)

        def answer(said: Any) -> None:
            self.agenda.after(chance.uniform(0, 0.002), lambda: answered(said))

        self.agenda.after(
            chance.uniform(0, 0.002),
            lambda: process.machine.do(lambda: process.call(call, answer)),
        )

    def _keep_calling(self) -> None:
        if not self.is_over:
            chance = self.agenda.chance
            self.call(chance.randrange(SHARDS), is_read=chance.random() < 0.4)
            self.agenda.after(chance.uniform(0, 0.04), self._keep_calling)

    # Faults

    def start(self) -> None:
        living = [process for process in self.processes if not process.machine.is_dead]
        if len(living) < PROCESSES_MAX:
            rate = self.agenda.chance.uniform(0.9, 1.1)
            machine = Machine(self.agenda, f"process {len(self.processes)}", rate)
            process = SimulatedProcess(self, machine)
            self.processes.append(process)
            machine.do(process.join)

    def _any(self) -> Machine | None:
        living = [each.machine for each in self.processes if not each.machine.is_dead]
        return self.agenda.chance.choice(living) if living else None

    def kill(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.die()

    def pause(self) -> None:
        machine = self._any()
        if machine is not None and not machine.is_stopped:
            machine.stop()
            pauses_s = [0.3 * LEASE_S, LEASE_S, 1.5 * LEASE_S, 3 * LEASE_S]
            self.agenda.after(self.agenda.chance.choice(pauses_s), machine.go_on)

    def cut(self) -> None:
        """A process cannot reach the database."""
        machine, cut = self._any(), self.database.cut
        if machine is not None:
            cut.add(machine)
            away_s = self.agenda.chance.choice([0.5, LEASE_S, 2 * LEASE_S])
            self.agenda.after(away_s, lambda: cut.discard(machine))

    def slow_down(self) -> None:
        """Commits wait for the standby."""
        chance, database = self.agenda.chance, self.database
        database.commit_s_max = chance.choice([0.5, LEASE_S / 2, LEASE_S, 2 * LEASE_S])

        def be_quick() -> None:
            database.commit_s_max = 0.002

        self.agenda.after(chance.uniform(0, 2 * LEASE_S), be_quick)

    def fail_over(self) -> None:
        if self.database.is_up:
            chance = self.agenda.chance
            skew_s = chance.uniform(0, 0.05) * LEASE_S  # ahead of the one before
            self.database.fail_over(chance.uniform(0.1, LEASE_S), self.database.skew_s + skew_s)

    def step_clock(self) -> None:
        """The clock of the database is set; not twice in a lease."""
        assert self.steps is not None
        if self.agenda.now_s - self.stepped_s > 1.2 * LEASE_S:
            back, forward = self.steps
            self.stepped_s = self.agenda.now_s
            self.database.step(self.agenda.chance.uniform(-back, forward) * LEASE_S)

    # A history

    def live(self) -> None:
        chance = self.agenda.chance
        for _ in range(chance.randint(2, 3)):
            self.start()
        self._keep_calling()
        while self.agenda.now_s < LIVES_S and not self.faults:
            self.agenda.run_until(self.agenda.now_s + chance.uniform(0, 1.5 * LEASE_S))
            last, often = (self.fail_over, 1) if self.steps is None else (self.step_clock, 6)
            fault = chance.choices(
                [self.start, self.kill, self.pause, self.cut, self.slow_down, last],
                [4, 1, 4, 2, 3, often],
            )[0]
            fault()
        self._end_faults()
        self.check_stored()

    def _end_faults(self) -> None:
        """Everything is as it should be again, and all is answered."""
        self.start()
        for process in self.processes:
            if not process.machine.is_dead and process.machine.is_stopped:
                process.machine.go_on()
        self.database.cut.clear()
        self.agenda.run_until(self.agenda.now_s + SETTLED_S_MAX)
        before = self.answers
        self.agenda.run_until(self.agenda.now_s + LEASE_S)
        assert self.answers > before, "nobody answers although all is well"
        self.is_over = True
        self.agenda.run_until(self.agenda.now_s + LEASE_S)


def live(
    seed: int, parts: Parts | None = None, *, steps: tuple[float, float] | None = None
) -> Simulation:
    """One history."""
    simulation = Simulation(seed, parts or Parts(), steps)
    try:
        simulation.live()
    except BaseException as error:
        error.add_note(f"with the seed {seed}, at {simulation.agenda.now_s:.3f} s")
        raise
    return simulation
