"""Deadlocks: calls that could never be delivered, since what keeps them out waits for them.

A critical section keeps every other event of its object out. If it waits, through calls of other
objects and their sections, for one of these events, nothing of this ring could ever go on; each
call in it that a section keeps out gets `Deadlock`.

Rule: what counts is what is awaited, now, by code whose end depends on it. So this looks when a
call is kept out by a section, and again when code begins to await what the ring lacked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from durable._gates.answers import Later, wakers_of, when_awaited
from durable._gates.delivery import Delivery
from durable._model.errors import Deadlock

from .events import Event, event_of


def is_kept_out(event: Event[Any]) -> None:
    """A section keeps *event* out, which code of an object has sent: may that be for ever?"""
    event.gate.loop.call_soon(partial(_look, event))


def section_awaits(section: Delivery[Any], answer: Later[Any]) -> None:
    """Once code of *section* awaits *answer*, which comes from elsewhere, see whom it keeps out."""
    loop = section.gate.loop
    when_awaited(answer, lambda: loop.call_soon(partial(_look_at_all, section)))


def _look_at_all(section: Delivery[Any]) -> None:
    around = event_of(section)
    if section.is_section and around is not None:
        for event in list(around.host.open):
            if event.caller is not None:
                _look(event)


def _look(event: Event[Any]) -> None:
    """Answer the calls of the ring that *event* closes, if it closes one."""
    if _may_go_on(event):
        return
    ring = _ring(event)
    for place, (each, is_out) in enumerate(ring):
        if is_out:
            others = [*ring[place + 1 :], *ring[:place]]
            around = [each.host, *(other.host for other, _ in reversed(others)), each.host]
            deadlock = Deadlock(
                tuple(str(host.id) for host in around), tuple(host.label for host in around)
            )
            deadlock.object_id = str(each.host.id)
            each.host.give_up(each, deadlock)


def _may_go_on(event: Event[Any]) -> bool:
    gate = event.gate
    return event.is_done or event.has_left or gate.broken is not None or not gate.running_sections


def _ring(closing: Event[Any]) -> list[tuple[Event[Any], bool]]:
    """The events that wait for *closing*, from it to one that it waits for, each with whether a
    section keeps it out; empty if there is no such ring."""
    again = partial(is_kept_out, closing)
    sections = closing.gate.running_sections
    # By each event that waits: the one before, and whether it waits for that one's section.
    before: dict[Event[Any], tuple[Event[Any] | None, bool]] = {closing: (None, True)}
    to_do = deque([closing])
    while to_do:
        event = to_do.popleft()
        for delivery in _depending(event, again):
            if delivery in sections:
                return _way_back(before, event)
            for waits in _kept_out_by(delivery) if delivery.is_section else (delivery,):
                if waits not in before and not waits.has_left:
                    before[waits] = (event, delivery.is_section)
                    to_do.append(waits)
    return []


def _way_back(
    before: dict[Event[Any], tuple[Event[Any] | None, bool]], last: Event[Any]
) -> list[tuple[Event[Any], bool]]:
    ring: list[tuple[Event[Any], bool]] = []
    event: Event[Any] | None = last
    while event is not None:
        previous, is_out = before[event]
        ring.append((event, is_out))
        event = previous
    return ring[::-1]


def _kept_out_by(section: Delivery[Any]) -> Iterator[Event[Any]]:
    """The events of the object that cannot go on before *section* has ended."""
    around = event_of(section)
    if around is not None:
        yield from (event for event in around.host.open if event.caller is not None)


def _depending(event: Event[Any], again: Callable[[], None]) -> Iterator[Any]:
    """The deliveries that cannot end before *event* has its answer; `again()` once there are more.

    Events and running sections, that is.
    """
    for asker, answer in event.awaited():
        wakers = wakers_of(answer)
        if not wakers:
            when_awaited(answer, again)
        for waker in wakers:
            task = asker.gate.loop.task_at(waker)
            delivery: Any = None if task is None else asker.gate.running.get(task)
            if delivery is not None and _ends_after(delivery, task):
                yield delivery


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
