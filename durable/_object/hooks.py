"""What the hosts of one runtime tell, and to whom: the interface of an observer of hosts."""

from __future__ import annotations

from typing import Any, Protocol

from durable._model.errors import DurableError

from .events import Event
from .live import LiveObject


class Hooks(Protocol):
    """Told what happens to live objects. None of its methods raises or waits.

    `Services.hooks` is None while nothing observes: what a call pays for it is this one comparison.
    """

    def watch(self, host: LiveObject) -> None:
        """*host* lives, and is to be told of."""

    def came(self, host: LiveObject, event: Event[Any]) -> None:
        """*event* is for *host*, and has no place in line yet."""

    def refused(self, host: LiveObject, event: Event[Any]) -> None:
        """It was not let in; it has its answer."""

    def ended(self, host: LiveObject, event: Event[Any], error: BaseException | None) -> None:
        """It has its answer, which is *error* if that is not None."""

    def woken(self, host: LiveObject, duration_s: float) -> None:
        """The constructor has run, and took so long."""

    def broke(self, host: LiveObject, reason: DurableError, events: list[Event[Any]]) -> None:
        """*host* was reset; *events* were under way, and have *reason* as their answer."""

    def evicted(self, host: LiveObject) -> None:
        """*host* has left the memory."""
