"""A sample of the events: all of them while they are few, and a part when they are many.

To report a call takes longer than a short call does. So a client that only wants an impression gets
up to `EVENTS_MAX` in a period; for the rest of it nothing is observed, and a call pays nothing. If
the beginning of a delivery was reported its end is too, however long it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from durable._loop.loop import Waiting
from durable._model.observer import DeliveryCame, DeliveryEnded, Event, Observer
from durable._object.services import Services

from .observed import Observers

PERIOD_S: Final = 0.25
# In a period. A delivery is two of them, and costs some 50 µs to be reported and shown.
EVENTS_MAX: Final = 40


@frozen
class Client:
    """A client of the sample: its observer, and a callback with how many were left out."""

    observer: Observer
    missed: Callable[[int], object]


@define(eq=False)
class Sampler:
    """Reports the sample of one runtime to all its clients. Nothing here suspends."""

    observers: Observers
    services: Services
    clients: tuple[Client, ...] = field(default=(), init=False)
    _left: int = field(default=0, init=False)
    _counted: int = field(default=0, init=False)  # deliveries before this period
    _came: int = field(default=0, init=False)  # that were reported in this period
    _reported: set[int] = field(factory=set, init=False)  # deliveries that have not ended yet
    _timer: Waiting | None = field(default=None, init=False)
    # One object, by which the observers know it.
    _observer: Observer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._observer = self._notify

    def add(self, client: Client) -> Callable[[], None]:
        """Report to *client* from now on; returns a function that ends that."""
        self.clients = (*self.clients, client)
        if len(self.clients) == 1:
            self.observers.add(self._observer, None)
            self._begin()
        return lambda: self._remove(client)

    def _remove(self, client: Client) -> None:
        before = self.clients
        self.clients = tuple(other for other in before if other is not client)
        if before and not self.clients:
            self.observers.remove(self._observer, ())
            self._reported.clear()
            if self._timer is not None:
                self._timer.cancel()

    def _begin(self) -> None:
        self._left = EVENTS_MAX
        self._came, self._counted = 0, self._count()
        self.observers.wake(self._observer)
        self._timer = self.services.loop.call_later(PERIOD_S, self._next)

    def _next(self) -> None:
        """A period is over."""
        missed = max(0, self._count() - self._counted - self._came)
        if missed:
            for client in self.clients:
                client.missed(missed)
        if self.clients and self.services.is_open:
            self._begin()

    def _count(self) -> int:
        """How many deliveries there were so far."""
        return sum(each.deliveries for each in self.services.counters_of_all.copy().values())

    def _notify(self, event: Event) -> None:
        match event:
            case DeliveryEnded():
                if event.number not in self._reported:
                    return  # its beginning was reported to other observers only
                self._reported.remove(event.number)
            case _ if self._left <= 0:
                return
            case DeliveryCame():
                self._reported.add(event.number)
                self._came += 1
        self._left -= 1
        for client in self.clients:
            client.observer(event)
        if self._left <= 0:
            self.observers.rest(self._observer)
