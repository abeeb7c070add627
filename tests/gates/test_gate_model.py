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
    """Owner, line, holds and sections: whose turn it is, and whether it runs."""

    holder: str | None = None
    runs: bool = False
    line: list[str] = field(factory=list)
    holds: int = 0
    sections: list[str] = field(factory=list)
    pending: list[str] = field(factory=list)
    parents: dict[str, str] = field(factory=dict)

    def next(self) -> None:
        """The turn is over: whose is the next?"""
        self.holder, self.runs = None, False
        if self.holds:
            return
        section = self.next_section()
        if section is not None:
            self.pending.remove(section)
            self.sections.append(section)
            self.holder, self.runs = section, True
        elif self.sections:
            self.holder = self.sections[-1]
            self.runs = self.holder in self.line
            if self.runs:
                self.line.remove(self.holder)
        elif self.line:
            self.holder, self.runs = self.line.pop(0), True

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
    # What each waits for, if it does: the outside, a read, or its section's end.
    waits: dict[str, str] = field(factory=dict)
    ended: set[str] = field(factory=set)
    reads: list[str] = field(factory=list)  # by whom awaited, or ""

    @property
    def running(self) -> Delivery[Any] | None:
        reference = self.reference
        return self.deliveries[reference.holder] if reference.holder and reference.runs else None

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
        name = waiting[which % len(waiting)]
        reference = self.reference
        if reference.holder == name:
            if reference.holds:
                self.waits[name] = "held back"
            else:
                del self.waits[name]
                reference.runs = True
        else:
            del self.waits[name]
            reference.line.append(name)
            if reference.holder is None:
                reference.next()
        self.bench.resume(self.deliveries[name])

    def wait_outside(self) -> None:
        running, reference = self.running, self.reference
        if running is None:
            return
        self.waits[running.label] = "outside"
        reference.runs = False
        if not reference.holds:
            self._is_outside(running.label)
        self.bench.wait_outside(running)

    def _is_outside(self, holder: str) -> None:
        """A section keeps the gate, unless one within it is to start."""
        if holder not in self.reference.sections or self.reference.next_section() is not None:
            self.reference.next()

    def read(self, is_awaited: bool) -> None:
        running = self.running
        if running is None:
            return
        self.reference.holds += 1
        self.bench.gate.hold()
        self.reads.append(running.label if is_awaited else "")
        if is_awaited:
            self.waits[running.label] = "read"
            self.reference.runs = False

    def has_read(self, which: int) -> None:
        """The disk answers one of the reads."""
        if not self.reads or self.running is not None:
            return
        reader = self.reads.pop(which % len(self.reads))
        reference = self.reference
        reference.holds -= 1
        holder = reference.holder
        if reader:
            del self.waits[reader]
            reference.runs = True
            # The task goes on before the gate is told that the read has ended.
            self.bench.resume(self.deliveries[reader], from_inside=True)
        elif not reference.holds:
            if holder is None or holder in self.ended:
                reference.next()
            elif self.waits[holder] == "held back":
                del self.waits[holder]
                reference.runs = True
            elif self.waits[holder] == "outside":
                self._is_outside(holder)
        self.bench.gate.release()

    def open_section(self, is_awaited: bool) -> None:
        running = self.running
        if running is None:
            return
        name = f"s{len(self.deliveries)}"
        self.reference.parents[name] = running.label
        self.reference.pending.append(name)
        self.deliveries[name] = self.bench.section(name, running)
        if is_awaited and not self.reference.holds:
            self.waits[running.label] = name
            self.reference.next()
            self.bench.wait_outside(running)

    def end(self) -> None:
        running, reference = self.running, self.reference
        if running is None:
            return
        name = running.label
        self.ended.add(name)
        reference.runs = False
        if name not in reference.sections:
            if not reference.holds:
                reference.next()
            self.bench.leave(running)
            return
        reference.sections.remove(name)
        parent = reference.parents[name]
        if self.waits.get(parent) != name:
            # What its own delivery waits for has no right to go before others.
            reference.next()
            self.bench.leave(running)
            return
        # The code that awaits a section comes before all others, though reads hold the gate.
        del self.waits[parent]
        reference.holder, reference.runs = parent, True
        awaiting = self.deliveries[parent]
        self.bench.leave(running, awaiting)
        self.bench.gate.hold()
        self.bench.resume(awaiting, from_inside=True)
        self.bench.gate.release()


FIND = (Phase.generate,)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive")),
        st.tuples(st.just("wake"), st.integers(0, 5)),
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
@settings(max_examples=200)
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


@pytest.mark.parametrize("gate_class", [Overtaking, NobodyFirst, Clinging])
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
    for name, *arguments in steps:
        before, let_in = play.running, len(play.bench.let_in)
        getattr(play, name)(*arguments)
        goes_on = before is not None and play.running is before
        while play.bench.loop.soon and not goes_on and len(play.bench.let_in) == let_in:
            play.bench.loop.run_round()  # while someone runs there are no rounds
        now = play.running
        expected = [] if now is None or goes_on else [now.label]
        assert play.bench.let_in[let_in:] == expected
