"""What waits at sockets is bounded there; a busy object loses neither messages nor closes."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import Response, WebSocket, WebSocketPair
from durable._border.unread import UNREAD_BYTES_MAX, UNREAD_BYTES_WAIT
from durable._border.websocket import end_of
from durable._model.frames import MESSAGE_OVERHEAD
from durable.testing import VirtualClock, run_in_object

heard: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    heard.clear()
    DOORS.clear()
    DOORS["door"] = anyio.Event()


class Room(durable.DurableObject):
    """Accepts sockets for hibernation, and says what it hears."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        heard.append(message if len(message) < 100 else len(message))

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        heard.append((code, was_clean))

    async def websocket_error(self, ws: WebSocket, error: Exception) -> None:
        heard.append(type(error))

    async def locked(self) -> None:
        await self.ctx.block_concurrency_while(DOORS["door"].wait)

    async def take(self, payload: str = "") -> None:
        """A call that waits in line while the object is locked."""

    def say(self, message: str | bytes) -> None:
        for ws in self.ctx.get_websockets():
            ws.send(message)

    def set_ping(self, request: str, response: str) -> None:
        self.ctx.set_websocket_auto_response(request, response)

    def count(self) -> int:
        return len(self.ctx.get_websockets())


def room(runtime: durable.Runtime) -> durable.Stub[Room]:
    return runtime.namespace(Room).get_by_name("a")


async def join(stub: durable.Stub[Room]) -> WebSocket:
    ws = (await stub.fetch("https://room/")).websocket
    assert ws is not None
    ws.accept()
    return ws


async def read_all(ws: WebSocket) -> list[str | bytes]:
    return [message async for message in ws]


# A queue that is full of calls


OVERLOADS = {
    "deliveries": (durable.Limits(queued_deliveries_max=5), ""),
    "bytes": (durable.Limits(queued_bytes_max=50), "x" * 40),
    "seconds": (durable.Limits(queued_s_max=1.0), ""),
}


@pytest.mark.parametrize("kind", OVERLOADS)
async def test_a_full_queue_of_calls_loses_nothing_that_sockets_say(
    tmp_path: Path, clock: VirtualClock, kind: str
) -> None:
    """Messages wait, each close is told once, the sockets stay; only callers are refused."""
    limits, payload = OVERLOADS[kind]
    refused: list[Exception] = []

    async def call() -> None:
        try:
            await stub.take(payload)
        except durable.ObjectOverloaded as error:
            refused.append(error)

    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        sockets = [await join(stub) for _ in range(100)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stub.locked)
            await clock.settle()
            for _ in range(10):
                tasks.start_soon(call)
            await clock.settle()
            await clock.advance(2)
            tasks.start_soon(call)
            await clock.settle()
            for number, ws in enumerate(sockets[:70]):
                ws.send(str(number))
            for ws in sockets[70:80]:
                ws.send("last")
                ws.close(1000, "bye")
            for ws in sockets[80:90]:
                end_of(ws).drop()
            for ws in sockets[90:]:
                end_of(ws).drop(ConnectionError("broken"))
            await clock.settle()
            assert heard == []
            DOORS["door"].set()
        await clock.settle()

        assert refused
        said = [message for message in heard if isinstance(message, str)]
        assert sorted(said) == sorted([*map(str, range(70)), *["last"] * 10])
        assert heard.count((1000, True)) == 10
        assert heard.count((1006, False)) == 10
        assert heard.count(ConnectionError) == 10
        assert len(heard) == 110
        assert await stub.count() == 70


async def test_messages_that_wait_at_a_socket_do_not_fill_the_queue_of_callers(
    tmp_path: Path, clock: VirtualClock
) -> None:
    """Their bytes count at the socket, and not in the queue as well."""
    limits = durable.Limits(queued_bytes_max=1_000)
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        ws = await join(stub)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stub.locked)
            await clock.settle()
            ws.send("x" * 2_000)
            await clock.settle()
            tasks.start_soon(stub.take, "y" * 900)
            await clock.settle()
            DOORS["door"].set()

        assert heard == [2_000]


async def test_a_socket_whose_object_is_busy_has_a_bound_of_its_own(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Above 16 MiB unread, what is in line included, it is closed with 1013 and told once."""
    stub = room(runtime)
    ws = await join(stub)
    chunk = b"x" * (UNREAD_BYTES_MAX // 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.locked)
        await clock.settle()
        for _ in range(3):
            ws.send(chunk)
        DOORS["door"].set()
    await clock.settle()

    # The one that stood in line already was heard; what waited behind it was forgotten.
    assert heard == [len(chunk), (1013, True)]
    with pytest.raises(durable.WebSocketClosed, match="1013"):
        await anext(ws)


async def test_a_message_in_line_slows_its_sender(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """It is unread until its handler begins."""
    stub = room(runtime)
    ws = await join(stub)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.locked)
        await clock.settle()

        async def send() -> None:
            await ws.send(b"x" * UNREAD_BYTES_WAIT)
            heard.append("sent")

        tasks.start_soon(send)
        await clock.settle()
        assert heard == []
        DOORS["door"].set()
    await clock.settle()

    assert heard == [UNREAD_BYTES_WAIT, "sent"]


# Automatic answers


@pytest.mark.parametrize("answer", ["", "P" * 2_048, "ž" * 1_024])
async def test_automatic_answers_that_are_not_read_have_the_bound_of_messages(
    runtime: durable.Runtime, clock: VirtualClock, answer: str
) -> None:
    """A client that pings and does not read is closed with 1013, and the object is told."""
    stub = room(runtime)
    await stub.set_ping("p", answer)
    ws = await join(stub)
    size = len(answer.encode()) + MESSAGE_OVERHEAD
    for _ in range(UNREAD_BYTES_MAX // size + 1):
        ws.send("p")
    await clock.settle()
    assert end_of(ws).unread.bytes > UNREAD_BYTES_MAX
    assert heard == []

    ws.send("p")
    await clock.settle()

    assert end_of(ws).unread.bytes == 0
    assert heard == [(1013, False)]
    assert await read_all(ws) == []
    assert ws.close_code == 1013
    assert await stub.count() == 0


async def test_an_automatic_answer_that_utf8_cannot_express_is_refused(
    runtime: durable.Runtime,
) -> None:
    """The error says which text, and where in it; what was set before stays."""
    stub = room(runtime)
    await stub.set_ping("ping", "pong")

    def set_badly(instance: Room, ctx: durable.State) -> tuple[str, str] | None:
        with pytest.raises(ValueError, match="Response has a lone surrogate at 1"):
            ctx.set_websocket_auto_response("p", "P\ud800")
        with pytest.raises(ValueError, match="Request has a lone surrogate at 0"):
            ctx.set_websocket_auto_response("\udfff", "P")
        return ctx.get_websocket_auto_response()

    assert await run_in_object(stub, set_badly) == ("ping", "pong")


# All sockets together

TOTAL = 80_000


@pytest.fixture
def limits() -> durable.Limits:
    return durable.Limits(websocket_unread_bytes_max=TOTAL)


async def test_all_sockets_together_have_a_bound(
    tmp_path: Path, clock: VirtualClock, limits: durable.Limits
) -> None:
    """Above it those with the most unread are closed with 1013; the others lose nothing."""
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        slow = await join(stub)
        await stub.say("x" * 30_000)
        slower = [await join(stub) for _ in range(2)]
        reader = await join(stub)
        for message in ("y" * 5_000, "z" * 2_000):
            await stub.say(message)
            await anext(reader)
        assert slow.close_code is None
        await stub.say("v" * 10_000)
        await clock.settle()

        assert heard == [(1013, False)]
        assert await stub.count() == 3
        assert await read_all(slow) == []
        assert slow.close_code == 1013
        assert [await anext(ws) for ws in slower] == ["y" * 5_000] * 2
        assert await anext(reader) == "v" * 10_000


async def test_above_half_of_the_bound_who_awaits_send_waits_for_its_own_peer(
    tmp_path: Path, clock: VirtualClock, limits: durable.Limits
) -> None:
    """So that those who can be slowed are slowed before anybody is cut."""
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        slow = await join(stub)
        await stub.say("x" * 50_000)
        client, server = WebSocketPair()

        def take(instance: Room, ctx: durable.State) -> None:
            ctx.accept_websocket(server)

        await run_in_object(stub, take)
        client.accept()

        async def send() -> None:
            await server.send("y")
            heard.append("sent")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await clock.settle()
            assert heard == []
            assert await anext(client) == "y"
            await clock.settle()
            assert heard == ["sent"]
        assert len(await anext(slow)) == 50_000
        await server.send("z")


async def test_what_ends_that_are_gone_had_not_read_is_free_again(
    tmp_path: Path, clock: VirtualClock, limits: durable.Limits
) -> None:
    """However a socket ends, and whichever end goes first."""
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        stub = room(runtime)
        for _ in range(10):
            one, two, three = [await join(stub) for _ in range(3)]
            await stub.say("x" * 20_000)
            del one  # unread
            end_of(two).drop()
            three.close()
            await clock.settle()
            del two, three
            gc.collect()
            await clock.settle()
            assert await stub.count() == 0

        assert not any(isinstance(end, tuple) and end[0] == 1013 for end in heard)
        survivor = await join(stub)
        await stub.say("y" * 70_000)
        assert len(await anext(survivor)) == 70_000
