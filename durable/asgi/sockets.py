"""Web sockets between the network and the end of a pair that an object has answered with."""

from __future__ import annotations

import anyio

from durable import Response, WebSocket, WebSocketClosed
from durable._model.frames import DROPPED, NO_CODE

from .incoming import Receive, Scope, Send
from .responses import raw_headers, send_response

TOO_LARGE = 1009
_DENIAL = "websocket.http.response"


async def answer_upgrade(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Open the socket that *response* brings and carry its messages; or refuse it."""
    ws = response.websocket
    if ws is None:
        await refuse(response, scope, send)
        return
    try:
        headers = raw_headers(response)
        protocol = [value for name, value in headers if name == b"sec-websocket-protocol"]
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": protocol[0].decode("latin-1") if protocol else None,
                "headers": [pair for pair in headers if pair[0] != b"sec-websocket-protocol"],
            }
        )
        ws.accept()
        await _carry(ws, receive, send)
    finally:
        ws._drop()  # unless it was closed properly


async def refuse(response: Response, scope: Scope, send: Send) -> None:
    """Answer an upgrade with something else, as far as the server can."""
    if _DENIAL in (scope.get("extensions") or {}):
        await send_response(response, send, is_head=False, kind=_DENIAL)
    else:
        await send({"type": "websocket.close", "code": 1000, "reason": ""})


async def _carry(ws: WebSocket, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as tasks:

        async def bring_out() -> None:
            await _bring_out(ws, send)
            tasks.cancel_scope.cancel()

        tasks.start_soon(bring_out)
        await _bring_in(ws, receive, send)
        tasks.cancel_scope.cancel()


async def _bring_in(ws: WebSocket, receive: Receive, send: Send) -> None:
    """Hand on what the network says. Awaiting each `send` lets a busy object slow its client."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", NO_CODE)
            # Uvicorn gives the code of an empty close frame for a lost connection too, but only
            # with a frame does it give a reason.
            is_lost = code == DROPPED or (code == NO_CODE and "reason" not in message)
            _close(ws, DROPPED if is_lost else code, message.get("reason"))
            return
        text = message.get("text")
        try:
            await ws.send(message["bytes"] if text is None else text)
        except WebSocketClosed:
            continue  # our side has replied to a close frame that is on its way out
        except ValueError as error:
            ws._drop(error)
            await send({"type": "websocket.close", "code": TOO_LARGE, "reason": ""})
            return


def _close(ws: WebSocket, code: int, reason: str | None) -> None:
    """The client has closed, or is gone."""
    if code == NO_CODE:
        ws.close()
    elif code != DROPPED:
        try:
            ws.close(code, reason or "")
        except ValueError:  # no code that anybody may send
            ws._drop()
    else:
        ws._drop()


async def _bring_out(ws: WebSocket, send: Send) -> None:
    """Hand on what the object says."""
    try:
        async for message in ws:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
        code = 1000 if ws.close_code == NO_CODE else ws.close_code
        await send({"type": "websocket.close", "code": code, "reason": ws.close_reason or ""})
    except WebSocketClosed:
        pass  # to end without a close frame is how the client sees 1006
    except OSError:
        pass  # the client is gone, as whoever receives is about to hear
