"""Rooms with web sockets that hibernate, under the handlers' names of JavaScript."""

import json
from pathlib import Path

import js
from js import WebSocketPair
from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.state = ctx
        self.history = []
        pair = js.WebSocketRequestResponsePair.new("ping", "pong")
        self.ctx.setWebSocketAutoResponse(pair)

    async def fetch(self, request):
        if (request.headers.get("Upgrade") or "").lower() != "websocket":
            return Response("Upgrade, please", status=426)
        client, server = WebSocketPair.new().object_values()
        name = request.url.rpartition("?")[2] or "nobody"
        self.state.acceptWebSocket(server, to_js([name]))
        about = {"name": name, "since": js.Date.now()}
        server.serializeAttachment(to_js(about, dict_converter=js.Object.fromEntries))
        server.send(json.dumps({"welcome": name, "history": self.history}))
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        name = ws.deserializeAttachment().name
        if message == "who":
            names = [self.ctx.getTags(each)[0] for each in self.ctx.getWebSockets()]
            ws.send(json.dumps(sorted(names)))
            return
        if message == "leave":
            ws.close(4000, "as you wish")
            return
        text = message if isinstance(message, str) else message.to_bytes().decode().upper()
        self.history.append(text)
        for each in self.ctx.getWebSockets():
            if each != ws:
                each.send(json.dumps({"from": name, "text": text}))

    async def webSocketClose(self, ws, code, reason, wasClean):
        await self.ctx.storage.put("left", [code, reason, wasClean])

    async def webSocketError(self, ws, error):
        await self.ctx.storage.put("error", error.message)

    async def last_to_leave(self):
        return await self.ctx.storage.get("left")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.partition("//")[2].partition("/")[2].partition("?")[0]
        if not path:
            page = Path(__file__).with_name("page.html")
            return Response(page.read_text(), headers={"Content-Type": "text/html"})
        return await self.env.ROOMS.getByName(path).fetch(request)
