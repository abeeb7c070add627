"""A process that has objects: `python objects_program.py FOLDER SOCKET`. Says when it listens."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import anyio

import durable
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._wire.peer import Greeting, serve


class Refusal(Exception):
    """Raised by the objects."""


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    async def value(self) -> int:
        return int(await self.ctx.storage.get("value", 0))

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def refuse(self) -> None:
        raise Refusal("no")

    async def call(self, fn: durable.RemoteFunction) -> object:
        return await fn("from afar")

    async def fetch(self, request: durable.Request) -> durable.Response:
        if request.url.path == "/socket":
            client, server = durable.WebSocketPair()
            self.ctx.accept_websocket(server)
            return durable.Response(status=101, websocket=client)
        return durable.Response(request.stream())

    async def websocket_message(self, ws: durable.WebSocket, message: str | bytes) -> None:
        ws.send(message)


async def main(folder: str, path: str) -> None:
    async with durable.open(folder, bindings={"COUNTERS": Counter}) as runtime:
        crossing = crossing_of(runtime._services, runtime._classes)
        greeting = Greeting(b"store", "objects")
        serve(path, greeting, crossing, OwnObjects(runtime._classes), lambda peer: None)
        print("listening", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
