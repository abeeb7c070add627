"""Web sockets of objects that another process has, and what becomes of them when they move."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

import durable
from durable import Request, Response, WebSocket, WebSocketPair
from durable._shards.balance import Balance
from durable._shards.placement import place

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


class Expected:
    """One process takes another one, which never gets a shard, for the next owner of its shards."""

    def __init__(self, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._processes = processes
        self._monkeypatch = monkeypatch

    def let(self, giver: durable.Runtime, expected: durable.Runtime) -> None:
        me, other = (self._processes.store(each)._disks.shared.me.id for each in (giver, expected))
        next_owner = Balance.next_owner
        self._monkeypatch.setattr(
            Balance,
            "next_owner",
            lambda self, shard, ready: other if self.me == me else next_owner(self, shard, ready),
        )


@pytest.fixture
def expected(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Expected:
    return Expected(processes, monkeypatch)


def moves_to(
    processes: Processes, giver: durable.Runtime, taker: durable.Runtime, namespace: Any
) -> list[str]:
    """Names of objects of one process that are another one's when the first has gone."""
    store = processes.store(giver)
    rest = [each for each in processes.openings if each is not giver]
    ids = sorted(processes.store(each)._disks.shared.me.id for each in rest)
    placed = place(store._disks.count, ids)
    mine = processes.store(taker)._disks.shared.me.id
    return [
        name
        for name in itertools.islice(processes.names_in(giver, namespace), 40)
        if placed[store._disks.shard_of(namespace.id_from_name(name).raw)] == mine
    ]


async def echo(ws: WebSocket, *texts: str) -> None:
    with anyio.fail_after(10):
        for text in texts:
            ws.send(text)
        for text in texts:
            assert await anext(ws) == f"{text} of 1"


async def test_a_socket_follows_its_object_though_another_process_was_expected_to_get_it(
    processes: Processes, expected: Expected
) -> None:
    one, two, three = [await processes.start() for _ in range(3)]
    await processes.settle()
    names = moves_to(processes, two, one, one.env.ROOMS)
    # Clients in the process that gets the objects, and in the process that was expected to.
    sockets = [await connect(one, name) for name in names[::2]]
    sockets += [await connect(three, name) for name in names[1::2]]
    assert len(sockets) > 1
    expected.let(two, three)

    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, two)
        for ws in sockets:
            ws.send("meanwhile")

    for ws in sockets:
        with anyio.fail_after(10):
            assert await anext(ws) == "meanwhile of 1"
        await echo(ws, "after", "again")


@pytest.mark.parametrize("client", [0, 1], ids=["of another process", "of the owner"])
async def test_a_socket_comes_back_with_its_object(
    processes: Processes, expected: Expected, client: int
) -> None:
    """The process that gives the object up gets it again, at once, and many times."""
    runtimes = [await processes.start() for _ in range(3)]
    one, two, three = runtimes
    await processes.settle()
    name = processes.name_in(two, one.env.ROOMS)
    ws = await connect(runtimes[client], name)
    expected.let(two, three)
    store = processes.store(two)
    shard = store._disks.shard_of(one.env.ROOMS.id_from_name(name).raw)

    for _ in range(3):
        store._start_giving(shard)
        ws.send("meanwhile")
        with anyio.fail_after(10):
            assert await anext(ws) == "meanwhile of 1"
        await processes.settle()
        assert shard in store._disks.open
    await echo(ws, "after")


async def test_a_socket_is_closed_at_once_if_the_process_dies_that_was_to_go_on_with_it(
    processes: Processes, expected: Expected
) -> None:
    one, two, three = [await processes.start() for _ in range(3)]
    await processes.settle()
    names = moves_to(processes, two, one, one.env.ROOMS)
    sockets = [await connect(one, names[0]), await connect(two, names[1])]
    expected.let(two, three)
    dying = processes.store(three)._neighbours
    # It has received the description, and ends without a word.
    dying.crossing.on_notice["sockets"] = lambda peer, value: dying.close()
    store = processes.store(two)

    for name in names[:2]:
        store._start_giving(store._disks.shard_of(one.env.ROOMS.id_from_name(name).raw))

    with anyio.fail_after(5):
        for ws in sockets:
            assert [message async for message in ws] == []
            assert ws.close_code == 1012


async def test_a_process_that_closes_sends_on_the_sockets_that_it_was_to_get(
    processes: Processes, expected: Expected
) -> None:
    one, two, three = [await processes.start() for _ in range(3)]
    await processes.settle()
    name = moves_to(processes, two, one, one.env.ROOMS)[0]
    ws = await connect(one, name)
    expected.let(two, three)
    store = processes.store(two)
    shard = store._disks.shard_of(one.env.ROOMS.id_from_name(name).raw)
    store._balance.is_on = False  # nothing takes the shard for now
    store._start_giving(shard)
    moving = processes.store(three)._moving
    with anyio.fail_after(10):
        while not moving._to_come:
            await anyio.sleep(0.001)

    await processes.stop(three)
    store._balance.is_on = True

    await echo(ws, "after")
