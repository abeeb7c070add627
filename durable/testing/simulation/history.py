"""The history: what was asked for and heard outside, and what the objects' code saw of itself.

Rule: what can be judged at once is judged here, at the moment it happens, against the disk as it is
then. The order of operations is judged at the end, by `model`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import define, field

from .model import Operation, Search, State


@define(eq=False)
class History:
    """One seed's history, over all lives of the store."""

    chance: random.Random
    now: Callable[[], float]
    operations: list[Operation] = field(factory=list)
    # What the disk has of an object at this moment.
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
    _arrived: dict[int, int] = field(factory=dict)
    _dues: set[int] = field(factory=set)

    def tick(self, line: str) -> int:
        """The next time, and what happened at it."""
        self._time += 1
        self.lines.append(f"{self._time:5} {line}")
        return self._time

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def broken(self, what: str) -> None:
        """A promise is broken; what runs goes on, so that no `except` of anybody's can hide it."""
        if self.is_live:
            self.tick(f"VIOLATION {what}")
            self.violations.append(what)

    # Outside

    def begin_life(self) -> None:
        self.is_live = True
        self._newest.clear()
        self._arrived.clear()

    def end_life(self) -> None:
        """The power fails, or the program has ended: what was not heard by now never is."""
        over = self.tick("the life ends")
        for operation in self._open.values():
            operation.over = over
        self._open.clear()
        self.is_live = False

    def asked(self, operation: Operation) -> Operation:
        """Somebody outside asks for *operation*."""
        operation.change = len(self.operations) + 1
        operation.called = self.tick(f"asks for {operation!r}")
        self.operations.append(operation)
        self._open[operation.change] = operation
        return operation

    def heard(self, operation: Operation, answer: Any) -> None:
        """Its answer has come. All that the answer rests on must be on the disk now."""
        if not self.is_live:
            return
        operation.answer = answer
        operation.returned = self.tick(f"hears {answer!r} of #{operation.change}")
        self.said(operation.object, answer[0])
        self._open.pop(operation.change, None)

    def said(self, name: str, n: int) -> None:
        """Object *name* let somebody outside of it know that it has reached *n*."""
        if not self.is_live:
            return
        stored = self.look(name)
        if stored is None:
            self.broken(f"P7: half a batch of {name} is on the disk")
        elif stored.n < n:
            self.broken(f"P8: {name} said {n}, and the disk has {stored.n}")

    # Inside

    def born(self, name: str, instance: object) -> None:
        self._newest[name] = instance

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
        self.tick(f"  #{change} makes {operation.object} reach {n}")

    def new_due(self, delay_s: float) -> int:
        """A time for an alarm that no other alarm has."""
        due_us = int((self.now() + delay_s) * 1_000_000)
        while due_us in self._dues:
            due_us += 1
        self._dues.add(due_us)
        return due_us

    def rings(self, name: str, due: int, stored: int | None, *, is_retry: bool) -> Operation:
        """The alarm of *name* rings that was set for *due*; it has *stored* under its key."""
        # A retry is so many seconds after a failure, whatever somebody has set the clock to since.
        if self.now() * 1_000_000 < due and not is_retry:
            self.broken(f"P12: {name} rings {due - self.now() * 1_000_000:.0f} µs early")
        if stored != due:
            self.broken(f"P12: {name} rings for {due}, and its alarm is set for {stored}")
        self.count("rings")
        ring = Operation(name, "ring", 0, 0, due=due)
        return self.asked(ring) if self.is_live else ring

    # The verdict

    def judge(self) -> None:
        """Whether each object's operations have an order that a patient object explains."""
        for name in sorted({operation.object for operation in self.operations}):
            search = Search([o for o in self.operations if o.object == name])
            if not search.succeeds():
                self.violations.append(
                    f"{name} did what no patient object could:\n{search.report()}"
                )
