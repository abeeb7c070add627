"""An object that reads a web socket of another server, and keeps itself going by an alarm."""

import json
import time

import js
from pyodide.ffi import create_proxy
from workers import DurableObject, Response, WorkerEntrypoint


class Reader(DurableObject):
    def __init__(self, state, env):
        super().__init__(state, env)
        self.connected = False

    async def fetch(self, request):
        if not self.connected:
            await self.ctx.storage.setAlarm(int(time.time() * 1000) + 60_000)
            self.connect()
        return Response.json(
            {
                "connected": self.connected,
                "last": self.ctx.storage.kv.get("last"),
                "alarm": await self.ctx.storage.getAlarm() is not None,
            }
        )

    def connect(self):
        ws = js.WebSocket.new(self.env.SOURCE)
        ws.addEventListener("open", create_proxy(self.on_open))
        ws.addEventListener("message", create_proxy(self.on_message))
        ws.addEventListener("close", create_proxy(self.on_close))

    async def on_open(self, event):
        self.connected = True
        await self.ctx.storage.put("opened", True)

    def on_message(self, event):
        self.ctx.storage.kv.put("last", json.loads(event.data)["number"])

    async def on_close(self, event):
        self.connected = False
        self.ctx.abort(f"the source has closed: {event.code}")

    async def alarm(self):
        await self.ctx.storage.setAlarm(int(time.time() * 1000) + 60_000)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.READER.get(self.env.READER.idFromName("one")).fetch(request)
