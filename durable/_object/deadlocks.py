"""Deadlocks: calls that could never be delivered, since what keeps them out waits for them.

A critical section keeps every other invocation of its object out. If it waits, through calls of
other objects and their sections, for one of these invocations, nothing of this ring could ever go
on; each call in it that a section keeps out gets `Deadlock`.

Rule: what counts is what is awaited, now, by code whose end depends on it. So this looks when a
call is kept out by a section, and again when code begins to await what the ring lacked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from durable._gates.delivery import Delivery
from durable._gates.futures import PendingAnswer, wakers_of, when_awaited
from durable._model.errors import Deadlock

from .invocation import Invocation, event_of


def is_kept_out(invocation: Invocation[Any]) -> None:
    """A section keeps *invocation* out, which code of an object has sent: may that be for ever?"""
    invocation.gate.loop.call_soon(partial(_look, invocation))


def section_awaits(section: Delivery[Any], answer: PendingAnswer[Any]) -> None:
    """Once code of *section* awaits *answer*, which comes from elsewhere, see whom it keeps out."""
    loop = section.gate.loop
    when_awaited(answer, lambda: loop.call_soon(partial(_look_at_all, section)))


def _look_at_all(section: Delivery[Any]) -> None:
    around = event_of(section)
    if section.is_section and around is not None:
        for invocation in list(around.activation.open):
            if invocation.caller is not None:
                _look(invocation)


def _look(invocation: Invocation[Any]) -> None:
    """Answer the calls of the ring that *invocation* closes, if it closes one."""
    if _may_go_on(invocation):
        return
    ring = _ring(invocation)
    for place, (each, is_out) in enumerate(ring):
        if is_out:
            others = [*ring[place + 1 :], *ring[:place]]
            around = [
                each.activation,
                *(other.activation for other, _ in reversed(others)),
                each.activation,
            ]
            deadlock = Deadlock(
                tuple(str(activation.id) for activation in around),
                tuple(activation.label for activation in around),
            )
            deadlock.object_id = str(each.activation.id)
            each.activation.give_up(each, deadlock)


def _may_go_on(invocation: Invocation[Any]) -> bool:
    gate = invocation.gate
    return (
        invocation.is_done
        or invocation.has_left
        or gate.broken is not None
        or not gate.running_sections
    )


def _ring(closing: Invocation[Any]) -> list[tuple[Invocation[Any], bool]]:
    """The invocations that wait for *closing*, from it to one that it waits for, each with
    whether a section keeps it out; empty if there is no such ring."""
    sections = closing.gate.running_sections
    # By each invocation that waits: the one before, and whether it waits for that one's section.
    before: dict[Invocation[Any], tuple[Invocation[Any] | None, bool]] = {closing: (None, True)}
    to_do = deque([closing])
    while to_do:
        invocation = to_do.popleft()
        for delivery in _depending(invocation, closing):
            if delivery in sections:
                return _way_back(before, invocation)
            for waits in _kept_out_by(delivery) if delivery.is_section else (delivery,):
                if waits not in before and not waits.has_left:
                    before[waits] = (invocation, delivery.is_section)
                    to_do.append(waits)
    return []


def _way_back(
    before: dict[Invocation[Any], tuple[Invocation[Any] | None, bool]], last: Invocation[Any]
) -> list[tuple[Invocation[Any], bool]]:
    ring: list[tuple[Invocation[Any], bool]] = []
    invocation: Invocation[Any] | None = last
    while invocation is not None:
        previous, is_out = before[invocation]
        ring.append((invocation, is_out))
        invocation = previous
    return ring[::-1]


def _kept_out_by(section: Delivery[Any]) -> Iterator[Invocation[Any]]:
    """The invocations of the object that cannot go on before *section* has ended."""
    around = event_of(section)
    if around is not None:
        yield from (
            invocation for invocation in around.activation.open if invocation.caller is not None
        )


def _depending(invocation: Invocation[Any], closing: Invocation[Any]) -> Iterator[Any]:
    """The deliveries that cannot end before *invocation* has its answer. When there may be more,
    *closing* is looked at again.

    Events and running sections, that is.
    """
    for asker, answer in invocation.awaited():
        wakers = wakers_of(answer)
        if not wakers:
            when_awaited(answer, partial(is_kept_out, closing))
        for waker in wakers:
            task = asker.gate.loop.task_at(waker)
            delivery: Any = None if task is None else asker.gate.running.get(task)
            if delivery is None:
                continue
            if _ends_after(delivery, task):
                yield delivery
            elif not delivery.has_left:
                _when_awaited_more(delivery, closing)


def _when_awaited_more(delivery: Delivery[Any], closing: Invocation[Any]) -> None:
    """Look again when the handler of *delivery* may have begun to await a task of its own."""
    gate = delivery.gate
    if gate.when_stirred is None:
        gate.when_stirred = {}
    gate.when_stirred[closing] = partial(is_kept_out, closing)


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
