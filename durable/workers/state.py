"""`ctx` of an object as Cloudflare's Python has it, over the library's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, NoReturn

from durable import State

from .dates import JsDate
from .errors import errors_of_javascript
from .javascript import JsTypeError, callable_of
from .js_collections import JsArray
from .namespaces import DurableObjectId
from .promises import Promise, settled
from .sockets import WebSocketRequestResponsePair, socket_of, sockets_as_array
from .spelling import BothCases
from .storage import DurableObjectStorage

_NOT_YET = "reach other Workers and objects by bindings, through env"


class DurableObjectContext(BothCases):
    """What an object can ask about itself, and do to itself; in camel case and in snake case."""

    not_here: ClassVar[Mapping[str, str]] = {
        "exports": _NOT_YET,
        "props": _NOT_YET,
        "container": "there are no containers",
        "facets": "there are no facets",
    }

    def __new__(cls, ctx: Any) -> DurableObjectContext:
        """Returns *ctx* itself if it is wrapped already."""
        return ctx if isinstance(ctx, cls) else super().__new__(cls)

    def __init__(self, ctx: State | DurableObjectContext) -> None:
        if not isinstance(ctx, DurableObjectContext):
            self._ctx: State = ctx

    @property
    def id(self) -> DurableObjectId:
        return DurableObjectId(self._ctx.id)

    @property
    def storage(self) -> DurableObjectStorage:
        return DurableObjectStorage(self._ctx.storage)

    def blockConcurrencyWhile(self, callback: Callable[[], Awaitable[Any]]) -> Promise:
        fn = callable_of(callback)

        async def run() -> Any:
            return await settled(fn())

        with errors_of_javascript():
            return Promise(self._ctx.block_concurrency_while(run))

    def waitUntil(self, awaitable: Awaitable[Any]) -> None:
        self._ctx.wait_until(awaitable)

    def abort(self, reason: str | None = None, options: Any = None) -> NoReturn:
        self._ctx.abort(reason)

    # Web sockets

    def acceptWebSocket(self, ws: Any, tags: Any = None) -> None:
        with errors_of_javascript():
            self._ctx.accept_websocket(socket_of(ws), list(tags or ()))

    def getWebSockets(self, tag: str | None = None) -> JsArray:
        return sockets_as_array(self._ctx.get_websockets(tag))

    def getTags(self, ws: Any) -> JsArray:
        with errors_of_javascript():
            return JsArray(self._ctx.get_tags(socket_of(ws)))

    def setWebSocketAutoResponse(self, pair: WebSocketRequestResponsePair | None = None) -> None:
        if pair is None:
            self._ctx.set_websocket_auto_response()
            return
        if not isinstance(pair, WebSocketRequestResponsePair):
            raise JsTypeError(
                f"setWebSocketAutoResponse() takes a WebSocketRequestResponsePair, not {pair!r}"
            )
        with errors_of_javascript():
            self._ctx.set_websocket_auto_response(pair.request, pair.response)

    def getWebSocketAutoResponse(self) -> WebSocketRequestResponsePair | None:
        pair = self._ctx.get_websocket_auto_response()
        return None if pair is None else WebSocketRequestResponsePair(*pair)

    def getWebSocketAutoResponseTimestamp(self, ws: Any) -> JsDate | None:
        at = self._ctx.get_websocket_auto_response_timestamp(socket_of(ws))
        return None if at is None else JsDate(at)

    def setHibernatableWebSocketEventTimeout(self, ms: int | None = None) -> None:
        """Does nothing: a handler has no time limit here."""

    def getHibernatableWebSocketEventTimeout(self) -> int | None:
        return None
