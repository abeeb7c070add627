"""Holds: the object waits on its storage, and its gate stays shut meanwhile.

Each wait is one hold. A task that waits takes in what it has asked for while the gate is held yet,
so no other code of the object runs between the question and the answer.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from .entrant import E
from .quiet_rounds import WatchedGate


@define(eq=False, slots=True)
class HeldGate(WatchedGate[E]):
    """The part of an input gate that counts holds."""

    _holds: int = field(default=0, init=False)
    # Each called once, in the round after the last hold was released.
    _when_released: list[Callable[[], None]] | None = field(default=None, init=False)

    @property
    def is_held(self) -> bool:
        """Whether the storage holds the gate of an object that lives."""
        return self._holds > 0 and self.broken is None

    @property
    def is_shut(self) -> bool:
        """Whether nothing is let in: the storage holds the gate, or it is broken."""
        return self._holds > 0 or self.broken is not None

    def hold(self) -> None:
        """The object waits on its storage: let nothing in until `release`."""
        self._holds += 1

    def when_released(self, callback: Callable[[], None]) -> None:
        """Call back when the storage does not hold the gate: at once, or in the round after it has
        let go, when the task that waited for it has taken its step."""
        if not self.is_held:
            callback()
        elif self._when_released is None:
            self._when_released = [callback]
        else:
            self._when_released.append(callback)

    def end_hold(self) -> bool:
        """One wait on the storage is over. Returns whether the gate is held no more, and whole."""
        assert self._holds > 0
        self._holds -= 1
        if self._holds or self.broken is not None:
            return False
        if self._when_released is not None:
            callbacks, self._when_released = self._when_released, None
            for callback in callbacks:
                self.loop.call_soon(callback)
        return True
