"""Web sockets of objects that another process has, and what becomes of them when they move."""

from __future__ import annotations

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
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
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


@pytest.mark.parametrize("is_far", [False, True])
async def test_a_socket_of_a_process_that_closes_says_1012(
    processes: Processes, is_far: bool
) -> None:
    """So a client knows that it may connect anew, and finds the object elsewhere."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    name = processes.name_in(two, one.env.ROOMS)
    ws = await connect(one if is_far else two, name)

    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, two)
        with anyio.fail_after(5):
            assert [message async for message in ws] == []
    assert ws.close_code == 1012

    again = await connect(one, name)
    again.send("hello")
    with anyio.fail_after(5):
        assert await anext(again) == "hello of 1"
