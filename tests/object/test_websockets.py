"""Web sockets by themselves: the two ends of a pair, and sockets that an object reads itself."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest

import durable
from durable import Response, WebSocket, WebSocketPair
from durable._border import sockets
from durable._border import unread as model
from durable._border.websocket import end_of
from durable._model import frames
from durable.testing import VirtualClock, abort_all, evict, is_live, settle


def accepted_pair() -> tuple[WebSocket, WebSocket]:
    client, server = WebSocketPair()
    client.accept()
    server.accept()
    return client, server


async def read_all(ws: WebSocket) -> list[str | bytes]:
    return [message async for message in ws]


class Echo(durable.DurableObject):
    """Reads its socket itself, in the classic way."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        server.accept()
        self.ctx.wait_until(self.echo(server))
        return Response(status=101, websocket=client)

    async def echo(self, ws: WebSocket) -> None:
        async for message in ws:
            ws.send(message)

    async def quiet(self) -> WebSocket:
        """Answers with a socket that is accepted and kept, and never read."""
        client, self.server = WebSocketPair()
        self.server.accept()
        self.server.send("hello")
        return client

    async def many(self, count: int) -> list[WebSocket]:
        """Answers with so many of them."""
        pairs = [WebSocketPair() for _ in range(count)]
        self.servers = [server for _, server in pairs]
        for server in self.servers:
            server.accept()
        return [client for client, _ in pairs]


async def connect(runtime: durable.Runtime) -> tuple[Any, WebSocket]:
    stub = runtime.namespace(Echo).get_by_name("a")
    response = await stub.fetch("https://echo/")
    assert response.websocket is not None
    response.websocket.accept()
    return stub, response.websocket


# What arrives


@pytest.mark.parametrize("message", ["text", "", "žluť 🐎", b"\x00\xff", b""])
async def test_a_message_arrives_as_it_was_sent(message: str | bytes) -> None:
    """Text stays text, bytes stay bytes, and empty ones are messages too."""
    client, server = accepted_pair()

    server.send(message)

    received = await anext(client)
    assert (received, type(received)) == (message, type(message))


async def test_messages_arrive_in_the_order_they_were_sent() -> None:
    """Whether each was awaited or not, and before the other end was accepted or after."""
    client, server = WebSocketPair()
    server.accept()
    server.send("0")
    client.accept()
    await server.send("1")
    server.send("2")
    server.close()

    assert await read_all(client) == ["0", "1", "2"]


async def test_what_is_sent_is_a_copy() -> None:
    """A bytearray that changes after the call does not change the message."""
    client, server = accepted_pair()
    message = bytearray(b"one")
    server.send(message)  # type: ignore[arg-type]
    message[:] = b"two"

    assert await anext(client) == b"one"


@pytest.mark.parametrize("message", [None, 1, ["a"]])
async def test_only_text_and_bytes_are_messages(message: Any) -> None:
    """A wrong argument raises at the call."""
    _, server = accepted_pair()

    with pytest.raises(TypeError, match="must be str or bytes"):
        server.send(message)


async def test_a_text_that_is_none_is_refused() -> None:
    """A lone surrogate cannot be sent, and says so at the call."""
    _, server = accepted_pair()

    with pytest.raises(ValueError, match="lone surrogate at 1"):
        server.send("a\ud800")


async def test_a_message_that_is_too_large_is_refused() -> None:
    """32 MiB is the most, the smallest message beyond it raises."""
    client, server = accepted_pair()
    server.send(b"x" * frames.MESSAGE_SIZE_MAX)

    assert len(await anext(client)) == frames.MESSAGE_SIZE_MAX
    with pytest.raises(ValueError, match="cannot be larger than 33554432 bytes"):
        server.send(b"x" * (frames.MESSAGE_SIZE_MAX + 1))


async def test_an_end_that_is_not_accepted_sends_nothing() -> None:
    """As in Cloudflare's runtime, with its text."""
    client, _ = WebSocketPair()

    with pytest.raises(TypeError, match="You must call one of accept"):
        client.send("x")
    with pytest.raises(TypeError, match="You must call one of accept"):
        client.close()
    with pytest.raises(TypeError, match="this one is not accepted"):
        await anext(client)


async def test_a_reader_waits_for_the_next_message() -> None:
    """`async for` waits where there is nothing to read."""
    client, server = accepted_pair()
    async with anyio.create_task_group() as tasks:
        received: list[str | bytes] = []

        async def read() -> None:
            received.extend(await read_all(client))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        server.send("late")
        await anyio.wait_all_tasks_blocked()
        server.close()

    assert received == ["late"]


# How it ends


async def test_a_close_frame_ends_the_loop() -> None:
    """Its code and reason are there afterwards; the reply has the same."""
    client, server = accepted_pair()
    server.send("last")
    server.close(4001, "that was all")

    assert await read_all(client) == ["last"]
    assert (client.close_code, client.close_reason) == (4001, "that was all")
    assert await read_all(server) == []
    assert (server.close_code, server.close_reason) == (4001, "that was all")


async def test_a_close_frame_may_be_empty() -> None:
    """Without a code the other end sees 1005."""
    client, server = accepted_pair()
    server.close()

    assert await read_all(client) == []
    assert (client.close_code, client.close_reason) == (1005, "")


async def test_before_the_end_there_is_no_code() -> None:
    """`close_code` is None while the peer's close frame is not read."""
    client, server = accepted_pair()
    server.send("x")
    server.close(1000)
    await anext(client)

    assert client.close_code is None
    assert client.close_reason is None


async def test_what_the_peer_still_sends_is_read_after_close() -> None:
    """To close is to say that nothing more will be sent, not that nothing more is read."""
    client, server = accepted_pair()
    client.close(1000)
    server.send("on its way")

    assert await read_all(server) == []
    assert await read_all(client) == ["on its way"]


async def test_nothing_is_sent_after_close() -> None:
    """As in Cloudflare's runtime, with its text."""
    _, server = accepted_pair()
    server.close()

    with pytest.raises(durable.WebSocketClosed, match=r"Can't call WebSocket send.. after close"):
        server.send("x")
    with pytest.raises(TypeError):
        server.send("x")


async def test_sending_after_close_is_a_mistake_also_when_the_peer_is_gone() -> None:
    """It must not depend on when the peer's end is collected."""
    client, server = accepted_pair()
    client.close(4000)
    assert await read_all(server) == []
    del server
    gc.collect()
    assert await read_all(client) == []

    with pytest.raises(TypeError, match=r"Can't call WebSocket send\(\) after close\(\)"):
        client.send("x")


async def test_a_close_frame_is_answered_with_its_code_and_reason() -> None:
    """The reply says back what was said, as the protocol and Cloudflare's runtime have it."""
    client, server = accepted_pair()
    client.close(4000, "bye")

    assert await read_all(server) == []
    assert await read_all(client) == []
    assert (client.close_code, client.close_reason) == (4000, "bye")


async def test_closing_twice_says_it_once() -> None:
    """The second close does nothing."""
    client, server = accepted_pair()
    server.close(4001, "first")
    server.close(4002, "second")

    assert await read_all(client) == []
    assert client.close_code == 4001


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000])
async def test_a_code_that_nobody_may_send_is_refused(code: int) -> None:
    """1000 to 4999, but for those that stand for the lack of a frame."""
    _, server = accepted_pair()

    with pytest.raises(ValueError, match=f"Invalid WebSocket close code: {code}."):
        server.close(code)


async def test_a_reason_needs_a_code() -> None:
    """And it has at most 123 bytes of UTF-8."""
    _, server = accepted_pair()

    with pytest.raises(TypeError, match="you must also specify a code"):
        server.close(reason="why")
    with pytest.raises(ValueError, match="larger than 123 bytes"):
        server.close(1000, "é" * 62)
    server.close(1000, "é" * 61)


async def test_a_peer_that_vanishes_is_an_error() -> None:
    """Without a close frame the loop raises; what is sent then is dropped."""
    client, server = accepted_pair()
    server.send("before")
    end_of(server).drop()

    assert await anext(client) == "before"
    with pytest.raises(durable.WebSocketClosed, match=r"without sending Close frame. .1006"):
        await anext(client)
    assert client.close_code == 1006
    await client.send("into the void")
    client.close()


async def test_a_close_frame_that_has_arrived_counts_more_than_the_loss() -> None:
    """The connection may go right after the frame."""
    client, server = accepted_pair()
    server.close(1000, "done")
    end_of(server).drop()

    assert await read_all(client) == []
    assert client.close_code == 1000


# A slow peer


async def test_awaiting_send_waits_for_a_slow_peer() -> None:
    """Above 1 MiB unread the sender waits, until the peer has read some of it."""
    client, server = accepted_pair()
    await server.send(b"x" * (model.UNREAD_BYTES_WAIT - frames.MESSAGE_OVERHEAD))
    sent: list[int] = []

    async def send() -> None:
        for number in range(3):
            await server.send(b"y")
            sent.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert sent == []

        await anext(client)
        await anyio.wait_all_tasks_blocked()
        assert sent == [0, 1, 2]


async def test_a_socket_that_is_far_too_slow_is_cut() -> None:
    """Sends that nobody awaits do not grow the memory: above 16 MiB both sides see 1013."""
    client, server = accepted_pair()
    chunk = b"x" * model.UNREAD_BYTES_WAIT
    for _ in range(17):
        server.send(chunk)

    server.send("one too many")

    assert end_of(client).unread.bytes == 0
    assert await read_all(client) == []
    assert client.close_code == 1013
    with pytest.raises(durable.WebSocketClosed, match="too many messages"):
        await anext(server)
    await server.send("nobody hears this")


async def test_a_sender_that_waits_is_freed_when_the_peer_is_gone() -> None:
    """Back-pressure ends with the socket."""
    client, server = accepted_pair()

    async def send() -> None:
        await server.send(b"x" * (model.UNREAD_BYTES_WAIT + 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        end_of(client).drop()


# Objects that read their sockets themselves


async def test_an_object_answers_an_upgrade_with_a_socket(runtime: durable.Runtime) -> None:
    """`Response(status=101, websocket=client)` hands the end to the caller."""
    _, ws = await connect(runtime)
    ws.send("one")
    ws.send(b"two")

    assert await anext(ws) == "one"
    assert await anext(ws) == b"two"
    ws.close(1000, "bye")
    assert await read_all(ws) == []
    assert ws.close_code == 1000


async def test_a_socket_that_is_read_keeps_its_object_in_memory(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Until the peer has closed it, also if nobody is reading it."""
    stub = runtime.namespace(Echo).get_by_name("a")
    ws = await stub.quiet()
    ws.accept()
    assert await anext(ws) == "hello"
    await clock.advance(100)
    assert is_live(stub)

    ws.close()
    await clock.advance(100)

    assert not is_live(stub)


async def test_a_socket_that_is_dropped_frees_its_object(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """A peer that vanished does not keep the object in memory for ever."""
    stub = runtime.namespace(Echo).get_by_name("a")
    ws = await stub.quiet()
    end_of(ws).drop()
    await clock.advance(100)

    assert not is_live(stub)


async def test_eviction_waits_for_sockets_that_are_read(runtime: durable.Runtime) -> None:
    """`evict` does not tear a classic socket."""
    stub, ws = await connect(runtime)
    with anyio.move_on_after(0.05) as scope:
        await evict(stub)

    assert scope.cancelled_caught
    ws.send("still here")
    assert await anext(ws) == "still here"


class Handing(durable.DurableObject):
    """Hands sockets around."""

    async def fetch(self, request: durable.Request) -> Response:
        client, server = WebSocketPair()
        if request.url.path == "/accepted":
            client.accept()
        server.accept()
        server.send("hello")
        self.client = client
        return Response(status=101, websocket=client)

    async def use_again(self) -> None:
        self.client.accept()

    async def say(self, ws: WebSocket, text: str) -> WebSocket:
        ws.send(text)
        return ws


async def test_a_socket_passes_by_reference(runtime: durable.Runtime) -> None:
    """An argument, or a result, of RPC is the very socket."""
    stub = runtime.namespace(Handing).get_by_name("a")
    client, server = accepted_pair()

    assert await stub.say(server, "hi") is server
    assert await anext(client) == "hi"


async def test_a_socket_that_was_answered_with_is_the_callers(runtime: durable.Runtime) -> None:
    """The object cannot use that end any more; the caller can."""
    stub = runtime.namespace(Handing).get_by_name("a")
    ws = (await stub.fetch("https://a/")).websocket
    assert ws is not None

    with pytest.raises(TypeError, match="already used in a response"):
        await stub.use_again()
    ws.accept()
    assert await anext(ws) == "hello"


async def test_a_socket_in_use_cannot_be_answered_with(runtime: durable.Runtime) -> None:
    """What the object has accepted it reads itself."""
    stub = runtime.namespace(Handing).get_by_name("a")

    with pytest.raises(TypeError, match="Can't return WebSocket in a Response"):
        await stub.fetch("https://a/accepted")


async def test_a_response_takes_only_web_sockets() -> None:
    """And only with status 101."""
    client, _ = WebSocketPair()

    with pytest.raises(TypeError, match="must be a WebSocket"):
        Response(status=101, websocket="ws")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have status code 101"):
        Response(websocket=client)


async def test_a_reset_disconnects_the_sockets_that_are_read(runtime: durable.Runtime) -> None:
    """The peer sees 1006."""
    _, ws = await connect(runtime)
    await durable.testing.abort_all(runtime)

    with pytest.raises(durable.WebSocketClosed):
        await anext(ws)
    assert ws.close_code == 1006


async def test_an_idle_reader_is_no_work(runtime: durable.Runtime) -> None:
    """A socket on which nothing happens lets the loop rest."""
    await connect(runtime)

    await settle(lambda: False)


async def test_many_peers_may_say_goodbye_at_once(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that costs each of them does not grow with their number, read or not."""
    looked: list[WebSocket | None] = []
    look = sockets._is_leaving

    def counted(ws: WebSocket | None) -> bool:
        looked.append(ws)
        return look(ws)

    monkeypatch.setattr(sockets, "_is_leaving", counted)
    stub = runtime.namespace(Echo).get_by_name("a")
    clients = await stub.many(1_000)
    for client in clients:
        client.accept()
        client.close(1000)

    assert len(looked) < 4 * len(clients)
    await abort_all(runtime)
    for client in clients:
        with pytest.raises(durable.WebSocketClosed):
            await read_all(client)
