"""Calls that come from other processes, on the side of the objects.

A call that comes is an invocation of its object as others are: it has its place in line, and its
answer leaves through the output gate. What the handler returns is encoded when it ends, as it would
be copied for a caller of this process; the answer that is let out is a frame.

Rule: the frames of one port are taken in their order. When this process turns out not to have the
object, that call and all later ones of the port are sent back, unbegun.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import define, field
from ormsgpack import unpackb

from durable._border.bodies import export_response
from durable._border.channel import LocalChannel, reached
from durable._border.durable_object import rpc_method
from durable._border.fetch_call import FetchCall
from durable._border.once import OnceCall, check_once, digest_of
from durable._border.rpc import RemoteFunction
from durable._border.streams import Pipe, Streaming, end_with
from durable._engine.codec import FORMAT_MSGPACK, encode
from durable._engine.shards import NotOwner
from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._model.errors import DurableError, InternalError, NoSuchMethod, UnknownClass
from durable._model.ids import ObjectId
from durable._model.log import log
from durable._model.messages import Request, Response
from durable._model.values import ATOMS
from durable._object.activation import Activation
from durable._object.deadlocks import Way
from durable._object.invocation import Invocation, MethodCall, itself

from .crossing import FarFunction, check_size, checked_id
from .failures import to_failure
from .frames import BadFrame, Kind, pack
from .link import Link
from .reading import Readers
from .streams import Streams
from .things import LinkThings, Written

T = TypeVar("T")


class Reach(Protocol):
    """Finds the objects of this process for calls that come from others."""

    def channel_of(self, class_number: int, object_id: ObjectId) -> LocalChannel:
        """A channel to the object. Raises NotOwner, or UnknownClass and other DurableErrors, which
        are for the caller."""
        raise NotImplementedError


@define(eq=False)
class ServedPort:
    """One incarnation of an object, as another process calls it."""

    calls: ServedCalls
    class_number: int
    object_id: ObjectId
    channel: LocalChannel | None = None
    has_moved: bool = False
    # The methods that were called, and may be.
    methods: set[str] = field(factory=set)

    def reach(self) -> Activation:
        """The activation to call. Raises NotOwner."""
        channel = self.channel
        if channel is None or channel.activation.is_gone:
            if self.has_moved:
                raise NotOwner
            try:
                channel = self.calls.reach.channel_of(self.class_number, self.object_id)
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
        """What a method has returned, as it leaves."""
        if type(value) in ATOMS and type(value) is not bytes:
            return encode(value)
        return self.calls.write(self.class_number, "what the call returns", value, activation)

    def export_response(self, activation: Any, value: Any) -> bytes | Written:
        """What `fetch` has returned, as it leaves."""
        response = export_response(activation, value)
        writer = self.calls.crossing.writer_of(self.class_number)
        written = writer.write_response(response, activation)
        return check_size(self.calls.crossing, "the response", written)


class _Served(Invocation[T]):
    """A call that came from another process, whatever its kind."""

    __slots__ = ()

    number: int
    port: ServedPort
    is_from_afar: bool

    @property
    def link(self) -> Link:
        return self.port.calls.link

    def ask_afar(self, way: Way) -> None:
        self.port.calls.crossing.searches.begin(way)

    def resolve(self, value: Any) -> None:
        if not self._is_done:
            super().resolve(None)  # type: ignore[arg-type]
            self.port.calls.answer(self.number, value)

    def fail(self, error: BaseException) -> None:
        if not self._is_done:
            super().fail(error)
            self.port.calls.fail(self.number, self.port.class_number, error)


# A class can have one base with slots, so those of `_Served` stand in each of its subclasses.
_SLOTS = ("is_from_afar", "number", "port")


class ServedCall(_Served[T], MethodCall[T]):
    """A call of a method that came from another process."""

    __slots__ = _SLOTS


class ServedOnce(_Served[Any], OnceCall):
    """One with a key."""

    __slots__ = _SLOTS


class ServedFunction(_Served[Any], Invocation[Any]):
    """A call of a function of an object."""

    __slots__ = _SLOTS


class ServedStream(_Served[None], Streaming):
    """A call of an async generator, whose end is told as that of a stream."""

    __slots__ = _SLOTS

    def resolve(self, value: Any) -> None:
        Streaming.resolve(self, value)

    def fail(self, error: BaseException) -> None:
        Streaming.fail(self, error)


class ServedFetch(_Served[Response], FetchCall):
    """A call of `fetch`."""

    __slots__ = _SLOTS

    def resolve(self, value: Any) -> None:
        self.port.calls.fetch_ended(self.number)
        super().resolve(value)

    def fail(self, error: BaseException) -> None:
        self.port.calls.fetch_ended(self.number)
        super().fail(error)


class ServedCalls:
    """What the other side of one link calls."""

    def __init__(
        self, link: Link, things: LinkThings, streams: Streams, readers: Readers, reach: Reach
    ) -> None:
        self.link = link
        self.crossing = readers.crossing
        self._things = things
        self._streams = streams
        self._readers = readers
        self.reach = reach
        self._ports: dict[int, ServedPort] = {}
        # The requests of the calls of `fetch` that have no answer yet.
        self._requests: dict[int, Request] = {}
        link.on[Kind.OPEN] = self._open
        link.on[Kind.SHUT] = self._shut
        link.on[Kind.CALL] = self._call
        link.on[Kind.FETCH] = self._fetch
        link.on[Kind.STREAM] = self._stream
        link.on[Kind.DELETE] = self._delete
        link.on[Kind.INVOKE] = self._invoke
        link.on[Kind.ABORT] = self._abort
        link.on_gone.append(self._lost)

    def write(
        self, class_number: int, what: str, value: Any, activation: Activation | None
    ) -> bytes | Written:
        """*value* as bytes. Raises UnstorableValue, MessageTooLarge."""
        written = self.crossing.writer_of(class_number).write(value, activation)
        return check_size(self.crossing, what, written)

    def answer(self, number: int, written: bytes | Written) -> None:
        """Let the caller of *number* have a value."""
        if type(written) is not bytes:
            written = self._things.sent(written)
        self.link.connection.send(pack(Kind.ANSWER, number, written))

    def fail(self, number: int, class_number: int, error: BaseException) -> None:
        """Let the caller of *number* have *error*."""
        try:
            failure = to_failure(error, self.crossing.writer_of(class_number).plain)
        except UnknownClass:  # which is what the caller is to hear
            failure = to_failure(error, encode)
        self.link.send(Kind.FAIL, number, failure)

    def fetch_ended(self, number: int) -> None:
        """The call of `fetch` has its answer."""
        self._requests.pop(number, None)

    def _lost(self, _: str) -> None:
        self._ports.clear()
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.signal._abort()

    def _open(self, frame: list[Any]) -> None:
        _, number, class_number, raw, name, *_ = frame
        self._ports[number] = ServedPort(self, class_number, checked_id(raw, name))

    def _shut(self, frame: list[Any]) -> None:
        del self._ports[frame[1]]

    def _call(self, frame: list[Any]) -> None:
        _, number, port_number, from_object, name, written, *more = frame
        port = self._ports[port_number]
        call: ServedCall[Any] | ServedOnce
        try:
            activation = port.reach()
            port.check_method(activation.cls, name)
            payload = None if written is None else self._arguments(port.class_number, written)
            if more and more[0] is not None:
                call = self._once(activation, port, name, payload, more[0])
            else:
                call = ServedCall(activation, itself, Context(), name, None, port.export)
        except Exception as error:
            self._refuse(number, port.class_number, error)
            return
        call.payload = payload
        _deliver(call, number, port, from_object)

    def _once(
        self, activation: Activation, port: ServedPort, name: str, payload: Any, key: Any
    ) -> ServedOnce:
        call = ServedOnce(activation, itself, Context(), name, None, port.export)
        call.key = check_once(key)
        args, kwargs = payload or ((), {})
        encode = self.crossing.services.codec_of(activation.cls).encode
        call.digest = digest_of(name, args, kwargs, encode)
        return call

    def _fetch(self, frame: list[Any]) -> None:
        _, number, port_number, from_object, written, *_ = frame
        port = self._ports[port_number]
        try:
            activation = port.reach()
            request = self._readers.of(port.class_number).request(written)
        except Exception as error:
            self._refuse(number, port.class_number, error)
            return
        call = ServedFetch(activation, itself, Context(), "fetch", None, port.export_response)
        call.request = request
        call.size = request._size
        self._requests[number] = request
        _deliver(call, number, port, from_object)

    def _stream(self, frame: list[Any]) -> None:
        _, number, port_number, from_object, name, written, *_ = frame
        port = self._ports[port_number]
        try:
            activation = port.reach()
            port.check_method(activation.cls, name)
            args, kwargs = (
                ((), {}) if written is None else self._arguments(port.class_number, written)
            )
        except Exception as error:
            self._refuse(number, port.class_number, error)
            return
        pipe = Pipe(activation.services.loop)

        def run() -> Any:
            callee = reached(invocation)
            items = getattr(callee.instance, name)(*args, **kwargs)
            return pipe.pump(items, partial(port.export, callee), invocation)

        invocation = ServedStream(activation, run, Context(), name, None)
        invocation.pipe = pipe
        invocation.is_waited_for = False
        end_with(pipe, invocation)
        self._streams.serve(number, pipe, self.crossing.writer_of(port.class_number).plain)
        when_done(invocation, lambda: self._streams.over(number, invocation.error))
        _deliver(invocation, number, port, from_object)

    def _delete(self, frame: list[Any]) -> None:
        _, number, port_number, *_ = frame
        port = self._ports[port_number]
        try:
            port.reach()
            assert port.channel is not None
            answer = port.channel.delete_all()
        except Exception as error:
            self._refuse(number, port.class_number, error)
        else:
            self._pass_on(number, port.class_number, answer)

    def _invoke(self, frame: list[Any]) -> None:
        _, number, thing_number, from_object, written, *_ = frame
        thing = self._things.own(thing_number)
        function = thing.value
        if not isinstance(function, RemoteFunction):
            raise BadFrame("what is called is no function")
        try:
            args, kwargs = (
                ((), {}) if written is None else self._arguments(thing.class_number, written)
            )
            activation = None if isinstance(function, FarFunction) else function.activation
            answer = function(*args, **kwargs) if activation is None else None
        except Exception as error:
            self._refuse(number, thing.class_number, error)
            return
        if activation is None:
            assert answer is not None
            self._pass_on(number, thing.class_number, answer)
            return
        port = ServedPort(self, thing.class_number, activation.id)
        body = function.bind(args, kwargs)
        call = ServedFunction(activation, body, Context(), function.label, None, port.export)
        _deliver(call, number, port, from_object)

    def _abort(self, frame: list[Any]) -> None:
        request = self._requests.get(frame[1])
        if request is not None:
            request.signal._abort()

    def _arguments(
        self, class_number: int, written: bytes
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        decode = self._readers.of(class_number).decode
        if written[0] == FORMAT_MSGPACK:
            return tuple(decode(written)), {}
        args, kwargs = unpackb(written)
        return tuple(decode(args)), decode(kwargs)

    def _pass_on(self, number: int, class_number: int, answer: Answer[Any]) -> None:
        """Answer the call *number* with what *answer* comes to."""
        assert isinstance(answer, PendingAnswer)

        def done() -> None:
            if answer.error is not None:
                self.fail(number, class_number, answer.error)
                return
            try:
                what = "what the call returns"
                written = self.write(class_number, what, answer._value, None)
            except DurableError as error:
                self.fail(number, class_number, error)
            else:
                self.answer(number, written)

        when_done(answer, done)

    def _refuse(self, number: int, class_number: int, error: Exception) -> None:
        """The call *number* is not delivered."""
        if isinstance(error, NotOwner):
            self.link.send(Kind.MOVED, number)
            return
        if not isinstance(error, DurableError):
            log.error("a call from another process could not be delivered", exc_info=error)
            error = InternalError(f"the call could not be delivered: {error!r}")
        self.fail(number, class_number, error)


def _deliver(
    call: ServedCall[Any] | ServedOnce | ServedFetch | ServedStream | ServedFunction,
    number: int,
    port: ServedPort,
    from_object: Any,
) -> None:
    call.number, call.port, call.is_from_afar = number, port, bool(from_object)
    activation = call.activation
    if from_object:
        activation.counters.subrequests += 1
    activation.deliver(call)
