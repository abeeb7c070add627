"""One process of a shared folder, simulated around the parts that decide: its balance, what it
knows of the owners of shards, and its lines of calls are the real ones.

What waits in `OpenSharedStore` and `Neighbours` is here a step that comes later, in the same order.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field

from durable._shards.balance import LOOKS_S, Balance
from durable._shards.known_owners import KnownOwners, Lookout
from durable._shards.lines import Lines
from tests.simulated.agenda import Entry
from tests.simulated.machine import Machine

from .simulated_calls import Call, Ended, NotBegun, Reset, Sent, SimulatedPeer, Stub
from .simulated_folder import Owned
from .simulated_neighbours import BYE, CHANGED, Owns, SimulatedNeighbours

if TYPE_CHECKING:
    from .simulation import Simulation

UNREACHABLE_S_MAX = 30.0
# What runs in a shard that is given up gets this long to end.
SHUTDOWN_S_MAX = 1.0
PARTING_S_MAX = 1.0
# What a thread needs to open the environment of a shard, or to close it.
THREAD_S_MAX = 0.02


@define(eq=False)
class SimulatedProcess:
    """One process that has the store open."""

    simulation: Simulation
    machine: Machine
    # The calls that run, by shard.
    open: dict[int, dict[Call, None]] = field(factory=dict, init=False)
    leaving: dict[int, dict[Call, None]] = field(factory=dict, init=False)
    neighbours: SimulatedNeighbours = field(init=False)
    balance: Balance = field(init=False)
    owners: KnownOwners = field(init=False)
    lookout: Lookout = field(init=False)
    lines: Lines = field(init=False)
    stubs: list[Stub] = field(factory=list, init=False)
    # Whether its program makes calls.
    is_calling: bool = field(default=False, init=False)
    is_leaving: bool = field(default=False, init=False)
    is_finishing: bool = field(default=False, init=False)
    is_closed: bool = field(default=False, init=False)
    _next_look: Entry | None = field(default=None, init=False)
    _has_changed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        machine, count = self.machine, self.simulation.folder.count
        self.neighbours = SimulatedNeighbours(self)
        self.balance = self.simulation.parts.balance(self.name, count, self.open, self.leaving)
        self.owners = self.simulation.parts.owners(
            self.name, self.neighbours.peers.get, self.owner_changed
        )
        self.lookout = Lookout(
            machine.call_later,
            self._look_around,
            lambda: len(self.lines) > 0,
            partial(self.owner_changed, None),
        )
        loop: Any = machine
        self.lines = Lines(
            loop,
            loop,
            loop,
            UNREACHABLE_S_MAX,
            self.owners.owner_of,
            lambda shard: self.lookout.look_soon(),
            lambda call, why: NotBegun(why),
            self.open,
        )

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def is_running(self) -> bool:
        return not self.machine.is_dead and not self.is_closed

    @property
    def is_ready(self) -> bool:
        """Whether it has, or is to have, its share of the shards."""
        return self.balance.is_on

    # The beginning

    def begin(self) -> None:
        self.simulation.folder.join(self.machine)
        self.neighbours.meet()
        self._when(lambda: not self.neighbours.connecting, LOOKS_S, self._be_ready)

    def _be_ready(self) -> None:
        self._read_owners()
        self.simulation.folder.say(self.machine, "ready")
        self.neighbours.notify_all(CHANGED)
        self.balance.is_on = True
        self.is_calling = True
        self.look()

    def _when(self, is_so: Any, s_max: float, step: Any) -> None:
        """Go on with *step* once it is so, or after so long."""
        end_s = self.machine.steady() + s_max

        def look() -> None:
            if is_so() or self.machine.steady() >= end_s:
                step()
            else:
                self.machine.call_later(0.001, look)

        look()

    # Owners

    def owner_changed(self, shard: int | None) -> None:
        self.lines.owner_changed(shard)

    def _read_owners(self) -> None:
        for shard, owned in enumerate(self.simulation.folder.owned):
            self.owners.hear(shard, owned)

    def _look_around(self) -> None:
        self._read_owners()
        self.neighbours.meet()

    def _has(self, shard: int, owned: Owned) -> None:
        self.neighbours.notify_all(Owns(shard, owned))
        self.owners.has_changed(shard, owned)

    # The balance

    def something_changed(self) -> None:
        self.balance.something_changed()
        self._has_changed = True
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
            self.machine.call_soon(self.look)

    def look(self) -> None:
        """See whether the shards are where they should be."""
        self._next_look = None
        self._has_changed = False
        if not self.balance.is_on:
            self._rest(LOOKS_S)
            return
        ready, living = self.simulation.folder.ready(), list(self.simulation.folder.states)
        self.neighbours.meet()
        plan = self.balance.plan(ready)
        self.simulation.check_plan(self, plan)
        for shard in plan.give:
            self._start_giving(shard)
        on_their_way = set(plan.take)

        def taken(shard: int) -> None:
            on_their_way.discard(shard)
            if not on_their_way:
                rest()

        def rest() -> None:
            owners = [owned.owner for owned in self.simulation.folder.owned]
            self._rest(self.balance.look_pause_s(owners, living, self.neighbours.peers))

        for shard in plan.take:
            self._take(shard, partial(taken, shard))
        if not plan.take:
            rest()

    def _rest(self, pause_s: float) -> None:
        if self._has_changed:
            self.machine.call_soon(self.look)
        elif self.is_running:
            self._next_look = self.machine.call_later(pause_s, self.look)

    def _in_thread(self, work: Any, then: Any) -> None:
        """Do *work* in a thread, and call *then* with its result."""

        def run() -> None:
            result = work()
            self.machine.call_soon(lambda: then(result))

        self.machine.call_later(self._short_s(THREAD_S_MAX), run)

    def _short_s(self, s_max: float) -> float:
        return self.simulation.agenda.chance.uniform(0, s_max)

    def _take(self, shard: int, taken: Any) -> None:
        self.balance.taking.add(shard)

        def has_tried(is_locked: bool) -> None:
            self.balance.taking.discard(shard)
            if is_locked:
                self.open[shard] = {}
                folder = self.simulation.folder
                self._has(shard, folder.write_owner(shard, self.name, is_new=True))
            taken()

        lock = partial(self.simulation.folder.try_to_lock, self.machine, shard)
        self._in_thread(lock, has_tried)

    def _start_giving(self, shard: int) -> None:
        self.balance.giving.add(shard)
        self.machine.call_soon(partial(self._give_up, shard))

    def _give_up(self, shard: int) -> None:
        running = self.leaving[shard] = self.open.pop(shard)

        def finish() -> None:
            for call in list(running):
                if self.what_runs(running):
                    self.end_here(call, Reset())
            self._in_thread(lambda: None, lambda _: release())

        def release() -> None:
            del self.leaving[shard]
            folder = self.simulation.folder
            owned = folder.write_owner(shard, None, is_new=False)
            folder.unlock(self.machine, shard)
            self._has(shard, owned)
            self.balance.giving.discard(shard)

        self._when(lambda: not self.what_runs(running), SHUTDOWN_S_MAX, finish)

    def what_runs(self, running: dict[Call, None]) -> bool:
        """Whether a shard that is given up has to wait."""
        return bool(running)

    # Calls

    def call(self, stub: Stub, parent: Call | None = None) -> Call:
        """Call an object, as the code of the process does."""
        call = Call(stub, len(stub.calls), self.simulation.agenda.now_s, parent)
        stub.calls.append(call)
        self.simulation.made(self, call)
        is_here = stub.shard in self.open and not self.lines.is_used(stub.raw)
        if is_here or (stub.shard in self.leaving and self._is_of_what_runs(stub.shard, parent)):
            self._start(call, None)
        else:
            stub.route.send(call)
        return call

    def stub(self, raw: bytes) -> Stub:
        shard = self.simulation.shard_of(raw)
        return Stub(raw, shard, self.lines.route(shard, raw, raw))

    def _is_of_what_runs(self, shard: int, call: Call | None) -> bool:
        """Whether *call* runs here for something that the shard waits for, which leaves."""
        while call is not None:
            if call in self.leaving[shard]:
                return True
            call = call.parent
        return False

    def serve(self, peer: SimulatedPeer, sent: Sent) -> None:
        """A call has arrived."""
        port = sent.port
        if port.is_refused or not self.takes_calls(sent.call.stub.shard):
            port.is_refused = True
            peer.end.send(Ended(sent.call, has_moved=True))
        else:
            self._start(sent.call, peer)

    def takes_calls(self, shard: int) -> bool:
        return shard in self.open and not self.is_leaving

    def _start(self, call: Call, peer: SimulatedPeer | None) -> None:
        """The handler begins."""
        shard = call.stub.shard
        self.simulation.begins(self, call)
        running = self.open[shard] if shard in self.open else self.leaving[shard]
        running[call] = None
        self.simulation.answer_to[call] = peer
        chance = self.simulation.agenda.chance
        runs_s = self._short_s(0.01 if chance.random() < 0.95 else 2 * SHUTDOWN_S_MAX)
        if chance.random() < 0.15 and call.parent is None:
            nested = self.stub(self.simulation.any_object())
            answer = self.call(nested, parent=call)
            go_on = partial(self.machine.call_later, runs_s, partial(self.end_here, call, None))
            if answer.is_done:
                go_on()
            else:
                answer.on_done.append(go_on)
            return
        self.machine.call_later(runs_s, partial(self.end_here, call, None))

    def end_here(self, call: Call, error: BaseException | None) -> None:
        """The handler has ended, or its object was reset."""
        shard = call.stub.shard
        for running in (self.open.get(shard), self.leaving.get(shard)):
            if running is not None and call in running:
                del running[call]
                break
        else:
            # It was reset, or its shard was given away.
            assert call not in self.simulation.answer_to, "a call has run without its shard"
            return
        self.simulation.ends(self, call)
        peer = self.simulation.answer_to.pop(call)
        if peer is not None:
            peer.end.send(Ended(call, error))
        elif error is None:
            call.resolve()
        else:
            call.fail(error)

    # The end

    def leave(self) -> None:
        """Close the store, as a SIGTERM does."""
        self.is_leaving = True
        self.is_calling = False
        self.balance.is_on = False
        self.simulation.folder.say(self.machine, "leaving")
        self.neighbours.notify_all(CHANGED)
        self._go_on_leaving()

    def _go_on_leaving(self) -> None:
        shards = self.balance.leave(has_others=bool(set(self.neighbours.peers) - {self.name}))
        if shards is None:
            self._finish()
            return
        for shard in shards:
            self._start_giving(shard)
        self.machine.call_later(0.001, self._go_on_leaving)

    def _finish(self) -> None:
        # Whatever began here from now on would find the store closed.
        self.is_finishing = True
        self._when(lambda: not any(self.open.values()), SHUTDOWN_S_MAX, self._part)

    def _part(self) -> None:
        for running in self.open.values():
            for call in list(running):
                self.end_here(call, Reset())
        self.lines.close(lambda: NotBegun("closed"))
        self._when(lambda: not self.neighbours.connecting, LOOKS_S, self._say_bye)

    def _say_bye(self) -> None:
        self.neighbours.notify_all(BYE)
        self._when(self.neighbours.have_parted, PARTING_S_MAX, self._close)

    def _close(self) -> None:
        self.is_closed = True
        self.lookout.close()
        self.neighbours.close()
        folder = self.simulation.folder
        for shard in list(self.open):
            folder.write_owner(shard, None, is_new=False)
            folder.unlock(self.machine, shard)
        self.open.clear()
        folder.withdraw(self.machine)
        self.machine.die()
