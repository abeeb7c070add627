"""A shared folder and its processes, simulated: they come, go, die, are stopped for a while, and
lose each other, while all of them call objects.

What must be true at each step: a call runs where the lock of its shard is, none runs twice, those
of one stub begin in their order, none begins of which its caller was told that it had not, and no
process gives a shard up or takes one that the placement does not want so. And when the changes have
ended: within a bound each shard is where it should be, nothing moves any more, every call has an
end, and new ones are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen

from durable._shards.balance import Balance, Plan
from durable._shards.known_owners import KnownOwners
from durable._shards.placement import place
from tests.simulated.agenda import Agenda
from tests.simulated.machine import Machine
from tests.simulated.network import Delays, Network

from .simulated_calls import Call, NotBegun, SimulatedPeer, Stub
from .simulated_folder import SimulatedFolder
from .simulated_process import SHUTDOWN_S_MAX, UNREACHABLE_S_MAX, SimulatedProcess

SHARDS = 6
OBJECTS = 9
STUBS = 4  # of each process
PROCESSES_MAX = 5
CALL_EVERY_S = 0.05
# So long after the last change each shard is where it should be: a look that comes too late, what
# runs, a shard that is given up and one that is taken, and messages that are late.
SETTLED_S_MAX = 2 * SHUTDOWN_S_MAX + 4.0
QUIET_S = 3.0
# So long a process takes to begin or to end, at most.
CHANGED_S_MAX = 10.0


@frozen
class Parts:
    """What is put into each process; a test puts broken ones there."""

    balance: Callable[..., Balance] = Balance
    owners: Callable[..., KnownOwners] = KnownOwners
    process: type[SimulatedProcess] = SimulatedProcess
    peer: type[SimulatedPeer] = SimulatedPeer


@define(eq=False)
class Simulation:
    """One history of one folder."""

    seed: int
    parts: Parts = field(factory=Parts)
    agenda: Agenda = field(init=False)
    network: Network = field(init=False)
    folder: SimulatedFolder = field(init=False)
    processes: dict[str, SimulatedProcess] = field(factory=dict, init=False)
    # To whom the answer of a call that runs goes; None: its caller is in the same process.
    answer_to: dict[Call, SimulatedPeer | None] = field(factory=dict, init=False)
    calls: list[tuple[SimulatedProcess, Call]] = field(factory=list, init=False)
    # How often a shard was given up for the sake of balance.
    moves: int = field(default=0, init=False)
    # After the last change, until each shard was where it should be.
    settled_s: float = field(default=0.0, init=False)
    is_over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.agenda = Agenda(self.seed)
        chance = self.agenda.chance
        late_of = chance.choice([0, 0, 100, 20])
        self.network = Network(
            self.agenda, Delays(late_s=chance.choice([0.1, 1.0]), late_of=late_of)
        )
        self.folder = SimulatedFolder(self.agenda, SHARDS)

    # What the processes ask and tell

    def shard_of(self, raw: bytes) -> int:
        return raw[0] % SHARDS

    def any_object(self) -> bytes:
        return bytes([self.agenda.chance.randrange(OBJECTS)])

    def check_plan(self, process: SimulatedProcess, plan: Plan) -> None:
        """Nothing moves that need not."""
        placed = place(SHARDS, self.folder.ready())
        for shard in plan.give:
            assert placed[shard] != process.name, f"{process.name} gives {shard} up without need"
            self.moves += 1
        for shard in plan.take:
            assert placed[shard] == process.name, f"{process.name} takes {shard} without need"

    def made(self, process: SimulatedProcess, call: Call) -> None:
        self.calls.append((process, call))

    def begins(self, process: SimulatedProcess, call: Call) -> None:
        stub = call.stub
        assert self.folder.has(process.machine, stub.shard), "a call begins without its shard"
        assert not process.is_finishing, "a call begins in a process that is being closed"
        call.begun += 1
        assert call.begun == 1, "a call begins twice"
        assert not isinstance(call.error, NotBegun), "a call begins that was said not to"
        assert not stub.began or stub.began[-1] < call.number, "calls begin in another order"
        stub.began.append(call.number)

    def ends(self, process: SimulatedProcess, call: Call) -> None:
        assert self.folder.has(process.machine, call.stub.shard), "a call has run without its shard"

    # What happens to them

    def start(self) -> None:
        """A process comes."""
        if len(self.running()) >= PROCESSES_MAX:
            return
        name = f"process {len(self.processes)}"
        machine = Machine(self.agenda, name, rate=self.agenda.chance.uniform(0.9, 1.1))
        process = self.processes[name] = self.parts.process(self, machine)
        process.stubs = [process.stub(self.any_object()) for _ in range(STUBS)]
        machine.call_soon(process.begin)
        self._keep_calling(process)

    def _keep_calling(self, process: SimulatedProcess) -> None:
        chance = self.agenda.chance

        def call() -> None:
            if process.is_calling:
                for _ in range(chance.choice([1, 1, 3])):
                    self._call(process, chance.choice(process.stubs))
            if process.is_running and not self.is_over:
                process.machine.call_later(chance.uniform(0, 2 * CALL_EVERY_S), call)

        process.machine.call_later(0.0, call)

    def _call(self, process: SimulatedProcess, stub: Stub) -> None:
        """Call, and perhaps once more when the answer is there."""
        if not process.is_calling or self.is_over:
            return
        call = process.call(stub)
        if self.agenda.chance.random() < 0.3 and not call.is_done:
            machine = process.machine
            call.on_done.append(lambda: machine.call_soon(lambda: self._call(process, stub)))

    def running(self) -> list[SimulatedProcess]:
        return [process for process in self.processes.values() if process.is_running]

    def _any(self) -> SimulatedProcess | None:
        running = self.running()
        return self.agenda.chance.choice(running) if running else None

    def kill(self) -> None:
        process = self._any()
        if process is not None:
            process.machine.die()

    def leave(self) -> None:
        process = self._any()
        if process is not None and process.balance.is_on:
            process.machine.do(process.leave)

    def pause(self) -> None:
        process = self._any()
        if process is not None and not process.machine.is_stopped:
            machine = process.machine
            machine.stop()
            self.agenda.after(self.agenda.chance.choice([0.02, 0.5, 3.0, 8.0]), machine.go_on)

    def break_link(self) -> None:
        links = self.network.standing()
        if links:
            self.agenda.chance.choice(links).break_()

    def change(self) -> None:
        chance = self.agenda.chance
        what = chance.choices(
            [self.start, self.kill, self.leave, self.pause, self.break_link], [5, 2, 2, 2, 2]
        )[0]
        what()

    # A history

    def live(self) -> None:
        chance = self.agenda.chance
        for _ in range(chance.randint(1, 3)):
            self.start()
        for _ in range(chance.randint(3, 12)):
            self.agenda.run_until(
                self.agenda.now_s + chance.choice([0.01, 0.1, 1.0, 3.0]) * chance.random()
            )
            self.change()
        if not self.running():
            self.start()
        self._end_changes()
        self.settled_s = self.agenda.run_while(lambda: not self.is_settled(), SETTLED_S_MAX, 0.02)
        assert self.is_settled(), f"shards are not where they should be: {self.where_they_are()}"
        self.check_quiet()
        self.check_calls()

    def _end_changes(self) -> None:
        """Nobody comes or goes any more, and nobody is stopped."""
        for process in self.running():
            if process.machine.is_stopped:
                process.machine.go_on()
        # Those that come or leave take their time, as what runs in them does.
        self.agenda.run_while(lambda: not self._is_at_rest(), CHANGED_S_MAX, 0.02)
        if not self.running():
            self.start()
            self.agenda.run_while(lambda: not self._is_at_rest(), CHANGED_S_MAX, 0.02)
        assert self._is_at_rest(), f"processes do not begin or end: {self.folder.states}"

    def _is_at_rest(self) -> bool:
        """Whether all processes that live are ready, and no other one is named."""
        return all(process.is_ready for process in self.running()) and (
            len(self.running()) == len(self.folder.ready()) == len(self.folder.states)
        )

    def where_they_are(self) -> dict[int, tuple[str, str | None]]:
        """Where each shard should be, and is."""
        placed = place(SHARDS, self.folder.ready())
        owners = [self.folder.owner(shard) for shard in range(SHARDS)]
        return {
            shard: (placed[shard], None if owner is None else owner.name)
            for shard, owner in enumerate(owners)
        }

    def is_settled(self) -> bool:
        """Whether each shard is open where it should be."""
        placed = place(SHARDS, self.folder.ready())
        return bool(placed) and all(
            shard in self.processes[name].open for shard, name in enumerate(placed)
        )

    def check_quiet(self) -> None:
        """Nothing moves, and what is called is answered."""
        moves, epochs = self.moves, list(self.folder.owned)
        began_s = self.agenda.now_s
        self.agenda.run_until(began_s + QUIET_S)
        self.is_over = True
        assert (self.moves, self.folder.owned) == (moves, epochs), "shards move without a change"
        self.agenda.run_while(
            lambda: any(not call.is_done for _, call in self._of_the_living()),
            UNREACHABLE_S_MAX + 2.0,
            0.1,
        )
        late = [call for _, call in self._of_the_living() if call.made_s > began_s + 1.0]
        for call in late:
            assert call.is_done
            assert call.error is None, f"{call.error!r} though nothing has changed"

    def _of_the_living(self) -> list[tuple[SimulatedProcess, Call]]:
        return [(process, call) for process, call in self.calls if process.is_running]

    def check_calls(self) -> None:
        """Each has an end, and the right one."""
        for _, call in self._of_the_living():
            assert call.is_done, "a call has no end"
            assert call.begun or call.error is not None, "a call was answered and never begun"
            assert not (call.begun and isinstance(call.error, NotBegun))
        for process in self.running():
            assert not len(process.lines)
            assert not process.lines._lines


def live(seed: int, parts: Parts | None = None) -> Simulation:
    """One history."""
    simulation = Simulation(seed, parts or Parts())
    try:
        simulation.live()
    except BaseException as error:
        error.add_note(f"with the seed {seed}, at {simulation.agenda.now_s:.3f} s")
        raise
    return simulation
