"""The idle watch: one timer, and an entry for each object."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from durable._loop.timers import Timers
from durable._model.ids import ObjectId
from durable._runtime.idle_watch import STALE_MIN, IdleWatch
from tests.hand_clock import HandClock

LIMIT_S = 10.0


@define
class Limits:
    idle_s_max: float = LIMIT_S


@define
class Services:
    clock: HandClock = field(factory=HandClock)
    limits: Limits = field(factory=Limits)
    timers: Timers = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.timers = Timers(self.clock)  # type: ignore[arg-type]


@define(eq=False)
class Live:
    """A live object, as the watch knows it."""

    live: dict[bytes, Any]
    id: ObjectId
    idle_since_s: float
    is_idle: bool = True
    look_s: float = 0.0

    def evict(self) -> None:
        del self.live[self.id.raw]


@define
class Kit:
    services: Services = field(factory=Services)
    live: dict[bytes, Any] = field(factory=dict)
    watch: IdleWatch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = IdleWatch(self.services, self.live)  # type: ignore[arg-type]

    def wake(self, number: int = 0) -> Live:
        object_id = ObjectId(number.to_bytes(32, "big"))
        live = Live(self.live, object_id, self.services.clock.now_s)
        self.live[object_id.raw] = live
        self.watch.add(live)  # type: ignore[arg-type]
        return live

    def turn_to(self, now_s: float) -> None:
        self.services.clock.now_s = now_s
        self.services.timers.run_due()


def test_each_is_evicted_when_it_has_been_idle_for_so_long() -> None:
    """And not before."""
    kit = Kit()
    kit.wake(1)
    kit.services.clock.now_s = 4.0
    kit.wake(2)

    kit.turn_to(9.9)
    assert len(kit.live) == 2
    kit.turn_to(10.0)
    assert len(kit.live) == 1
    kit.turn_to(14.0)
    assert not kit.live


def test_one_that_was_called_meanwhile_stays_for_as_long_again() -> None:
    """A busy one is looked at after the whole time."""
    kit = Kit()
    called, busy = kit.wake(1), kit.wake(2)
    called.idle_since_s, busy.is_idle = 7.0, False

    kit.turn_to(10.0)
    kit.turn_to(16.9)
    assert len(kit.live) == 2
    busy.is_idle = True
    kit.turn_to(17.0)
    assert list(kit.live.values()) == [busy]
    kit.turn_to(20.0)
    assert not kit.live


def test_an_entry_of_one_that_has_left_is_not_its_successors() -> None:
    """The successor has an entry of its own."""
    kit = Kit()
    kit.wake().evict()
    kit.services.clock.now_s = 5.0
    kit.wake()

    kit.turn_to(10.0)
    assert kit.live
    kit.turn_to(15.0)
    assert not kit.live


def test_entries_of_those_that_have_left_do_not_pile_up() -> None:
    """There are about as many as objects in memory, and there is one timer."""
    kit = Kit()
    for number in range(3 * STALE_MIN):
        kit.wake(number).evict()
    last = kit.wake()

    assert len(kit.watch._looks) <= STALE_MIN + 3
    assert len(kit.services.timers._heap) == 1
    kit.turn_to(LIMIT_S)
    assert last not in kit.live.values()


def test_one_timer_is_left_when_an_eviction_makes_another_object() -> None:
    """An observer that hears of it may call one."""
    kit = Kit()

    class Calling(Live):
        def evict(self) -> None:
            super().evict()
            kit.wake(2)

    calling = Calling(kit.live, ObjectId(bytes(32)), 0.0)
    kit.live[calling.id.raw] = calling
    kit.watch.add(calling)  # type: ignore[arg-type]
    kit.turn_to(LIMIT_S)

    assert len(kit.live) == 1
    assert len(kit.services.timers._heap) == 1
