"""The calls that came from other processes, as invocations of the objects of this one.

What the handler returns is encoded when it ends, as it would be copied for a caller of this
process; the answer that the output gate lets out is a frame.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from attrs import define, field

from durable._border.bodies import export_response
from durable._border.channel import LocalChannel
from durable._border.durable_object import rpc_method
from durable._border.fetch_call import FetchCall
from durable._border.once import OnceCall
from durable._border.streams import Streaming
from durable._engine.codec import encode
from durable._engine.shards import NotOwner
from durable._model.errors import NoSuchMethod
from durable._model.ids import ObjectId
from durable._model.messages import Response
from durable._model.values import ATOMS
from durable._object.activation import Activation
from durable._object.deadlocks import Way
from durable._object.invocation import Invocation, MethodCall

from .crossing import check_size
from .link import Link
from .replies import Replies
from .things import Written

T = TypeVar("T")


class Reach(Protocol):
    """Finds the objects of this process for calls that come from others."""

    def channel_of(self, class_number: int, object_id: ObjectId) -> LocalChannel:
        """A channel to the object. Raises NotOwner; UnknownClass and other DurableErrors are
        raised for the caller."""
        raise NotImplementedError


@define(eq=False)
class ServedPort:
    """One incarnation of an object, as another process calls it."""

    replies: Replies
    _reach: Reach
    class_number: int
    object_id: ObjectId
    channel: LocalChannel | None = None
    has_moved: bool = False
    # The methods that were found to be public.
    methods: set[str] = field(factory=set)

    def reach(self) -> Activation:
        """The activation to call. Raises NotOwner."""
        channel = self.channel
        if channel is None or channel.activation.is_gone:
            if self.has_moved:
                raise NotOwner
            try:
                channel = self._reach.channel_of(self.class_number, self.object_id)
            except NotOwner:
                self.has_moved = True
                raise
            self.channel = channel
        return channel.activation

    def check_method(self, cls: type, name: Any) -> None:
        """Raise NoSuchMethod for what is no public method of *cls*."""
        if name not in self.methods:
            if not isinstance(name, str) or rpc_method(cls, name) is None:
                raise NoSuchMethod(
                    f'The RPC receiver does not implement the method "{name}".',
                    object_id=str(self.object_id),
                )
            self.methods.add(name)

    def export(self, activation: Any, value: Any) -> bytes | Written:
        """The bytes of what a method has returned."""
        if type(value) in ATOMS and type(value) is not bytes:
            return encode(value)
        return self.replies.write(self.class_number, "what the call returns", value, activation)

    def export_response(self, activation: Any, value: Any) -> bytes | Written:
        """The bytes of what `fetch` has returned."""
        response = export_response(activation, value)
        writer = self.replies.crossing.writer_of(self.class_number)
        written = writer.write_response(response, activation)
        return check_size(self.replies.crossing, "the response", written)


class _Served(Invocation[T]):
    """A call that came from another process, whatever its kind."""

    __slots__ = ()

    number: int
    port: ServedPort
    is_from_afar: bool

    @property
    def link(self) -> Link:
        return self.port.replies.link

    def ask_afar(self, way: Way) -> None:
        self.port.replies.crossing.searches.begin(way)

    def resolve(self, value: Any) -> None:
        if not self._is_done:
            super().resolve(None)  # type: ignore[arg-type]
            self.port.replies.answer(self.number, value)

    def fail(self, error: BaseException) -> None:
        if not self._is_done:
            super().fail(error)
            self.port.replies.fail(self.number, self.port.class_number, error)


# A class can have one base with slots, so those of `_Served` stand in each of its subclasses.
_SLOTS = ("is_from_afar", "number", "port")


class ServedCall(_Served[T], MethodCall[T]):
    """A call of a method that came from another process."""

    __slots__ = _SLOTS


class ServedOnce(_Served[Any], OnceCall):
    """A call with a key, to be made once."""

    __slots__ = _SLOTS


class ServedFunction(_Served[Any], Invocation[Any]):
    """A call of a function of an object."""

    __slots__ = _SLOTS


class ServedStream(_Served[None], Streaming):
    """A call of an async generator, whose end is sent as that of a stream."""

    __slots__ = _SLOTS

    def resolve(self, value: Any) -> None:
        Streaming.resolve(self, value)

    def fail(self, error: BaseException) -> None:
        Streaming.fail(self, error)


class ServedFetch(_Served[Response], FetchCall):
    """A call of `fetch`."""

    __slots__ = _SLOTS

    def resolve(self, value: Any) -> None:
        self.port.replies.requests.pop(self.number, None)
        super().resolve(value)

    def fail(self, error: BaseException) -> None:
        self.port.replies.requests.pop(self.number, None)
        super().fail(error)


def deliver(
    call: ServedCall[Any] | ServedOnce | ServedFetch | ServedStream | ServedFunction,
    number: int,
    port: ServedPort,
    from_object: Any,
) -> None:
    """Give *call*, which came with this *number*, to its object."""
    call.number, call.port, call.is_from_afar = number, port, bool(from_object)
    activation = call.activation
    if from_object:
        activation.counters.subrequests += 1
    activation.deliver(call)
