"""An ASGI application as the handler of a Worker or an object: `asgi.fetch`."""

from __future__ import annotations

import json

import pytest

from .conftest import CONFIG, Run

pytest.importorskip("fastapi")

pytestmark = pytest.mark.backends("asyncio", "uvloop")

CODE = """
from contextlib import asynccontextmanager

import asgi
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from workers import DurableObject, WorkerEntrypoint

SEEN = []

@asynccontextmanager
async def lifespan(app):
    SEEN.append("started")
    yield {"greeting": "hello"}
    SEEN.append("stopped")

app = FastAPI(lifespan=lifespan)

@app.post("/items/{name}")
async def item(name: str, request: Request, q: str = ""):
    env = request.scope["env"]
    count = await env.THINGS.getByName(name).count()
    return [name, q, await request.json(), request.state.greeting, count, SEEN]

@app.get("/stream")
async def stream():
    async def parts():
        for n in range(40):
            yield f"{n} "
    return StreamingResponse(parts())

@app.get("/fail")
async def fail():
    raise LookupError("of the application")

@app.websocket("/echo")
async def echo(ws: WebSocket):
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(text.upper())
        if text == "end":
            await ws.close(4000, "done")
            return

class Thing(DurableObject):
    async def count(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return count

    async def fetch(self, request):
        return await asgi.fetch(app, request, self.env)

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.headers.get("upgrade") == "websocket":
            return await asgi.websocket(app, request)
        if request.url.startswith("https://example.com/object"):
            url = request.url.replace("/object", "")
            return await self.env.THINGS.getByName("a").fetch(url, method=request.method)
        return await asgi.fetch(app, request.js_object, self.env)
"""


async def test_an_asgi_application_answers(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """With the bindings in its scope; started and stopped around each request."""
    async with run(CODE, CONFIG) as opened:
        body = {"method": "POST", "body": '{"a": 1}'}
        first = json.loads(await opened.text("/items/te%20a?q=1", **body))
        assert first == ["te a", "1", {"a": 1}, "hello", 1, ["started"]]
        assert json.loads(await opened.text("/items/b", **body))[-1] == [
            "started",
            "stopped",
            "started",
        ]
        assert (await opened.text("/stream")).split() == [str(n) for n in range(40)]
        assert (await opened.text("/object/stream")).split() == [str(n) for n in range(40)]
        assert (await opened.get("/nothing")).status == 404
        assert (await opened.get("/fail")).status == 500
    assert "of the application" in caplog.text


async def test_its_web_sockets(run: Run) -> None:
    async with run(CODE, CONFIG) as opened:
        ws = (await opened.get("/echo", headers={"upgrade": "websocket"})).websocket
        assert ws is not None
        ws.accept()
        ws.send("hello")
        assert await anext(ws) == "HELLO"
        ws.send("end")
        assert [message async for message in ws] == ["END"]
        assert (ws.close_code, ws.close_reason) == (4000, "done")
        refused = await opened.get("/none", headers={"upgrade": "websocket"})
        assert refused.status == 403
