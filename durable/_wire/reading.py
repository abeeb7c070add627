"""Bytes that another process has sent, decoded to values.

For a thing of the other process, a local object is made in its place: a function that calls it, a
stream that reads it. What stands for a thing of this process becomes that thing again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ormsgpack import unpackb

from durable._border.rpc import RemoteFunction
from durable._border.streams import Stream
from durable._border.websocket import ObjectSocket
from durable._engine.codec import decoder
from durable._gates.futures import Answer
from durable._model.declared import Declared
from durable._model.ids import ObjectId
from durable._model.messages import Request, Response
from durable._model.signal import Signal

from .crossing import (
    EXT_FUNCTION,
    EXT_ID,
    EXT_OWN,
    EXT_REQUEST,
    EXT_RESPONSE,
    EXT_SOCKET,
    EXT_STREAM,
    EXT_STUB,
    Crossing,
    FarFunction,
    checked_id,
)
from .frames import BadFrame, Kind
from .link import Link
from .sockets import Sockets
from .streams import Streams
from .things import LinkThings

# Calls a function of the other side: the number of the class that decodes its arguments, its
# number, its label, and the arguments.
Invoke = Callable[[int, int, str, tuple[Any, ...], dict[str, Any]], Answer[Any]]


class Readers:
    """The decoders of what one link brings."""

    def __init__(
        self,
        crossing: Crossing,
        things: LinkThings,
        streams: Streams,
        sockets: Sockets,
        invoke: Invoke,
    ) -> None:
        self.crossing = crossing
        self.things = things
        self.streams = streams
        self.sockets = sockets
        self.invoke = invoke
        # The name of the other process.
        self.process = ""
        self._readers: dict[int, Reader] = {}
        things.follow[Signal] = lambda number, signal: Follower(things.link, number, signal)
        things.link.on[Kind.ABORTED] = self._aborted

    def of(self, class_number: int) -> Reader:
        """The decoder of what goes to and comes from objects of a class."""
        reader = self._readers.get(class_number)
        if reader is None:
            cls = self.crossing.class_of(class_number)
            reader = self._readers[class_number] = Reader(self, class_number, cls)
        return reader

    def signal(self, number: int) -> Signal:
        """The signal that follows one of the other side."""
        return self.things.imported(number, Signal)

    def _aborted(self, frame: list[Any]) -> None:
        signal = self.things.known(frame[1])
        if isinstance(signal, Signal):
            signal._abort()


class Follower(Signal):
    """Follows a signal of this process: when it is set, the other side's is set too."""

    __slots__ = ("_link", "_number")

    def __init__(self, link: Link, number: int, signal: Signal) -> None:
        self._link = link
        self._number = number
        super().__init__(signal)

    def _was_aborted(self) -> None:
        self._link.send(Kind.ABORTED, self._number)


class Reader:
    """Decodes values for objects of one class."""

    __slots__ = ("_class_number", "_readers", "decode")

    def __init__(self, readers: Readers, class_number: int, cls: type) -> None:
        self._readers = readers
        self._class_number = class_number
        # Raises UnreadableValue and StoreDamaged for bytes that no Writer has written.
        self.decode = decoder(
            Declared(cls).make,
            {
                EXT_ID: _read_id,
                EXT_STUB: self._stub,
                EXT_OWN: readers.crossing.services.codec.decode,
                EXT_FUNCTION: self._function,
                EXT_STREAM: self._stream,
                EXT_REQUEST: self.request,
                EXT_RESPONSE: self.response,
                EXT_SOCKET: self._socket,
            },
        )

    def _stub(self, payload: bytes) -> Any:
        number, raw, name, *_ = unpackb(payload)
        return self._readers.crossing.make_stub(number, checked_id(raw, name))

    def _function(self, payload: bytes) -> RemoteFunction:
        number, label, process, number_there, *_ = unpackb(payload)
        readers = self._readers
        if process is None:
            process, number_there = readers.process, number
        elif process == readers.crossing.process:
            readers.things.link.send(Kind.DROP, number, 1)
            return _own_function(readers.crossing.things[number_there].value)

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
            return readers.invoke(self._class_number, number, str(label), args, kwargs)

        return readers.things.imported(
            number, lambda: FarFunction(call, str(label), process, number_there)
        )

    def _stream(self, payload: bytes) -> Stream[Any]:
        number, *_ = unpackb(payload)
        return self._readers.streams.stream_of(number, self.decode, is_body=False)

    def request(self, payload: bytes) -> Request:
        """The request that a Writer has written by itself."""
        parts, body, signal, *_ = unpackb(payload)
        request = Request._of_parts(parts)
        request._put(self._body(body))
        if signal is not None:
            request._signal = self._readers.signal(signal)
        return request

    def response(self, payload: bytes) -> Response:
        """The response that a Writer has written by itself."""
        parts, body, socket, *_ = unpackb(payload)
        websocket = None if socket is None else self._readers.sockets.socket_of(socket)
        response = Response._of_parts(parts, websocket)
        response._put(self._body(body))
        return response

    def _socket(self, payload: bytes) -> ObjectSocket:
        number, *_ = unpackb(payload)
        return self._readers.sockets.socket_of(number)

    def _body(self, body: Any) -> bytes | Stream[bytes] | None:
        if body is None or type(body) is bytes:
            return body
        return self._readers.streams.stream_of(body, self.decode, is_body=True)


def _read_id(payload: bytes) -> ObjectId:
    raw, name, *_ = unpackb(payload)
    return checked_id(raw, name)


def _own_function(value: Any) -> RemoteFunction:
    if not isinstance(value, RemoteFunction):
        raise BadFrame("what should be a function is none")
    return value
