"""Web sockets of objects that another process has, and what becomes of them when they move."""

from __future__ import annotations

import itertools

import anyio
import pytest

import durable
from durable import Request, Response, WebSocket, WebSocketPair

from .conftest import Processes


class Room(durable.DurableObject):
    """Echoes."""

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server, ["guest"])
        self.ctx.set_websocket_auto_response("ping", "pong")
        server.serialize_attachment("attached")
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "attachment":
            ws.send(ws.deserialize_attachment())
            return
        ws.send(f"{message} of {len(self.ctx.get_websockets('guest'))}")


async def connect(runtime: durable.Runtime, name: str) -> WebSocket:
    headers = {"upgrade": "websocket"}
    stub = runtime.env.ROOMS.get_by_name(name)
    response = await stub.fetch("http://room/", headers=headers)
    assert response.websocket is not None
    response.websocket.accept()
    return response.websocket


@pytest.fixture(autouse=True)
def bound(processes: Processes) -> None:
    processes.bindings["ROOMS"] = Room


async def test_a_socket_is_served_by_an_object_of_another_process(processes: Processes) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    name = processes.name_in(two, one.env.ROOMS)
    ws = await connect(one, name)

    ws.send("hello")

    with anyio.fail_after(5):
        assert await anext(ws) == "hello of 1"
    await ws.close()


async def test_a_socket_of_a_process_that_closes_says_1012(processes: Processes) -> None:
    """So a client knows that it may connect anew, and finds the object elsewhere."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    name = processes.name_in(two, one.env.ROOMS)
    ws = await connect(two, name)

    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, two)
        with anyio.fail_after(5):
            assert [message async for message in ws] == []
    assert ws.close_code == 1012

    again = await connect(one, name)
    again.send("hello")
    with anyio.fail_after(5):
        assert await anext(again) == "hello of 1"


@pytest.mark.parametrize("count", [2, 3])
async def test_a_socket_stays_connected_when_its_object_moves(
    processes: Processes, count: int
) -> None:
    """With its tags, its attachment and the auto-response, to the process of the client or to a
    third one; what is sent meanwhile is not lost."""
    runtimes = [await processes.start() for _ in range(count)]
    one, last = runtimes[0], runtimes[-1]
    await processes.settle()
    names = list(itertools.islice(processes.names_in(last, one.env.ROOMS), 8))
    sockets = [await connect(one, name) for name in names]
    for ws in sockets:
        ws.send("before")
        assert await anext(ws) == "before of 1"

    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, last)
        for number in range(20):
            for ws in sockets:
                ws.send(f"{number}")
            await anyio.sleep(0.005)

    with anyio.fail_after(10):
        for ws in sockets:
            for number in range(20):
                assert await anext(ws) == f"{number} of 1"
            ws.send("ping")
            assert await anext(ws) == "pong"
            ws.send("attachment")
            assert await anext(ws) == "attached"
            ws.close(4000, "bye")
            assert [message async for message in ws] == []
            assert ws.close_code == 4000


async def test_a_client_keeps_its_socket_when_the_object_leaves_its_process(
    processes: Processes,
) -> None:
    """As another process comes and takes its share."""
    one = await processes.start()
    await processes.settle()
    sockets = {name: await connect(one, name) for name in map(str, range(30))}
    two = await processes.start()
    await processes.settle()
    moved = [
        name
        for name in sockets
        if processes.store(two)._disks.shard_of(one.env.ROOMS.id_from_name(name).raw)
        in processes.shards(two)
    ]

    assert moved
    with anyio.fail_after(10):
        for name, ws in sockets.items():
            ws.send("hello")
            assert await anext(ws) == "hello of 1"
            assert ws.ready_state == WebSocket.OPEN, name
