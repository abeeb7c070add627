"""The channel to an object of another process.

What can be checked at the call is raised at the call, as by the channel to an object of this
process: a value that cannot be sent, a message that is too large. All else comes with the answer.
"""

from __future__ import annotations

from typing import Any, Protocol

from durable._border.channel import Channel, check_open
from durable._border.redirects import Resends, is_sent
from durable._border.streams import Stream
from durable._gates.delivery import CURRENT
from durable._gates.futures import Answer
from durable._model.messages import Request, Response
from durable._object.activation import sending_activation

from .calls import FarCall, Target, say_call
from .crossing import Crossing, check_size, write_arguments
from .far_calls import FarFetch, StreamCall
from .frames import Kind
from .streams import FarSource
from .things import Written


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
        # Written out, and not left to `_call`: every call passes here.
        written = self._written(name, args, kwargs) if args or kwargs else None
        caller = CURRENT.get()
        call: FarCall[Any] = FarCall(
            services.loop, target, Kind.CALL, name, (name, written), caller
        )
        if caller is None and services.is_open:
            self.route.send(call)
        else:
            say_call(services, call, self.route.send)
        return call

    def call_once(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str
    ) -> Answer[Any]:
        check_open(self._crossing.services, self._target.cls)
        return self._call(name, (name, self._written(name, args, kwargs), key))

    def _call(self, name: str, fields: tuple[Any, ...]) -> Answer[Any]:
        services = self._crossing.services
        call: FarCall[Any] = FarCall(
            services.loop, self._target, Kind.CALL, name, fields, CURRENT.get()
        )
        say_call(services, call, self.route.send)
        return call

    def _written(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes | Written | None:
        return write_arguments(self._crossing, self._target.class_number, name, args, kwargs)

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        services, target = self._crossing.services, self._target
        check_open(services, target.cls)
        written = self._written(name, args, kwargs)
        call = StreamCall(services.loop, target, Kind.STREAM, name, (name, written), CURRENT.get())
        call.source = source = FarSource(
            services.loop, f"{name}() of {target.label}", target.id_text
        )
        stream = Stream[Any](source)
        say_call(services, call, self.route.send)
        return stream

    def fetch(self, request: Request, resends: Resends, hops: int) -> Answer[Response]:
        services, target = self._crossing.services, self._target
        check_open(services, target.cls)
        call = FarFetch(services.loop, target, Kind.FETCH, "fetch", (), CURRENT.get())
        is_sent(call, request, resends, hops)
        writer = self._crossing.writer_of(target.class_number)
        size = request._size
        written = writer.write_request(request, sending_activation())
        call.rest = (check_size(self._crossing, "the request", written), size)
        say_call(services, call, self.route.send)
        return call

    def delete_all(self) -> Answer[None]:
        services = self._crossing.services
        check_open(services, self._target.cls)
        call: FarCall[None] = FarCall(
            services.loop, self._target, Kind.DELETE, "delete", (), CURRENT.get()
        )
        say_call(services, call, self.route.send)
        return call

    def __repr__(self) -> str:
        return f"<RemoteChannel to {self._target.label}>"
