"""Web sockets, as the contract (section 2, P8, P13, P14) and the reference (section 9) say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import Request, Response, Stub, WebSocket, WebSocketClosed, WebSocketPair, testing


class Room(durable.DurableObject):
    can_be_built = True
    ends: list[tuple[int, str, bool, list[str]]] = []

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        if not Room.can_be_built:
            raise LookupError("I cannot be built")

    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        if request.url.path == "/own":
            server.accept()
            self.ctx.wait_until(self.echo(server))
        else:
            self.ctx.accept_websocket(server, request.url.query.getall("tag", []))
            server.serialize_attachment(request.url.query.get("who"))
        return Response(status=101, websocket=client)

    async def echo(self, ws: WebSocket) -> None:
        async for message in ws:
            ws.send(message)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        match message:
            case "raise":
                raise ValueError("a message that I do not like")
            case "store":
                self.ctx.storage.put("stored", True)
            case "leave":
                ws.close(4001, "enough")
                return
            case "abort":
                self.ctx.abort("a message too much")
        ws.send(message)

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, clean: bool) -> None:
        Room.ends.append((code, reason, clean, self.ctx.get_tags(ws)))

    async def who(self, tag: str | None = None) -> list[str | None]:
        return [ws.deserialize_attachment() for ws in self.ctx.get_websockets(tag)]

    async def answer(self, *pair: str | None) -> tuple[str, str] | None:
        self.ctx.set_websocket_auto_response(*pair)
        return self.ctx.get_websocket_auto_response()

    async def answered(self) -> list[datetime | None]:
        ctx = self.ctx
        return [ctx.get_websocket_auto_response_timestamp(ws) for ws in ctx.get_websockets()]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Room.can_be_built, Room.ends = True, []


@asynccontextmanager
async def room(path: Path, **options: Any) -> AsyncIterator[tuple[durable.Runtime, Stub[Room]]]:
    async with testing.open(path, bindings={"R": Room}, **options) as runtime:
        yield runtime, runtime.env.R.get_by_name("lobby")


async def connect(stub: Stub[Any], url: str = "https://room/") -> WebSocket:
    response = await stub.fetch(url)
    assert response.status == 101
    assert response.websocket is not None
    response.websocket.accept()
    return response.websocket


async def heard(ws: WebSocket) -> str | bytes:
    with anyio.fail_after(5):
        return await anext(ws)


async def until(is_so: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not is_so():
            await anyio.sleep(0.001)


async def test_what_was_sent_before_a_close_frame_is_read_and_then_it_ends() -> None:
    left, right = WebSocketPair()
    left.accept()
    right.accept()
    left.send("text")
    left.send(b"\x00bytes")
    left.close(4000, "done")
    left.close(4999, "once is enough")

    right.send("what the peer sends is still read")
    assert await heard(left) == "what the peer sends is still read"
    assert [message async for message in right] == ["text", b"\x00bytes"]
    assert (right.close_code, right.close_reason) == (4000, "done")
    for ended in (left, right):
        with pytest.raises(WebSocketClosed):
            ended.send("no more from here")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000])
async def test_a_code_that_may_not_be_sent_is_named(code: int) -> None:
    left, _ = WebSocketPair()
    left.accept()
    with pytest.raises(ValueError, match=f"Invalid WebSocket close code: {code}"):
        left.close(code)


async def test_a_reason_has_a_code_and_at_most_123_bytes() -> None:
    left, right = WebSocketPair()
    left.accept()
    right.accept()
    with pytest.raises(TypeError, match="code"):
        left.close(reason="why")
    with pytest.raises(ValueError):
        left.close(1000, "é" * 62)

    left.close(1000, "é" * 61)
    assert [message async for message in right] == []
    assert right.close_reason == "é" * 61


async def test_sockets_have_tags_an_order_and_attachments_that_outlive_memory(
    tmp_path: Path,
) -> None:
    async with room(tmp_path) as (_, stub):
        sockets = [await connect(stub, f"https://room/?tag=all&tag=all&who={n}") for n in "abc"]
        for _ in range(2):
            assert await stub.who() == ["c", "b", "a"]  # the last one first
            assert await stub.who("all") == ["a", "b", "c"]
            assert await stub.who("none") == []
            await testing.evict(stub)
        sockets[1].close(3000, "bye")
        await until(lambda: Room.ends)
        assert Room.ends == [(3000, "bye", True, ["all"])]
        assert await stub.who("all") == ["a", "c"]


async def test_an_error_in_a_handler_leaves_the_socket_open(tmp_path: Path) -> None:
    async with room(tmp_path) as (_, stub):
        ws = await connect(stub)
        ws.send("raise")
        ws.send("next")
        assert await heard(ws) == "next"


async def test_a_close_of_either_side_is_answered_with_its_code(tmp_path: Path) -> None:
    async with room(tmp_path) as (_, stub):
        ours, theirs = await connect(stub), await connect(stub)
        ours.close(4007, "I go")
        theirs.send("leave")
        for ws, code in ((ours, 4007), (theirs, 4001)):
            with pytest.raises(StopAsyncIteration):
                await heard(ws)
            assert ws.close_code == code
        assert theirs.close_reason == "enough"


async def test_who_is_automatically_answered_wakes_nobody(tmp_path: Path) -> None:
    clock = testing.VirtualClock()
    async with room(tmp_path, clock=clock) as (_, stub):
        ws = await connect(stub)
        assert await stub.answer("ping", "pong") == ("ping", "pong")
        assert await stub.answered() == [None]
        await clock.advance(60)

        when = datetime.fromtimestamp(clock.now(), UTC)
        ws.send("ping")
        assert await heard(ws) == "pong"
        assert not testing.is_live(stub)
        await clock.advance(60)
        assert await stub.answered() == [when]

        for other in (b"ping", "ping "):
            ws.send(other)
            assert await heard(ws) == other
        assert await stub.answer(None) is None
        ws.send("ping")
        assert await heard(ws) == "ping"


async def test_a_message_waits_for_the_write_it_rests_on_and_an_automatic_one_does_not(
    tmp_path: Path,
) -> None:
    faults = testing.Faults()
    async with room(tmp_path, faults=faults) as (_, stub):
        writer, reader = await connect(stub), await connect(stub)
        await stub.answer("ping", "pong")
        with faults.hold_commits():
            writer.send("store")
            await until(lambda: faults.commits_waiting)
            reader.send("ping")
            assert await heard(reader) == "pong"
            with anyio.move_on_after(0.02) as waited:
                await anext(writer)
            assert waited.cancelled_caught
        assert await heard(writer) == "store"


@pytest.mark.parametrize("how", ["abort", "commit", "constructor"])
async def test_the_sockets_of_an_object_that_broke_are_gone_without_a_word(
    tmp_path: Path, how: str
) -> None:
    faults = testing.Faults()
    async with room(tmp_path, faults=faults) as (runtime, stub):
        ws = await connect(stub)
        if how == "constructor":
            await testing.evict(stub)
            Room.can_be_built = False
        elif how == "commit":
            faults.fail_commits()
        ws.send("abort" if how == "abort" else "store")

        with pytest.raises(WebSocketClosed):
            await heard(ws)
        assert ws.close_code == 1006
        ws.send("silently dropped")
        Room.can_be_built = True
        faults.repair()
        assert await runtime.env.R.get_by_name("lobby").who() == []


async def test_an_object_that_reads_its_socket_itself_stays_in_memory(tmp_path: Path) -> None:
    clock = testing.VirtualClock()
    async with room(tmp_path, clock=clock) as (_, stub):
        ws = await connect(stub, "https://room/own")
        await clock.advance(600)
        assert testing.is_live(stub)
        ws.send("still there?")
        assert await heard(ws) == "still there?"
        assert await stub.who() == []

        ws.close()
        await clock.advance(600)
        assert not testing.is_live(stub)


async def test_an_eviction_may_close_the_sockets(tmp_path: Path) -> None:
    async with room(tmp_path) as (_, stub):
        ws = await connect(stub)
        await testing.evict(stub, websockets="close")
        with pytest.raises(StopAsyncIteration):
            await heard(ws)
        assert ws.close_code == 1001
        assert await stub.who() == []


async def test_limits_of_sockets_are_said_and_change_nothing(tmp_path: Path) -> None:
    limits = durable.Limits(
        websockets_max=2, websocket_tags_max=2, websocket_tag_size_max=4, attachment_size_max=100
    )
    async with room(tmp_path, limits=limits) as (_, stub):
        with pytest.raises(ValueError, match="more than 2 tags"):
            await connect(stub, "https://room/?tag=1&tag=2&tag=3")
        with pytest.raises(ValueError, match="longer than the max tag length"):
            await connect(stub, "https://room/?tag=éé1")
        assert await stub.who() == []
        kept = [await connect(stub, "https://room/?tag=éé") for _ in "ab"]
        with pytest.raises(durable.TooManyWebSockets):
            await connect(stub)
        assert len(await stub.who("éé")) == len(kept)

        def keep(instance: Room, ctx: durable.State) -> None:
            ctx.get_websockets()[0].serialize_attachment("x" * 101)

        with pytest.raises(ValueError):
            await testing.run_in_object(stub, keep)


async def test_a_socket_can_be_handed_to_another_object(tmp_path: Path) -> None:
    class Taker(durable.DurableObject):
        async def take(self, parcel: dict[str, list[WebSocket]]) -> None:
            self.ctx.accept_websocket(parcel["deep"][0])

        async def websocket_message(self, ws: WebSocket, message: str) -> None:
            ws.send(f"{self.ctx.id.name} heard {message}")

    async with testing.open(tmp_path) as runtime:
        taker = runtime.namespace(Taker).get_by_name("b")
        client, server = WebSocketPair()
        await taker.take({"deep": [server]})
        client.accept()
        for _ in "ab":
            client.send("this")
            assert await heard(client) == "b heard this"
            await testing.evict(taker)


async def test_a_burst_keeps_its_order_and_needs_no_more_of_the_queue_than_callers_have(
    tmp_path: Path,
) -> None:
    """Messages wait in their socket, and none is refused as an overload."""
    heard_by_object: list[str] = []

    class Slow(durable.DurableObject):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_websocket(server)
            server.send("welcome")
            return Response(status=101, websocket=client)

        async def websocket_message(self, ws: WebSocket, message: str) -> None:
            count = await self.ctx.storage.get("count", 0)
            heard_by_object.append(message)
            await self.ctx.storage.put("count", count + 1)

        async def count(self) -> int:
            return int(await self.ctx.storage.get("count", 0))

    limits = durable.Limits(queued_deliveries_max=5)
    async with testing.open(tmp_path, bindings={"S": Slow}, limits=limits) as runtime:
        stub = runtime.env.S.get_by_name("a")
        ws = await connect(stub)
        assert await heard(ws) == "welcome"  # sent before the caller had its end

        sent = [str(number) for number in range(200)]
        for message in sent:
            ws.send(message)
        await until(lambda: len(heard_by_object) == len(sent))
        assert heard_by_object == sent
        assert await stub.count() == len(sent)


async def test_the_end_of_the_runtime_is_the_end_of_its_sockets(tmp_path: Path) -> None:
    async with room(tmp_path) as (_, stub):
        ws = await connect(stub)
    with pytest.raises(WebSocketClosed):
        await heard(ws)
    assert ws.close_code == 1006
    ws.send("nobody hears this")
