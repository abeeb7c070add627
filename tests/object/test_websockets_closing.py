"""How sockets end: what is still heard, who is told, and how an object sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import durable
import durable.asgi
from durable import Response, WebSocket, WebSocketPair
from durable._border.websocket import end_of
from durable._cpython.switch import BORROWS
from durable.testing import Faults, VirtualClock, is_live

heard: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    heard.clear()
    DOORS.clear()
    DOORS["door"] = anyio.Event()


class Push(durable.DurableObject):
    """Accepts sockets to send on them, and does not read them but for `/first`."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.subscribers: list[WebSocket] = []

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        server.accept()
        self.subscribers.append(server)
        if request.url.path == "/first":
            self.ctx.wait_until(self.greet(server))
        if request.url.path == "/echo":
            self.ctx.wait_until(self.echo(server))
        return Response(status=101, websocket=client)

    async def greet(self, ws: WebSocket) -> None:
        ws.send(f"hello {await anext(aiter(ws))}")

    async def echo(self, ws: WebSocket) -> None:
        async for message in ws:
            await DOORS["door"].wait()
            ws.send(message)

    async def publish(self, text: str) -> int:
        for ws in list(self.subscribers):
            try:
                ws.send(text)
            except durable.WebSocketClosed:
                self.subscribers.remove(ws)
        return len(self.subscribers)

    async def close_with_a_write(self) -> None:
        self.ctx.storage.put("closed", 1)

    def states(self) -> list[int]:
        return [ws.ready_state for ws in self.subscribers]


class Room(durable.DurableObject):
    """Accepts sockets for hibernation."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        return Response(status=101, websocket=client)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        heard.append(message)
        if message == "close me":
            ws.close(4000, "as you wish")

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        heard.append((code, was_clean, ws.ready_state))
        if ws.ready_state == WebSocket.CLOSING:
            ws.send("farewell")
        await anyio.sleep(0)
        heard.append(ws.ready_state)

    def kick(self) -> list[int]:
        self.ctx.get_websockets()[0].close(4000, "kicked")
        return [ws.ready_state for ws in self.ctx.get_websockets()]


async def join(stub: Any, path: str = "/") -> WebSocket:
    ws = (await stub.fetch(f"https://room{path}")).websocket
    assert isinstance(ws, WebSocket)
    ws.accept()
    return ws


def push(runtime: durable.Runtime) -> durable.Stub[Push]:
    return runtime.namespace(Push).get_by_name("a")


async def read_all(ws: WebSocket) -> list[str | bytes]:
    return [message async for message in ws]


# Ends that are accepted and not read


@pytest.mark.parametrize("path", ["/", "/first"])
@pytest.mark.parametrize("said", [[], ["one", "two"]])
async def test_a_close_is_answered_where_nobody_reads(
    runtime: durable.Runtime, clock: VirtualClock, path: str, said: list[str]
) -> None:
    """At once, whatever else has come; whoever sends on finds it out, and the object may go."""
    stub = push(runtime)
    ws = await join(stub, path)
    await clock.settle()
    for text in said:
        ws.send(text)
    ws.close(4001, "done")
    await clock.settle()

    if path == "/first" and said:
        assert await anext(ws) == "hello one"
    assert await read_all(ws) == []
    assert (ws.close_code, ws.close_reason) == (4001, "done")
    assert await stub.states() == [WebSocket.CLOSED]
    assert await stub.publish("is anybody there?") == 0
    await clock.advance(100)
    assert not is_live(stub)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_close_is_answered_after_a_task_that_reads_no_further(is_cancelled: bool) -> None:
    """The task waits as the close frame comes, and takes one message or is cancelled; Trio may let
    it go on after the round in which the close frame is read."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    soon: list[Callable[[], object]] = []
    end_of(server).call_soon = soon.append

    async def read_one() -> None:
        await anext(server)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_one)
        await anyio.wait_all_tasks_blocked()
        if is_cancelled:
            tasks.cancel_scope.cancel()
        for text in ["one", "two"]:
            client.send(text)
        client.close(4001)
        while soon:
            soon.pop()()
    assert server.ready_state == WebSocket.OPEN
    while soon:
        soon.pop()()

    assert server.ready_state == WebSocket.CLOSED
    assert server.close_code == 4001
    assert await anext(server) == ("one" if is_cancelled else "two")


async def test_a_client_that_only_sends_answers_a_close_too() -> None:
    """Either side; what had come before can be read after it, and sending says who has closed."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    server.send("unread")
    server.close(4002, "enough")
    await anyio.wait_all_tasks_blocked()

    assert client.close_code == 4002
    assert await read_all(server) == []
    with pytest.raises(durable.WebSocketClosed, match="The peer has closed with 4002"):
        client.send("too late")
    assert await read_all(client) == ["unread"]


async def test_an_end_that_is_accepted_after_the_close_answers_it() -> None:
    """As if it had come then."""
    client, server = WebSocketPair()
    server.accept()
    server.close(4003)
    client.accept()
    await anyio.wait_all_tasks_blocked()

    assert client.ready_state == WebSocket.CLOSED
    assert await read_all(server) == []


async def test_who_reads_hears_the_close_in_its_place(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """A slow reader still answers what was said before."""
    ws = await join(push(runtime), "/echo")
    for text in "abc":
        ws.send(text)
    ws.close(1000)
    await clock.settle()
    assert ws.close_code is None

    DOORS["door"].set()
    assert await read_all(ws) == ["a", "b", "c"]
    assert ws.close_code == 1000


async def test_a_loop_that_was_left_does_not_keep_the_peer_waiting() -> None:
    """Who breaks out of `async for` reads no more."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    for text in "ab":
        client.send(text)
    client.close(1000)
    async for _ in server:
        await anyio.wait_all_tasks_blocked()
        assert client.close_code is None
        break
    await anyio.wait_all_tasks_blocked()

    assert server.ready_state == WebSocket.CLOSED
    assert await read_all(client) == []


async def test_the_reply_of_an_object_that_does_not_read_waits_for_its_writes(
    runtime: durable.Runtime, clock: VirtualClock, faults: Faults
) -> None:
    """It leaves the object, as any message does."""
    stub = push(runtime)
    ws = await join(stub)
    with faults.hold_commits():
        stub.close_with_a_write()
        await clock.settle()
        ws.close(1000)
        await clock.settle()
        assert ws.close_code is None
    await clock.settle()

    assert ws.close_code == 1000


# What an object sees


async def test_a_broadcast_can_leave_out_who_is_closing(runtime: durable.Runtime) -> None:
    """A socket that the object has closed is listed until the peer answers, and says so."""
    stub = runtime.namespace(Room).get_by_name("a")
    members = [await join(stub) for _ in range(2)]

    assert sorted(await stub.kick()) == [WebSocket.OPEN, WebSocket.CLOSING]
    assert members[0].ready_state == WebSocket.OPEN


async def test_a_lost_socket_is_closed() -> None:
    """For both of its ends."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    assert client.ready_state == WebSocket.OPEN
    del server
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(durable.WebSocketClosed):
        await anext(client)

    assert client.ready_state == WebSocket.CLOSED


async def test_what_websocket_close_says_first_is_heard_by_the_peer(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Before the close frame is answered, which is when the handler first waits."""
    ws = await join(runtime.namespace(Room).get_by_name("a"))
    ws.close(4000)

    assert await read_all(ws) == ["farewell"]
    await clock.settle()
    assert heard == [(4000, True, WebSocket.CLOSING), WebSocket.CLOSED]


@pytest.mark.parametrize("reason", ["\ud800", "a\udfff"])
async def test_a_reason_that_utf8_cannot_express_is_refused(reason: str) -> None:
    """At the call, and the socket stays open."""
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    with pytest.raises(ValueError, match=f"close reason has a lone surrogate at {len(reason) - 1}"):
        client.close(1000, reason)

    client.send("still here")
    assert await anext(server) == "still here"


# Through the ASGI door


class Network:
    """What an ASGI server does for one socket."""

    def __init__(self, runtime: durable.Runtime) -> None:
        self.app = durable.asgi.app(self.entry, runtime=runtime)
        self.sender, self.receiver = anyio.create_memory_object_stream[dict[str, Any]](10_000)
        self.sent: list[dict[str, Any]] = []
        self.is_gone = False

    async def entry(self, request: durable.Request, env: Any) -> Response:
        response: Response = await env.ROOMS.get_by_name("a").fetch(request)
        return response

    async def send(self, message: dict[str, Any]) -> None:
        if self.is_gone:
            raise OSError("the client has gone")
        self.sent.append(message)

    async def serve(self) -> None:
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"activation", b"h")],
            "client": ("127.0.0.1", 1),
            "server": ("h", 80),
            "subprotocols": [],
        }
        await self.app(scope, self.receiver.receive, self.send)

    def says(self, **message: Any) -> None:
        self.sender.send_nowait({"type": "websocket.receive", **message})

    def disconnects(self, **how: Any) -> None:
        self.sender.send_nowait({"type": "websocket.disconnect", **how})


@pytest.fixture
async def network(
    tmp_path: Any, clock: VirtualClock
) -> AsyncIterator[Network]:  # pragma: no branch
    async with durable.testing.open(tmp_path, clock=clock, bindings={"ROOMS": Room}) as runtime:
        network = Network(runtime)
        network.sender.send_nowait({"type": "websocket.connect"})
        yield network
        network.sender.close()
        network.receiver.close()


async def test_a_server_that_cannot_send_any_more_still_brings_what_came_before(
    network: Network, clock: VirtualClock
) -> None:
    """Messages before a proper close are all delivered, and the close has its code."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.serve)
        await clock.settle()
        network.is_gone = True
        for number in range(20):
            network.says(text=str(number))
        network.says(text="x" * 3_000_000)
        network.says(text="last")
        network.disconnects(code=1000, reason="bye")
    await clock.settle()

    assert heard[:20] == [str(number) for number in range(20)]
    last, (code, was_clean, state) = heard[21:23]
    assert (last, code, was_clean) == ("last", 1000, True)
    # The server may be seen to have gone in the round in which the handler begins, or after it.
    assert state in ({WebSocket.CLOSING} if BORROWS else {WebSocket.CLOSING, WebSocket.CLOSED})


@pytest.mark.parametrize("how", [{"code": 4000, "reason": ""}, {"code": 1005}, {"code": 1006}])
async def test_what_a_client_says_before_it_answers_a_close_is_delivered(
    network: Network, clock: VirtualClock, how: dict[str, Any]
) -> None:
    """The object has closed, and the client has not seen that yet; the end is told once."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.serve)
        network.says(text="close me")
        await clock.settle()
        assert network.sent[-1]["type"] == "websocket.close"
        network.says(text="on its way")
        network.disconnects(**how)
    await clock.settle()

    assert heard == ["close me", "on its way", (4000, True, WebSocket.CLOSED), WebSocket.CLOSED]


async def test_a_client_that_is_gone_is_sent_nothing(network: Network) -> None:
    """Also not the object's reply to its close frame: servers raise on that."""
    network.disconnects(code=1000, reason="")
    await network.serve()

    assert [message["type"] for message in network.sent] == ["websocket.accept"]
