"""What the live objects have open and in line: counted by a pass over them, part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attrs import define, field

from durable._control.busiest import QueueLength
from durable._object.activation import Activation


@define(eq=False)
class LiveCounts:
    """The counts of all activations that were added, by the number of their class."""

    live: Counter[int] = field(factory=Counter, init=False)
    opened: Counter[int] = field(factory=Counter, init=False)
    queued: Counter[int] = field(factory=Counter, init=False)
    # Of the objects that have a queue, by id.
    queues: dict[str, QueueLength] = field(factory=dict, init=False)

    def add(self, activations: Iterable[Activation]) -> None:
        live, opened = self.live, self.opened
        for activation in activations:
            number = activation.handle.class_number
            live[number] += 1
            if activation.open:
                opened[number] += len(activation.open)
            queued = activation.gate.queued
            if queued:
                self.queued[number] += queued
                length = (queued, activation.cls.__name__, activation.name)
                self.queues[str(activation.id)] = length


def counted(activations: Iterable[Activation]) -> LiveCounts:
    """The counts of *activations*, in one pass."""
    counts = LiveCounts()
    counts.add(activations)
    return counts
