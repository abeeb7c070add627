"""Calls between simulated processes, as `durable/_wire/calls.py` and `serving.py` send and take
them: in their order, with one of four ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from durable._shards.lines import Route
from tests.simulated.network import End


class NotBegun(Exception):
    """The call was not carried out, its caller is told."""


class Lost(Exception):
    """It may have been."""


class Reset(Exception):
    """It was begun, and its object was reset."""


@define(eq=False)
class Call:
    """One call of an object: the *number*-th of its stub."""

    stub: Stub
    number: int
    made_s: float
    # The call whose handler has made this one.
    parent: Call | None = None
    router: Route | None = None
    port: Port | None = None
    begun: int = 0
    is_done: bool = False
    error: BaseException | None = None
    on_done: list[Callable[[], None]] = field(factory=list)

    def resolve(self) -> None:
        self._end(None)

    def fail(self, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        assert not self.is_done, "a call has ended twice"
        self.is_done = True
        self.error = error
        for tell in self.on_done:
            tell()


@define(eq=False)
class Stub:
    """What calls one object."""

    raw: bytes
    shard: int
    route: Route
    calls: list[Call] = field(factory=list)
    # The numbers of those that have begun, in that order.
    began: list[int] = field(factory=list)


# Messages


@frozen
class Sent:
    """A call, by a port."""

    port: Port
    call: Call


@frozen
class Ended:
    """What became of a call: an answer, an error, or that the object is not there."""

    call: Call
    error: BaseException | None = None
    has_moved: bool = False


@define(eq=False)
class Port:
    """The way to one incarnation of an object. Once a call came back by it, all later ones do."""

    peer: SimulatedPeer
    has_moved: bool = False
    # What the other side remembers of it.
    is_refused: bool = False

    def send(self, call: Call) -> None:
        assert call.router is not None
        if self.has_moved or self.peer.is_gone:
            call.router.returned(call, "not sent")
            return
        call.port = self
        self.peer.under_way.append(call)
        self.peer.end.send(Sent(self, call))


@define(eq=False)
class SimulatedPeer:
    """Another process at the other side of a connection, or this one itself."""

    process: str
    end: End
    is_gone: bool = False
    # Calls that were sent and have not ended, in their order.
    under_way: list[Call] = field(factory=list)

    def port(self, target: Any) -> Port:
        return Port(self)

    def ended(self, ended: Ended) -> None:
        """The other side says what became of a call."""
        call = ended.call
        self.under_way.remove(call)
        assert call.router is not None
        if ended.has_moved:
            assert call.port is not None
            call.port.has_moved = True
            call.router.returned(call, "moved")
            return
        if ended.error is None:
            call.resolve()
        else:
            call.fail(ended.error)
        call.router.settled(call)

    def gone(self, unsent: list[Any]) -> None:
        """The connection has ended: what never left is back, and all else may have begun."""
        self.is_gone = True
        never_left = {message.call for message in unsent if isinstance(message, Sent)}
        under_way, self.under_way = self.under_way, []
        for call in under_way:
            assert call.router is not None
            if call in never_left:
                call.router.returned(call, "unsent")
            else:
                call.fail(Lost())
                call.router.settled(call)
