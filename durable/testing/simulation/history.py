"""The history: what was requested and received outside, and what the objects' code saw of itself.

Rule: what can be judged at once is judged here, at the moment it happens, against the disk as it is
then. The order of operations is judged at the end, by `model`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeGuard

from attrs import define, field

from durable._model.errors import InternalError, RuntimeClosed
from durable._object.activation import Activation
from durable._object.live import Phase

from .bookmarks import Bookmarks
from .connections import Connection, End
from .model import Loss, Operation, Search, State


@define(eq=False)
class History:
    """One seed's history, over all lives of the store."""

    chance: random.Random
    now: Callable[[], float]
    bookmarks: Bookmarks = field(factory=lambda: Bookmarks(is_on=False))
    operations: list[Operation] = field(factory=list)
    # The state of an object on the disk at this moment.
    look: Callable[[str], State | None] = field(init=False)
    violations: list[str] = field(factory=list)
    # False from the moment the power fails: nothing is heard outside any more.
    is_live: bool = False
    rings_fail: bool = True
    lines: list[str] = field(factory=list)
    counts: dict[str, int] = field(factory=dict)
    _time: int = 0
    _open: dict[int, Operation] = field(factory=dict)
    _newest: dict[str, object] = field(factory=dict)
    _activations: dict[str, Activation] = field(factory=dict)
    # The last number of each object that must be kept, once its maker has received the answer.
    _confirmed: dict[str, int] = field(factory=dict)
    # The last number of each object that was received outside.
    _heard: dict[str, int] = field(factory=dict)
    # What was lost with the life before, of each object.
    _lost: dict[str, Loss] = field(factory=dict)
    _arrived: dict[int, int] = field(factory=dict)
    _dues: set[int] = field(factory=set)
    # What the disk must have when the power is back.
    after_failure: dict[str, State | None] = field(factory=dict)
    connections: list[Connection] = field(factory=list)  # of this life
    _accepted: list[Connection] = field(factory=list)
    _connection_count: int = 0

    def tick(self, line: str) -> int:
        """The next time, and what happened at it."""
        self._time += 1
        self.lines.append(f"{self._time:5} {line}")
        return self._time

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def broken(self, what: str) -> None:
        """A promise is broken; the run goes on, so that no `except` can hide it."""
        if self.is_live:
            self.tick(f"VIOLATION {what}")
            self.violations.append(what)

    # Outside

    def begin_life(self) -> None:
        self.is_live = True
        self._newest.clear()
        self._activations.clear()
        self._arrived.clear()
        self.connections.clear()
        self._accepted.clear()

    def end_life(self, *, by_power_failure: bool) -> None:
        """The power fails, or the program has ended: what was not received by now never is."""
        over = self.tick("the life ends")
        for operation in self._open.values():
            operation.over = over
        self._open.clear()
        for name in self._confirmed:
            activation = self._activations.get(name)
            loss = Loss.NOTHING if activation is None else _loss_with(activation)
            self._lost[name] = Loss.ALL if by_power_failure else loss
        self.is_live = False

    def asked(self, operation: Operation) -> Operation:
        """A caller or client asks for *operation*."""
        operation.change = len(self.operations) + 1
        operation.called = self.tick(f"asks for {operation!r}")
        self.operations.append(operation)
        self._open[operation.change] = operation
        return operation

    def failed(self, error: Exception) -> None:
        """An error was received in place of an answer."""
        self.count("failures")
        self.tick(f"hears {type(error).__name__}: {str(error)[:60]}")
        if isinstance(error, InternalError):
            self.broken(f"an error of the library itself: {error!r}")

    def heard(self, operation: Operation, answer: Any) -> None:
        """Its answer has come. All that the answer rests on must be on the disk now."""
        if not self.is_live:
            return
        operation.answer = answer
        operation.returned = self.tick(f"hears {answer!r} of #{operation.change}")
        self.rests(operation.object, operation.rests_on)
        self._heard[operation.object] = max(self._heard.get(operation.object, 0), answer[0])
        self._open.pop(operation.change, None)
        for connection in self.connections:
            connection.is_answered(operation.change)

    def announced(self, change: int, *, all_of_it: bool = False) -> None:
        """The object sent this change to others outside, or waited until it may."""
        if not self.is_live:
            return
        operation = self.operations[change - 1]
        assert operation.n is not None
        self.rests(operation.object, operation.n if all_of_it else operation.rests_on)

    def rests(self, name: str, n: int) -> None:
        """What was received of object *name* rests on its having reached *n*."""
        if not self.is_live:
            return
        stored = self.look(name)
        if not self._is_whole(stored, name):
            return
        if stored.n < n:
            self.broken(f"P8: {name} said what rests on {n}, and the disk has {stored.n}")

    def _is_whole(self, stored: State | None, name: str) -> TypeGuard[State]:
        """What was written together is on the disk together."""
        if stored is None or (stored.last and self.operations[stored.last - 1].is_half):
            self.broken(f"P7: half a batch of {name} is on the disk: {stored}")
            return False
        return True

    # Inside

    def born(self, name: str, instance: object, activation: Activation) -> None:
        """A new instance begins with what the disk has, where no batch of its predecessor's is on
        its way any more."""
        self._newest[name] = instance
        predecessor, self._activations[name] = self._activations.get(name), activation
        if predecessor is not None and predecessor.phase is Phase.BROKEN:
            for connection in self.connections_of(name):
                connection.is_gone = True
        elif predecessor is not None and self.listed(name):
            self.count("wakes from hibernation")
        self.begins(name, Loss.NOTHING if predecessor is None else _loss_with(predecessor))

    def begins(self, name: str, may_lose: Loss = Loss.NOTHING) -> None:
        """Object *name* has no memory but the disk's, from this moment."""
        if not self.is_live:
            return
        state = self.look(name)
        if not self._is_whole(state, name):
            return
        birth = Operation(name, "birth", 0, 0, may_lose=self._lost.pop(name, may_lose))
        if state.n < self._heard.get(name, 0):
            self.count("unconfirmed losses")
        self._confirmed[name] = self._heard[name] = birth.n = state.n
        birth.change = len(self.operations) + 1
        birth.called = birth.returned = self.tick(f"{name} begins with {state}")
        birth.answer = state
        self.operations.append(birth)
        for operation in self._open.values():
            # What its predecessor made it did before, and else never.
            if operation.object == name and operation.n is not None and operation.over is None:
                operation.over = birth.called - 1

    def steps(self, name: str, instance: object) -> None:
        """Code of *instance* runs."""
        if self.is_live and self._newest.get(name) is not instance:
            self.broken(f"P1, P14: an instance of {name} runs beside a newer one")

    def arrived(self, name: str, stub: int, number: int) -> None:
        """Call *number* of a stub is delivered."""
        if number <= self._arrived.get(stub, 0):
            self.broken(f"P3: call {number} of stub {stub} reached {name} out of order")
        self._arrived[stub] = number

    def made(self, change: int, n: int, due: int | None = None) -> None:
        """The object's code carries out the change, and by that reaches *n*."""
        if not self.is_live:
            return
        operation = self.operations[change - 1]
        if operation.n is not None:
            self.broken(f"{operation!r} was carried out twice")
        operation.n, operation.due = n, due if due is not None else operation.due
        if operation.kind != "read" and not operation.unconfirmed:
            self._confirmed[operation.object] = n
        operation.rests_on = self._confirmed[operation.object]
        self.tick(f"  #{change} makes {operation.object} reach {n}")

    def is_unconfirmed(self, change: int) -> bool:
        """Whether this change was asked for with `allow_unconfirmed`."""
        return self.operations[change - 1].unconfirmed

    def new_due(self, delay_s: float) -> int:
        """A time for an alarm that no other alarm has."""
        due_us = int((self.now() + delay_s) * 1_000_000)
        while due_us in self._dues:
            due_us += 1
        self._dues.add(due_us)
        return due_us

    def rings(self, name: str, due: int, stored: int | None, *, is_retry: bool) -> Operation:
        """The alarm of *name* rings that was set for *due*; it has *stored* under its key."""
        # A retry is so many seconds after a failure, wherever the clock was set since.
        if self.now() * 1_000_000 < due and not is_retry:
            self.broken(f"P12: {name} rings {due - self.now() * 1_000_000:.0f} µs early")
        if stored != due:
            self.broken(f"P12: {name} rings for {due}, and its alarm is set for {stored}")
        self.count("rings")
        ring = Operation(name, "ring", 0, 0, due=due)
        return self.asked(ring) if self.is_live else ring

    # Web sockets

    def connections_of(self, name: str) -> list[Connection]:
        """Those that object *name* has accepted in this life, the oldest first."""
        return [connection for connection in self._accepted if connection.object == name]

    def listed(self, name: str) -> list[Connection]:
        """Those that object *name* must have among its sockets now."""
        return [c for c in self.connections_of(name) if c.is_listed]

    def connected(self, name: str, tags: tuple[str, ...]) -> Connection:
        """A client asks for a socket to object *name*."""
        self._connection_count += 1
        connection = Connection(
            self._connection_count, name, tags, self.broken, self._count_troubles
        )
        self.connections.append(connection)
        return connection

    def _count_troubles(self) -> int:
        counters_of_all = {
            activation.counters for activation in self._activations.values()
        }  # one a class
        return sum(counters.broken + counters.overloaded for counters in counters_of_all)

    def accepted(self, connection: Connection, end: Any) -> None:
        """The object keeps its end of a socket."""
        connection.is_accepted(end)
        self._accepted.append(connection)

    def says(self, connection: Connection, what: Any, change: int) -> None:
        """The object sends *what* on a socket; it must not be heard before all is on the disk that
        was made by now, but for what is unconfirmed."""
        rests_on = self._confirmed.get(connection.object, 0)
        connection.says(what, change, rests_on)

    def hears(self, connection: Connection, what: Any) -> None:
        """A client hears *what* on a socket."""
        if not self.is_live:
            return
        self.tick(f"socket {connection.number} hears {what!r}")
        self.count("socket messages")
        heard = connection.hears_end(what) if isinstance(what, End) else connection.hears(what)
        if heard is not None:
            self.rests(connection.object, heard.rests_on)

    # The verdict

    def judge(self) -> None:
        """Whether each object's operations have an order that the model explains."""
        for name in sorted({operation.object for operation in self.operations}):
            search = Search([o for o in self.operations if o.object == name])
            if not search.succeeds():
                self.violations.append(
                    f"{name} did what no patient object could:\n{search.report()}"
                )

    def judge_connections(self, *, is_at_rest: bool) -> None:
        """Whether the sockets of this life heard all that they had to hear."""
        for connection in self.connections:
            if connection.outer is None:
                continue
            if is_at_rest:
                connection.judge_at_rest()
            elif connection.heard_end is not None:
                connection.judge()


def _loss_with(activation: Activation) -> Loss:
    """What may be gone with the memory of *activation*."""
    if activation.handle.failed is not None:
        return Loss.ALL
    was_reset = activation.phase is Phase.BROKEN and not isinstance(
        activation.gate.broken, RuntimeClosed
    )
    return Loss.UNSENT if was_reset else Loss.NOTHING
