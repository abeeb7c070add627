"""The input gate by itself: one turn at a time, in order, and none while the storage holds it."""

from __future__ import annotations

import pytest

from durable._gates.quiet_rounds import QUIET_ROUNDS, QUIET_ROUNDS_IN_ALL
from durable._model.errors import ObjectReset

from .fakes import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_goes_in_at_once_and_others_wait_in_order(bench: Bench) -> None:
    """Each end lets the oldest in."""
    a, b = bench.arrive("a"), bench.arrive("b")
    bench.arrive("c")
    assert bench.let_in == ["a"]
    assert bench.gate.queued == 2

    bench.leave(a)
    assert bench.let_in == ["a", "b"]
    bench.leave(b)
    assert bench.let_in == ["a", "b", "c"]


def test_nobody_barges(bench: Bench) -> None:
    """One who comes while others wait stands behind them, though nobody is in."""
    bench.gate.hold()
    bench.arrive("a")
    bench.arrive("b")
    assert bench.let_in == []

    bench.gate.release()
    assert bench.let_in == ["a"]


def test_waiting_on_the_outside_ends_the_turn(bench: Bench) -> None:
    """And the way back in is through the line."""
    a = bench.arrive("a")
    b = bench.arrive("b")
    bench.wait_outside(a)
    assert bench.let_in == ["a", "b"]
    bench.arrive("c")
    bench.resume(a)
    bench.leave(b)
    assert bench.let_in == ["a", "b", "c"]


def test_the_turn_s_writes_are_sealed_when_it_ends(bench: Bench) -> None:
    """Once, and only if there are any."""
    a = bench.arrive("a")
    bench.output.note_write()
    bench.output.note_write()
    bench.wait_outside(a)
    assert bench.sealed == 1
    bench.resume(a)
    bench.leave(a)
    assert bench.sealed == 1


def test_a_bare_yield_keeps_the_gate_for_some_rounds(bench: Bench) -> None:
    """A task that only lets others run comes back; if it does not, its turn is over."""
    a = bench.arrive("a")
    bench.arrive("b")
    bench.wait_outside(a, is_bare=True)
    assert bench.let_in == ["a"]

    assert bench.loop.run() == QUIET_ROUNDS
    assert bench.let_in == ["a", "b"]


def test_a_delivery_with_tasks_keeps_the_gate_while_anything_of_it_stirs(bench: Bench) -> None:
    """Still for some rounds of the loop, it waits on the outside."""
    a = bench.arrive("a")
    a.tasks += 1
    bench.gate.child_started(a)
    bench.arrive("b")
    bench.wait_outside(a)
    for _ in range(QUIET_ROUNDS - 1):
        bench.loop.soon.popleft()()
    bench.gate.suspended(a, is_bare=False)  # one of its tasks made a step
    for _ in range(QUIET_ROUNDS):
        bench.loop.soon.popleft()()
    assert bench.let_in == ["a"]

    bench.loop.run()
    assert bench.let_in == ["a", "b"]


def test_a_delivery_whose_tasks_never_rest_gives_others_their_chance_in_the_end(
    bench: Bench,
) -> None:
    """Woken from outside every few rounds it is never still for long; nobody waits for ever."""
    a = bench.arrive("a")
    a.tasks += 1
    bench.gate.child_started(a)
    bench.arrive("b")
    bench.wait_outside(a)
    for _ in range(2 * QUIET_ROUNDS_IN_ALL):
        for _ in range(QUIET_ROUNDS // 2):
            if bench.loop.soon:
                bench.loop.soon.popleft()()
        bench.gate.suspended(a)
        if bench.let_in == ["a", "b"]:
            break

    assert bench.let_in == ["a", "b"]


def test_nobody_watches_while_nobody_waits(bench: Bench) -> None:
    """Then being still costs nothing."""
    a = bench.arrive("a")
    a.fanned_out = True
    bench.wait_outside(a)
    assert not bench.loop.soon


def test_a_hold_lets_only_the_storage_s_own_task_on(bench: Bench) -> None:
    """Not even another task of the holder."""
    a = bench.arrive("a")
    bench.gate.hold()
    bench.arrive("b")
    bench.wait_outside(a)
    bench.resume(a)
    assert bench.let_in == ["a"]

    bench.gate.release()
    assert bench.let_in == ["a", "a"]
    bench.leave(a)
    assert bench.let_in == ["a", "a", "b"]


def test_a_hold_outlives_the_handler_that_did_not_await_it(bench: Bench) -> None:
    """The next is let in at its end."""
    a = bench.arrive("a")
    bench.gate.hold()
    bench.arrive("b")
    bench.leave(a)
    assert bench.let_in == ["a"]

    bench.gate.release()
    assert bench.let_in == ["a", "b"]


def test_a_section_starts_when_the_turn_ends_and_before_all_who_wait(bench: Bench) -> None:
    """And the code that awaits it goes on before them, too."""
    a = bench.arrive("a")
    bench.arrive("b")
    section = bench.section("section", a)
    assert bench.let_in == ["a"]

    bench.wait_outside(a)
    bench.wait_outside(section)
    bench.loop.run()
    assert bench.let_in == ["a", "section"]

    bench.resume(section)
    bench.leave(section, a)
    bench.resume(a, from_inside=True)
    bench.leave(a)
    assert bench.let_in == ["a", "section", "section", "a", "b"]


def test_what_a_section_s_delivery_waits_for_does_not_overtake_a_call(bench: Bench) -> None:
    """Only the code that awaits the section goes before those who have waited longer."""
    a = bench.arrive("a")
    section = bench.section("section", a)
    bench.wait_outside(a)
    bench.arrive("b")
    bench.resume(a)  # what it waited for was not the section
    bench.leave(section)
    assert bench.let_in == ["a", "section", "b"]


def test_what_a_section_left_running_is_its_heir_s(bench: Bench) -> None:
    """It does not keep the gate, and counts among the tasks of the code around the section."""
    a = bench.arrive("a")
    section = bench.section("section", a)
    bench.wait_outside(a)
    section.tasks += 1
    bench.gate.child_started(section)
    bench.leave(section, a)
    assert (section.tasks, a.tasks) == (0, 2)

    bench.leave(a)
    bench.resume(section)  # a task of it, with what it waited for
    assert bench.gate.holder is a
    bench.arrive("b")
    bench.wait_outside(section.home)
    bench.loop.run()
    assert bench.let_in == ["a", "section", "a", "b"]


def test_a_section_that_waits_is_not_overtaken_by_the_next(bench: Bench) -> None:
    """Sections of one turn run one after the other."""
    a = bench.arrive("a")
    first, _ = bench.section("first", a), bench.section("second", a)
    bench.wait_outside(a)
    bench.wait_outside(first)
    bench.loop.run()
    assert bench.let_in == ["a", "first"]

    bench.resume(first)
    bench.leave(first)
    assert bench.let_in == ["a", "first", "first", "second"]


def test_a_broken_gate_lets_nobody_in_and_wakes_all_who_wait(bench: Bench) -> None:
    """They find that they are not to go on; events that had not begun are given back."""
    a = bench.arrive("a")
    b = bench.arrive("b")
    bench.wait_outside(a)
    bench.resume(a)
    c = bench.arrive("c")
    unstarted = bench.gate.break_(ObjectReset("gone"))

    assert unstarted == [c]
    assert bench.let_in == ["a", "b", "a"]
    with pytest.raises(ObjectReset, match="gone"):
        bench.gate.check()
    assert "broken" in repr(bench.gate)
    assert b is bench.gate.holder
