"""Web sockets of JavaScript, over the library's."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import durable

from .buffers import ArrayBuffer, bytes_of
from .crossing import inward, outward, to_javascript
from .errors import errors_of_javascript
from .events import EventTarget, Listeners, event
from .javascript import JsException, JsProxy, JsTypeError
from .js_collections import JsArray, JsObject
from .promises import started


class _Kept:
    """What a program has attached to a socket, by whichever of its proxies."""

    def __init__(self) -> None:
        self.listeners = Listeners()
        self.fields: dict[str, Any] = {}
        self.is_accepted = False
        # For a socket to a server: done when the connection stands, or has failed.
        self.opened: asyncio.Future[Any] | None = None
        self.is_read = False


_kept: WeakKeyDictionary[durable.WebSocket, _Kept] = WeakKeyDictionary()


class WebSocket(EventTarget):
    """One end of a web socket. Proxies of one end are equal."""

    js_name: ClassVar[str] = "WebSocket"
    CONNECTING: ClassVar[int] = 0
    OPEN: ClassVar[int] = 1
    CLOSING: ClassVar[int] = 2
    CLOSED: ClassVar[int] = 3
    READY_STATE_CONNECTING: ClassVar[int] = 0
    READY_STATE_OPEN: ClassVar[int] = 1
    READY_STATE_CLOSING: ClassVar[int] = 2
    READY_STATE_CLOSED: ClassVar[int] = 3
    _kinds: ClassVar[tuple[str, ...]] = ("message", "close", "error", "open")

    _socket: durable.WebSocket

    def __init__(self, socket: Any) -> None:
        object.__setattr__(self, "_socket", socket)

    @property
    def socket(self) -> durable.WebSocket:
        """The library's socket."""
        return self._socket

    @property
    def listeners(self) -> Listeners:
        return self._own.listeners

    @property
    def _own(self) -> _Kept:
        return _kept.setdefault(self._socket, _Kept())

    def accept(self, options: Any = None) -> None:
        """Dispatch messages to the listeners from now on."""
        with errors_of_javascript():
            self._socket.accept()
        self._own.is_accepted = True
        self.listened()

    def listened(self) -> None:
        own = self._own
        if own.listeners and own.is_accepted and not own.is_read:
            own.is_read = True
            started(_dispatch_all(self._socket, own))

    def await_open(self, opened: asyncio.Future[Any]) -> None:
        """It is connecting: dispatch `open` when *opened* is done."""
        self._own.opened = opened
        self.accept()

    def send(self, message: Any) -> None:
        found = bytes_of(message)
        if found is None and not isinstance(message, str):
            raise JsTypeError(f"send() takes a str or bytes, not {type(message).__name__}")
        with errors_of_javascript():
            self._socket.send(str(message) if found is None else found)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        try:
            self._socket.close(code, reason if code is not None else None)
        except ValueError as error:
            raise JsException(str(error), name="InvalidAccessError") from error

    @property
    def readyState(self) -> int:
        opened = self._own.opened
        if opened is not None and not opened.done():
            return self.CONNECTING
        return self._socket.ready_state

    def serializeAttachment(self, value: Any) -> None:
        kept = outward(value)
        with errors_of_javascript():
            self._socket.serialize_attachment(kept)

    def deserializeAttachment(self) -> Any:
        return to_javascript(self._socket.deserialize_attachment())

    def __getattr__(self, name: str) -> Any:
        fields = self._own.fields
        if name.startswith("__") or name not in fields:
            raise AttributeError(name)
        return fields[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("on") and name[2:] in self._kinds:
            self.addEventListener(name[2:], value)
        else:
            self._own.fields[name] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebSocket) and self._socket is other._socket

    def __hash__(self) -> int:
        return hash(self._socket)


async def _dispatch_all(socket: durable.WebSocket, own: _Kept) -> None:
    """Dispatch all that arrives, and the end, to the listeners."""
    listeners = own.listeners
    await asyncio.sleep(0)  # so that listeners which this step still adds miss nothing
    if own.opened is not None:
        try:
            await asyncio.shield(own.opened)
        except Exception as error:
            listeners.dispatch("error", event("error", message=str(error), error=str(error)))
            listeners.dispatch("close", event("close", code=1006, reason="", wasClean=False))
            return
        own.opened = None
        listeners.dispatch("open", event("open"))
    try:
        async for message in socket:
            listeners.dispatch("message", event("message", data=content_of(message)))
    except durable.WebSocketClosed as error:
        listeners.dispatch("error", event("error", message=str(error), error=JsException(error)))
    code, reason = socket.close_code, socket.close_reason
    was_clean = code not in {None, 1006}
    listeners.dispatch(
        "close", event("close", code=code or 1006, reason=reason or "", wasClean=was_clean)
    )


def content_of(message: str | bytes) -> str | ArrayBuffer:
    """A message as handlers and listeners get it."""
    return message if isinstance(message, str) else ArrayBuffer(message)


class WebSocketPair(JsObject):
    """Both ends of a new web socket: `client, server = WebSocketPair.new().object_values()`."""

    js_name: ClassVar[str] = "WebSocketPair"

    def __init__(self) -> None:
        client, server = durable.WebSocketPair()
        super().__init__({"0": WebSocket(client), "1": WebSocket(server)})

    def __iter__(self) -> Any:
        return iter(self.object_values())

    def __getitem__(self, index: int) -> WebSocket:
        found: WebSocket = self.object_values()[index]
        return found

    def __len__(self) -> int:
        return 2


class WebSocketRequestResponsePair(JsProxy):
    """A request text, and the response to it, for `setWebSocketAutoResponse`."""

    js_name: ClassVar[str] = "WebSocketRequestResponsePair"

    def __init__(self, request: str, response: str) -> None:
        self.request: str = request
        self.response: str = response


def socket_of(given: Any) -> durable.WebSocket:
    """The library's socket that *given* is a proxy of."""
    if isinstance(given, durable.WebSocket):
        return given
    if not isinstance(given, WebSocket):
        raise JsTypeError(f"a WebSocket is needed here, not {given!r}")
    return given.socket


def sockets_as_array(sockets: list[durable.WebSocket]) -> JsArray:
    return JsArray(WebSocket(socket) for socket in sockets)


@outward.register
def _socket_out(value: WebSocket) -> durable.WebSocket:
    return value.socket


@inward.register
def _socket_in(value: durable.WebSocket) -> WebSocket:
    return WebSocket(value)
