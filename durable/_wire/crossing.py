"""Values as bytes, on their way from one process to another: the codec of the store, and more.

What is stored is sent in the same bytes. Besides values, ids, stubs, requests, responses and things
that are passed by reference can be sent, nested anywhere: each has an extension type of its own,
which no store contains.

Rule: an instance of an author's class is made only if the class of the object that is called, or
that returns it, declares the class. Both sides check that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field
from ormsgpack import Ext, packb

from durable._border.bodies import detach_body
from durable._border.by_reference import ByReference
from durable._border.rpc import RemoteFunction
from durable._border.streams import Source, Stream
from durable._border.websocket import ObjectSocket, end_of, hand_over
from durable._engine.codec import MsgpackCodec, encoder
from durable._gates.futures import Answer, PendingAnswer, ReadyAnswer
from durable._loop.loop import Loop
from durable._model.declared import Declared
from durable._model.errors import MessageTooLarge
from durable._model.ids import ID_SIZE, ObjectId
from durable._model.messages import Request, Response
from durable._model.signal import Signal
from durable._model.storage_errors import UnstorableValue
from durable._model.values import ATOMS
from durable._model.websocket import WebSocket
from durable._object.activation import Activation, sending_activation
from durable._object.services import Services

from .searches import Searches
from .sockets import Moves, Relay
from .things import Things, Written

# The payloads are arrays; a later version adds its fields at the end.
EXT_ID: Final = 64  # the id, its name or None
EXT_STUB: Final = 65  # number of the class, the id, its name or None
EXT_OWN: Final = 66  # a leaf as the program's codec has encoded it; no array
EXT_FUNCTION: Final = 67  # thing, label, the process whose function it is or None, its number there
EXT_STREAM: Final = 68  # thing
EXT_REQUEST: Final = 69  # parts, body, thing of the signal or None
EXT_RESPONSE: Final = 70  # parts, body, thing of the web socket or None
EXT_SOCKET: Final = 71  # thing

# A larger body is streamed, so that it does not hold up other frames.
WHOLE_BODY_SIZE_MAX: Final = 1_048_576
CHUNK_SIZE: Final = 262_144


@define(eq=False)
class Crossing:
    """What one runtime gives its connections: its identity, and how its values are sent."""

    services: Services
    # The class with that number in the store; UnknownClass if this program does not have it.
    class_of: Callable[[int], type]
    # Makes a stub; and takes one apart, None for what is not a stub.
    make_stub: Callable[[int, ObjectId], Any]
    parts_of_stub: Callable[[Any], tuple[int, ObjectId] | None]
    # Handlers of other processes' questions, by name: given the peer and a value, returns or awaits
    # the answer.
    requests: dict[str, Callable[[Any, Any], Awaitable[Any] | Any]] = field(factory=dict)
    searches: Searches = field(init=False)
    moves: Moves = field(init=False)
    things: Things = field(factory=Things)
    # Handlers of other processes' notices, by name: given the peer and a value.
    on_notice: dict[str, Callable[[Any, Any], None]] = field(factory=dict)
    _writers: dict[int, Writer] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.searches = Searches(self.services.loop)
        self.moves = Moves(self.services.loop)

    @property
    def process(self) -> str:
        """The name of this process, as all others know it."""
        return self.searches.process

    def be(self, process: str) -> None:
        """Others know this process by that name from now on."""
        self.searches.process = self.moves.process = process

    def writer_of(self, class_number: int) -> Writer:
        """Encodes what goes to and comes from objects of a class."""
        writer = self._writers.get(class_number)
        if writer is None:
            cls = self.class_of(class_number)
            writer = self._writers[class_number] = Writer(self, class_number, cls)
        return writer

    def forget(self, class_number: int) -> None:
        """The class with that number has new code."""
        self._writers.pop(class_number, None)


class FarFunction(RemoteFunction):
    """A function of another process."""

    __slots__ = ("__weakref__", "_call", "_label", "number", "process")

    def __init__(
        self, call: Callable[..., Answer[Any]], label: str, process: str, number: int
    ) -> None:
        self._call = call
        self._label = label
        # The process that has it, and its number there.
        self.process = process
        self.number = number

    @property
    def label(self) -> str:
        return self._label

    def __call__(self, *args: Any, **kwargs: Any) -> Answer[Any]:
        return self._call(args, kwargs)

    def __del__(self) -> None:
        """Nothing to do: the link sees that it is freed."""

    def __repr__(self) -> str:
        return f"<remote function {self.label} of another process>"


class Writer:
    """Encodes values for objects of one class."""

    __slots__ = ("_class_number", "_crossing", "_declared", "_encode", "_numbers", "_sender")

    def __init__(self, crossing: Crossing, class_number: int, cls: type) -> None:
        self._crossing = crossing
        self._class_number = class_number
        self._declared = Declared(cls)
        self._encode = encoder(self._take)
        # For the value that is being encoded: the things in it, and the object whose code sends it.
        self._numbers: list[int] = []
        self._sender: Activation | None = None

    def write(self, value: Any, sender: Activation | None) -> bytes | Written:
        """The bytes of *value*, sent by code of *sender* or, if None, by the program. Raises
        UnstorableValue for what cannot be sent."""
        if type(value) in ATOMS:
            return self._encode(value)
        return self._with_things(self._encode, value, sender)

    def write_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sender: Activation | None
    ) -> bytes | Written:
        """The bytes of the arguments of a call: those of a list, or an array of two such bytes."""
        if not kwargs:
            return self._with_things(self._encode, [*args], sender)
        return self._with_things(self._both_arguments, (args, kwargs), sender)

    def _both_arguments(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
        args, kwargs = arguments
        return packb([self._encode([*args]), self._encode(kwargs)])

    def write_request(self, request: Request, sender: Activation | None) -> bytes | Written:
        """The bytes of *request*, which the library has made, and of nothing else."""
        return self._with_things(self._own_request, request, sender)

    def write_response(self, response: Response, sender: Activation | None) -> bytes | Written:
        """The same of *response*."""
        return self._with_things(self._response, response, sender)

    def _with_things(
        self, encode: Callable[[Any], bytes], value: Any, sender: Activation | None
    ) -> bytes | Written:
        before = self._numbers, self._sender
        self._numbers, self._sender = [], sender
        try:
            encoded = encode(value)
            if not self._numbers:
                return encoded
            written = Written(encoded, self._crossing.things, self._numbers)
            self._numbers = []
            return written
        finally:
            for number in self._numbers:
                self._crossing.things.release(number)
            self._numbers, self._sender = before

    def plain(self, value: Any) -> bytes:
        """The bytes of *value*. Raises UnstorableValue if it contains anything but plain values."""
        written = self.write(value, None)
        if isinstance(written, Written):
            raise UnstorableValue("it contains something that is passed by reference")
        return written

    def _take(self, leaf: Any) -> object | None:
        """What is sent in place of *leaf*."""
        crossing = self._crossing
        if isinstance(leaf, ObjectId):
            return Ext(EXT_ID, packb([leaf.raw, leaf.name]))
        if isinstance(leaf, ByReference):
            return self._refer(leaf)
        if isinstance(leaf, Request):
            return Ext(EXT_REQUEST, self._request(Request(leaf), leaf.signal))
        if isinstance(leaf, Response):
            return Ext(EXT_RESPONSE, self._response(leaf._handed_over()))
        if callable(leaf) and not isinstance(leaf, type):
            return self._refer(RemoteFunction(leaf, self._sender, crossing.services))
        codec = crossing.services.codec
        if type(codec) is not MsgpackCodec:
            return Ext(EXT_OWN, codec.encode(leaf))
        return self._declared.take(leaf)

    def _refer(self, leaf: ByReference) -> Ext:
        stub = self._crossing.parts_of_stub(leaf)
        if stub is not None:
            class_number, object_id = stub
            return Ext(EXT_STUB, packb([class_number, object_id.raw, object_id.name]))
        if isinstance(leaf, RemoteFunction):
            home = (leaf.process, leaf.number) if isinstance(leaf, FarFunction) else (None, 0)
            return Ext(EXT_FUNCTION, packb([self._export(leaf), leaf.label, *home]))
        if isinstance(leaf, Stream):
            return Ext(EXT_STREAM, packb([self._export(leaf)]))
        if isinstance(leaf, ObjectSocket):
            return Ext(EXT_SOCKET, packb([self._socket(leaf)]))
        raise UnstorableValue(f"{leaf!r} cannot be sent to another process")

    def _own_request(self, sent: Request) -> bytes:
        return self._request(sent, None if sent._signal is None else sent.signal)

    def _request(self, sent: Request, signal: Signal | None) -> bytes:
        number = None if signal is None else self._export(signal)
        return packb([sent._parts(), self._body(sent), number])

    def _response(self, sent: Response) -> bytes:
        socket = None if sent.websocket is None else self._socket(sent.websocket)
        return packb([sent._parts(), self._body(sent), socket])

    def _socket(self, socket: WebSocket) -> int:
        """The number of *socket*, which cannot be used here any more."""
        try:
            return self._export(Relay(end_of(hand_over(socket))))
        except TypeError as error:
            raise UnstorableValue(f"a web socket cannot be sent to another process: {error}") from (
                error
            )

    def _body(self, message: Request | Response) -> bytes | int | None:
        """The content of *message*, as bytes or as the number of the thing that streams it."""
        services = self._crossing.services
        detach_body(message, services, self._sender)
        content = message._hand_over_body()
        if content is None:
            return None
        if isinstance(content, Stream):
            return self._export(content)
        assert isinstance(content, bytes)
        if len(content) <= WHOLE_BODY_SIZE_MAX:
            return content
        return self._export(Stream[bytes](Chunks(services.loop, content)))

    def _export(self, value: Any) -> int:
        number = self._crossing.things.export(value, self._class_number)
        self._numbers.append(number)
        return number


def write_arguments(
    crossing: Crossing,
    class_number: int,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> bytes | Written | None:
    """The arguments of a call, made by the code that runs; None if there are none. Raises
    UnstorableValue and MessageTooLarge."""
    if not args and not kwargs:
        return None
    written = crossing.writer_of(class_number).write_arguments(args, kwargs, sending_activation())
    return check_size(crossing, f"the call of {name}() with its arguments", written)


def check_size(crossing: Crossing, what: str, written: bytes | Written) -> bytes | Written:
    """Returns *written* if it fits into one message. Raises MessageTooLarge."""
    size_max = crossing.services.limits.peer_message_size_max
    if len(written) > size_max:
        raise MessageTooLarge(what, len(written), size_max)
    return written


class Chunks(Source):
    """A body of bytes that is streamed in parts."""

    def __init__(self, loop: Loop, content: bytes) -> None:
        self.loop = loop
        self.is_closed = False
        self._content = content
        self._place = 0

    def ask(self) -> PendingAnswer[Any]:
        answer: PendingAnswer[Any] = PendingAnswer(self.loop)
        if self._place >= len(self._content):
            answer.fail(StopAsyncIteration())
        else:
            place, self._place = self._place, self._place + CHUNK_SIZE
            answer.resolve(self._content[place : self._place])
        return answer

    def close(self) -> Answer[None]:
        self.is_closed = True
        self._place = len(self._content)
        return ReadyAnswer(None)


def checked_id(raw: Any, name: Any) -> ObjectId:
    """An id that has come in a frame. Raises ValueError for anything else."""
    if type(raw) is not bytes or len(raw) != ID_SIZE or not (name is None or type(name) is str):
        raise ValueError("not a valid object id")
    return ObjectId(raw, name)
