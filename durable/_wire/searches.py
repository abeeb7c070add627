"""Deadlocks that lead through several processes.

When a critical section keeps a call out, the process asks the one of the call's caller which code
there waits for that call; from what that code in turn keeps out the search goes on, until it comes
back to the section, or ends. It carries the path so far. A ring that is found is sent round the
same path once more, so that each call in it that a section keeps out is notified.

Rule: nothing waits for a search, and its end need not be reported. When code begins to await
something that a search has met, the search goes on from there.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Protocol

from durable._loop.loop import Loop
from durable._object.deadlocks import Awaited, RingMember, Way, give_up_all, may_go_on, search

from .frames import Kind
from .link import Link

# Calls in one ring, at most; and searches that a process remembers.
RING_MAX = 64
KNOWN_MAX = 4_096


class FromAfar(Protocol):
    """An invocation whose caller is in the process at the other side of a link."""

    number: Any

    @property
    def link(self) -> Link:
        """That link."""
        raise NotImplementedError


class Searches:
    """The searches of one process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.process = ""
        self._numbers = itertools.count(1)
        # The invocations that searches have met here: by number, and their numbers.
        self._met: dict[int, Any] = {}
        self._number_of: dict[Any, int] = {}

    def begin(self, way: Way) -> None:
        """*way* leads from an invocation that a section keeps out to one whose caller is in another
        process: ask that process."""
        self._ask([self._step(each, is_out) for each, is_out in way], way[-1][0])

    def go_on(self, call: Awaited, steps: list[list[Any]]) -> None:
        """The process that *call* was sent to asks what waits for it; *steps* have led there."""
        closing: Any = None
        if steps[0][2] == self.process:
            closing = self._met.get(steps[0][3])
            if closing is None or may_go_on(closing):
                return

        def is_target(delivery: Any) -> bool:
            return closing is not None and delivery in closing.gate.running_sections

        def again() -> None:
            self._loop.call_soon(partial(self.go_on, call, steps))

        way, afar = search(call, is_target, again)
        if way:
            ring = steps + [self._step(each, is_out) for each, is_out in way[1:]]
            # Not in this step: what came with it may be about another search of the same ring.
            self._loop.call_soon(partial(self.report, ring, -1))
        for way in afar:
            self._ask(steps + [self._step(each, is_out) for each, is_out in way[1:]], way[-1][0])

    def report(self, ring: list[list[Any]], place: int) -> None:
        """Notify the calls of *ring* that are here and behind *place*; then pass the ring on."""
        mine: dict[int, Any] = {}
        for index in range(place + 1, len(ring)):
            _, _, process, number, is_out, is_afar = ring[index]
            if process != self.process:
                break
            each = self._met.get(number)
            if each is not None and is_out:
                mine[index] = each
            if is_afar:
                if each is not None and index + 1 < len(ring):
                    each.link.send(Kind.RING, ring, index)
                break
        give_up_all(
            [(RingMember(step[0], step[1]), mine.get(index)) for index, step in enumerate(ring)]
        )

    def _ask(self, steps: list[list[Any]], last: FromAfar) -> None:
        if len(steps) <= RING_MAX:
            last.link.send(Kind.WHO_WAITS, last.number, steps)

    def _step(self, invocation: Any, is_out: bool) -> list[Any]:
        """What stands for *invocation* in other processes."""
        number = self._number_of.get(invocation)
        if number is None:
            if len(self._met) >= KNOWN_MAX:
                self._forget_done()
            number = self._number_of[invocation] = next(self._numbers)
            self._met[number] = invocation
        place = RingMember.of(invocation)
        is_afar = bool(invocation.is_from_afar)
        return [place.object_id, place.label, self.process, number, bool(is_out), is_afar]

    def _forget_done(self) -> None:
        self._met = {number: each for number, each in self._met.items() if not each.is_done}
        self._number_of = {each: number for number, each in self._met.items()}
