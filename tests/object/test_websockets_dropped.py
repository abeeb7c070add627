"""Ends of web sockets that nobody has any more: for the other end, the connection is lost."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import Response, WebSocket, WebSocketPair
from durable._border.unread import UNREAD_BYTES_WAIT
from durable.testing import VirtualClock, evict, is_live

LOST = (1006, "WebSocket disconnected without sending Close frame.", False)

heard: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    heard.clear()
    DOORS.clear()
    DOORS["door"] = anyio.Event()
    DOORS["end"] = anyio.Event()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is dropped in the test is found dropped by the count of references alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Room(durable.DurableObject):
    """Accepts sockets for hibernation, and says what it hears."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server, ["member"])
        match request.url.path:
            case "/raise":
                raise LookupError("no such room")
            case "/wait":
                await DOORS["door"].wait()
            case "/wait-and-work":
                self.ctx.wait_until(DOORS["end"].wait())
                await DOORS["door"].wait()
            case "/work":
                self.ctx.wait_until(DOORS["door"].wait())
        return Response(status=101, websocket=client)

    async def give(self) -> list[WebSocket]:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        return [client]

    async def take(self, ws: WebSocket) -> None:
        self.ctx.accept_websocket(ws)

    async def forget_client(self) -> None:
        WebSocketPair()  # of which nothing is used
        self.ctx.accept_websocket(WebSocketPair()[1])
        heard.append(len(self.ctx.get_websockets()))

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        heard.append(message)

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        ws.send("nobody hears this")
        ws.close(1000)
        heard.append((code, reason, was_clean))

    async def lock(self) -> None:
        await self.ctx.block_concurrency_while(DOORS["door"].wait)

    def count(self) -> int:
        return len(self.ctx.get_websockets()) + len(self.ctx.get_websockets("member"))


class Keeper(durable.DurableObject):
    """Keeps sockets in memory, and reads them itself."""

    async def keep(self, ws: WebSocket) -> None:
        self.ws = ws

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        server.accept()
        server.send("hello")
        match request.url.path:
            case "/keep":
                self.ws = server
            case "/read":
                self.ctx.wait_until(self.read(server))
        return Response(status=101, websocket=client)

    async def read(self, ws: WebSocket) -> None:
        heard.extend([message async for message in ws])

    async def use(self, ws: WebSocket) -> None:
        ws.accept()
        self.ws = ws

    async def forget(self) -> None:
        del self.ws


def room(runtime: durable.Runtime) -> durable.Stub[Room]:
    return runtime.namespace(Room).get_by_name("a")


def keeper(runtime: durable.Runtime) -> durable.Stub[Keeper]:
    return runtime.namespace(Keeper).get_by_name("k")


async def connect(stub: durable.Stub[Any], path: str = "/") -> WebSocket:
    ws = (await stub.fetch(f"https://room{path}")).websocket
    assert ws is not None
    ws.accept()
    return ws


# The client's end of a hibernatable socket

Drop = Callable[[durable.Stub[Room]], Awaitable[object]]


async def _answer_dropped(stub: durable.Stub[Room]) -> None:
    await stub.fetch("https://room/")


async def _accepted_and_dropped(stub: durable.Stub[Room]) -> None:
    await connect(stub)


async def _never_awaited(stub: durable.Stub[Room]) -> None:
    stub.fetch("https://room/")
    await anyio.wait_all_tasks_blocked()


async def _caller_cancelled(stub: durable.Stub[Room]) -> None:
    with anyio.move_on_after(0) as scope:
        await stub.fetch("https://room/wait")
    assert scope.cancelled_caught
    DOORS["door"].set()


async def _given_by_call(stub: durable.Stub[Room]) -> None:
    (client,) = await stub.give()
    client.accept()


async def _in_a_thread(stub: durable.Stub[Room]) -> None:
    box = [await connect(stub)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()


async def _handler_raised(stub: durable.Stub[Room]) -> None:
    try:
        await stub.fetch("https://room/raise")
    except LookupError:
        pass


async def _in_a_cycle(stub: durable.Stub[Room]) -> None:
    cycle: list[Any] = [await connect(stub)]
    cycle.append(cycle)


AT_ONCE: list[Drop] = [
    _answer_dropped,
    _accepted_and_dropped,
    _never_awaited,
    _caller_cancelled,
    _given_by_call,
    _in_a_thread,
]


@pytest.mark.parametrize("drop", AT_ONCE)
async def test_a_client_that_is_dropped_is_a_lost_connection(
    runtime: durable.Runtime, clock: VirtualClock, no_collector: None, drop: Drop
) -> None:
    """The object hears 1006 once, the list forgets the socket, and no collector is needed."""
    stub = room(runtime)
    await drop(stub)
    await clock.settle()

    assert heard == [LOST]
    assert await stub.count() == 0
    assert runtime.statistics().websockets == 0


@pytest.mark.parametrize("drop", [_handler_raised, _in_a_cycle])
async def test_a_client_in_a_cycle_is_dropped_when_that_is_collected(
    runtime: durable.Runtime, clock: VirtualClock, drop: Drop
) -> None:
    """As the traceback of a handler that has accepted and then raised."""
    stub = room(runtime)
    await drop(stub)
    gc.collect()
    await clock.settle()

    assert heard == [LOST]
    assert await stub.count() == 0


async def test_what_a_client_has_sent_before_is_heard_before(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """To drop an end takes nothing back."""
    ws = await connect(room(runtime))
    ws.send("one")
    ws.send("two")
    del ws
    await clock.settle()

    assert heard == ["one", "two", LOST]


async def test_a_client_that_has_closed_may_be_dropped(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Its close frame counts, and nothing is told after it."""
    ws = await connect(room(runtime))
    ws.close(4001, "bye")
    del ws
    await clock.settle()

    assert heard == [(4001, "bye", True)]


async def test_a_lost_client_wakes_an_object_that_was_evicted(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """It is an event like any other."""
    stub = room(runtime)
    ws = await connect(stub)
    await evict(stub)
    del ws
    await clock.settle()

    assert heard == [LOST]
    assert is_live(stub)


async def test_the_loss_of_a_client_waits_at_the_input_gate(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """It is told when the critical section is over, in the context of nobody."""
    stub = room(runtime)
    ws = await connect(stub)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stub.lock)
        await clock.settle()
        del ws
        await clock.settle()
        assert heard == []
        DOORS["door"].set()
    await clock.settle()

    assert heard == [LOST]


async def test_a_client_that_was_gone_already_is_told_too(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Within the turn the socket is listed; the event comes after it."""
    await room(runtime).forget_client()
    await clock.settle()

    assert heard == [1, LOST]


async def test_places_of_lost_clients_can_be_used(tmp_path: Path, clock: VirtualClock) -> None:
    """Callers that go away do not fill an object's list."""
    limits = durable.Limits(websockets_max=1)
    async with durable.testing.open(tmp_path, clock=clock, limits=limits) as runtime:
        for _ in range(3):
            await connect(room(runtime))
            await clock.settle()


# Ends that are in use


@pytest.mark.backends("asyncio", "uvloop")
async def test_an_end_that_only_a_waiting_task_has_is_in_use(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """asyncio keeps no task of which it only knows that it waits; the socket does."""
    stub = room(runtime)

    async def read(ws: WebSocket) -> None:
        heard.append([message async for message in ws])

    started = asyncio.ensure_future(read(await connect(stub)))
    await clock.settle()
    del started
    gc.collect()
    await clock.settle()
    assert heard == []
    assert await stub.count() == 2

    def close(instance: Room, ctx: durable.State) -> None:
        for ws in ctx.get_websockets():
            ws.send("still there")
            ws.close()

    await durable.testing.run_in_object(stub, close)
    await clock.settle()
    assert heard[0] == ["still there"]


@pytest.mark.backends("asyncio", "uvloop")
async def test_an_end_that_waits_for_room_is_in_use() -> None:
    """So does one that waits to send."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()

    async def send(ws: WebSocket) -> None:
        await ws.send(b"x" * (UNREAD_BYTES_WAIT + 1))
        ws.send("sent")

    started = asyncio.ensure_future(send(client))
    await anyio.wait_all_tasks_blocked()
    del client, started
    gc.collect()
    await anyio.wait_all_tasks_blocked()

    assert len(await anext(server)) == UNREAD_BYTES_WAIT + 1
    assert await anext(server) == "sent"


async def test_a_wait_that_was_given_up_keeps_no_end(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """An end is in use while somebody waits at it, and no longer."""
    ws = await connect(room(runtime))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, ws)
        await clock.settle()
        tasks.cancel_scope.cancel()
    del ws
    gc.collect()
    await clock.settle()

    assert heard == [LOST]


async def test_an_end_in_the_memory_of_an_object_is_in_use(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Until that object is evicted."""
    stub, other = room(runtime), keeper(runtime)
    client, server = WebSocketPair()
    await stub.take(server)
    await other.keep(client)
    del client, server
    gc.collect()
    await clock.settle()
    assert heard == []

    await evict(other)
    gc.collect()
    await clock.settle()
    assert heard == [LOST]


async def test_an_answer_with_a_socket_can_be_awaited_again(runtime: durable.Runtime) -> None:
    """As long as somebody has what it brought; it does not keep that itself."""
    answer = room(runtime).fetch("https://room/")
    response = await answer
    assert await answer is response

    del response
    with pytest.raises(durable.WebSocketClosed, match="awaited before"):
        await answer


async def test_work_that_goes_on_keeps_no_client(
    runtime: durable.Runtime, clock: VirtualClock, no_collector: None
) -> None:
    """A task that the handler has started knows the call, and not what the call has brought."""
    await connect(room(runtime), "/work")
    await clock.settle()

    assert heard == [LOST]
    DOORS["door"].set()


async def test_work_that_goes_on_keeps_no_client_of_a_caller_that_has_given_up(
    runtime: durable.Runtime, clock: VirtualClock, no_collector: None
) -> None:
    """Nobody takes what the call has brought; who gave up for a while only may still do so."""
    answers = [room(runtime).fetch("https://room/wait-and-work") for _ in range(2)]
    for answer in answers:
        with anyio.move_on_after(0):
            await answer
    taken = answers.pop()
    DOORS["door"].set()
    response = await taken
    del answer, answers
    await clock.settle()

    assert heard == [LOST]
    assert await taken is response
    DOORS["end"].set()


# Sockets that objects and programs read themselves


async def test_a_server_that_its_handler_drops_ends_the_client(
    runtime: durable.Runtime, clock: VirtualClock, no_collector: None
) -> None:
    """What it had said is read first; the object need not stay in memory for it."""
    stub = keeper(runtime)
    ws = await connect(stub)

    assert await anext(ws) == "hello"
    with pytest.raises(durable.WebSocketClosed, match="1006"):
        await anext(ws)
    await clock.advance(100)
    assert not is_live(stub)


@pytest.mark.parametrize("path", ["/keep", "/read"])
async def test_a_server_that_is_kept_or_read_is_in_use(
    runtime: durable.Runtime, clock: VirtualClock, path: str
) -> None:
    """And keeps its object in memory, until the client is gone."""
    stub = keeper(runtime)
    ws = await connect(stub, path)
    gc.collect()
    await clock.advance(100)
    assert is_live(stub)

    del ws
    gc.collect()
    await clock.advance(100)
    assert not is_live(stub)


async def test_a_client_that_an_object_has_accepted_may_be_dropped_by_it(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Both objects hear of it: the one is told, the other need not stay in memory."""
    stub, other = room(runtime), keeper(runtime)
    client, server = WebSocketPair()
    await stub.take(server)
    await other.use(client)
    del client, server
    gc.collect()
    await clock.advance(5)
    assert heard == []

    await other.forget()
    gc.collect()
    await clock.advance(100)
    assert heard == [LOST]
    assert not is_live(other)


async def test_a_reader_hears_that_the_other_end_was_dropped() -> None:
    """Also without any object, also while it waits."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    ends: list[int | None] = []

    async def read() -> None:
        with pytest.raises(durable.WebSocketClosed):
            await anext(client)
        ends.append(client.close_code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        del server

    assert ends == [1006]
    await client.send("into the void")


async def test_a_sender_is_freed_when_the_other_end_is_dropped() -> None:
    """It does not wait for room that nobody makes."""
    client, server = WebSocketPair()
    client.accept()

    async def send() -> None:
        await client.send(b"x" * (UNREAD_BYTES_WAIT + 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        del server


async def test_an_end_that_is_read_late_hears_it_then() -> None:
    """Nobody can be told before somebody reads."""
    client, server = WebSocketPair()
    server.accept()
    server.send("hello")
    del server
    client.accept()

    assert await anext(client) == "hello"
    with pytest.raises(durable.WebSocketClosed):
        await anext(client)


# After the end


async def test_ends_may_outlive_their_runtime(tmp_path: Path, clock: VirtualClock) -> None:
    """Dropping them then is no news to anybody."""
    async with durable.testing.open(tmp_path, clock=clock) as runtime:
        kept = [await connect(room(runtime)), await connect(keeper(runtime), "/keep")]
        pair = WebSocketPair()
        await room(runtime).take(pair[1])
    heard.clear()
    kept.clear()
    del pair
    gc.collect()
    await anyio.wait_all_tasks_blocked()

    assert heard == []


AT_EXIT = """
import sys, tempfile, anyio, durable
from durable import WebSocketPair

class Room(durable.DurableObject):
    async def take(self, ws):
        self.ctx.accept_websocket(ws)

    async def use(self, ws):
        ws.accept()
        self.ws = ws

kept = []

async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with durable.open(folder) as runtime:
            stub = runtime.namespace(Room).get_by_name("a")
            for method in (stub.take, stub.use) * 3:
                client, server = WebSocketPair()
                await method(server)
                kept.append(client)
                client.accept()
                with anyio.move_on_after(0):
                    await anext(client)
                cycle = [client]
                cycle.append(cycle)
                kept.append(cycle)

anyio.run(main, backend=sys.argv[1])
del kept[:4]
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_end_of_the_interpreter_drops_ends_in_silence(backend: str) -> None:
    """After the loop, and as the modules go."""
    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT, backend], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
