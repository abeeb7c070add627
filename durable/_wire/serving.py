"""Calls that come from other processes, on the side of the objects.

A call that comes is an invocation of its object as others are: it has its place in line, and its
answer leaves through the output gate. What the handler returns is encoded when it ends, as it would
be copied for a caller of this process; the answer that is let out is a frame.

Rule: the frames of one port are taken in their order. When this process turns out not to have the
object, that call and all later ones of the port are sent back, unbegun.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any, Protocol, TypeVar

from attrs import define, field

from durable._border.channel import LocalChannel
from durable._border.durable_object import rpc_method
from durable._border.once import OnceCall, check_once, digest_of
from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._model.errors import (
    DurableError,
    InternalError,
    MessageTooLarge,
    NoSuchMethod,
)
from durable._model.ids import ObjectId
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.invocation import Invocation, MethodCall, itself

from .crossing import Crossing, checked_id
from .failures import to_failure
from .frames import Kind, pack
from .link import Link

T = TypeVar("T")


class NotOwner(Exception):
    """The object is not this process's now: nothing has begun, and the caller is to look anew."""


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
        if channel is None or channel.is_gone:
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

    def export(self, _: Any, value: Any) -> bytes:
        """What a method has returned, as it leaves."""
        return self.calls.encode(self.class_number, "what the call returns", value)


class _Served(Invocation[T]):
    """A call that came from another process, whatever its kind."""

    __slots__ = ()

    calls: ServedCalls
    number: int
    port: ServedPort

    def resolve(self, value: Any) -> None:
        if not self._is_done:
            super().resolve(None)  # type: ignore[arg-type]
            self.calls.answer(self.number, value)

    def fail(self, error: BaseException) -> None:
        if not self._is_done:
            super().fail(error)
            self.calls.fail(self.number, self.port.class_number, error)


class ServedCall(_Served[T], MethodCall[T]):
    """A call of a method that came from another process."""

    __slots__ = ("calls", "number", "port")


class ServedOnce(_Served[Any], OnceCall):
    """One with a key."""

    __slots__ = ("calls", "number", "port")


class ServedCalls:
    """What the other side of one link calls."""

    def __init__(self, link: Link, crossing: Crossing, reach: Reach) -> None:
        self._link = link
        self._crossing = crossing
        self.reach = reach
        self._ports: dict[int, ServedPort] = {}
        self._size_max = crossing.services.limits.peer_message_size_max
        link.on[Kind.OPEN] = self._open
        link.on[Kind.SHUT] = self._shut
        link.on[Kind.CALL] = self._call
        link.on[Kind.DELETE] = self._delete
        link.on_gone.append(self._lost)

    def encode(self, class_number: int, what: str, value: Any) -> bytes:
        """*value* as bytes. Raises UnstorableValue, MessageTooLarge."""
        encoded = self._crossing.writer_of(class_number).encode(value)
        if len(encoded) > self._size_max:
            raise MessageTooLarge(what, len(encoded), self._size_max)
        return encoded

    def answer(self, number: int, encoded: bytes) -> None:
        """Let the caller of *number* have a value."""
        self._link.connection.send(pack(Kind.ANSWER, number, encoded))

    def fail(self, number: int, class_number: int, error: BaseException) -> None:
        """Let the caller of *number* have *error*."""
        failure = to_failure(error, self._crossing.writer_of(class_number).encode)
        self._link.send(Kind.FAIL, number, failure)

    def _lost(self, _: str) -> None:
        self._ports.clear()

    def _open(self, frame: list[Any]) -> None:
        _, number, class_number, raw, name, *_ = frame
        self._ports[number] = ServedPort(self, class_number, checked_id(raw, name))

    def _shut(self, frame: list[Any]) -> None:
        del self._ports[frame[1]]

    def _call(self, frame: list[Any]) -> None:
        _, number, port_number, from_object, name, written, *more = frame
        port = self._ports[port_number]
        try:
            activation = port.reach()
            port.check_method(activation.cls, name)
            payload = None
            if written is not None:
                decoded = self._crossing.reader_of(port.class_number).decode(written)
                payload = (decoded[0], decoded[1] if len(decoded) > 1 else {})
            key = check_once(more[0]) if more else None
            digest = b""
            if key is not None:
                args, kwargs = payload or ((), {})
                encode = self._crossing.services.codec_of(activation.cls).encode
                digest = digest_of(name, args, kwargs, encode)
        except NotOwner:
            self._link.send(Kind.MOVED, number)
            return
        except Exception as error:
            self._refuse(number, port, error)
            return
        call: ServedCall[Any] | ServedOnce
        if key is None:
            call = ServedCall(activation, itself, Context(), name, None, port.export)
        else:
            call = ServedOnce(activation, itself, Context(), name, None, port.export)
            call.key, call.digest = key, digest
        call.calls, call.number, call.port = self, number, port
        call.payload = payload
        self._deliver(call, from_object)

    def _delete(self, frame: list[Any]) -> None:
        _, number, port_number, *_ = frame
        port = self._ports[port_number]
        try:
            port.reach()
            assert port.channel is not None
            answer = port.channel.delete_all()
        except NotOwner:
            self._link.send(Kind.MOVED, number)
        except Exception as error:
            self._refuse(number, port, error)
        else:
            self._pass_on(number, port.class_number, answer)

    def _deliver(self, invocation: Invocation[Any], from_object: Any) -> None:
        activation: Any = invocation.activation
        if from_object:
            activation.counters.subrequests += 1
        activation.deliver(invocation)

    def _pass_on(self, number: int, class_number: int, answer: Answer[Any]) -> None:
        """Answer the call *number* with what *answer* comes to."""
        assert isinstance(answer, PendingAnswer)

        def done() -> None:
            if answer.error is not None:
                self.fail(number, class_number, answer.error)
                return
            try:
                encoded = self.encode(class_number, "what the call returns", answer._value)
            except DurableError as error:
                self.fail(number, class_number, error)
            else:
                self.answer(number, encoded)

        when_done(answer, done)

    def _refuse(self, number: int, port: ServedPort, error: Exception) -> None:
        if not isinstance(error, DurableError):
            log.exception("a call from another process could not be delivered")
            error = InternalError(f"the call could not be delivered: {error!r}")
        self.fail(number, port.class_number, error)
