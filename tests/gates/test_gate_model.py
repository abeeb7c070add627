"""The input gate against a reference that is a few lines long.

Whatever comes, waits, reads, ends or opens a critical section, in whatever order: both let the same
delivery run at every moment. The gate is the real one, without a loop and without a disk.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._gates.delivery import Delivery

from .fakes import Bench


@define
class Reference:
    """Owner, line, holds and sections: whose turn it is, and whether it runs."""

    owner: str | None = None
    runs: bool = False
    line: list[str] = field(factory=list)
    holds: int = 0
    sections: list[str] = field(factory=list)
    pending: list[str] = field(factory=list)

    def next(self) -> None:
        """The turn is over: whose is the next?"""
        self.owner, self.runs = None, False
        if not self.holds and (self.pending or self.sections or self.line):
            if not self.sections and self.pending:
                self.sections.append(self.pending.pop(0))
            self.owner = self.sections[-1] if self.sections else self.line.pop(0)
            self.runs = True


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
    parents: dict[str, str] = field(factory=dict)

    @property
    def running(self) -> Delivery[Any] | None:
        reference = self.reference
        return self.deliveries[reference.owner] if reference.owner and reference.runs else None

    def arrive(self) -> None:
        name = f"d{len(self.deliveries)}"
        self.reference.line.append(name)
        if self.reference.owner is None:
            self.reference.next()
        self.deliveries[name] = self.bench.arrive(name)

    def wake(self, which: int) -> None:
        """The outside answers one that waits for it."""
        waiting = [name for name, what in self.waits.items() if what == "outside"]
        if not waiting:
            return
        name = waiting[which % len(waiting)]
        reference = self.reference
        if reference.owner == name:
            if reference.holds:
                self.waits[name] = "held back"
            else:
                del self.waits[name]
                reference.runs = True
        else:
            del self.waits[name]
            reference.line.append(name)
            if reference.owner is None:
                reference.next()
        self.bench.resume(self.deliveries[name])

    def wait_outside(self) -> None:
        running, reference = self.running, self.reference
        if running is None:
            return
        self.waits[running.label] = "outside"
        reference.runs = False
        if not reference.holds and not running.is_section:
            reference.next()
        self.bench.wait_outside(running)

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
        owner = reference.owner
        if reader:
            del self.waits[reader]
            reference.runs = True
            # The task goes on before the gate is told that the read has ended.
            self.bench.resume(self.deliveries[reader], from_storage=True)
        elif not reference.holds and owner is not None:
            if owner in self.ended:
                self._after(owner)
            elif self.waits[owner] == "held back":
                del self.waits[owner]
                reference.runs = True
            elif self.waits[owner] == "outside" and not self.deliveries[owner].is_section:
                reference.next()
        self.bench.gate.release()

    def open_section(self, is_awaited: bool) -> None:
        running = self.running
        if running is None or running.is_section:
            return
        name = f"s{len(self.deliveries)}"
        self.parents[name] = running.label
        self.reference.pending.append(name)
        self.deliveries[name] = self.bench.section(name, running)
        if is_awaited and not self.reference.holds:
            self.waits[running.label] = name
            self.reference.next()
            self.bench.wait_outside(running)

    def end(self) -> None:
        running = self.running
        if running is None:
            return
        name = running.label
        self.ended.add(name)
        self.reference.runs = False
        if not self.reference.holds:
            self._after(name)
        self.bench.leave(running)
        parent = self.parents.get(name)
        if parent is not None and self.waits.get(parent) == name:
            self._answer(parent)

    def _after(self, name: str) -> None:
        """*name* has ended: the code that awaits a section comes before all others."""
        reference = self.reference
        if name not in reference.sections:
            reference.next()
            return
        reference.sections.remove(name)
        parent = self.parents[name]
        if reference.pending or parent in self.ended:
            reference.next()
        elif parent in reference.line:
            reference.line.remove(parent)
            reference.owner, reference.runs = parent, True
        elif self.waits.get(parent) == name:
            reference.owner, reference.runs = parent, False  # `_answer` lets it go on
        else:
            reference.next()

    def _answer(self, parent: str) -> None:
        """The section that *parent* awaits has ended."""
        reference = self.reference
        del self.waits[parent]
        if reference.owner == parent:
            reference.runs = True
        else:
            reference.line.append(parent)
            if reference.owner is None:
                reference.next()
        self.bench.resume(self.deliveries[parent])


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
    play = Play()
    for name, *arguments in steps:
        before, let_in = play.running, len(play.bench.let_in)
        getattr(play, name)(*arguments)
        goes_on = before is not None and play.running is before
        while play.bench.loop.soon and not goes_on and len(play.bench.let_in) == let_in:
            play.bench.loop.run_round()  # while someone runs there are no rounds
        now = play.running
        expected = [] if now is None or goes_on else [now.label]
        assert play.bench.let_in[let_in:] == expected
