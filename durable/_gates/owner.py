"""The live object that a gate is of, as the gates and the storage see it.

It lies above them, and is passed down when they are made. One reference to it takes the place of a
callback for each of these: an idle object is small, and the garbage collector has less to look at.
"""

from __future__ import annotations

from typing import Protocol

from durable._model.errors import DurableError


class Owner(Protocol):
    """Implemented by `Activation`."""

    __slots__ = ()

    def seal(self) -> None:
        """Make a batch of what the turn wrote."""

    def wrote_outside(self) -> None:
        """Code outside of any turn is about to write, the first since the last seal. Raises
        WrongLoop in another thread."""

    def fail(self, error: BaseException) -> None:
        """Reset the object because of what its code raised, or of damage that it has read."""

    def break_(self, reason: DurableError) -> None:
        """Reset the object."""
