"""Calls from other processes, on the side of the objects: their frames.

A call that comes is an invocation of its object like any other (`served`): it has its place in
line, and its answer leaves through the output gate (`replies`).

Rule: the frames of one port are handled in their order. When this process turns out not to have the
object, that call and all later ones of the port are sent back, and have not begun.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import Any

from ormsgpack import unpackb

from durable._border.channel import reached
from durable._border.once import check_once, digest_of
from durable._border.rpc import RemoteFunction
from durable._border.streams import Pipe, end_with
from durable._engine.codec import FORMAT_MSGPACK
from durable._gates.futures import when_done
from durable._object.activation import Activation
from durable._object.invocation import itself

from .crossing import FarFunction, checked_id
from .frames import BadFrame, Kind
from .link import Link
from .reading import Readers
from .replies import Replies
from .served import (
    Reach,
    ServedCall,
    ServedFetch,
    ServedFunction,
    ServedOnce,
    ServedPort,
    ServedStream,
    deliver,
)
from .streams import Streams
from .things import LinkThings


class ServedCalls:
    """The calls from the other side of one link."""

    def __init__(
        self, link: Link, things: LinkThings, streams: Streams, readers: Readers, reach: Reach
    ) -> None:
        self.replies = Replies(link, readers.crossing, things)
        self._things = things
        self._streams = streams
        self._readers = readers
        self.reach = reach
        self._ports: dict[int, ServedPort] = {}
        link.on[Kind.OPEN] = self._open
        link.on[Kind.SHUT] = self._shut
        link.on[Kind.CALL] = self._call
        link.on[Kind.FETCH] = self._fetch
        link.on[Kind.STREAM] = self._stream
        link.on[Kind.DELETE] = self._delete
        link.on[Kind.INVOKE] = self._invoke
        link.on[Kind.ABORT] = self._abort
        link.on_gone.append(self._lost)

    def _lost(self, _: str) -> None:
        self._ports.clear()
        requests, self.replies.requests = self.replies.requests, {}
        for request in requests.values():
            request.signal._abort()

    def _open(self, frame: list[Any]) -> None:
        _, number, class_number, raw, name, *_ = frame
        self._ports[number] = ServedPort(
            self.replies, self.reach, class_number, checked_id(raw, name)
        )

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
            self.replies.refuse(number, port.class_number, error)
            return
        call.payload = payload
        deliver(call, number, port, from_object)

    def _once(
        self, activation: Activation, port: ServedPort, name: str, payload: Any, key: Any
    ) -> ServedOnce:
        call = ServedOnce(activation, itself, Context(), name, None, port.export)
        call.key = check_once(key)
        args, kwargs = payload or ((), {})
        encode = self._readers.crossing.services.codec_of(activation.cls).encode
        call.digest = digest_of(name, args, kwargs, encode)
        return call

    def _fetch(self, frame: list[Any]) -> None:
        _, number, port_number, from_object, written, *more = frame
        port = self._ports[port_number]
        try:
            activation = port.reach()
            request = self._readers.of(port.class_number).request(written)
        except Exception as error:
            self.replies.refuse(number, port.class_number, error)
            return
        call = ServedFetch(activation, itself, Context(), "fetch", None, port.export_response)
        call.request = request
        # A large body comes as a stream, of which the size is not known here.
        call.size = int(more[0]) if more else request._size
        self.replies.requests[number] = request
        deliver(call, number, port, from_object)

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
            self.replies.refuse(number, port.class_number, error)
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
        self._streams.serve(number, pipe, self._readers.crossing.writer_of(port.class_number).plain)
        when_done(invocation, lambda: self._streams.over(number, invocation.error))
        deliver(invocation, number, port, from_object)

    def _delete(self, frame: list[Any]) -> None:
        _, number, port_number, *_ = frame
        port = self._ports[port_number]
        try:
            port.reach()
            assert port.channel is not None
            answer = port.channel.delete_all()
        except Exception as error:
            self.replies.refuse(number, port.class_number, error)
        else:
            self.replies.pass_on(number, port.class_number, answer)

    def _invoke(self, frame: list[Any]) -> None:
        _, number, thing_number, from_object, written, *_ = frame
        thing = self._things.own(thing_number)
        function = thing.value
        if not isinstance(function, RemoteFunction):
            raise BadFrame("what is called is not a function")
        try:
            args, kwargs = (
                ((), {}) if written is None else self._arguments(thing.class_number, written)
            )
            activation = None if isinstance(function, FarFunction) else function.activation
            answer = function(*args, **kwargs) if activation is None else None
        except Exception as error:
            self.replies.refuse(number, thing.class_number, error)
            return
        if activation is None:
            assert answer is not None
            self.replies.pass_on(number, thing.class_number, answer)
            return
        port = ServedPort(self.replies, self.reach, thing.class_number, activation.id)
        body = function.bind(args, kwargs)
        call = ServedFunction(activation, body, Context(), function.label, None, port.export)
        deliver(call, number, port, from_object)

    def _abort(self, frame: list[Any]) -> None:
        request = self.replies.requests.get(frame[1])
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
