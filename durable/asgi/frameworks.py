"""Between Starlette or FastAPI and objects: for routes that call stubs themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from durable import Request, Response

from .requests import BODY_SIZE_MAX, Incoming, read_request, upgrade_request
from .responses import raw_headers
from .sockets import answer_upgrade

if TYPE_CHECKING:
    from starlette.requests import Request as StarletteRequest
    from starlette.responses import Response as StarletteResponse
    from starlette.websockets import WebSocket as StarletteWebSocket


class Fetcher(Protocol):
    """A stub, or anything else that answers requests."""

    def fetch(self, request: Request, /) -> Awaitable[Response]: ...


async def request_of(request: StarletteRequest, *, body_size_max: int = BODY_SIZE_MAX) -> Request:
    """A Starlette request, not read yet, as ours; its body is streamed."""
    return await read_request(request.scope, Incoming(request.receive, body_size_max))


def starlette_response(response: Response) -> StarletteResponse:
    """Our response as a Starlette one; its body is streamed if it is a stream."""
    made = import_module("starlette.responses")
    answer: StarletteResponse
    if response._take_stream() is not None:
        answer = made.StreamingResponse(response.stream(), response.status)
        answer.raw_headers = raw_headers(response)
    else:
        content = response._take()
        answer = made.Response(content, response.status)
        length = [pair for pair in answer.raw_headers if pair[0] == b"content-length"]
        headers = [pair for pair in raw_headers(response) if pair[0] != b"content-length"]
        answer.raw_headers = headers + length
    return answer


def response_of(response: StarletteResponse) -> Response:
    """A Starlette response as ours. TypeError for one whose body is a file."""
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
