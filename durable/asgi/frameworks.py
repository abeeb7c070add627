"""Between Starlette or FastAPI and objects: for routes that call stubs themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from durable import Request, Response
from durable._border.bodies import bodies_on_the_way
from durable._gates.futures import PendingAnswer, wait_done

from .incoming import Incoming, Receive, Scope, Send
from .requests import BODY_SIZE_MAX, read_request, upgrade_request
from .responses import raw_headers, send_stream
from .sockets import answer_upgrade
from .stopping import LOOKED_AT_S, is_stopping

if TYPE_CHECKING:
    from starlette.requests import Request as StarletteRequest
    from starlette.responses import Response as StarletteResponse
    from starlette.websockets import WebSocket as StarletteWebSocket


# The key in the scope of a request for what its client still has to send.
_INCOMING = "durable.incoming"


class Fetcher(Protocol):
    """A stub, or anything else that answers requests."""

    def fetch(self, request: Request, /) -> Awaitable[Response]: ...


async def request_of(request: StarletteRequest, *, body_size_max: int = BODY_SIZE_MAX) -> Request:
    """A Starlette request that was not read yet, as a durable one; its body is streamed."""
    scope = request.scope
    # For the response, which watches for the client's end and may stream this body back.
    incoming = scope[_INCOMING] = Incoming(request.receive, body_size_max)
    ours = await read_request(scope, incoming)
    incoming.on_gone = ours.signal._abort
    return ours


def starlette_response(response: Response) -> StarletteResponse:
    """A durable response as a Starlette one; its body is streamed if it is a stream."""
    made = import_module("starlette.responses")
    answer: StarletteResponse
    if response._take_stream() is not None:
        answer = _streamed_class()(response)
    else:
        content = response._take()
        answer = made.Response(content, response.status)
        length = [pair for pair in answer.raw_headers if pair[0] == b"content-length"]
        headers = [pair for pair in raw_headers(response) if pair[0] != b"content-length"]
        answer.raw_headers = headers + length
    return answer


@lru_cache
def _streamed_class() -> Any:
    """A response class of Starlette's whose streamed body this module sends.

    Starlette's own watches for the client's end by `receive`, and so takes the chunks of the
    request's body, from which the response may be made.
    """
    made = import_module("starlette.responses")

    class Streamed(made.StreamingResponse):  # type: ignore[misc, name-defined]
        def __init__(self, response: Response) -> None:
            super().__init__(response.stream(), response.status)
            self.raw_headers = raw_headers(response)
            self._sent = bodies_on_the_way()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            incoming = scope.get(_INCOMING)
            if incoming is None:  # the framework has read the body, or it is not read at all
                incoming = Incoming(receive, BODY_SIZE_MAX)
                incoming.give_up()
            await _send_while_there(self, scope, incoming, send, self._sent)
            if self.background is not None:
                await self.background()

    return Streamed


async def _send_while_there(
    answer: Any,
    scope: Scope,
    incoming: Incoming,
    send: Send,
    sent: Iterable[PendingAnswer[None]],
) -> None:
    """Send *answer* as long as its client is there and the server runs.

    The route may have passed the body of its request on by itself, as one of the bodies *sent*: as
    long as these are being sent they read what comes from the client.
    """
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def end_with_client() -> None:
            for body in sent:
                await wait_done(body)
            with suppress(Exception):  # a server that fails in that cannot send a response either
                await incoming.wait_gone()
                tasks.cancel_scope.cancel()

        def on_open(ending: anyio.CancelScope, is_of_events: bool) -> None:
            async def end_with_server() -> None:
                while not is_stopping():
                    await anyio.sleep(LOOKED_AT_S)
                ending.cancel()

            if is_of_events:
                tasks.start_soon(end_with_server)

        tasks.start_soon(end_with_client)
        try:
            await send_stream(
                answer.body_iterator,
                answer.status_code,
                answer.raw_headers,
                send,
                is_head=scope["method"] == "HEAD",
                kind="http.response",
                on_open=on_open,
            )
        except Exception as error:  # raised below, in no group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


def response_of(response: StarletteResponse) -> Response:
    """A Starlette response as a durable one. TypeError for one whose body is a file."""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers
    ]
    chunks: Any = getattr(response, "body_iterator", None)
    if chunks is not None:
        return Response(_as_bytes(chunks), status=response.status_code, headers=headers)
    body = getattr(response, "body", None)
    if body is None:
        raise TypeError(f"the body of a {type(response).__name__} cannot be taken out of it")
    return Response(bytes(body) or None, status=response.status_code, headers=headers)


async def _as_bytes(chunks: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)


async def forward(websocket: StarletteWebSocket, target: Fetcher) -> None:
    """Let *target*, such as a stub, answer the upgrade of a route's web socket, and carry the
    messages until either side closes."""
    await websocket.receive()  # websocket.connect
    response = await target.fetch(upgrade_request(websocket.scope))
    await answer_upgrade(response, websocket.scope, websocket.receive, websocket.send)
