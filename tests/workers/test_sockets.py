"""Web sockets of Workers: hibernating, read by listeners, and to the outside."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from anyio import fail_after

import durable
from durable.testing import evict

from .conftest import CONFIG, Run

pytestmark = pytest.mark.backends("asyncio", "uvloop")

UPGRADE = {"Upgrade": "websocket"}


async def connected(opened: Any, path: str = "/") -> durable.WebSocket:
    response = await opened.get(path, headers=UPGRADE)
    ws: durable.WebSocket = response.websocket
    ws.accept()
    return ws


HIBERNATING = """
from workers import DurableObject, Response, WorkerEntrypoint
import js
import json

class Thing(DurableObject):
    async def fetch(self, request):
        client, server = js.WebSocketPair.new()
        self.ctx.{accept}(server, ["a", "b"])
        return Response(None, status=101, web_socket=client)

    async def {message}(self, ws, message):
        if message == "describe":
            same = self.ctx.getWebSockets()
            ws.send(json.dumps([
                same[0] == ws, ws in same, same.length, len(self.ctx.get_web_sockets("a")),
                list(self.ctx.getTags(ws)), ws.readyState == js.WebSocket.OPEN,
                self.ctx.getWebSocketAutoResponse() is None,
            ]))
        elif message == "attach":
            ws.serializeAttachment({{"n": [1]}})
            ws.send(str(ws.deserializeAttachment().n[0]))
        elif message == "auto":
            self.ctx.setWebSocketAutoResponse(js.WebSocketRequestResponsePair.new("ping", "pong"))
            pair = self.ctx.getWebSocketAutoResponse()
            ws.send(json.dumps([pair.request, pair.response,
                                self.ctx.getWebSocketAutoResponseTimestamp(ws) is None]))
        elif message == "answered":
            at = self.ctx.getWebSocketAutoResponseTimestamp(ws)
            ws.send(str(0 <= js.Date.now() - at.getTime() < 60_000))
            self.ctx.setWebSocketAutoResponse()
        elif message == "bad":
            try:
                ws.close(1005, "no")
            except Exception as error:
                ws.send(str(error))
        elif message == "mark":
            ws.mark = "kept while it is in memory"
            ws.send(self.ctx.getWebSockets()[0].mark)
        else:
            ws.send(message.to_py())

    async def {close}(self, ws, code, reason, was_clean):
        await self.ctx.storage.put("closed", [code, reason, was_clean])

    async def {error}(self, ws, error):
        await self.ctx.storage.put("error", str(error))

    async def ended(self):
        return [await self.ctx.storage.get("closed"), await self.ctx.storage.get("error")]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.THINGS.getByName("a").fetch(request)
"""
CAMEL = {
    "accept": "acceptWebSocket",
    "message": "webSocketMessage",
    "close": "webSocketClose",
    "error": "webSocketError",
}
SNAKE = {
    "accept": "accept_websocket",
    "message": "websocket_message",
    "close": "web_socket_close",
    "error": "websocket_error",
}


@pytest.mark.parametrize("names", [CAMEL, SNAKE], ids=["camel", "snake"])
async def test_hibernating_sockets(run: Run, names: dict[str, str]) -> None:
    """Tags, attachments, automatic answers, bytes; under both spellings of the handlers."""
    async with run(HIBERNATING.format(**names)) as opened:
        ws = await connected(opened)

        async def ask(message: str | bytes) -> Any:
            ws.send(message)
            return await anext(ws)

        assert json.loads(await ask("describe")) == [True, True, 1, 1, ["a", "b"], True, True]
        assert await ask("attach") == "1"
        assert await ask(b"bytes") == b"bytes"
        assert json.loads(await ask("auto")) == ["ping", "pong", True]
        await evict(opened.thing)
        assert await ask("ping") == "pong"
        assert await ask("answered") == "True"
        assert "InvalidAccessError" in await ask("bad")
        assert await ask("mark") == "kept while it is in memory"
        ws.close(4001, "bye")
        assert [message async for message in ws] == []
        assert await opened.thing.ended() == [[4001, "bye", True], None]


LISTENING = """
from workers import DurableObject, Response, WorkerEntrypoint
from pyodide.ffi import create_proxy
import js

class Thing(DurableObject):
    async def fetch(self, request):
        client, server = js.WebSocketPair.new().object_values()
        server.accept()
        server.addEventListener("message", create_proxy(self.heard))
        server.onclose = self.gone
        self.server = server
        self.once = []
        keep = lambda event: self.once.append(event.data)
        server.addEventListener("message", keep, {"once": True})
        return Response(None, status=101, web_socket=client)

    async def heard(self, event):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        self.server.send(f"{event.type} {count}: {event.data}")

    def gone(self, event):
        self.ctx.storage.kv.put("gone", [event.code, event.reason, event.wasClean])

    def state(self):
        kv = self.ctx.storage.kv
        return [kv.get("count"), kv.get("gone"), self.once]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.THINGS.getByName("a").fetch(request)
"""


async def test_sockets_that_an_object_reads_itself(run: Run) -> None:
    """Listeners are functions, asynchronous ones too, and run as events of the object do."""
    async with run(LISTENING) as opened:
        ws = await connected(opened)
        ws.send("a")
        ws.send("b")
        assert [await anext(ws), await anext(ws)] == ["message 1: a", "message 2: b"]
        ws.close(4001, "bye")
        with fail_after(10):
            while (await opened.thing.state())[1] is None:
                await asyncio.sleep(0.01)
        assert await opened.thing.state() == [2, [4001, "bye", True], ["a"]]


async def test_a_worker_without_objects_reads_a_socket(run: Run) -> None:
    """The entry takes one end itself, with a handler of the old style too."""
    code = """
    from js import Response, WebSocketPair

    async def on_fetch(request):
        client, server = WebSocketPair.new().object_values()
        server.accept()
        server.addEventListener("message", lambda event: server.send(event.data.upper()))
        return Response.new(None, status=101, webSocket=client)
    """
    async with run(code, 'name = "it"\nmain = "worker.py"\n') as opened:
        ws = await connected(opened)
        ws.send("hello")
        assert await anext(ws) == "HELLO"
        ws.close()


OUTGOING = """
from workers import DurableObject, Response, WorkerEntrypoint
import asyncio
import js

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        told = []
        url = self.env.SOURCE
        if request.url.endswith("/fetch"):
            answer = await js.fetch(url.replace("ws:", "http:"), headers={"Upgrade": "websocket"})
            ws = answer.webSocket
            ws.accept()
        else:
            ws = js.WebSocket.new(url)
            told.append(ws.readyState)
        done = asyncio.get_running_loop().create_future()
        def heard(event):
            told.append(event.data)
            ws.send("enough")
        ws.addEventListener("open", lambda event: told.append(event.type))
        ws.addEventListener("message", heard)
        ws.addEventListener("error", lambda event: told.append(event.type))
        ws.addEventListener("close", lambda event: done.set_result([event.code, event.reason]))
        closed = await asyncio.wait_for(done, 10)
        return Response.json([told, closed])
"""


async def test_a_socket_to_a_server(run: Run) -> None:
    """By `WebSocket.new(url)`, and by a request to upgrade."""
    server = pytest.importorskip("websockets.asyncio.server")

    async def serve(connection: Any) -> None:
        await connection.send("news")
        assert await connection.recv() == "enough"
        await connection.close(4004, "done")

    async with server.serve(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        config = CONFIG.partition("[[")[0] + f'vars.SOURCE = "ws://127.0.0.1:{port}/"'
        async with run(OUTGOING, config) as opened:
            assert json.loads(await opened.text()) == [[0, "open", "news"], [4004, "done"]]
            assert json.loads(await opened.text("/fetch")) == [["news"], [4004, "done"]]


async def test_a_socket_to_nowhere_tells_of_an_error(run: Run) -> None:
    config = CONFIG.partition("[[")[0] + 'vars.SOURCE = "ws://127.0.0.1:1/"'
    async with run(OUTGOING, config) as opened:
        assert json.loads(await opened.text()) == [[0, "error"], [1006, ""]]
