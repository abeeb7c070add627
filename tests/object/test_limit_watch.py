"""The limit watch: one timer, and an entry for each that has a limit."""

from __future__ import annotations

import gc
import weakref

import pytest
from attrs import define, field

from durable._loop.timers import Timers
from durable._object.limit_watch import LimitWatch
from tests.hand_clock import HandClock

LIMIT_S = 10.0


@define(eq=False)
class Object:
    """Notes when it has reached its limit, and may begin anew then."""

    kit: Kit
    reached_s: list[float] = field(factory=list)
    goes_on: bool = False

    def reached_limit(self) -> None:
        self.reached_s.append(self.kit.clock.now_s)
        if self.goes_on:
            self.goes_on = False
            self.kit.watch.add(self)


@define
class Kit:
    clock: HandClock = field(factory=HandClock)
    timers: Timers = field(init=False)
    watch: LimitWatch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.timers = Timers(self.clock)  # type: ignore[arg-type]
        self.watch = LimitWatch(self.timers, LIMIT_S)

    def turn_to(self, now_s: float) -> None:
        self.clock.now_s = now_s
        self.timers.run_due()


def test_each_reaches_the_limit_when_its_time_is_over() -> None:
    """And not before."""
    kit = Kit()
    one, other = Object(kit), Object(kit)
    kit.watch.add(one)
    kit.clock.now_s = 4.0
    kit.watch.add(other)
    kit.turn_to(9.9)
    assert (one.reached_s, other.reached_s) == ([], [])
    kit.turn_to(10.0)
    assert (one.reached_s, other.reached_s) == ([10.0], [])
    kit.turn_to(14.0)
    assert (one.reached_s, other.reached_s) == ([10.0], [14.0])


def test_one_that_is_added_again_has_all_of_the_time_again() -> None:
    kit = Kit()
    one = Object(kit, goes_on=True)
    kit.watch.add(one)
    kit.turn_to(10.0)
    kit.turn_to(19.9)
    assert one.reached_s == [10.0]
    kit.turn_to(20.0)
    assert one.reached_s == [10.0, 20.0]


def test_one_that_was_discarded_is_neither_limited_nor_kept() -> None:
    kit = Kit()
    one, other = Object(kit), Object(kit)
    kit.watch.add(one)
    kit.watch.add(other)
    kit.watch.discard(one)
    kit.watch.discard(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    kit.turn_to(10.0)
    assert other.reached_s == [10.0]


def test_one_that_fails_leaves_the_others_their_limit() -> None:
    """The timer of the others is set again."""
    kit = Kit()

    class Failing(Object):
        def reached_limit(self) -> None:
            raise RuntimeError("a fault of the library")

    failing, other = Failing(kit), Object(kit)
    kit.watch.add(failing)
    kit.watch.add(other)
    kit.turn_to(10.0)

    assert other.reached_s == [10.0]


def test_no_timer_is_left_when_nothing_has_a_limit() -> None:
    kit = Kit()
    kit.watch.add(Object(kit))
    kit.turn_to(10.0)
    assert kit.timers.next_due_s() == pytest.approx(float("inf"))
