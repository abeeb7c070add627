"""Simulated processes and their connections keep the rules that real ones keep."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from .agenda import Agenda
from .machine import Machine
from .network import SILENCE_S_MAX, Delays, End, Listeners, Network


@define(eq=False)
class Two:
    """Two processes, and what each of them hears."""

    seed: int = 1
    agenda: Agenda = field(init=False)
    network: Network = field(init=False)
    machines: list[Machine] = field(init=False)
    ends: list[End] = field(factory=list)
    heard: list[Any] = field(factory=list)
    # What each sender is told never to have left.
    unsent: list[list[Any]] = field(factory=list)
    failures: int = 0

    def __attrs_post_init__(self) -> None:
        self.agenda = Agenda(self.seed)
        self.network = Network(self.agenda, Delays(late_of=3))
        self.machines = [Machine(self.agenda, "one", 0.9), Machine(self.agenda, "other", 1.1)]

    def connect(self) -> None:
        self.network.connect(*self.machines, self.met, self.met, self.failed)
        self.agenda.run_until(self.agenda.now_s + 2)

    def met(self, end: End) -> Listeners:
        self.ends.append(end)
        return self.heard.append, self.unsent.append

    def failed(self) -> None:
        self.failures += 1

    def end_of(self, machine: Machine) -> End:
        return next(end for end in self.ends if end.machine is machine)


def test_messages_arrive_in_their_order() -> None:
    two = Two()
    two.connect()
    end = two.end_of(two.machines[0])
    for number in range(100):
        end.send(number)
    two.agenda.run_until(100)

    assert two.heard == list(range(100))
    assert not two.unsent


def test_of_a_broken_connection_a_first_part_arrives() -> None:
    """And nothing of what its sender was told never to have left."""
    kept = 0
    for seed in range(50):
        two = Two(seed)
        two.connect()
        end = two.end_of(two.machines[0])
        for number in range(20):
            end.send(number)
        end.link.break_()
        end.send(20)
        two.agenda.run_until(100)

        assert two.heard == list(range(len(two.heard)))
        assert not set(two.heard) & {number for each in two.unsent for number in each}
        assert [20] in [each[-1:] for each in two.unsent]
        kept += 0 < len(two.heard) < 20
    assert kept


def test_a_stopped_process_hears_later_and_a_silent_one_is_given_up() -> None:
    two = Two()
    two.connect()
    one, other = two.machines
    other.stop()
    two.end_of(one).send("hello")
    two.agenda.run_until(two.agenda.now_s + 1)
    assert not two.heard
    other.go_on()
    assert two.heard == ["hello"]
    other.stop()
    two.agenda.run_until(two.agenda.now_s + 2 * SILENCE_S_MAX)

    assert two.end_of(one).is_gone
    assert not two.end_of(other).is_gone
    other.go_on()
    assert two.end_of(other).is_gone


def test_nothing_happens_in_a_dead_process_and_nobody_connects_with_it() -> None:
    two = Two()
    other = two.machines[1]
    happened: list[str] = []
    other.call_later(1.0, lambda: happened.append("later"))
    other.die()
    two.connect()
    two.agenda.run_until(100)

    assert not happened
    assert (two.failures, two.ends) == (1, [])


def test_processes_that_are_cut_off_from_each_other_do_not_connect() -> None:
    """The connection that they had is lost."""
    two = Two()
    two.connect()
    one, other = two.machines
    two.network.cut(one, other)
    two.connect()
    assert (two.failures, len(two.ends), len(two.unsent)) == (1, 2, 2)
    two.network.mend()
    two.connect()

    assert (two.failures, len(two.ends)) == (1, 4)


def test_each_process_has_its_own_clock() -> None:
    two = Two()
    fast: list[float] = []
    two.machines[1].call_later(11.0, lambda: fast.append(two.agenda.now_s))
    two.agenda.run_until(10.5)

    assert fast == [10.0]
    assert two.machines[0].steady() == 0.9 * 10.5
