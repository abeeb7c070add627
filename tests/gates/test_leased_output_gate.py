"""The output gate of an object that is had by a lease: once that is over, nothing leaves."""

from __future__ import annotations

from attrs import define

from durable._engine.lease import Lease
from durable._gates.leased_output_gate import LeasedOutputGate
from durable._gates.output_gate import Unheard


@define
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


class Leased:
    """A gate with a lease of ten seconds, and what it says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lease = Lease(10.0, self.clock)
        self.lease.granted(self.lease.asking())
        self.heard: list[str] = []
        self.over = 0
        self.gate = LeasedOutputGate(lease=self.lease, on_over=self._is_over)

    def _is_over(self) -> None:
        self.over += 1

    def say(self, text: str, unheard: Unheard | None = None) -> None:
        gate = self.gate
        gate.when_durable(gate.seqno(), lambda: self.heard.append(text), unheard)


class Told:
    def __init__(self) -> None:
        self.error: Exception | None = None

    def fail(self, error: Exception, /) -> None:
        self.error = error


def test_while_the_lease_lasts_messages_leave() -> None:
    leased = Leased()
    leased.say("a")

    assert leased.gate.is_open()
    assert leased.heard == ["a"]
    assert not leased.over


def test_when_it_is_over_nothing_leaves() -> None:
    """Neither what needs no write, nor what waited for one that has become durable."""
    leased = Leased()
    gate = leased.gate
    gate.note_write()
    gate.seal()
    leased.say("waits")
    gate.unsaid = [(0, lambda: leased.heard.append("turn"), None)]
    leased.clock.now_s += 10.0
    gate.durable = 1
    gate.release()
    gate.let_go()
    leased.say("late")

    assert not gate.is_open()
    assert leased.heard == []
    assert leased.over


def test_whoever_waits_is_told_when_the_object_breaks() -> None:
    leased = Leased()
    told = Told()
    leased.clock.now_s += 10.0
    leased.say("late", told)

    assert leased.gate.drop_waiting() == [told]


def test_a_renewal_that_comes_late_lets_nothing_out() -> None:
    """What was kept stays kept: its object is about to break."""
    leased = Leased()
    asked = leased.lease.asking()
    leased.clock.now_s += 9.5
    leased.say("late")
    leased.lease.granted(asked + 5.0)
    leased.gate.release()

    assert leased.over


def test_each_message_asks_for_itself() -> None:
    """The process may be stopped between two that leave together."""
    leased = Leased()
    gate = leased.gate
    gate.note_write()
    gate.seal()
    leased.say("first")

    def be_stopped() -> None:
        leased.clock.now_s += 10.0

    gate.when_durable(gate.seqno(), be_stopped)
    leased.say("last")
    gate.durable = 1
    gate.release()

    assert leased.heard == ["first"]
    assert leased.over


def test_messages_leave_in_their_order() -> None:
    leased = Leased()
    gate = leased.gate
    for number in range(3):
        gate.note_write()
        gate.seal()
        leased.say(f"{number} a")
        leased.say(f"{number} b")
    gate.durable = 2
    gate.release()
    assert leased.heard == ["0 a", "0 b", "1 a", "1 b"]
    gate.durable = 3
    gate.release()
    assert leased.heard[4:] == ["2 a", "2 b"]
