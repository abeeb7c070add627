"""Web sockets that one process has and an object in another one serves."""

from __future__ import annotations

import gc

import anyio
import pytest

import durable
import durable.testing

from .conftest import Pair

pytestmark = pytest.mark.anyio

URL = "https://object/socket"


class Room(durable.DurableObject):
    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        if request.url.path == "/classic":
            server.accept()
            self.ctx.wait_until(self._echo(server))
        else:
            self.ctx.accept_websocket(server, tags=["tag", request.url.path])
            server.serialize_attachment({"path": request.url.path})
            self.ctx.set_websocket_auto_response("ping", "pong")
            server.send("welcome")
        return durable.Response(status=101, websocket=client)

    async def _echo(self, ws: durable.WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    async def websocket_message(self, ws: durable.WebSocket, message: str | bytes) -> None:
        if message == "close":
            ws.close(4000, "as asked")
        elif message == "abort":
            self.ctx.abort("as asked")
        elif message == "attachment":
            ws.send(repr(ws.deserialize_attachment()))
        else:
            for other in self.ctx.get_websockets("tag"):
                other.send(message)

    async def websocket_close(
        self, ws: durable.WebSocket, code: int, reason: str, was_clean: bool
    ) -> None:
        await self.ctx.storage.put("closed", [code, reason, was_clean])

    async def closed(self) -> object:
        return await self.ctx.storage.get("closed")

    async def count(self) -> int:
        return len(self.ctx.get_websockets())


async def _open(pair: Pair, url: str = URL) -> durable.WebSocket:
    response = await pair.stub(Room, "a").fetch(url)
    assert response.status == 101
    assert response.websocket is not None
    response.websocket.accept()
    return response.websocket


async def test_messages_go_both_ways(pair: Pair) -> None:
    one, other = await _open(pair), await _open(pair)
    assert await anext(one) == await anext(other) == "welcome"
    one.send("text")
    other.send(b"bytes")

    assert {await anext(one), await anext(one)} == {"text", b"bytes"}
    assert {await anext(other), await anext(other)} == {"text", b"bytes"}


async def test_an_object_reads_a_socket_itself(pair: Pair) -> None:
    ws = await _open(pair, "https://object/classic")
    ws.send("hello")

    assert await anext(ws) == "hello"
    ws.close(4001, "done")
    assert [message async for message in ws] == []


async def test_an_object_hibernates_while_its_socket_stays_open(pair: Pair) -> None:
    ws = await _open(pair)
    await anext(ws)
    await durable.testing.evict(pair.local(Room, "a"))
    ws.send("ping")

    assert await anext(ws) == "pong"
    assert not durable.testing.objects.is_live(pair.local(Room, "a"))
    ws.send("attachment")
    assert await anext(ws) == "{'path': '/socket'}"


async def test_an_object_closes_a_socket(pair: Pair) -> None:
    ws = await _open(pair)
    await anext(ws)
    ws.send("close")

    assert [message async for message in ws] == []
    assert (ws.close_code, ws.close_reason) == (4000, "as asked")


async def test_the_other_process_closes_a_socket(pair: Pair) -> None:
    ws = await _open(pair)
    ws.close(4002, "bye")
    room = pair.local(Room, "a")

    assert [message async for message in ws] == ["welcome"]
    assert await room.closed() == [4002, "bye", True]
    assert ws.close_code == 4002
    assert await room.count() == 0
    await anyio.sleep(0)
    assert len(pair.objects.crossing.things) == 0


async def test_a_socket_that_is_dropped_is_lost_for_the_object(pair: Pair) -> None:
    ws = await _open(pair)
    await anext(ws)
    del ws
    gc.collect()
    room = pair.local(Room, "a")
    while await room.closed() is None:
        await anyio.sleep(0.01)

    assert (await room.closed())[0] == 1006  # type: ignore[index]


async def test_a_reset_of_the_object_is_seen_as_1006(pair: Pair) -> None:
    ws = await _open(pair)
    await anext(ws)
    ws.send("abort")

    with pytest.raises(durable.WebSocketClosed):
        await anext(ws)
    assert ws.close_code == 1006


async def test_sockets_close_with_1012_when_the_process_of_the_object_is_gone(pair: Pair) -> None:
    ws = await _open(pair)
    await anext(ws)
    pair.server.close()

    assert [message async for message in ws] == []
    assert ws.close_code == 1012


async def test_an_object_sees_1006_when_the_process_that_had_the_client_is_gone(
    pair: Pair,
) -> None:
    ws = await _open(pair)
    await anext(ws)
    pair.peer.close()
    room = pair.local(Room, "a")
    while await room.closed() is None:
        await anyio.sleep(0.01)

    assert (await room.closed())[0] == 1006  # type: ignore[index]
    assert ws.close_code is None or ws.close_code == 1012


async def test_sending_waits_for_a_slow_reader_in_the_other_process(pair: Pair) -> None:
    ws = await _open(pair, "https://object/classic")
    chunk = b"x" * 200_000
    sent = 0
    with anyio.move_on_after(0.5):
        for _ in range(100):
            await ws.send(chunk)
            sent += 1

    assert 5 <= sent < 100
    for _ in range(sent):
        assert await anext(ws) == chunk


async def test_a_socket_can_be_given_to_an_object_of_another_process(pair: Pair) -> None:
    class_ = Taker
    client, server = durable.WebSocketPair()
    client.accept()
    await pair.stub(class_, "a").take(server)
    client.send("hello")

    assert await anext(client) == "hello"


class Taker(durable.DurableObject):
    async def take(self, ws: durable.WebSocket) -> None:
        self.ctx.accept_websocket(ws)

    async def websocket_message(self, ws: durable.WebSocket, message: str | bytes) -> None:
        ws.send(message)
