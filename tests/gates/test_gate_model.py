"""The input gate against a reference that is a few lines long.

Whatever comes, waits, reads, ends or opens a critical section, in whatever order: both let the same
delivery run at every moment. The gate is the real one, without a loop and without a disk.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from durable._gates.delivery import Delivery
from durable._gates.input_gate import InputGate

from .fakes import Bench


@define
class Reference:
    """Owner, line, holds and sections: whose turn it is, and which of its tasks run.

    The first task of a delivery has the delivery's name.
    """

    holder: str | None = None
    running: list[str] = field(factory=list)
    # The tasks that were let in, in order.
    let_in: list[str] = field(factory=list)
    line: list[str] = field(factory=list)
    holds: int = 0
    held_back: list[str] = field(factory=list)
    sections: list[str] = field(factory=list)
    pending: list[str] = field(factory=list)
    parents: dict[str, str] = field(factory=dict)
    # Of tasks that others have started: the delivery in which.
    starters: dict[str, str] = field(factory=dict)
    # Sections that have ended: what they have left is their parents'.
    over: set[str] = field(factory=set)

    def home(self, task: str) -> str:
        """Whose a task is now."""
        owner = self.starters.get(task, task)
        while owner in self.over:
            owner = self.parents[owner]
        return owner

    def run(self, *tasks: str) -> None:
        self.running += tasks
        self.let_in += tasks

    def come(self, task: str) -> None:
        """What a task waited for on the outside has come."""
        if self.holder == self.home(task):
            if self.holds:
                self.held_back.append(task)
            else:
                self.run(task)
            return
        self.line.append(task)
        if self.holder is None:
            self.next()

    def next(self) -> None:
        """The turn is over: whose is the next?"""
        others, self.running = self.running, []
        self.holder = None
        if not self.holds:
            self._hand_over()
        # What was let in together with the task that has ended the turn, and had no step yet.
        for task in others:
            self.come(task)

    def _hand_over(self) -> None:
        section = self.next_section()
        if section is not None:
            self.pending.remove(section)
            self.sections.append(section)
            self.holder = section
            self.run(section)
        elif self.sections:
            self.holder = self.sections[-1]
            own = [task for task in self.line if self.home(task) == self.holder]
            self.line = [task for task in self.line if task not in own]
            self.run(*own)
        elif self.line:
            task = self.line.pop(0)
            self.holder = self.home(task)
            self.run(task)

    def is_still(self) -> None:
        """Whether the turn is over, when a task has stopped.

        A section keeps the gate, unless one within it is to start, or tasks of its own came back
        while one within it ran.
        """
        if self.running or self.holds:
            return
        is_kept = self.holder in self.sections and self.next_section() is None
        if not is_kept or any(self.home(task) == self.holder for task in self.line):
            self.next()

    def next_section(self) -> str | None:
        """The oldest that may start: any, or within a section one that was opened in it."""
        for section in self.pending:
            outer: str | None = section
            while self.sections and outer is not None and outer != self.sections[-1]:
                outer = self.parents.get(outer)
            if not self.sections or outer is not None:
                return section
        return None


@define(eq=False)
class Play:
    """Does the same to the gate and to the reference."""

    bench: Bench = field(factory=Bench)
    reference: Reference = field(factory=Reference)
    deliveries: dict[str, Delivery[Any]] = field(factory=dict)
    # What each task waits for, if it does: the outside, a read, or a section's end.
    waits: dict[str, str] = field(factory=dict)
    ended: set[str] = field(factory=set)
    reads: list[str] = field(factory=list)  # by which task awaited, or ""

    @property
    def running(self) -> str | None:
        """The task that has its step: one of those that were let in."""
        return next(iter(self.reference.running), None)

    def home(self, task: str) -> Delivery[Any]:
        return self.deliveries[self.reference.home(task)]

    def arrive(self) -> None:
        name = f"d{len(self.deliveries)}"
        self.reference.line.append(name)
        if self.reference.holder is None:
            self.reference.next()
        self.deliveries[name] = self.bench.arrive(name)

    def wake(self, which: int) -> None:
        """The outside answers one that waits for it."""
        waiting = [name for name, what in self.waits.items() if what == "outside"]
        if not waiting:
            return
        task = waiting[which % len(waiting)]
        del self.waits[task]
        home = self.home(task)
        self.reference.come(task)
        self.bench.resume(home, task=task)

    def start_task(self) -> None:
        """One more task of the delivery, which waits for the outside."""
        if self.running is None:
            return
        task = f"t{len(self.reference.starters)}"
        home = self.home(self.running)
        self.reference.starters[task] = home.label
        self.waits[task] = "outside"
        home.tasks += 1
        self.bench.gate.child_started(home)

    def wait_outside(self) -> None:
        task = self._stop()
        if task is not None:
            self.waits[task] = "outside"
            self._suspend(task)

    def _stop(self) -> str | None:
        """The task that has its step is to wait."""
        return self.reference.running.pop(0) if self.reference.running else None

    def _suspend(self, task: str) -> None:
        home = self.home(task)
        self.reference.is_still()
        self.bench.wait_outside(home)

    def _step_again(self, others: list[str]) -> None:
        """Tasks that were let in with one that has changed the gate find that at their step."""
        for task in others:
            self.bench.resume(self.home(task), task=task)

    def read(self, is_awaited: bool) -> None:
        if self.running is None:
            return
        reference = self.reference
        task, *others = reference.running
        reference.holds += 1
        self.bench.gate.hold()
        self.reads.append(task if is_awaited else "")
        if is_awaited:
            self.waits[task] = "read"
            reference.running.remove(task)
        for other in others:
            reference.running.remove(other)
            reference.come(other)
        self._step_again(others)

    def has_read(self, which: int) -> None:
        """The disk answers one of the reads."""
        if not self.reads or self.running is not None:
            return
        reader = self.reads.pop(which % len(self.reads))
        reference = self.reference
        reference.holds -= 1
        if reader:
            del self.waits[reader]
            home = self.home(reader)
            if reference.holder == home.label:
                reference.run(reader)
            else:
                reference.line.append(reader)
            # The task goes on before the gate is told that the read has ended.
            self.bench.resume(home, task=reader, from_inside=True)
        self._released()
        self.bench.gate.release()

    def _released(self) -> None:
        reference = self.reference
        if reference.holds:
            return
        held_back, reference.held_back = reference.held_back, []
        reference.run(*held_back)
        if reference.holder is None or not self.home(reference.holder).tasks:
            reference.next()
        else:
            reference.is_still()

    def open_section(self, is_awaited: bool) -> None:
        task = self.running
        if task is None:
            return
        name = f"s{len(self.deliveries)}"
        home = self.home(task)
        self.reference.parents[name] = home.label
        self.reference.pending.append(name)
        self.deliveries[name] = self.bench.section(name, home)
        if is_awaited:
            self.waits[task] = name
            self._stop()
            self._suspend(task)

    def end(self) -> None:
        task, reference = self.running, self.reference
        if task is None:
            return
        home = self.home(task)
        reference.running.remove(task)
        self.ended.add(task)
        if task in reference.starters:
            self._end_task(home)
        elif task in reference.sections:
            self._end_section(task)
        else:
            others = list(reference.running)
            if not reference.holds:
                reference.next()
            self.bench.leave(home)
            if not reference.holds:
                self._step_again(others)

    def _end_task(self, home: Delivery[Any]) -> None:
        home.tasks -= 1
        if not home.tasks and home.label in self.ended and not self.reference.holds:
            self.reference.next()
        else:
            self.reference.is_still()
        self.bench.gate.child_ended(home)

    def _end_section(self, name: str) -> None:
        reference = self.reference
        section = self.deliveries[name]
        others, reference.running = reference.running, []
        reference.sections.remove(name)
        reference.over.add(name)
        awaiting = next((task for task, what in self.waits.items() if what == name), None)
        # What was held back has its place at the end of the line now.
        held_back, reference.held_back = reference.held_back, []
        reference.line += held_back
        if awaiting is None:
            # What its own delivery waits for has no right to go before others.
            reference.next()
            self.bench.leave(section)
        else:
            # The code that awaits a section comes before all others, though reads hold the gate.
            del self.waits[awaiting]
            reference.holder = reference.home(awaiting)
            reference.run(awaiting)
            home = self.home(awaiting)
            self.bench.leave(section, home)
            self.bench.gate.hold()
            self.bench.resume(home, task=awaiting, from_inside=True)
            self.bench.gate.release()
        for task in others:
            reference.come(task)
        self._step_again(others)


FIND = (Phase.generate,)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive")),
        st.tuples(st.just("wake"), st.integers(0, 5)),
        st.tuples(st.just("start_task")),
        st.tuples(st.just("wait_outside")),
        st.tuples(st.just("read"), st.booleans()),
        st.tuples(st.just("has_read"), st.integers(0, 5)),
        st.tuples(st.just("open_section"), st.booleans()),
        st.tuples(st.just("end")),
    ),
    min_size=20,
    max_size=80,
)


@given(steps=STEPS)
@settings(max_examples=300)
def test_the_gate_lets_in_whom_the_reference_lets_in(steps: list[tuple[Any, ...]]) -> None:
    """At every moment, and nobody twice."""
    run(Play(), steps)


class Overtaking(InputGate[Any]):
    """After a section all of its delivery goes on, before those who came earlier."""

    def leave(self, delivery: Any, awaiting: Any = None) -> Any:
        if not delivery.is_section or awaiting is not None or not delivery.parent.tasks:
            return super().leave(delivery, awaiting)
        super().leave(delivery, delivery.parent)
        if self.holder is delivery.parent:
            self._give_back(delivery.parent)
        return None


class NobodyFirst(InputGate[Any]):
    """The code that awaits a section takes its turn as others do."""

    def leave(self, delivery: Any, awaiting: Any = None) -> Any:
        return super().leave(delivery)


class Clinging(InputGate[Any]):
    """A section stays one when its function has ended, while a read is under way."""

    def leave(self, delivery: Any, awaiting: Any = None) -> Any:
        if delivery.is_section and self._holds:
            delivery.has_left = True
            return None
        return super().leave(delivery, awaiting)


class Waiting(InputGate[Any]):
    """A section goes on until the tasks have ended that it has started."""

    def leave(self, delivery: Any, awaiting: Any = None) -> Any:
        if delivery.is_section and delivery.tasks:
            delivery.has_left = True
            return None
        return super().leave(delivery, awaiting)


class Disowning(InputGate[Any]):
    """Nobody inherits what a section has left running."""

    def _bequeath(self, section: Any) -> None:
        section.is_section = False


@pytest.mark.parametrize("gate_class", [Overtaking, NobodyFirst, Clinging, Waiting, Disowning])
def test_the_reference_tells_a_gate_that_breaks_a_rule(gate_class: type[InputGate[Any]]) -> None:
    """Of what comes after a section."""

    def is_told(steps: list[tuple[Any, ...]]) -> bool:
        try:
            run(Play(Bench(gate_class=gate_class)), steps)
        except AssertionError:
            return True
        return False

    find(STEPS, is_told, settings=settings(max_examples=5_000, database=None, phases=[*FIND]))


def run(play: Play, steps: list[tuple[Any, ...]]) -> None:
    reference, bench = play.reference, play.bench
    for name, *arguments in steps:
        reference.let_in.clear()
        bench.let_in.clear()
        getattr(play, name)(*arguments)
        # While a task runs there are no rounds.
        while bench.loop.soon and (
            len(bench.let_in) < len(reference.let_in) or not reference.running
        ):
            bench.loop.run_round()
        assert bench.let_in == reference.let_in
