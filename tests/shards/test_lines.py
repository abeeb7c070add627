"""The lines of calls, simulated: owners that come, go and die, late news, and links that break.

The real lines run against processes that are simulated, one step after the other, as chance wants
it. After each run: no call has begun twice, those of one object began in the order in which they
were made by one stub, none that began was said not to have, and each has an end.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from durable._shards import lines as lines_module
from durable._shards.lines import Line, Lines, Owner, Route

from .broken_lines import Overtakes, PutsBackLast, SendsAtOnce

SHARDS = 2
OBJECTS = 3
SEEDS = 300


@define(eq=False)
class Clock:
    """Stands still unless it is turned, and calls back when it is time."""

    now_s: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(factory=list)

    def steady(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Clock.Timer:
        entry = (self.now_s + delay_s, callback)
        self.due.append(entry)
        return Clock.Timer(self, entry)

    def turn(self, seconds: float) -> None:
        self.now_s += seconds
        for entry in sorted(self.due, key=lambda entry: entry[0]):
            if entry in self.due and entry[0] <= self.now_s:
                self.due.remove(entry)
                entry[1]()

    @define(eq=False)
    class Timer:
        clock: Clock
        entry: tuple[float, Callable[[], None]]

        def cancel(self) -> None:
            if self.entry in self.clock.due:
                self.clock.due.remove(self.entry)


@define(eq=False)
class Call:
    """One call of an object, by its number."""

    raw: bytes
    stub: int
    number: int
    port: Port | None = None
    router: Any = None
    begun: int = 0
    is_done: bool = False
    error: BaseException | None = None
    was_lost: bool = False

    def fail(self, error: BaseException) -> None:
        assert not self.is_done
        self.is_done = True
        self.error = error


class NotReached(Exception):
    """The call was not carried out."""


class Lost(Exception):
    """It may have been."""


@define(eq=False)
class Port:
    """The way of one stub to an object of a process. Once a call of it came back, all later ones
    do."""

    process: Process
    has_moved: bool = False

    def send(self, call: Call) -> None:
        call.port = self
        self.process.send(call)


@define(eq=False)
class Process:
    """A process that may own shards, and the link with it."""

    world: World
    number: int
    takes: set[int] = field(factory=set)  # shards of which it takes calls
    # Those that it owns, and that others may know of, before it takes calls.
    opens: set[int] = field(factory=set)
    running: list[Call] = field(factory=list)
    # On their way there, and what is on its way back.
    outward: deque[Call] = field(factory=deque)
    back: deque[tuple[Call, str]] = field(factory=deque)
    is_gone: bool = False

    def port(self, target: Any) -> Port:
        return Port(self)

    def send(self, call: Call) -> None:
        if self.is_gone:
            call.router.returned(call, "unsent")
        else:
            self.outward.append(call)

    def receive(self) -> None:
        """A call arrives."""
        if self.outward:
            call = self.outward.popleft()
            assert call.port is not None
            if self.world.shard_of(call.raw) in self.takes and not call.port.has_moved:
                self.world.begins(call)
                self.running.append(call)
            else:
                call.port.has_moved = True
                self.back.append((call, "moved"))

    def finish(self) -> None:
        """A call ends."""
        if self.running:
            call = self.running.pop(self.world.chance.randrange(len(self.running)))
            self.back.append((call, "answer"))

    def open(self) -> None:
        """It takes the calls of the shards that it owns."""
        self.takes |= self.opens
        self.opens.clear()

    def tell(self) -> None:
        """What came back is heard."""
        if self.back:
            call, what = self.back.popleft()
            self.world.hears(call, what)

    def die(self) -> None:
        """The link breaks: what has not left has not begun, all else may have."""
        for _ in range(self.world.chance.randint(0, len(self.outward))):
            self.receive()
        self.is_gone = True
        self.takes.clear()
        self.opens.clear()
        outward, self.outward = list(self.outward), deque()
        sent = [*self.running, *(call for call, _ in self.back)]
        arrived = self.world.chance.randint(0, len(outward))  # at the socket, and no further
        self.running.clear()
        self.back.clear()
        for call in [*sent, *outward[:arrived]]:
            self.world.loses(call)
        for call in outward[arrived:]:
            call.router.returned(call, "unsent")


@define(eq=False)
class World:
    """All of it."""

    seed: int
    resends_lost: bool = False
    chance: random.Random = field(init=False)
    clock: Clock = field(factory=Clock)
    soon: deque[Callable[[], None]] = field(factory=deque)
    processes: list[Process] = field(factory=list)
    # Who has each shard, and what the caller believes.
    truth: list[tuple[Process | None, int]] = field(init=False)
    believed: list[tuple[Process | None, int]] = field(init=False)
    leaving: dict[int, Process] = field(factory=dict)
    news: deque[tuple[int, Process | None, int]] = field(factory=deque)
    # By object and stub.
    made: dict[tuple[bytes, int], list[Call]] = field(factory=dict)
    order: dict[tuple[bytes, int], list[int]] = field(factory=dict)
    lines: Lines = field(init=False)
    routes: dict[tuple[bytes, int], Route] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.truth = [(None, 0)] * SHARDS
        self.believed = [(None, 0)] * SHARDS
        loop: Any = self
        clock: Any = self.clock
        self.lines = Lines(
            loop, clock, clock, 30.0, self.owner_of, self.look_for, _not_reached, set()
        )
        self.processes = [Process(self, number) for number in range(3)]

    # What the lines are given

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def owner_of(self, shard: int) -> Owner | None:
        process, epoch = self.believed[shard]
        return None if process is None or process.is_gone else Owner(process, epoch)

    def look_for(self, shard: int) -> None:
        """The news come by themselves, and so does a look."""

    def look(self) -> None:
        """The owners are read from the store, and what waits may try again."""
        self.lines.owner_changed()

    # What happens

    def shard_of(self, raw: bytes) -> int:
        return raw[0] % SHARDS

    def call(self) -> None:
        raw = bytes([self.chance.randrange(OBJECTS)])
        stub = self.chance.randrange(2)
        made = self.made.setdefault((raw, stub), [])
        call = Call(raw, stub, len(made))
        made.append(call)
        if (raw, stub) not in self.routes:
            self.routes[raw, stub] = self.lines.route(self.shard_of(raw), raw, raw)
        self.routes[raw, stub].send(call)

    def begins(self, call: Call) -> None:
        call.begun += 1
        self.order.setdefault((call.raw, call.stub), []).append(call.number)

    def hears(self, call: Call, what: str) -> None:
        if what == "moved":
            call.router.returned(call, "moved")
        else:
            call.is_done = True
            call.router.settled(call)

    def loses(self, call: Call) -> None:
        if self.resends_lost:
            call.router.returned(call, "unsent")
        else:
            call.was_lost = True
            call.fail(Lost())
            call.router.settled(call)

    def move(self) -> None:
        """A shard is given up, or released and taken."""
        shard = self.chance.randrange(SHARDS)
        if shard in self.leaving:
            owner = self.leaving[shard]
            if any(self.shard_of(call.raw) == shard for call in owner.running):
                return  # it runs yet
            del self.leaving[shard]
            self.own(shard, self.chance.choice(self.processes))
        elif self.truth[shard][0] is not None:
            owner = self.leaving[shard] = self.truth[shard][0]
            owner.takes.discard(shard)
            owner.opens.discard(shard)
        else:
            self.own(shard, self.chance.choice(self.processes))

    def own(self, shard: int, process: Process) -> None:
        if not process.is_gone:
            self.truth[shard] = (process, self.truth[shard][1] + 1)
            process.opens.add(shard)
            self.news.append((shard, *self.truth[shard]))

    def hear_news(self) -> None:
        if self.news:
            shard, process, epoch = self.news.popleft()
            if epoch > self.believed[shard][1]:
                self.believed[shard] = (process, epoch)
                self.lines.owner_changed(shard)

    def kill(self) -> None:
        """A process dies, and another one takes its place."""
        victim = self.chance.choice(self.processes)
        self.processes.remove(victim)
        victim.die()
        for shard, owner in list(self.leaving.items()):
            if owner is victim:
                del self.leaving[shard]
        for shard, (owner, epoch) in enumerate(self.truth):
            if owner is victim:
                self.truth[shard] = (None, epoch)
        self.processes.append(Process(self, victim.number + 3))

    def step(self) -> None:
        process = self.chance.choice(self.processes)
        what = self.chance.choices(
            [
                self.call, process.receive, process.finish, process.tell,
                self.move, self.hear_news, self.next_round, self.kill, process.open, self.look,
            ],
            [6, 8, 5, 8, 2, 3, 6, 0.3, 2, 2],
        )[0]  # fmt: skip
        what()

    def next_round(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def end(self) -> None:
        """Nothing moves any more, and all that is under way comes to its end."""
        for shard in range(SHARDS):
            if self.truth[shard][0] is None or shard in self.leaving:
                owner = self.leaving.pop(shard, None)
                if owner is not None:
                    while owner.running:
                        owner.finish()
                self.own(shard, self.processes[0])
        for _ in range(200):
            self.hear_news()
            self.look()
            self.next_round()
            for process in self.processes:
                process.open()
                process.receive()
                process.finish()
                process.tell()

    def check(self) -> None:
        for key, made in self.made.items():
            began = self.order.get(key, [])
            assert began == sorted(set(began)), f"{key!r} began in the order {began}"
            for call in made:
                assert call.is_done, f"call {call.number} has no end"
                assert call.begun <= 1
                assert not (call.begun and isinstance(call.error, NotReached))
                assert call.begun or call.error is not None
        assert not len(self.lines)
        assert not self.lines._lines


def _not_reached(call: Call, why: str) -> NotReached:
    return NotReached(why)


def live(seed: int, *, resends_lost: bool = False) -> None:
    world = World(seed, resends_lost)
    for _ in range(world.chance.randrange(50, 250)):
        world.step()
    world.end()
    world.check()


def live_many(seeds: int, *, resends_lost: bool = False) -> None:
    for seed in range(seeds):
        try:
            live(seed, resends_lost=resends_lost)
        except AssertionError as error:
            error.add_note(f"with the seed {seed}")
            raise


def test_lines_keep_order_and_send_nothing_twice() -> None:
    """DURABLE_SIMULATIONS=10000 for more lives."""
    live_many(int(os.environ.get("DURABLE_SIMULATIONS", "500")))


@pytest.mark.parametrize("broken", [SendsAtOnce, PutsBackLast, Overtakes])
def test_lines_that_are_broken_are_caught(
    broken: type[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "Line", broken)

    with pytest.raises(AssertionError):
        live_many(SEEDS)


def test_a_lost_call_that_is_sent_again_is_caught() -> None:
    with pytest.raises(AssertionError):
        live_many(SEEDS, resends_lost=True)


def test_calls_that_wait_too_long_are_told_so() -> None:
    """By those that came first; none of them has begun."""
    world = World(1)
    world.call()
    world.clock.turn(29)
    world.call()
    world.clock.turn(1)
    calls = sorted((c for made in world.made.values() for c in made), key=lambda c: c.is_done)

    assert [type(call.error) for call in calls] == [type(None), NotReached]
    world.clock.turn(30)
    assert all(isinstance(call.error, NotReached) for call in calls)
    assert not world.lines._lines
