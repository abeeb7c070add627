"""How fast does one object speak to its web sockets? Beside it: a memory stream for each listener.

One client says something, the object sends it to all, and every socket reads it: no network, so
that what is measured is ours. The durable row stores each message before anybody hears it; beside
it stands the same without the store. Ten thousand sockets are written to in one pass, and once more
by `ctx.broadcast`, beside which stands the loop of sends.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel

import durable
from durable import Request, Response, WebSocket, WebSocketPair

from .harness import RATE, Row, Setting, compare, main, measure

TEXT = "x" * 100


class Room(durable.DurableObject):
    """Sends each message to everybody."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "broadcast":
            self.ctx.broadcast(TEXT)
            return
        if message == "store":
            self.ctx.storage.put("last", message)
        for member in self.ctx.get_websockets():
            member.send(TEXT)


async def join(room: durable.Stub[Room], count: int) -> list[WebSocket]:
    sockets = []
    for _ in range(count):
        ws = (await room.fetch("https://room/")).websocket
        assert ws is not None
        ws.accept()
        sockets.append(ws)
    return sockets


async def ask(setting: Setting) -> list[Row]:
    async with durable.open(setting.new_folder(), bindings={"ROOMS": Room}) as runtime:
        few = await join(runtime.env.ROOMS.get_by_name("few"), 100)
        many = await join(runtime.env.ROOMS.get_by_name("many"), setting.pick(100, 10_000, 10_000))
        rounds = setting.pick(2, 15, 51)
        return [
            await row(few, "say", "100 sockets", rounds, setting.pick(2, 100, 200)),
            await row(few, "store", "100 sockets, durable", rounds, setting.pick(2, 50, 100)),
            await row(many, "say", f"{len(many):,} sockets", rounds, 1),
            await broadcast(many, rounds),
        ]


async def broadcast(sockets: list[WebSocket], rounds: int) -> Row:
    """The same, said in one call; what is measured is the handler and not the reading."""

    async def say(what: str) -> None:
        await sockets[0].send(what)
        await anext(sockets[-1])

    async def ours(_: int) -> None:
        await say("broadcast")

    async def plain(_: int) -> None:
        await say("say")

    async def read(_: int) -> None:
        for ws in sockets[:-1]:
            await anext(ws)

    heard: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for work, figures in zip((ours, plain), heard, strict=True):
            us = await measure(work, 1)
            await read(1)
            if number:
                figures.append(len(sockets) / us * 1e6)
    return Row(f"ctx.broadcast to {len(sockets):,}", RATE, heard[0], "send to each", heard[1])


async def row(sockets: list[WebSocket], what: str, name: str, rounds: int, count: int) -> Row:
    async def ours(count: int) -> None:
        for _ in range(count):
            await sockets[0].send(what)
            for ws in sockets:
                await anext(ws)

    streams = [anyio.create_memory_object_stream[str](1) for _ in sockets]

    async def plain(count: int) -> None:
        for _ in range(count):
            for sender, _ in streams:
                sender.send_nowait(TEXT)
            for _, receiver in streams:
                receiver.receive_nowait()
            await anyio.lowlevel.checkpoint()

    figures = await compare(ours, plain, rounds=rounds, count=count)
    for sender, receiver in streams:
        sender.close()
        receiver.close()
    heard = [[len(sockets) / us * 1e6 for us in side] for side in figures]
    return Row(f"messages to {name}", RATE, heard[0], "memory streams", heard[1])


if __name__ == "__main__":
    main(__doc__, ask)
