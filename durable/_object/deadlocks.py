"""Deadlocks: calls that could never be delivered, since what keeps them out waits for them.

A critical section keeps every other invocation of its object out. If it waits, through calls of
other objects and their sections, for one of these invocations, nothing of this ring could ever go
on; each call in it that a section keeps out gets `Deadlock`.

Rule: what counts is what is awaited, now, by code whose end depends on it. So this looks when a
call is kept out by a section, and again when code begins to await what the ring lacked.

A ring may lead through other processes. Where a search comes to an invocation whose caller is in
another one, that invocation asks on there (`ask_afar`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import frozen

from durable._gates.delivery import Delivery
from durable._gates.futures import PendingAnswer, wakers_of, when_awaited
from durable._model.errors import Deadlock

from .invocation import Invocation, event_of


def is_kept_out(invocation: Invocation[Any]) -> None:
    """A section keeps out *invocation*, which code of an object has sent: look for a deadlock."""
    invocation.gate.loop.call_soon(partial(_look, invocation))


def section_awaits(section: Delivery[Any], answer: PendingAnswer[Any]) -> None:
    """Once code of *section* awaits *answer*, which comes from elsewhere, look at what the section
    keeps out."""
    loop = section.gate.loop
    when_awaited(answer, lambda: loop.call_soon(partial(_look_at_all, section)))


def _look_at_all(section: Delivery[Any]) -> None:
    around = event_of(section)
    if section.is_section and around is not None:
        for invocation in list(around.activation.open):
            if invocation.is_of_object:
                _look(invocation)


def _look(invocation: Invocation[Any]) -> None:
    """End the calls of the ring that *invocation* closes, if it closes one, with Deadlock."""
    if may_go_on(invocation):
        return
    sections = invocation.gate.running_sections
    ring, afar = search(
        invocation, lambda delivery: delivery in sections, partial(is_kept_out, invocation)
    )
    give_up_all([(RingMember.of(each), each if is_out else None) for each, is_out in ring])
    if not ring:
        for way in afar:
            way[-1][0].ask_afar(way)


@frozen
class RingMember:
    """One invocation of a ring, as a Deadlock shows it."""

    object_id: str
    label: str

    @classmethod
    def of(cls, invocation: Invocation[Any]) -> RingMember:
        return cls(str(invocation.activation.id), invocation.activation.label)


def give_up_all(ring: Sequence[tuple[RingMember, Invocation[Any] | None]]) -> None:
    """Answer those calls of a ring that are given beside their places, and still kept out."""
    for index, (place, invocation) in enumerate(ring):
        if invocation is not None and not may_go_on(invocation):
            others = [*ring[index + 1 :], *ring[:index]]
            around = [place, *(other for other, _ in reversed(others)), place]
            deadlock = Deadlock(
                tuple(each.object_id for each in around), tuple(each.label for each in around)
            )
            deadlock.object_id = place.object_id
            invocation.activation.give_up(invocation, deadlock)


def may_go_on(invocation: Invocation[Any]) -> bool:
    """Whether no section keeps *invocation* out, or not any more."""
    gate = invocation.gate
    return (
        invocation.is_done
        or invocation.has_left
        or gate.broken is not None
        or not gate.running_sections
    )


class Awaited(Protocol):
    """What code of objects may await: an invocation, or a call of an object of another process."""

    is_from_afar: bool

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        """Which code awaits which answer."""
        raise NotImplementedError


Way = list[tuple[Any, bool]]
"""Invocations each of which waits for the one before, with whether a section keeps it out."""


def search(
    start: Awaited, is_target: Callable[[Delivery[Any]], bool], again: Callable[[], None]
) -> tuple[Way, list[Way]]:
    """The way from *start* to what waits for it, by way of others, and runs in a target; and, if
    there is none, the ways to the invocations whose callers are in other processes.

    `again()` is called once there may be more.
    """
    # By each invocation that waits: the one before, and whether it waits for that one's section.
    before: dict[Any, tuple[Any, bool]] = {start: (None, True)}
    afar: list[Way] = []
    to_do: deque[Any] = deque([start])
    while to_do:
        waited = to_do.popleft()
        if waited.is_from_afar:
            afar.append(_way_back(before, waited))
        for delivery in _depending(waited, start, again):
            if is_target(delivery):
                return _way_back(before, waited), []
            for waits in _kept_out_by(delivery) if delivery.is_section else (delivery,):
                if waits not in before and not waits.has_left:
                    before[waits] = (waited, delivery.is_section)
                    to_do.append(waits)
    return [], afar


def _way_back(before: dict[Any, tuple[Any, bool]], last: Any) -> Way:
    way: Way = []
    invocation = last
    while invocation is not None:
        previous, is_out = before[invocation]
        way.append((invocation, is_out))
        invocation = previous
    return way[::-1]


def _kept_out_by(section: Delivery[Any]) -> Iterator[Invocation[Any]]:
    """The invocations of the object that cannot go on before *section* has ended."""
    around = event_of(section)
    if around is not None:
        yield from (invocation for invocation in around.activation.open if invocation.is_of_object)


def _depending(waited: Awaited, start: Awaited, again: Callable[[], None]) -> Iterator[Any]:
    """The deliveries that cannot end before *waited* has its answer; `again()` when there may be
    more.

    Events and running sections, that is.
    """
    for asker, answer in waited.awaited():
        wakers = wakers_of(answer)
        if not wakers:
            when_awaited(answer, again)
        for waker in wakers:
            task = asker.gate.loop.task_at(waker)
            delivery: Any = None if task is None else asker.gate.running.get(task)
            if delivery is None:
                continue
            if _ends_after(delivery, task):
                yield delivery
            elif not delivery.has_left:
                # Its handler may begin to await a task of its own.
                gate = delivery.gate
                if gate.when_stirred is None:
                    gate.when_stirred = {}
                gate.when_stirred[start] = again


def _ends_after(delivery: Delivery[Any], task: Any) -> bool:
    """Whether the handler of *delivery* cannot end before *task*, which is one of its tasks."""
    if delivery.has_left:
        return False
    loop, running = delivery.gate.loop, delivery.gate.running
    # The first is that of the handler itself.
    tasks = [each for each, whose in running.items() if whose is delivery]
    handler = tasks.pop(0)
    while task is not handler:
        if task in tasks:
            tasks.remove(task)
        waiting = [each for each in (handler, *tasks) if loop.is_awaited_by(task, each)]
        if not waiting:
            return False
        task = waiting[0]
    return True
