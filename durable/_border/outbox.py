"""Frames that one end of a web socket has sent and that may not leave yet.

Rule: frames leave in the order in which they were sent, whichever code sent them. So a frame that
may leave waits for those before it that may not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define

from durable._gates.input_gate import InputGate
from durable._model.frames import Frame
from durable._model.log import log


class Flushed(Protocol):
    """An end, as far as its frames know it."""

    def flush(self) -> None:
        """Send the frames that may leave and have none before them that may not."""


@define(eq=False, slots=True)
class Together:
    """Ends that one frame was sent at."""

    ends: Sequence[Flushed]

    def flush(self) -> None:
        for end in self.ends:
            try:
                end.flush()
            except Exception:  # no matter of the other ends
                log.exception("a message could not leave an object: %r", end)


@define(eq=False, slots=True)
class Held:
    """One frame of *end*, or of several, in the outbox of each.

    *gate* is that of the object that has sent it, None for the library.
    """

    end: Flushed
    frame: Frame
    size: int
    gate: InputGate[Any] | None
    may_leave: bool = False

    def leave(self) -> None:
        """The frame may leave."""
        self.may_leave = True
        self.end.flush()

    def fail(self, _: Exception) -> None:
        """The object was reset: the frames behind this one need not wait for it."""
        self.end.flush()

    @property
    def is_void(self) -> bool:
        """Whether it never leaves: its sender was reset before what it wrote was durable."""
        return not self.may_leave and self.gate is not None and self.gate.broken is not None


class Outbox(deque[Held]):
    """The held frames of one end, the oldest first."""

    def hold(self, end: Flushed, frame: Frame, size: int, gate: InputGate[Any] | None) -> Held:
        """Hold *frame* of *end* back until its `leave` is called."""
        held = Held(end, frame, size, gate)
        self.append(held)
        return held

    def pop_settled(self) -> Held | None:
        """Take out the oldest frame, if it may leave now or never will."""
        if self and (self[0].may_leave or self[0].is_void):
            return self.popleft()
        return None

    @property
    def size(self) -> int:
        """The bytes of all held frames."""
        return sum(held.size for held in self)
