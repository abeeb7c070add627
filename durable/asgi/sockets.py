"""Carries messages between a client on the network and the end that an object has returned."""

from __future__ import annotations

import sys
from typing import Any

import anyio

from durable import Response, WebSocket, WebSocketClosed
from durable._border.sending import reply
from durable._border.websocket import end_of
from durable._model.frames import DROPPED, NO_CODE

from .incoming import Message, Receive, Scope, Send
from .responses import raw_headers, send_response

TOO_LARGE = 1009
# How long a client has to answer the close frame of the object, in seconds.
CLOSE_REPLY_S = 10.0
_DENIAL = "websocket.http.response"


async def answer_upgrade(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept the web socket that *response* carries and pass its messages on; or refuse it."""
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
        end_of(ws).drop()  # does nothing if it was closed properly


async def refuse(response: Response, scope: Scope, send: Send) -> None:
    """Answer an upgrade with an HTTP response, as far as the server can."""
    if _DENIAL in (scope.get("extensions") or {}):
        await send_response(response, send, is_head=False, kind=_DENIAL)
    else:
        await send({"type": "websocket.close", "code": 1000, "reason": ""})


async def _carry(ws: WebSocket, receive: Receive, send: Send) -> None:
    """Pass messages on both ways until the network ends them.

    What a client has sent before its close frame is delivered, even if nothing can be sent to it
    any more, and so is what it sends before it answers the object's close frame.
    """
    end = end_of(ws)
    end.replies = False  # the client has to reply, and may have messages to send before
    is_gone = False

    async def send_on(message: Message) -> None:
        if not is_gone:  # servers raise on what comes after they have reported the disconnect
            await send(message)

    async with anyio.create_task_group() as tasks:

        async def bring_out() -> None:
            if await _bring_out(ws, send_on):
                await anyio.sleep(CLOSE_REPLY_S)
                reply(end)  # servers differ in whether they report the client's reply
            tasks.cancel_scope.cancel()

        tasks.start_soon(bring_out)
        disconnect = await _bring_in(ws, receive, send)
        is_gone = True
        if disconnect is not None:
            _close(ws, disconnect)
        tasks.cancel_scope.cancel()


async def _bring_in(ws: WebSocket, receive: Receive, send: Send) -> Message | None:
    """Pass on what the client sends, until it is gone: returns how, or None if it was cut off.

    Awaiting each `send` lets a busy object slow its client.
    """
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return message
        text = message.get("text")
        try:
            await ws.send(message["bytes"] if text is None else text)
        except WebSocketClosed:
            continue  # it was cut, as the object or the store ended
        except ValueError as error:
            end_of(ws).drop(error)
            await send({"type": "websocket.close", "code": TOO_LARGE, "reason": ""})
            return None


def _close(ws: WebSocket, disconnect: Message) -> None:
    """The client has closed, or its connection is lost."""
    code = disconnect.get("code", NO_CODE)
    # Uvicorn gives the code of an empty close frame for a lost connection too, but a reason only
    # with a frame.
    if code == NO_CODE and "reason" not in disconnect:
        code = DROPPED
    if code == DROPPED and ws.close_code is not None:
        # The reply to the object's close frame: servers that do not wait for it give no code.
        reply(end_of(ws))
    elif code == NO_CODE:
        ws.close()
    elif code != DROPPED:
        try:
            ws.close(code, disconnect.get("reason") or "")
        except ValueError:  # a code that may not be sent
            end_of(ws).drop()
    else:
        end_of(ws).drop()


async def _bring_out(ws: WebSocket, send: Send) -> bool:
    """Pass on what the object sends. Returns whether it has closed; else the connection is lost."""
    is_heard = True
    try:
        async for message in ws:
            if is_heard:
                kind = "text" if isinstance(message, str) else "bytes"
                is_heard = await _sent({"type": "websocket.send", kind: message}, send)
    except WebSocketClosed:
        return False  # the end without a close frame is 1006 for the client
    if is_heard:
        code = 1000 if ws.close_code == NO_CODE else ws.close_code
        reason = ws.close_reason or ""
        await _sent({"type": "websocket.close", "code": code, "reason": reason}, send)
    return True


async def _sent(message: dict[str, Any], send: Send) -> bool:
    """Send *message*. Returns False if the client is gone, which `receive` will report too."""
    try:
        await send(message)
    except OSError:
        return False
    except Exception as error:
        starlette = sys.modules.get("starlette.websockets")
        if starlette is None or not isinstance(error, starlette.WebSocketDisconnect):
            raise
        return False  # which Starlette raises for an OSError
    return True
