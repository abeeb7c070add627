"""The commit watch: one timer, and an entry for each object that has a batch on its way."""

from __future__ import annotations

import gc
import weakref

import pytest
from attrs import define, field

from durable._loop.timers import Timers
from durable._object.commit_watch import CommitWatch

LIMIT_S = 10.0


@define
class Clock:
    now_s: float = 0.0

    def steady(self) -> float:
        return self.now_s


@define(eq=False)
class Object:
    """One that is looked at; while it has more on its way it is looked at again."""

    watch: CommitWatch
    looked_at: list[int] = field(factory=list)
    next: int | None = None

    def look_at_commit(self, number: int) -> None:
        self.looked_at.append(number)
        if self.next is not None:
            self.watch.add(self, self.next)
            self.next = None


@define
class Kit:
    clock: Clock = field(factory=Clock)
    timers: Timers = field(init=False)
    watch: CommitWatch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.timers = Timers(self.clock)  # type: ignore[arg-type]
        self.watch = CommitWatch(self.timers, LIMIT_S)

    def turn_to(self, now_s: float) -> None:
        self.clock.now_s = now_s
        self.timers.run_due()


def test_each_is_looked_at_when_its_time_is_over() -> None:
    """With the number that should be durable by then, and not before."""
    kit = Kit()
    one, other = Object(kit.watch), Object(kit.watch)
    kit.watch.add(one, 7)
    kit.clock.now_s = 4.0
    kit.watch.add(other, 8)
    kit.turn_to(9.9)
    assert (one.looked_at, other.looked_at) == ([], [])
    kit.turn_to(10.0)
    assert (one.looked_at, other.looked_at) == ([7], [])
    kit.turn_to(14.0)
    assert (one.looked_at, other.looked_at) == ([7], [8])


def test_one_that_goes_on_is_looked_at_again() -> None:
    kit = Kit()
    one = Object(kit.watch, next=9)
    kit.watch.add(one, 7)
    kit.turn_to(10.0)
    kit.turn_to(19.9)
    assert one.looked_at == [7]
    kit.turn_to(20.0)
    assert one.looked_at == [7, 9]


def test_one_that_has_left_memory_is_neither_looked_at_nor_kept() -> None:
    kit = Kit()
    one, other = Object(kit.watch), Object(kit.watch)
    kit.watch.add(one, 1)
    kit.watch.add(other, 2)
    kit.watch.discard(one)
    kit.watch.discard(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    kit.turn_to(10.0)
    assert other.looked_at == [2]


def test_a_look_that_fails_leaves_the_others_theirs() -> None:
    """The timer of the others is set again."""
    kit = Kit()

    class Failing(Object):
        def look_at_commit(self, number: int) -> None:
            raise RuntimeError("a fault of the library")

    failing, other = Failing(kit.watch), Object(kit.watch)
    kit.watch.add(failing, 1)
    kit.watch.add(other, 2)
    kit.turn_to(10.0)

    assert other.looked_at == [2]


def test_no_timer_is_left_when_there_is_nothing_to_look_at() -> None:
    kit = Kit()
    kit.watch.add(Object(kit.watch), 1)
    kit.turn_to(10.0)
    assert kit.timers.next_due_s() == pytest.approx(float("inf"))
