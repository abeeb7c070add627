"""The channel to an object of another process.

What can be known at the call is raised at the call, as by the channel of an object of this process:
a value that cannot be sent, a message that is too large. All else comes by the answer.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from durable._border.channel import Channel, check_open
from durable._border.redirects import Resends
from durable._border.streams import Stream
from durable._gates.delivery import CURRENT
from durable._gates.futures import Answer
from durable._gates.saying import say
from durable._model.errors import MessageTooLarge, RuntimeClosed
from durable._model.messages import Request, Response
from durable._object.deadlocks import section_awaits

from .calls import FarCall, Target
from .crossing import Crossing
from .frames import Kind


class Route(Protocol):
    """The way that the calls of one stub go. A `Port` is one, over one link."""

    @property
    def is_gone(self) -> bool:
        """Whether another channel leads to the object now."""
        raise NotImplementedError

    def send(self, call: FarCall[Any]) -> None:
        """Send *call*, which may leave its sender now."""
        raise NotImplementedError


class RemoteChannel(Channel):
    """The way to an object of another process."""

    __slots__ = ("_crossing", "_target", "route")

    def __init__(self, crossing: Crossing, target: Target, route: Route) -> None:
        self._crossing = crossing
        self._target = target
        self.route = route

    @property
    def is_gone(self) -> bool:
        return self.route.is_gone

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        services, target = self._crossing.services, self._target
        if not services.is_open or not services.loop.is_here():
            check_open(services, target.cls)
        return self._call(name, (name, self._written(name, args, kwargs)))

    def call_once(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str
    ) -> Answer[Any]:
        check_open(self._crossing.services, self._target.cls)
        return self._call(name, (name, self._written(name, args, kwargs), key))

    def _call(self, name: str, fields: tuple[Any, ...]) -> Answer[Any]:
        call: FarCall[Any] = FarCall(
            self._crossing.services.loop, self._target, Kind.CALL, name, fields, CURRENT.get()
        )
        self._send(call)
        return call

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        raise NotImplementedError

    def fetch(self, request: Request, resends: Resends, hops: int) -> Answer[Response]:
        raise NotImplementedError

    def delete_all(self) -> Answer[None]:
        services = self._crossing.services
        check_open(services, self._target.cls)
        call: FarCall[None] = FarCall(
            services.loop, self._target, Kind.DELETE, "delete", (), CURRENT.get()
        )
        self._send(call)
        return call

    def _written(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """The arguments as bytes; None if there are none."""
        if not args and not kwargs:
            return None
        writer = self._crossing.writer_of(self._target.class_number)
        written = writer.encode([[*args], kwargs] if kwargs else [[*args]])
        size_max = self._crossing.services.limits.peer_message_size_max
        if len(written) > size_max:
            raise MessageTooLarge(
                f"the call of {name}() with its arguments", len(written), size_max
            )
        return written

    def _send(self, call: FarCall[Any]) -> None:
        """Send *call*: one of an object when its turn ends or waits for others, and what it has
        written before is on disk."""
        sender = call.caller
        if sender is None:
            if self._crossing.services.is_open:
                self.route.send(call)
            else:
                call.fail(RuntimeClosed())
            return
        if sender.is_section:
            section_awaits(sender, call)
        say(sender, partial(self.route.send, call), call)

    def __repr__(self) -> str:
        return f"<RemoteChannel to {self._target.label}>"
